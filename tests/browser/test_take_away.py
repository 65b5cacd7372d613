"""Files are really saved by the browser, and the page of its own opens from a disk, alone."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from playwright.sync_api import Browser

import attnxr
from attnxr.plots import MEASURES
from attnxr.tokens import label
from tests.browser.test_access import violations
from tests.browser.test_page import START, results
from tests.browser.visitor import SEQUENCE, VOCABULARY, Visitor


def saved(visitor: Visitor, button: Any, folder: Path) -> Path:
    with visitor.page.expect_download() as download:
        button.click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


@pytest.fixture
def alone(browser: Browser) -> Iterator[Any]:
    """A page that may ask nobody for anything; that nothing went wrong on it is checked at the end."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, offline=True)
    page, troubles = context.new_page(), []
    page.on("pageerror", lambda error: troubles.append(f"page error: {error}"))
    page.on("console", lambda said: troubles.append(said.text) if said.type in ("error", "warning") else None)
    page.on("request", lambda request: troubles.append(request.url) if not request.is_navigation_request() else None)
    yield page
    context.close()
    assert troubles == []


def test_tables_and_datasets_are_saved(visitor: Visitor, tiny_model: attnxr.Model, tmp_path: Path) -> None:
    near, _ = results(tiny_model, START)
    visitor.press_token(4)
    visitor.page.get_by_text("at position 4").first.wait_for()
    visitor.page.get_by_role("tab", name="Take away").click()
    panel = visitor.page.locator(".take-away")

    table = saved(visitor, panel.get_by_role("button", name="Nearest vocabulary tokens"), tmp_path)
    assert table.name.endswith("-neighbours-layer-0-position-4.csv")
    _, own, *rows = csv.reader(table.read_text(encoding="utf-8-sig").splitlines())
    here = near.isel(layer=0, position=4)
    assert own[1::2] == [str(rank) for rank in here.own_rank.values]
    assert [row[1].removeprefix("'") for row in rows] == [
        label(*pair) for pair in zip(here.neighbor.values[0], here.neighbor_text.values[0], strict=True)
    ]
    panel.get_by_text(f"Sent: {table.name}").wait_for()

    datasets = saved(visitor, panel.get_by_role("button", name="The Datasets"), tmp_path)
    with xr.open_dataset(datasets, group="neighbors") as opened:
        xr.testing.assert_identical(attnxr.saved.unpack(opened.load()), near)
    with xr.open_dataset(datasets, group="encodings") as opened:
        np.testing.assert_array_equal(opened.attention.values, tiny_model.encode(START).attention.values)


def test_a_figure_is_saved_as_png_and_svg(visitor: Visitor, tmp_path: Path) -> None:
    png, svg = (
        saved(visitor, visitor.page.locator(f".figure-files button:has-text('{kind}')").first, tmp_path)
        for kind in ("PNG", "SVG")
    )
    data = png.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(data) > 5000
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    assert width > 200
    assert height > 200
    assert png.stem == svg.stem
    root = ET.parse(svg).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "Head" in "".join(root.itertext())
    assert "Layer" in "".join(root.itertext())


def test_the_page_opens_alone_and_can_be_clicked(
    visitor: Visitor, alone: Any, tiny_model: attnxr.Model, tmp_path: Path
) -> None:
    text = "Fruit flies </script><script>alert(1)</script> like <b>bananas</b>."
    near, sequence = results(tiny_model, text)
    visitor.run(text)
    visitor.page.get_by_role("tab", name="Take away").click()
    page = saved(visitor, visitor.page.locator(".take-away").get_by_role("button", name="This page"), tmp_path)

    alone.goto(page.as_uri())
    reader = Visitor(alone)
    reader.wait()
    assert alone.locator("blockquote").text_content() == text
    assert reader.tokens() == visitor.tokens()
    reader.press_token(5)
    reader.table(VOCABULARY).get_by_role("button", name="head 2").click()
    reader.select("Layer", "2")
    assert (reader.chosen_token(), reader.chosen_head(), reader.chosen_head(SEQUENCE)) == (5, 2, 2)
    reader._sees_neighbors(near.isel(layer=2, position=5))
    reader._sees_sequence(sequence.distance.isel(layer=2).values[:, 5], 5)

    alone.wait_for_function("() => Bokeh.documents[0]?.get_model_by_name('map') && Bokeh.documents[0].is_idle")
    cells = alone.evaluate(
        "() => { const c = Bokeh.documents[0].get_model_by_name('cells').data; "
        "return [Array.from(c.layer), Array.from(c.head), Array.from(c.zvalues)] }"
    )
    ranks = near.own_rank.isel(position=5).values
    assert [ranks[int(layer), int(head)] for layer, head, _ in zip(*cells, strict=True)] == cells[2]
    reader.press_cell(1, 3)
    alone.get_by_text("layer 1 · “").first.wait_for()
    reader._sees_neighbors(near.isel(layer=1, position=5))
    assert reader.chosen_head() == 3
    assert violations(reader) == []


def test_the_page_has_the_colours_that_were_chosen(visitor: Visitor, alone: Any, tmp_path: Path) -> None:
    visitor.select("Colour by", MEASURES["origin"].label)
    visitor.page.get_by_text("In layer 0, head 0: Origin").wait_for()
    visitor.page.get_by_role("tab", name="Take away").click()
    page = saved(visitor, visitor.page.locator(".take-away").get_by_role("button", name="This page"), tmp_path)
    colours = "(chips) => chips.map((chip) => [chip.style.getPropertyValue('--color'), chip.title])"

    alone.goto(page.as_uri())
    reader = Visitor(alone)
    for each in (visitor, reader):
        each.select("Layer", "1")
        each.page.get_by_text("In layer 1, head 0: Origin").wait_for()
    chips = [each.strip.get_by_role("button").evaluate_all(colours) for each in (visitor, reader)]
    assert chips[0] == chips[1]
