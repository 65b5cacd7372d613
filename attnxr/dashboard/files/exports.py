"""What a visitor takes away of an answer, as bytes: tables as CSV, the Datasets as NetCDF."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from attnxr.dashboard.session.answer import Answer
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
    names = [f"head {head} {name}" for head in range(table["heads"]) for name in (first, "distance")]
    lines: list[Sequence[object]] = [["rank", *names]]
    if table["own"]:
        lines.append(["own", *(shown for rank, distance in _pairs(table["own"]) for shown in (rank, distance))])
    for rank, row in enumerate(table["cells"], start=1):
        lines.append([rank, *(shown for each in row for shown in (_shown(each), each[1]))])
    return _csv(iter([lines]))


def neighbors_csv(answer: Answer) -> bytes:
    """All neighbours of all tokens, one a row, with the columns `LONG_COLUMNS`.

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


def netcdf(answer: Answer) -> bytes:
    """The encodings and the neighbours in one NetCDF file: see `attnxr.saved.write`."""
    return write(answer.encodings, answer.neighbors)


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
    model = str(answer.encodings.attrs["model"]).replace("\\", "/").rstrip("/").rpartition("/")[2]
    text = " ".join(str(answer.encodings.attrs["text"]).split()[:4])
    said = [_plain(str(each)) for each in ("attnxr", model, text[:40], *about)]
    return "-".join(filter(None, said)) + f".{suffix}"


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
    near = answer.neighbors
    n, k = near.sizes["position"], near.sizes["rank"]
    yield [LONG_COLUMNS]
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
        yield list(zip(*(flat[name] for name in LONG_COLUMNS), strict=True))


def _csv(batches: Iterator[list[Sequence[object]]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for lines in batches:
        writer.writerows(lines)
        time.sleep(0)  # whoever waits for the interpreter gets it here
    return out.getvalue().encode("utf-8-sig")
