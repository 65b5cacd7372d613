"""What a visitor takes away of an answer, as bytes: tables as CSV, the Datasets as NetCDF."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from attnxr.asked import sentence
from attnxr.dashboard.rows import reading
from attnxr.dashboard.session.answer import Answer
from attnxr.dashboard.session.heads import Heads
from attnxr.saved import write

# What makes a spreadsheet take a cell for a formula; the wide forms count in some languages. The apostrophe is among
# them so that what is done to such cells can be undone.
_FORMULA = tuple("=+-@＝＋－＠'\t\r")
LONG_COLUMNS = (
    "layer",
    "head",
    "position",
    "token",
    "text",
    "token_id",
    "own_rank",
    "own_distance",
    "rank",
    "neighbor",
    "neighbor_text",
    "neighbor_id",
    "distance",
    "in_sequence",
)


_LONGEST_NAME = 150  # characters; file systems take 255, and browsers add to what they save twice


def cell(text: str) -> str:
    """Write a token so that no spreadsheet runs it as a formula.

    A token is whatever a vocabulary holds: ``=``, ``-``, ``@``, or, in a text that somebody sent, a whole formula. A
    cell that begins like one, blanks aside, gets an apostrophe in front, which spreadsheets read as "this is text". So
    does a cell that begins with an apostrophe, so that taking one away from the front of each cell that has one gives
    every token back. The vocabulary's ids stand beside the tokens in any case.

    Parameters
    ----------
    text : str
        A token, or what it stands for.

    Returns
    -------
    str
        The cell.
    """
    begins = text.lstrip(" \u00a0\n\v\f")
    return f"'{text}" if begins.startswith(_FORMULA) or text.startswith(("\t", "\r")) else text


def table_csv(table: dict[str, Any], first: str) -> bytes:
    """A table as it is on screen: a row for each rank, two columns for each head.

    Parameters
    ----------
    table : dict
        What `attnxr.dashboard.rows.neighbors.neighbor_table` or `sequence_table` returns.
    first : str
        What the cells hold, "neighbour" or "position": the name of a head's first column.

    Returns
    -------
    bytes
        CSV (RFC 4180) in UTF-8 with a byte order mark, without which Excel takes it for another encoding.
    """
    heads = [f"{table['name']} {head} " if table["name"] else "" for head in range(table["heads"])]
    names = [f"{head}{name}" for head in heads for name in (first, "distance")]
    lines: list[Sequence[object]] = [["rank", *names]]
    if table["own"]:
        lines.append(["own", *(shown for rank, distance in _pairs(table["own"]) for shown in (rank, distance))])
    for rank, row in enumerate(table["cells"], start=1):
        lines.append([rank, *(shown for each in row for shown in (_shown(each), each[1]))])
    return _csv(iter([lines]))


def neighbors_csv(answer: Answer) -> bytes:
    """All neighbours of all tokens, one a row, with the columns `LONG_COLUMNS`; ``kv_head``, or none, where it is so.

    Parameters
    ----------
    answer : Answer
        The results.

    Returns
    -------
    bytes
        As of `table_csv`; numbers in full, the smallest index varying slowest: layer, head, position, rank.
    """
    return _csv(_long(answer))


def heads_csv(heads: Heads) -> bytes:
    """The heads that are kept, in the order of the table: all their figures, and the words that they write most.

    Parameters
    ----------
    heads : Heads
        What is chosen.

    Returns
    -------
    bytes
        As of `table_csv`; numbers in full, and nothing where there is none.
    """
    corpus, ordered = heads.corpus, heads.ordered
    figures = {name: figure.values[ordered].tolist() for name, figure in corpus.figures.items()}
    whole = ("layer", "head")
    columns = {name: [_number(each, name in whole) for each in values] for name, values in figures.items()}
    for name in ("written_text", "distinctive_text"):
        if name in corpus.arrays:
            lists = corpus.arrays[name].reshape(corpus.n, -1)[ordered].tolist()
            columns[name] = [cell(" ".join(word.strip() for word in words if word)) for words in lists]
    return _csv(iter([[list(columns)], list(zip(*columns.values(), strict=True))]))


def _number(value: float, whole: bool) -> str:
    return "" if np.isnan(value) else f"{value:.0f}" if whole else f"{value:.7g}"


def netcdf(answer: Answer) -> bytes:
    """The encodings and the neighbours in one NetCDF file: see `attnxr.saved.write`."""
    return write(answer.encodings, answer.neighbors)


def citation(answer: Answer) -> str:
    """What to cite of an answer so that others can have it again; ``{address}`` stands for the page's address.

    Parameters
    ----------
    answer : Answer
        The results.

    Returns
    -------
    str
        The question, the model with its fingerprint, and the versions of what computed it.
    """
    attrs = answer.encodings.attrs
    versions = ", ".join(
        f"{name} {attrs[key]}" for name in ("attnxr", "torch", "transformers") if (key := f"{name}_version") in attrs
    )
    model = f"model {attrs['model']}, fingerprint {attrs['fingerprint']}"
    text = reading.sentence(attrs)
    said = f"{sentence(answer.question)} {text and text + ' '}{model}; {versions}."
    return said.replace("{address}", "") + " {address}"


def file_name(answer: Answer, *about: object, suffix: str) -> str:
    """A name for a file: the model, the first words of the text, and what else tells it from others.

    Parameters
    ----------
    answer : Answer
        The results.
    *about
        What else to say.
    suffix : str
        The ending, without its dot.

    Returns
    -------
    str
        Letters, digits and hyphens of ASCII, and one dot.
    """
    text = " ".join(str(answer.encodings.attrs["text"]).split()[:4])
    return plain_name(str(answer.encodings.attrs["model"]), text[:40], *about, suffix=suffix)


def plain_name(model: str, *about: object, suffix: str) -> str:
    """A name for a file of a model: as of `file_name`, without a text."""
    last = model.replace("\\", "/").rstrip("/").rpartition("/")[2]
    said = [_plain(str(each)) for each in ("attnxr", last, *about)]
    return "-".join(filter(None, said))[:_LONGEST_NAME] + f".{suffix}"


def _plain(said: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", said.lower()).strip("-")


def _pairs(own: list[list[str]]) -> Iterator[tuple[str, str]]:
    # On screen a thousand has a comma; in a file it is a number.
    return ((entry[0].replace(",", ""), entry[1]) for entry in own)


def _shown(entry: list[str]) -> str:
    token, _distance, _mark, *note = entry
    return cell(" ".join([token, *(f"({said})" for said in note)]))


def _long(answer: Answer) -> Iterator[list[Sequence[object]]]:
    """Batches of lines, a layer's head each, so that no other thread waits long for its turn."""
    near = answer.near
    n, k = near.sizes["position"], near.sizes["rank"]
    names = [answer.columns if name == "head" else name for name in LONG_COLUMNS]
    yield [[name for name in names if name]]  # vectors without heads have no column of heads
    position = np.repeat(near["position"].values, k).tolist()
    own = {name: np.repeat(near[name].values, k).tolist() for name in ("token", "text", "token_id")}
    rank = np.tile(near["rank"].values, n).tolist()
    heads = near.transpose("layer", "head", "position", "rank")
    columns = {name: heads[name].values for name in LONG_COLUMNS if name in near.data_vars}
    for (i, j), _ in np.ndenumerate(np.empty((near.sizes["layer"], near.sizes["head"]))):
        here = {name: column[i, j] for name, column in columns.items()}
        flat = {
            **own,
            "layer": [int(near["layer"].values[i])] * (n * k),
            "head": [int(near["head"].values[j])] * (n * k),
            "position": position,
            "rank": rank,
            **{name: np.repeat(here[name], k if here[name].ndim == 1 else 1).tolist() for name in here},
        }
        for name in ("token", "text", "neighbor", "neighbor_text"):
            flat[name] = [cell(text) for text in flat[name]]
        for name in ("own_distance", "distance"):
            flat[name] = [f"{number:.7g}" for number in flat[name]]
        flat["in_sequence"] = [int(there) for there in flat["in_sequence"]]
        yield list(zip(*(flat[name] for name in LONG_COLUMNS if name != "head" or answer.columns), strict=True))


def _csv(batches: Iterator[list[Sequence[object]]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for lines in batches:
        writer.writerows(lines)
        time.sleep(0)  # whoever waits for the interpreter gets it here
    return out.getvalue().encode("utf-8-sig")
