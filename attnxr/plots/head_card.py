"""The card of one head: what it does, looks at and writes over a corpus, on one sheet."""

from __future__ import annotations

import html
from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import xarray as xr

from attnxr import schema
from attnxr.errors import InputError
from attnxr.plots.colors import CHOSEN, OWN, QUIET
from attnxr.texts import quoted
from attnxr.tokens import in_text, label, mark_spaces

_WIDTH, _HEIGHT = 380, 300  # pixels of a plot
_TEXT_HEIGHT = 480
_WORDS = 12  # of a list that are drawn
_EXAMPLES = 5  # in each column
_AROUND = 28  # tokens on either side of the query that are shown
_SHARES = {
    "own_share": "nearest: the own token",
    "other_share": "nearest: another of the text",
    "neither_share": "nearest: a word not in the text",
    "nearer_share": "nearer than chance (p ≤ 0.05)",
}
_COLUMNS = (("Strongest of the corpus", (11,)), ("Deciles 10 to 6", range(6, 11)), ("Deciles 5 to 1", range(1, 6)))


def head_card(atlas: xr.Dataset, layer: int, head: int) -> hv.Layout:
    """Draw what an atlas holds of one head: its roles, where it looks, what it writes, and texts it is active in.

    Parameters
    ----------
    atlas : xarray.Dataset
        What `attnxr.atlas` returns. Of measures that it does not have nothing is drawn.
    layer, head : int
        Numbers in the model, as in ``atlas.sel(layer=layer, head=head)``.

    Returns
    -------
    holoviews.Layout
        Three columns: bars of roles, of what is written and of distances; the tokens looked at and from; the words
        written, most often and more than by other heads, with their counts and lifts; own ranks; and examples, the
        tokens shaded by the attention of the outlined one, which attends most strongly.

    Raises
    ------
    InputError
        If it is no atlas, or has no such head.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> texts = ["Time flies like an arrow.", "Fruit flies like a banana."]
    >>> corpus = attnxr.build_corpus(texts, "out.zarr", model, sample=1)
    >>> card = attnxr.plots.head_card(attnxr.atlas("out.zarr"), layer=3, head=7)
    """
    one = _of_head(atlas, layer, head)
    drawn = [
        _bars(_roles(one), "What its attention does", "share of attention", (0, 1)),
        _bars(_shares(one), "What it writes is", "share of tokens", (0, 1)),
        _bars(_effects(one), "Replaced in a text by", "change of the last hidden states"),
        _bars(_list(one, "key", "mass"), "Looks at", "attention to it, in all"),
        _bars(_list(one, "query", "mass"), "Looks from", "attention from it, in all"),
        _bars(_distances(one), "How far it looks", "share of attention"),
        _bars(_list(one, "written", "count"), "Writes most", "tokens where it is nearest"),
        _bars(_list(one, "distinctive", "lift"), "Writes more than other heads", "lift (1 = as often)"),
        _bars(_ranks(one), "Own rank", "tokens"),
        *_examples(one),
    ]
    name = f"Layer {layer}, head {head}"
    title = f"{name} of {atlas.attrs['model']}" if "model" in atlas.attrs else name
    return (
        hv.Layout([each for each in drawn if each is not None])
        .cols(3)
        .opts(title=title, shared_axes=False, toolbar=None)
    )


def _of_head(atlas: Any, layer: int, head: int) -> xr.Dataset:
    if not isinstance(atlas, xr.Dataset) or not {"layer", "head"} <= set(getattr(atlas, "dims", ())):
        given = f"A Dataset of sizes {dict(atlas.sizes)}" if isinstance(atlas, xr.Dataset) else type(atlas).__name__
        raise InputError(f"{given} was given; expected what attnxr.atlas returns, with the dimensions layer and head.")
    for dim, number in (("layer", layer), ("head", head)):
        if number not in atlas[dim].values:
            known = atlas[dim].values.tolist()
            raise InputError(f"{dim}={number!r} was given; the atlas has the {dim}s {known!s:.80}.")
    return atlas.sel(layer=layer, head=head)


