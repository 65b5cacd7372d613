"""The heads of a corpus: the table, the card of one head and its examples, as plain strings and numbers."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from attnxr.corpus.declared import ATLAS
from attnxr.dashboard.rows.doing import Row, bar_list
from attnxr.dashboard.session.corpus import REPLACED, Corpus
from attnxr.dashboard.session.heads import Heads
from attnxr.tokens import in_text, label

WORDS = "writes most"
"""What the last column of the table says."""
_IN_TABLE = 4  # words
_LISTED = 10  # words of a list
_AROUND = 24  # tokens of an example on either side of the one that looks
_SHOWN = {11: 5} | dict.fromkeys(range(1, 11), 1)  # examples of each interval
_LONGEST = 60  # characters of a word
_LEAST_SHARE = 0.002
_SHARES = {
    "own_share": "the own token",
    "other_share": "another of the text",
    "neither_share": "none of the text",
}
_NEARER = {"nearer_share": "any entry", "own_nearer_share": "the own token"}


def columns(heads: Heads) -> list[tuple[str, str]]:
    """Columns of the table of heads, but for the words: the figures' names, and how they are called."""
    names = dict.fromkeys(("layer", "head", heads.x, heads.y, heads.color))
    return [(name, heads.corpus.figures[name].label) for name in names]


def table_rows(heads: Heads) -> list[tuple[int, list[str], str]]:
    """Rows of the table of heads: each head, its figures as they are written, and what it writes most.

    Parameters
    ----------
    heads : Heads
        What is chosen.

    Returns
    -------
    list of tuple
        In their order.
    """
    figures = [heads.corpus.figures[name] for name, _label in columns(heads)]
    words = _first_words(heads.corpus)
    return [(index, [figure.shown[index] for figure in figures], words[index]) for index in heads.ordered]


def points(heads: Heads) -> dict[str, Any]:
    """Columns of the figure: where each head stands, its colour's number, and what the pointer is told."""
    corpus, figures = heads.corpus, heads.corpus.figures
    axes = {axis: figures[getattr(heads, axis)] for axis in ("x", "y", "color")}
    return {
        **{f"{axis}_value": figure.values for axis, figure in axes.items()},
        **{f"{axis}_shown": figure.shown for axis, figure in axes.items()},
        "name": [corpus.name(i) for i in range(corpus.n)],
        "words": [words or "–" for words in _first_words(corpus)],
    }


def about(corpus: Corpus, index: int) -> str:
    """What there is to say of a head in a line."""
    said = []
    for name, words in (
        ("pattern_entropy", "entropy {} nats"),
        ("qk_distance", "looks {} tokens away"),
        ("median_own_rank", "median own rank at most {}"),
    ):
        if name in corpus.figures:
            said.append(words.format(corpus.figures[name].shown[index]))
    return " · ".join(said)


def card_lists(corpus: Corpus, index: int) -> list[dict[str, Any]]:
    """Lists of `attnxr.dashboard.parts.BarLists` that say what was measured of a head; of what was not there is none.

    Parameters
    ----------
    corpus : Corpus
        Whose head it is.
    index : int
        Which one.
    """
    at = divmod(index, len(corpus.heads))
    found = [
        ("What its attention does", ("to", "share", ""), _roles(corpus, at)),
        ("What it writes is nearest to", ("entry", "tokens", ""), _shares(corpus, at, _SHARES)),
        ("Nearer than chance (p ≤ 0.05)", ("entry", "tokens", "by chance"), _shares(corpus, at, _NEARER, "5.0%")),
        ("Replaced in a text by", ("what", "change", "recovered"), _effects(corpus, at)),
        ("Writes most", ("word", "times", "lift"), _listed(corpus, at, "written", "count")),
        ("Writes more than other heads", ("word", "lift", "times"), _listed(corpus, at, "distinctive", "lift")),
        ("Looks at", ("token", "attention", "lift"), _listed(corpus, at, "key", "mass")),
        ("Looks from", ("token", "attention", "lift"), _listed(corpus, at, "query", "mass")),
        ("How far it looks", ("tokens", "share", ""), _distances(corpus, at)),
        ("Own rank", ("rank", "tokens", ""), _ranks(corpus, at)),
    ]
    return [bar_list(title, columns, rows) for title, columns, rows in found if rows]


