"""The tabs beside the attention matrix, in a real Chromium: each shows a number of attnxr's and answers a click."""

from __future__ import annotations

import numpy as np

import attnxr
from attnxr.plots.over_layers import QUANTITIES
from tests.browser.test_maps import START, chosen, wait_for
from tests.browser.visitor import Visitor

LAYERS, MAP = "Layer, from", "x"


def column(visitor: Visitor, figure: str, layer: int, name: str) -> np.ndarray:
    return np.array([float(number) for number in visitor.sources(figure)[layer][name]])


def open_tab(visitor: Visitor, name: str) -> None:
    visitor.page.get_by_role("tab", name=name).click()
    visitor.page.get_by_role("tabpanel", name=name).wait_for()


def test_signal_or_noise(visitor: Visitor, tiny_model: attnxr.Model) -> None:
    encodings = tiny_model.encode(START)
    found = attnxr.significance(tiny_model, encodings.sel(layer=[0]))
    signal = int((found.nearest_q <= 0.05).sum())
    open_tab(visitor, "Signal or noise")
    visitor.page.get_by_text(f"{signal} of {found.nearest_q.size} head–positions").wait_for()
    rows = visitor.table("Nearest distances and chance, by head").locator("tbody tr")
    here = found.isel(layer=0, position=1)
    for head, row in enumerate(rows.all()):
        cells = row.locator("td").all_text_contents()
        expected = [float(here[name][head]) for name in ("nearest", "nearest_null", "nearest_p", "nearest_q")]
        np.testing.assert_allclose([float(cell) for cell in cells[1:5]], expected, atol=6e-4)
    rows.nth(2).locator("td").nth(1).click()
    wait_for(visitor, 0, 2, 1)


def test_over_layers(visitor: Visitor, tiny_model: attnxr.Model) -> None:
    near = tiny_model.neighbors(tiny_model.encode(START))
    open_tab(visitor, "Over layers")
    visitor.select("Show", QUANTITIES["own_distance"])
    visitor.page.get_by_text("residual stream: computing…").wait_for(state="hidden")
    values = near["own_distance"].values[:, 0]
    np.testing.assert_allclose(column(visitor, LAYERS, 2, "value"), values[:, 1], rtol=1e-5)
    lowest = int(values[2].argmin())
    visitor.press(LAYERS, float(values[2, lowest]), 2)
    wait_for(visitor, 2, 0, lowest)
    assert chosen(visitor) == (2, 0, lowest)


def test_the_map(visitor: Visitor, tiny_model: attnxr.Model) -> None:
    encodings = tiny_model.encode(START)
    near = tiny_model.neighbors(encodings).isel(head=0, layer=0, rank=slice(5))
    found = attnxr.map_encodings(tiny_model, encodings, near)
    open_tab(visitor, "Map")
    visitor.select("Of", "the layer, over tokens")
    visitor.page.get_by_text(f"trustworthiness {float(found.trustworthiness):.2f}").first.wait_for()
    places = found.coordinate.values[found.kind.values == "encoding"]
    shown = np.c_[column(visitor, MAP, 3, "x"), column(visitor, MAP, 3, "y")]
    np.testing.assert_allclose(shown, places, rtol=1e-5, atol=1e-7)
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.diag(np.full(len(places), np.inf))
    apart[1] = 0
    loneliest = int(apart.min(axis=1).argmax())
    visitor.press(MAP, places[loneliest, 1], places[loneliest, 0])
    wait_for(visitor, 0, 0, loneliest)
