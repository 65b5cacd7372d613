"""The files hold what the Datasets hold, and no cell of a table is a formula."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from attnxr import saved
from attnxr.dashboard.files import exports
from attnxr.dashboard.rows.neighbors import neighbor_table, sequence_table
from attnxr.dashboard.session.state import State
from attnxr.tokens import label


def lines(made: bytes) -> list[list[str]]:
    assert made.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(made.decode("utf-8-sig"), newline="")))


def plain(cell: str) -> str:
    """Undo what is done to cells, as the documentation says."""
    return cell.removeprefix("'")


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-ing", "@x", "＝1", "＋", "－", "＠", " =1", "\t=1", "\rx", "\n=1", "'x", "''", "\u00a0@"]
)
def test_what_begins_like_a_formula_is_text(text: str) -> None:
    written = exports.cell(text)
    assert written == f"'{text}"
    assert plain(written) == text


@pytest.mark.parametrize("text", ["", " ", "arrow", "Ġflies", "a=b", "1-2", "##ing", '"', ",", "a'b", "(=1)"])
def test_other_cells_stay_as_they_are(text: str) -> None:
    assert exports.cell(text) == text


def test_the_table_on_screen_is_what_is_in_the_file(answered: State) -> None:
    answer = answered.answer
    assert answer is not None
    here = answer.neighbors.isel(layer=1, position=2)
    header, own, *rows = lines(exports.table_csv(neighbor_table(answer, 1, 2), "neighbour"))
    assert header[:3] == ["rank", "head 0 neighbour", "head 0 distance"]
    assert len(header) == 1 + 2 * answer.n_heads
    assert own[1::2] == [str(rank) for rank in here["own_rank"].values]
    assert len(rows) == here.sizes["rank"]
    for rank, row in enumerate(rows):
        assert row[0] == str(rank + 1)
        for head in range(answer.n_heads):
            found = here.isel(rank=rank, head=head)
            assert plain(row[1 + 2 * head]) == label(found["neighbor"].item(), found["neighbor_text"].item())
            assert float(row[2 + 2 * head]) == pytest.approx(found["distance"].item(), abs=6e-4)


def test_the_texts_tokens_have_their_positions_in_brackets(answered: State) -> None:
    answer = answered.answer
    assert answer is not None
    _, *rows = lines(exports.table_csv(sequence_table(answer, 0, 3), "token"))
    positions = [int(row[1].rpartition("(")[2].rstrip(")")) for row in rows]
    assert positions == answer.sequence["neighbor_position"].isel(layer=0, head=0, position=3).values.tolist()


def test_all_neighbours_are_there_in_long_form(answered: State) -> None:
    answer = answered.answer
    assert answer is not None
    near = answer.neighbors
    header, *rows = lines(exports.neighbors_csv(answer))
    assert header == list(exports.LONG_COLUMNS)
    assert len(rows) == near["neighbor"].size
    columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
    shape = near["neighbor"].shape
    for name in ("neighbor", "neighbor_text"):
        assert [plain(cell) for cell in columns[name]] == near[name].values.ravel().tolist()
    for name in ("neighbor_id", "in_sequence"):
        assert [int(cell) for cell in columns[name]] == near[name].values.astype(int).ravel().tolist()
    np.testing.assert_allclose(np.array(columns["distance"], float), near["distance"].values.ravel(), rtol=1e-6)
    own = np.broadcast_to(near["own_rank"].values[..., None], shape)
    assert [int(cell) for cell in columns["own_rank"]] == own.ravel().tolist()
    where = np.indices(shape)
    for i, name in enumerate(("layer", "head", "position")):
        assert [int(cell) for cell in columns[name]] == where[i].ravel().tolist()
    assert [int(cell) for cell in columns["rank"]] == (where[3] + 1).ravel().tolist()
    tokens = near["token"].values[where[2].ravel()].tolist()
    assert [plain(cell) for cell in columns["token"]] == tokens
    assert not any(cell.startswith(tuple("=+-@")) for name in ("token", "text", "neighbor") for cell in columns[name])


def test_the_netcdf_file_holds_the_datasets(answered: State, tmp_path: Path) -> None:
    answer = answered.answer
    assert answer is not None
    (tmp_path / "it.nc").write_bytes(exports.netcdf(answer))
    for group, dataset in (("encodings", answer.encodings), ("neighbors", answer.neighbors)):
        with xr.open_dataset(tmp_path / "it.nc", group=group) as opened:
            xr.testing.assert_identical(saved.unpack(opened.load()), dataset)


def test_a_files_name_is_plain_and_tells(answered: State) -> None:
    answer = answered.answer
    assert answer is not None
    assert exports.file_name(answer, "Layer 3", suffix="csv") == "attnxr-bert-time-flies-like-an-layer-3.csv"
    answer.encodings.attrs |= {"model": "/models/..\\x/<b>", "text": "../../etc/passwd\n" * 40}
    assert exports.file_name(answer, suffix="nc") == "attnxr-b-etc-passwd-etc-passwd.nc"