def examples(corpus: Corpus, index: int) -> list[dict[str, Any]]:
    """Examples of a head: the strongest of the corpus first, then those of each decile.

    Parameters
    ----------
    corpus : Corpus
        Whose head it is.
    index : int
        Which one.

    Returns
    -------
    list of dict
        Each with ``at`` (which of the atlas' examples), ``group``, ``about``, ``cut`` (whether its text goes on before
        and after what is shown), ``query`` (place of the token that looks) and ``tokens`` of (place in the text,
        whether a space stands before it, string, attention from 0 to 1, marks): "query" looks, "key" is looked at most,
        and "written" is one of the entries that the head writes most.
    """
    found = corpus.arrays
    if "example_text_id" not in found:
        return []
    at = divmod(index, len(corpus.heads))
    interval = found["example_interval"]
    texts = found["example_text_id"][at]
    written = set(found["written_id"][at].tolist()) - {-1} if "written_id" in found else set()
    shown = []
    for which, count in _SHOWN.items():
        there = np.flatnonzero((interval == which) & (texts >= 0))[:count]
        shown += [_example(corpus, at, int(each), written) for each in there]
    order = {"the strongest": 0} | {f"decile {i}": 11 - i for i in range(1, 11)}
    return sorted(shown, key=lambda example: order[example["group"]])


def summary(corpus: Corpus) -> str:
    """One line on a corpus: its model, how many heads there are, and of how many texts."""
    said = [corpus.model, f"{len(corpus.layers)} layers × {len(corpus.heads)} heads"]
    for name, what in (("n_texts", "texts"), ("n_tokens", "tokens")):
        count = corpus.attrs.get(name)
        if isinstance(count, int | np.integer):
            said.append(f"{int(count):,} {what}")
    return " · ".join(said)


@lru_cache(8)
def _first_words(corpus: Corpus) -> list[str]:
    found = corpus.arrays
    if "written_id" not in found:
        return [""] * corpus.n
    kinds = (found[f"written_{name}"][..., :_IN_TABLE].reshape(corpus.n, -1) for name in ("id", "token", "text"))
    rows = zip(*(kind.tolist() for kind in kinds), strict=True)
    return [" · ".join(_word(*each) for each in zip(*row, strict=True) if each[0] >= 0) for row in rows]


def _word(_id: int, token: str, text: str) -> str:
    # What begins a word is shown without the space that says so.
    return _clipped(label(token, text).removeprefix("␣") or "␣")


def _clipped(word: str) -> str:
    return word if len(word) <= _LONGEST else word[:_LONGEST] + "…"


def _length(value: float, most: float) -> float:
    """Of a bar: a share of the list's width, whatever a file says."""
    return max(-1.0, min(1.0, value / most)) if math.isfinite(value) and most > 0 and math.isfinite(most) else 0.0


def _roles(corpus: Corpus, at: tuple[int, int]) -> list[Row]:
    rows = []
    for name, spec in ATLAS.items():
        if name.endswith("_score") and name in corpus.arrays:
            value = float(corpus.arrays[name][at])
            if not np.isnan(value):
                words = spec.long_name.removeprefix("attention to ")
                words = "what followed it before" if name == "induction_score" else words
                rows.append((words, _length(value, 1), f"{value:.1%}", ""))
    return rows


def _shares(corpus: Corpus, at: tuple[int, int], names: dict[str, str], note: str = "") -> list[Row]:
    there = {words: float(corpus.arrays[name][at]) for name, words in names.items() if name in corpus.arrays}
    return [(words, _length(value, 1), f"{value:.1%}", note) for words, value in there.items() if not np.isnan(value)]


def _effects(corpus: Corpus, at: tuple[int, int]) -> list[Row]:
    found = corpus.arrays
    if "change" not in found or not int(found["n_replaced"]):
        return []
    kinds = found["replacement"].tolist()
    change, recovered = found["change"][at], found["recovered"][at]
    most = float(np.nanmax(change, initial=0))
    return [
        (
            REPLACED[kind],
            _length(float(one), most),
            f"{one:.4f}",
            "" if kind == "mean" or np.isnan(back) else f"{back:.2f}".replace("-", "−"),
        )
        for kind, one, back in zip(kinds, change, recovered, strict=True)
        if kind in REPLACED and not np.isnan(one)
    ]