Rows = list[tuple[str, float, str, str]]
"""Of each bar its name, length, what the pointer is told, and colour."""


def _bars(rows: Rows, title: str, axis: str, limits: tuple[float, float] | None = None) -> hv.Bars | None:
    if not rows:
        return None
    columns = dict(zip(("name", "value", "about", "color"), zip(*rows[::-1], strict=True), strict=True))
    bars = hv.Bars(columns, "name", [hv.Dimension("value", label=axis), "about", "color"])
    most = max(0.0, *columns["value"])
    return bars.opts(
        color="color",
        line_color=None,
        bar_width=0.7,
        invert_axes=True,
        ylim=limits or (min(0.0, *columns["value"]), 1.05 * most or 1.0),
        width=_WIDTH,
        height=_HEIGHT,
        title=title,
        xlabel="",
        fontsize={"title": "11pt"},
        tools=["hover"],
        hover_tooltips=[("", "@name"), ("", "@about")],
        default_tools=[],
        toolbar=None,
    )


def _roles(one: xr.Dataset) -> Rows:
    scores = [name for name in schema.ROLES if name.endswith("_score") and name in one]
    rows: Rows = []
    for name in scores:
        value = float(one[name])
        words = schema.ROLES[name].long_name.removeprefix("attention to ").removesuffix(" score")
        if not np.isnan(value):
            rows.append((words, value, f"{value:.3f}", QUIET))
    return rows


def _shares(one: xr.Dataset) -> Rows:
    there = {name: float(one[name]) for name in _SHARES if name in one}
    return [
        (_SHARES[name], value, f"{value:.3f}", OWN if name == "own_share" else QUIET)
        for name, value in there.items()
        if not np.isnan(value)
    ]


def _effects(one: xr.Dataset) -> Rows:
    if "change" not in one or not int(one["n_replaced"]):
        return []
    names = {"mean": "its mean", "neighbor": "the nearest entry", "own": "the own token"}
    rows = zip(one["replacement"].values.tolist(), one["change"].values, one["recovered"].values, strict=True)
    return [
        (
            names[kind] if kind == "mean" else f"{names[kind]} ({recovered:.2f} recovered)".replace("-", "−"),
            float(change),
            f"change {change:.4f}, recovered share {recovered:.3f}",
            QUIET if kind == "mean" else OWN if kind == "own" else CHOSEN,
        )
        for kind, change, recovered in rows
    ]


def _list(one: xr.Dataset, kind: str, value: str) -> Rows:
    if f"{kind}_id" not in one:
        return []
    there = one.isel(order=slice(_WORDS))
    there = there.isel(order=there[f"{kind}_id"].values >= 0)
    rows: Rows = []
    columns = (there[f"{kind}_{name}"].values for name in ("token", "text", value, "lift"))
    for place, (token, text, amount, lift) in enumerate(zip(*columns, strict=True), 1):
        name = f"{place}  {label(str(token), str(text))}"
        about = f"lift {lift:.1f}"
        if f"{kind}_count" in there:
            about = f"{int(there[f'{kind}_count'].values[place - 1])} times, {about}"
        else:
            about = f"{amount:.1f} in all, {about}"
        rows.append((name, float(amount), about, QUIET))
    return rows


def _distances(one: xr.Dataset) -> Rows:
    if "distance_share" not in one:
        return []
    share = one["distance_share"].values
    used = np.flatnonzero(np.nan_to_num(share) > 0.002)
    if not len(used):
        return []
    rows: Rows = []
    for i in range(used[0], used[-1] + 1):
        low, high = int(one["offset_low"].values[i]), int(one["offset_high"].values[i])
        near, far = sorted((abs(low), abs(high)))
        side = "itself" if high == low == 0 else "before" if high < 0 else "after"
        span = f"{near}" if near == far else f"{near} to {far}"
        rows.append((side if side == "itself" else f"{span} {side}", float(share[i]), f"{share[i]:.4f}", QUIET))
    return rows


