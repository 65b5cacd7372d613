"""The state of a page as one HTML file that needs nothing else: no server, no network, no attnxr."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import jinja2
import numpy as np
from bokeh.embed import components
from bokeh.models.renderers import GlyphRenderer
from bokeh.themes import Theme
from bokeh.util.paths import bokehjs_path

from attnxr import asked
from attnxr.dashboard.parts import Chips, Choices, Heading, RankTable
from attnxr.dashboard.parts.alone import LEGIBLE, body, kind
from attnxr.dashboard.rows import reading
from attnxr.dashboard.rows.measured import known, painted, scale
from attnxr.dashboard.rows.neighbors import chips_help, token_chips
from attnxr.dashboard.session.answer import COLUMN_NAMES, Answer
from attnxr.plots import MEASURES, head_map, measure_values
from attnxr.tokens import label

MOST_TABLES = 8_000_000
"""Bytes that the tables may take in the file. Where all of them would take more, only tokens about the chosen one have
theirs, and the page says so."""
MOST_ATTENTION = 1_500_000
"""Bytes that the attention may take. Where that of all heads would take more, only the chosen one's is there."""
_BASE64 = 4 / 3
_HERE = Path(__file__).parent
_PARTS: dict[str, Any] = {"chips": Chips, "choices": Choices, "heading": Heading, "rank_table": RankTable}
_FIGURE = 420, 400  # pixels
_DARK = {"ink": "#e8eaed", "paper": "#1d2025"}
_LIGHT = {"ink": "#1c2127", "paper": "#ffffff"}


@dataclass(frozen=True)
class Selection:
    """What is chosen of an answer.

    Parameters
    ----------
    layer, head, position : int
        Indices along the dimensions of these names.
    measure : str
        Which number colours the tokens and the map; a key of `attnxr.plots.MEASURES`.
    """

    layer: int
    head: int
    position: int
    measure: str = "own_rank"


def page(answer: Answer, selection: Selection, *, dark: bool = False) -> bytes:
    """Write the answer as a page of its own, on which tokens, layers and heads can be chosen.

    Every token is written as text: Jinja escapes what stands in the page, the tables lie in it as JSON without a ``<``,
    the script sets text content only, and a content security policy forbids the page any request at all.

    Parameters
    ----------
    answer : Answer
        The results.
    selection : Selection
        What is chosen when the page is opened.
    dark : bool
        Whether the page is dark.

    Returns
    -------
    bytes
        HTML in UTF-8, BokehJS and all within.
    """
    colors, measure = _DARK if dark else _LIGHT, selection.measure
    figure = _named(head_map(answer.near, selection.position, measure=measure, **known(answer, measure), dark=dark))
    script, divs = components({"map": figure}, theme=_theme(colors), wrap_script=False)
    made = _template().render(
        title=_title(answer),
        colors=";".join(f"--{name}-color: {color}" for name, color in colors.items()),
        scheme="dark" if dark else "light",
        page_style=_read("standalone.css"),
        # The script itself: Panel adds scripts of its own to what Bokeh says is needed, which lie elsewhere.
        bokeh=(bokehjs_path() / "js" / "bokeh.min.js").read_text(encoding="utf-8"),
        figure=divs["map"],
        legible=LEGIBLE,
        figure_script=script,
        data=contents(answer, selection, dark=dark),
        kinds={name: kind(part) for name, part in _PARTS.items()},
        parts={name: body(part) for name, part in _PARTS.items()},
        script=_read("standalone.js"),
    )
    return made.encode()


