"""The tabs beside the attention matrix, in a real Chromium: each shows a number of attnxr's and answers a click."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from playwright.sync_api import expect

import attnxr
from attnxr.plots import MEASURES
from attnxr.plots.over_layers import QUANTITIES
from attnxr.tokens import label
from tests.browser.test_maps import START, chosen, wait_for
from tests.browser.visitor import _FIGURE, Visitor, legibly

LAYERS, MAP = "Layer, from", "x"


def wait_for_columns(visitor: Visitor, figure: str, layer: int, expected: dict[str, np.ndarray]) -> None:
    """Wait until a layer of a figure draws these numbers; it may still be on its way."""
    for _ in range(100):
        drawn = visitor.page.evaluate(f"(axis) => Boolean(({_FIGURE})(axis))", figure)
        if drawn:
            columns = visitor.sources(figure)[layer]
            shown = [np.array(columns[name], float) for name in expected]
            if all(map(_close, shown, expected.values())):
                return
        visitor.page.wait_for_timeout(200)
    raise AssertionError(f"{figure!r} does not draw {expected}" + (f", but {shown}" if drawn else "; it is not there"))


def _close(shown: np.ndarray, expected: np.ndarray) -> bool:
    return shown.shape == expected.shape and np.allclose(shown, expected, rtol=1e-4, atol=1e-6)


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


def test_signal_and_effect_stand_beside_the_table_and_lead_to_what_explains_them(
    arrive: Callable[[str], Visitor], server: str, tiny_model: attnxr.Model
) -> None:
    encodings = tiny_model.encode(START)
    found = attnxr.significance(tiny_model, encodings.sel(layer=[1])).isel(layer=0, head=2, position=1)
    effect = attnxr.effects(
        tiny_model,
        encodings.isel(layer=[1], head=[2], position=[1]),
        by="neighbor",
        mean=encodings.head_encoding.isel(layer=[1], head=[2]).mean("position"),
    )
    word = label(effect.replacement_token.item(), effect.replacement_text.item())
    for query in ("", "&theme=dark&controls=off&embed=1"):
        visitor = arrive(f"{server}?layer=1&head=2{query}")
        page = visitor.page
        page.set_viewport_size({"width": 1280, "height": 800})
        signal, done = (page.locator(".finding").nth(i) for i in range(2))
        height = signal.bounding_box()["height"], done.bounding_box()["height"]
        expect(signal).to_contain_text(f"(p {MEASURES['q_value'].write(float(found.nearest_p))})")
        expect(done).to_contain_text(legibly(f"“{word}” in its place recovers"))
        assert (signal.bounding_box()["height"], done.bounding_box()["height"]) == height
        assert done.bounding_box()["y"] < 800 - height[1]
        for name in ("What it does", "Signal or noise"):
            page.evaluate("scrollTo(0, 0)")
            page.get_by_role("button", name=name).click()
            page.get_by_role("tabpanel", name=name).wait_for()
            tab = page.get_by_role("tab", name=name)
            expect(tab).to_be_focused()
            expect(tab).to_be_in_viewport()
    visitor.press_cell(1, 0)
    expect(signal).to_contain_text("head 0:")
    page.set_viewport_size({"width": 390, "height": 800})
    expect(done).to_contain_text("recovers")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_what_it_does(visitor: Visitor, tiny_model: attnxr.Model) -> None:
    encodings = tiny_model.encode(START)
    words = attnxr.decompose(tiny_model, encodings.sel(layer=[0]), n=5, vocab_layer="same")
    roles = attnxr.roles(encodings)
    open_tab(visitor, "What it does")

    def list_of(title: str) -> Any:
        return visitor.table(title).locator("tbody tr")

    for head in (0, 2):
        visitor.press_cell(0, head)
        wait_for(visitor, 0, head, 1)
        here = words.isel(layer=0, head=head, position=1)
        rows = list_of("Words that add up to it")
        expect(rows.first.locator(".note")).to_have_text(f"{float(here.explained[0]):.0%}")
        names = [label(*pair) for pair in zip(here.entry.values, here.entry_text.values, strict=True)]
        expect(rows.locator("th")).to_have_text([name for name, i in zip(names, here.entry_id, strict=True) if i >= 0])
        expect(list_of("Where it looks").first.locator(".figure")).to_have_text(
            f"{float(roles.self_attention_score[0, head]):.2f}"
        )
        expect(list_of("If it wrote something else")).to_have_count(5)
    expect(list_of("Words it makes likelier")).to_contain_text(["no output embeddings"])


def test_over_layers(visitor: Visitor, tiny_model: attnxr.Model) -> None:
    near = tiny_model.neighbors(tiny_model.encode(START))
    open_tab(visitor, "Over layers")
    visitor.select("Show", QUANTITIES["own_distance"])
    values = near["own_distance"].values[:, 0]
    wait_for_columns(visitor, LAYERS, 2, {"value": values[:, 1]})
    included = tiny_model.encode(START, include=["residual"])
    stream = tiny_model.neighbors(included, of="residual", space="embedding")
    wait_for_columns(visitor, LAYERS, 1, {"value": stream["own_distance"].values[:, 1]})
    lowest = int(values[2].argmin())
    visitor.press(LAYERS, float(values[2, lowest]), 2)
    wait_for(visitor, 2, 0, lowest)
    assert chosen(visitor) == (2, 0, lowest)


def test_the_map(visitor: Visitor, tiny_model: attnxr.Model) -> None:
    encodings = tiny_model.encode(START)
    near = tiny_model.neighbors(encodings).isel(head=0, layer=0, rank=slice(5))
    found = attnxr.encoding_map(tiny_model, encodings, near)
    open_tab(visitor, "Map")
    visitor.select("Of", "the layer, over tokens")
    visitor.page.get_by_text(f"trustworthiness {float(found.trustworthiness):.2f}").first.wait_for()
    places = found.coordinate.values[found.kind.values == "encoding"]
    wait_for_columns(visitor, MAP, 3, {"x": places[:, 0], "y": places[:, 1]})
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.diag(np.full(len(places), np.inf))
    apart[1] = 0
    loneliest = int(apart.min(axis=1).argmax())
    visitor.press(MAP, places[loneliest, 1], places[loneliest, 0])
    wait_for(visitor, 0, 0, loneliest)