def _listed(corpus: Corpus, at: tuple[int, int], kind: str, value: str) -> list[Row]:
    found = corpus.arrays
    if f"{kind}_id" not in found:
        return []
    beside = "count" if value == "lift" else "lift"
    names = ("id", "token", "text", value, beside)
    values = [found[f"{kind}_{name}"][at][:_LISTED].tolist() for name in names]
    there = [row for row in zip(*values, strict=True) if row[0] >= 0]
    most = max((row[3] for row in there), default=0.0)
    return [
        (_clipped(label(token, text)), _length(number, most), _amount(value, number), _amount(beside, other))
        for _id, token, text, number, other in there
    ]


def _amount(kind: str, value: float) -> str:
    return f"{value:,.0f}" if kind == "count" else f"{value:,.1f}"


def _distances(corpus: Corpus, at: tuple[int, int]) -> list[Row]:
    found = corpus.arrays
    if "distance_share" not in found:
        return []
    share = np.nan_to_num(found["distance_share"][at])
    used = np.flatnonzero(share > _LEAST_SHARE)
    low, high = found["offset_low"].tolist(), found["offset_high"].tolist()
    most = float(share.max(initial=0))
    return [(_span(low[i], high[i]), _length(float(share[i]), most), f"{share[i]:.1%}", "") for i in used]


def _span(low: int, high: int) -> str:
    near, far = sorted((abs(low), abs(high)))
    if far == 0:
        return "itself"
    return f"{f'{near}' if near == far else f'{near} to {far}'} {'before' if high < 0 else 'after'}"


def _ranks(corpus: Corpus, at: tuple[int, int]) -> list[Row]:
    found = corpus.arrays
    if "own_rank_count" not in found:
        return []
    counts = found["own_rank_count"][at].tolist()
    bins = zip(found["rank_low"].tolist(), found["rank_high"].tolist(), counts, strict=True)
    most, total = max(counts, default=0), max(sum(counts), 1)
    return [
        (
            f"{low:,}" if low == high else f"{low:,} to {high:,}",
            _length(count, most),
            f"{count:,}",
            f"{count / total:.0%}",
        )
        for low, high, count in bins
    ]


def _example(corpus: Corpus, at: tuple[int, int], which: int, written: set[int]) -> dict[str, Any]:
    found = corpus.arrays
    number = int(found["example_text_id"][at][which])
    lies = corpus.texts[number]
    columns = [found[f"quoted_{name}"][lies].tolist() for name in ("token", "text", "token_id")]
    tokens = list(zip(*columns, strict=True))
    query, key = (int(found[f"example_{name}"][at][which]) for name in ("query", "key"))
    places = found["example_attended"][at][which].tolist()
    weights = dict(zip(places, found["example_weight"][at][which].tolist(), strict=True))
    first, end = max(0, query - _AROUND), min(len(tokens), query + _AROUND + 1)
    interval = int(found["example_interval"][which])
    said = [label(*tokens[place][:2]).removeprefix("␣") for place in (query, key)]
    shown = in_text(columns[0][first:end], columns[1][first:end], corpus.marks_spaces)
    return {
        "at": which,
        "query": query,
        "group": "the strongest" if interval == 11 else f"decile {interval}",
        "about": f"{float(found['example_activation'][at][which]):.2f} from “{_clipped(said[0])}” to "
        f"“{_clipped(said[1])}”, text {number:,}",
        "cut": [first > 0, end < len(tokens)],
        "tokens": [
            [i, spaced, _clipped(piece), _length(weights.get(i, 0.0), 1), _mark(i, query, key, tokens[i][2], written)]
            for i, (spaced, piece) in enumerate(shown, start=first)
        ],
    }


def _mark(place: int, query: int, key: int, token_id: int, written: set[int]) -> str:
    marks = [name for name, there in (("query", place == query), ("key", place == key)) if there]
    return " ".join([*marks, *(["written"] if token_id in written else [])])