def contents(answer: Answer, selection: Selection, *, dark: bool = False) -> dict[str, Any]:
    """What the page holds: see ``standalone.js``, which reads it.

    Parameters
    ----------
    answer : Answer
        The results.
    selection : Selection
        What is chosen.
    dark : bool
        Whether the page is dark.

    Returns
    -------
    dict
        For JSON. Arrays are base64 of little-endian numbers; ``names`` are the tokens that tables speak of, each once,
        and ``neighbor`` and ``own`` are indices into them. ``first`` to ``last`` (excluded) are the positions that
        have tables.
    """
    near, encodings = answer.near, answer.encodings
    first, last = _with_tables(answer, selection.position)
    ranked = near.transpose("layer", "head", "position", "rank", ...)
    sequence = answer.sequence.transpose("layer", "head", "position", "rank").isel(position=slice(first, last))
    kept = ranked.isel(position=slice(first, last))
    # The map also names the nearest token, of every position.
    nearest = ranked["neighbor_id"].values[..., 0]
    own = near["token_id"].values
    ids, first_at = np.unique(
        np.concatenate([kept["neighbor_id"].values.ravel(), nearest.ravel(), own]), return_index=True
    )
    return {
        "title": _title(answer),
        "text": str(encodings.attrs["text"]),
        "facts": _facts(answer),
        "notes": _notes(answer, (first, last), _has_all_attention(answer)),
        "selection": [selection.layer, selection.head, selection.position],
        "layers": answer.layers,
        "shape": [answer.n_layers, answer.n_heads, answer.n_positions],
        "columns": [answer.n_columns, COLUMN_NAMES[answer.columns]],
        "question": asked.sentence(answer.question),
        "measure": _measure(answer, selection.measure, dark),
        "first": first,
        "last": last,
        "chips": (chips := token_chips(encodings)),
        "chips_help": chips_help(chips),
        "names": _names(answer, kept, ids, first_at),
        "own": _packed(np.searchsorted(ids, own), "<u4"),
        "own_rank": _packed(ranked["own_rank"].values, "<i4"),
        "own_distance": _packed(ranked["own_distance"].values, "<f4"),
        "nearest_distance": _packed(ranked["distance"].values[..., 0], "<f4"),
        "nearest": _packed(np.searchsorted(ids, nearest), "<u4"),
        "ranks": int(near.sizes["rank"]),
        "neighbor": _packed(np.searchsorted(ids, kept["neighbor_id"].values), "<u4"),
        "distance": _packed(kept["distance"].values, "<f4"),
        "others": int(sequence.sizes["rank"]),
        "other_position": _packed(sequence["neighbor_position"].values, "<u2"),
        "other_distance": _packed(sequence["distance"].values, "<f4"),
        "attention": _attention(answer, selection),
    }


def _measure(answer: Answer, name: str, dark: bool) -> dict[str, Any]:
    """What the chosen measure says of every layer, head and position, and how that is coloured.

    ``paints`` are the different values as the page shows them: colour, ink and words; ``paint`` are indices into them.
    """
    measure, limits = MEASURES[name], MEASURES[name].limits(answer.near)
    values = measure_values(name, answer.near, **known(answer, name))
    different, inverse = np.unique(values, return_inverse=True)
    # Many values look alike: to so few digits, in so few colours.
    looks = [tuple(each) for each in painted(measure, different, limits, dark)]
    paints = {look: i for i, look in enumerate(dict.fromkeys(looks))}
    index = np.array([paints[look] for look in looks])
    return {
        "title": measure.title,
        "short": measure.short,
        "help": measure.help,
        "steps": scale(measure, limits, dark),
        "values": _packed(values, "<f4"),
        "paints": list(paints),
        "paint": _packed(index[inverse].reshape(values.shape), "<u4"),
    }