def _ranks(one: xr.Dataset) -> Rows:
    if "own_rank_count" not in one:
        return []
    bins = zip(one["rank_low"].values, one["rank_high"].values, one["own_rank_count"].values, strict=True)
    total = max(int(one["own_rank_count"].sum()), 1)
    return [
        (
            f"{low:,}" if low == high else f"{low:,} to {high:,}",
            float(count),
            f"{int(count):,} tokens, {count / total:.1%}",
            OWN if low == 1 else QUIET,
        )
        for low, high, count in bins
    ]


def _examples(one: xr.Dataset) -> list[hv.Div]:
    if "example_text_id" not in one:
        return []
    lying = quoted(one)
    interval, text = one["example_interval"].values, one["example_text_id"].values
    drawn = []
    for title, intervals in _COLUMNS:
        shown = _spread([np.flatnonzero((interval == each) & (text >= 0)) for each in sorted(intervals, reverse=True)])
        parts = [_example(one.isel(example=i), lying[int(text[i])]) for i in shown]
        width = _WIDTH - 20
        drawn.append(
            hv.Div(
                f'<div style="width:{width}px;height:{_TEXT_HEIGHT}px;overflow-y:auto;overflow-wrap:anywhere;'
                f'font-size:12px;line-height:1.6">'
                f'<b style="font-size:14px">{title}</b>' + "".join(parts) + "</div>"
            ).opts(width=_WIDTH, height=_TEXT_HEIGHT)
        )
    return drawn


def _spread(of_intervals: list[np.ndarray]) -> list[int]:
    """The first example of each interval, then the second ones, as many as are drawn, in their order."""
    by_turn = [each[turn] for turn in range(_EXAMPLES) for each in of_intervals if turn < len(each)]
    return sorted(by_turn[:_EXAMPLES])


def _example(example: xr.Dataset, lies: slice) -> str:
    """One text in HTML, its tokens shaded by the weights of the outlined one."""
    tokens = example["quoted_token"].values[lies]
    texts = example["quoted_text"].values[lies]
    query, key = int(example["example_query"]), int(example["example_key"])
    weights = dict(zip(example["example_attended"].values.tolist(), example["example_weight"].values, strict=True))
    first, end = max(0, query - _AROUND), min(len(tokens), query + _AROUND)
    spaces_marked = mark_spaces(example["quoted_text"].values.tolist())
    shown = in_text(tokens[first:end].tolist(), texts[first:end].tolist(), spaces_marked)
    spans = [
        " " * spaced + _span(piece, float(weights.get(i, 0)), i == query)
        for i, (spaced, piece) in enumerate(shown, start=first)
    ]
    about = (
        f"<b>{float(example['example_activation']):.2f}</b> from “{_plain(tokens[query], texts[query])}” to "
        f"“{_plain(tokens[key], texts[key])}”, text {int(example['example_text_id'])}"
    )
    if int(example["example_interval"]) <= 10:
        about += f", decile {int(example['example_interval'])}"
    before, after = "…" * (first > 0), "…" * (end < len(tokens))
    return f'<div style="margin-top:10px"><div style="opacity:.75">{about}</div>{before}{"".join(spans)}{after}</div>'


def _plain(token: Any, text: Any) -> str:
    return html.escape(label(str(token), str(text).strip() or str(text)))


def _span(piece: str, weight: float, is_query: bool) -> str:
    red, green, blue = (int(CHOSEN[i : i + 2], 16) for i in (1, 3, 5))
    outline = f";outline:1.5px solid {OWN};border-radius:2px" if is_query else ""
    shade = f"background:rgba({red},{green},{blue},{weight:.3f})" if weight >= 0.005 else ""
    return f'<span style="{shade}{outline}" title="{weight:.3f}">{html.escape(piece)}</span>'
