"""A saved file in place of a text."""

from __future__ import annotations

import shutil
from pathlib import Path

import attnxr
from attnxr import saved
from tests.browser.test_page import START, results
from tests.browser.visitor import Visitor

OTHER = "Nobody knows how fruit flies."


def open_file(visitor: Visitor, path: Path) -> None:
    with visitor.page.expect_file_chooser() as chooser:
        visitor.page.get_by_role("button", name="Open a saved file").click()
    chooser.value.set_files(path)


def test_a_file_of_the_servers_model_is_shown_and_asked_more(
    visitor: Visitor, tiny_model: attnxr.Model, tmp_path: Path
) -> None:
    near, sequence = results(tiny_model, OTHER)
    (tmp_path / "mine.nc").write_bytes(saved.write(tiny_model.encode(OTHER), near))
    with visitor.refresh():
        open_file(visitor, tmp_path / "mine.nc")
    assert visitor.text_box.input_value() == OTHER
    assert any("Opened from the file mine.nc" in notice for notice in visitor.notices())
    visitor.sees(near, sequence, layer=0, head=0, position=1)
    visitor.choose("Distance", "Euclidean")
    visitor.sees(*results(tiny_model, OTHER, "euclidean"), layer=0, head=0, position=1)
    visitor.run(START)
    assert visitor.notices() == []


def test_a_file_of_another_model_is_shown_and_says_what_it_lacks(
    visitor: Visitor, minilm_model: attnxr.Model, tmp_path: Path
) -> None:
    near, sequence = results(minilm_model, OTHER)
    for dataset, name in ((near, "neighbors"), (minilm_model.encode(OTHER), "encodings")):
        dataset.attrs["model"] = "somebody's"
        dataset.to_zarr(tmp_path / "store" / name, consolidated=False)
    store = shutil.make_archive(str(tmp_path / "store"), "zip", tmp_path / "store")
    with visitor.refresh():
        open_file(visitor, Path(store))
    visitor.sees(near, sequence, layer=0, head=0, position=1)
    visitor.page.get_by_text("somebody's · 6 layers × 12 heads").wait_for()
    visitor.select("Distance", "Euclidean")
    visitor.page.get_by_role("alert").filter(has_text="this server does not offer it").wait_for()
    assert visitor.tokens() == []
    visitor.select("Distance", "Cosine")
    visitor.wait()
    visitor.sees(near, sequence, layer=0, head=0, position=1)


def test_what_is_no_such_file_is_refused_and_the_page_stays(
    visitor: Visitor, tiny_model: attnxr.Model, tmp_path: Path
) -> None:
    (tmp_path / "photo.nc").write_bytes(b"\x80\x04\x95<b>no</b>" * 1000)
    open_file(visitor, tmp_path / "photo.nc")
    visitor.page.get_by_text("photo.nc cannot be opened. The file begins with").wait_for()
    visitor.sees(*results(tiny_model, START), layer=0, head=0, position=1)
