"""What a view writes in Python is what the page's buttons send, and a name that says nothing else is refused."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from attnxr import saved
from attnxr.dashboard import Dashboard, NeighborTable, SequenceTable, state_of
from attnxr.dashboard.files import exports
from attnxr.dashboard.files.save import replace
from attnxr.dashboard.rows.neighbors import neighbor_table, sequence_table
from attnxr.dashboard.session.answer import Answer
from attnxr.dashboard.session.state import State
from attnxr.errors import InputError
from tests.dashboard.files.test_standalone import Elements, contents_of


@pytest.fixture
def answer(answered: State) -> Answer:
    assert answered.answer is not None
    return answered.answer


def test_a_table_is_written_as_it_is_shown(answered: State, answer: Answer, tmp_path: Path) -> None:
    answered.select(layer=2, position=3)
    for view, table, cell in (
        (NeighborTable(answered), neighbor_table, "neighbour"),
        (SequenceTable(answered), sequence_table, "token"),
    ):
        view.save(tmp_path / "table.csv")
        assert (tmp_path / "table.csv").read_bytes() == exports.table_csv(table(answer, 2, 3), cell)


def test_the_table_of_a_dataset_alone_can_be_read_by_others(answer: Answer, tmp_path: Path) -> None:
    view = NeighborTable(answer.neighbors)
    view.state.select(layer=1, position=4)
    view.save(str(tmp_path / "Near.CSV"))
    read = pd.read_csv(tmp_path / "Near.CSV", encoding="utf-8-sig")
    here = answer.neighbors.isel(layer=1, position=4)
    assert read["rank"].tolist() == ["own", *map(str, here["rank"].values)]
    for head in range(answer.n_heads):
        found = read[f"head {head} distance"][1:].to_numpy(float)
        np.testing.assert_allclose(found, here["distance"].isel(head=head).values, atol=6e-4)


def test_the_page_is_written_with_what_is_chosen(answered: State, answer: Answer, tmp_path: Path) -> None:
    answered.param.update(layer=1, head=2, position=3, measure="origin")
    Dashboard(answered, shown=False).save(tmp_path / "page.html")
    page = Elements((tmp_path / "page.html").read_bytes())
    contents = contents_of(page)
    assert contents["selection"] == [1, 2, 3]
    assert contents["text"] == answer.request.text
    assert contents["measure"]["short"] == "origin"


def test_the_datasets_and_all_neighbours_are_written(answered: State, answer: Answer, tmp_path: Path) -> None:
    dashboard = Dashboard(answered, shown=False)
    dashboard.save(tmp_path / "it.nc")
    read = saved.read(tmp_path / "it.nc")
    for found, expected in ((read.encodings, answer.encodings), (read.neighbors, answer.neighbors)):
        assert found is not None
        xr.testing.assert_identical(found, expected)
    dashboard.save(tmp_path / "all.csv")
    assert (tmp_path / "all.csv").read_bytes() == exports.neighbors_csv(answer)


@pytest.mark.parametrize("name", ["page.png", "page", ".html", "page.htm"])
def test_another_ending_is_refused_with_those_there_are(answered: State, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"\.html or \.csv or \.nc"):
        Dashboard(answered, shown=False).save(tmp_path / name)
    with pytest.raises(InputError, match=r"ends with \.csv"):
        NeighborTable(answered).save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_name_is_refused(answered: State) -> None:
    with pytest.raises(InputError, match="A BytesIO was given"):
        NeighborTable(answered).save(io.BytesIO())


def test_without_an_answer_there_is_nothing_to_write(state: State, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none is there yet"):
        NeighborTable(state).save(tmp_path / "near.csv")
    state.error = "The text is empty."
    with pytest.raises(InputError, match=r"The text is empty\."):
        NeighborTable(state).save(tmp_path / "near.csv")


def test_a_state_of_two_datasets_has_a_page_too(answer: Answer, tmp_path: Path) -> None:
    Dashboard(state_of(answer.neighbors, answer.encodings), shown=False).save(tmp_path / "page.html")
    assert contents_of(Elements((tmp_path / "page.html").read_bytes()))["text"] == answer.request.text


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    import resource

    file = tmp_path / "it.nc"
    replace(file, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as a disk with room for a thousand bytes
    try:
        with pytest.raises(OSError, match="File too large"):
            replace(file, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
    replace(file, b"new")
    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, file = tmp_path / "link.csv", tmp_path / "there" / "it.csv"
    link.symlink_to(file)
    replace(link, b"new")
    assert link.is_symlink()
    assert file.read_bytes() == b"new"