def _with_tables(answer: Answer, position: int) -> tuple[int, int]:
    """First position that has tables, and one past the last: as many as fit, about the chosen one."""
    n = answer.n_positions
    others = int(answer.sequence.sizes["rank"])
    ranks = int(answer.near.sizes["rank"])
    each = answer.n_layers * (answer.n_columns * ranks * 8 + answer.n_heads * others * 6) * _BASE64
    count = min(n, max(1, int(MOST_TABLES // each)))
    first = min(max(0, position - count // 2), n - count)
    return first, first + count


def _has_all_attention(answer: Answer) -> bool:
    n = answer.n_positions
    return "attention" in answer.encodings and answer.n_layers * answer.n_heads * n * n * 4 * _BASE64 <= MOST_ATTENTION


def _attention(answer: Answer, selection: Selection) -> dict[str, Any] | None:
    if "attention" not in answer.encodings:
        return None
    weights = answer.encodings["attention"].transpose("layer", "head", "position", "key_position").values
    if _has_all_attention(answer):
        return {"of": None, "weights": _packed(weights, "<f4")}
    of = selection.layer, selection.head
    return {"of": list(of), "weights": _packed(weights[of], "<f4")}


def _names(answer: Answer, kept: Any, ids: np.ndarray, first_at: np.ndarray) -> list[str]:
    near = answer.near
    ranked = near.transpose("layer", "head", "position", "rank", ...)

    def column(neighbor: str, own: str) -> np.ndarray:
        columns = kept[neighbor].values.ravel(), ranked[neighbor].values[..., 0].ravel(), near[own].values
        return np.concatenate(columns)[first_at]

    return [
        label(str(token), str(text))
        for token, text in zip(column("neighbor", "token"), column("neighbor_text", "text"), strict=True)
    ]


def _facts(answer: Answer) -> list[list[str]]:
    attrs = answer.neighbors.attrs
    return [
        ["Model", f"{attrs['model']} (fingerprint {attrs['fingerprint']})"],
        ["Size", f"{answer.n_layers} layers × {answer.n_heads} heads, {answer.vocab_size:,} vocabulary entries"],
        ["Question", asked.sentence(answer.question)],
        ["Distance", str(attrs["metric"]).replace("_", " ")],
        ["Positional embedding in the vocabulary", "yes" if attrs["positional"] else "no"],
        ["Causal mask", "on" if attrs["causal"] else "off"],
        *([["Text", said]] if (said := reading.sentence(attrs)) else []),
        ["Saved", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, attnxr {attrs.get('attnxr_version', '')}".strip()],
    ]


def _notes(answer: Answer, tables: tuple[int, int], all_attention: bool) -> list[str]:
    notes = []
    cut = int(answer.encodings.attrs["truncated"])
    if cut:
        whose = "text" if answer.request.stack is None else "text, the target, or each of them,"
        notes.append(f"The {whose} was too long for the model: its last {cut:,} tokens were cut.")
    if tables != (0, answer.n_positions):
        notes.append(
            f"To keep this file small, only the tokens at the positions {tables[0]} to {tables[1] - 1} of "
            f"{answer.n_positions} have tables in it; the map has them all."
        )
    if "attention" in answer.encodings and not all_attention:
        notes.append("To keep this file small, it has the attention of one head only: that which was chosen.")
    return notes


def _title(answer: Answer) -> str:
    text = " ".join(str(answer.encodings.attrs["text"]).split())
    return f"attnxr · {text[:60]}{'…' if len(text) > 60 else ''}"


def _named(plot: hv.Overlay) -> Any:
    figure = hv.render(plot.opts(width=_FIGURE[0], height=_FIGURE[1]), backend="bokeh")
    drawn = [each for each in figure.renderers if isinstance(each, GlyphRenderer)]
    for name, renderer in zip(("cells", "outline"), drawn, strict=True):
        renderer.data_source.name = name
    figure.name = "map"
    return figure


def _theme(colors: dict[str, str]) -> Theme:
    ink, paper = colors["ink"], colors["paper"]
    text = {"text_color": ink}
    return Theme(
        json={
            "attrs": {
                "Plot": {"background_fill_color": paper, "border_fill_color": paper, "outline_line_color": None},
                "Axis": {
                    "major_label_text_color": ink,
                    "axis_label_text_color": ink,
                    **dict.fromkeys(("axis_line_color", "major_tick_line_color", "minor_tick_line_color"), ink),
                },
                "Title": text,
                "ColorBar": {
                    "background_fill_color": paper,
                    **dict.fromkeys(("title_text_color", "major_label_text_color"), ink),
                },
            }
        }
    )


def _packed(array: np.ndarray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array.astype(dtype)).tobytes()).decode()


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(_HERE)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    return environment.get_template("standalone.html")


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
