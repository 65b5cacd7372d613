"""The maps, in a real Chromium: a click in any of them moves all views, and the numbers are attnxr's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from playwright.sync_api import expect

import attnxr
from attnxr.plots import MEASURES, measure_values
from tests.browser.visitor import ATTENTION, HEADS, POSITIONS, Visitor

START = "Time flies like an arrow. Fruit flies like a banana."


def chosen(visitor: Visitor) -> tuple[int, int, int]:
    return visitor.chosen_layer(), visitor.chosen_head(), visitor.chosen_token()


def outlined(visitor: Visitor) -> list[tuple[int, int]]:
    """By layer and head, layer and position, query and key."""
    return [visitor.outlined(figure) for figure in (HEADS, POSITIONS, ATTENTION)]


def wait_for(visitor: Visitor, layer: int, head: int, position: int) -> None:
    visitor.page.get_by_text(f"at position {position}, layer {layer}, head {head}").wait_for()


def test_what_the_pointer_is_told_follows_the_theme(arrive: Callable[[str], Visitor], server: str) -> None:
    for theme, paper in (("dark", "rgb(36, 39, 45)"), ("default", "rgb(255, 255, 255)")):
        visitor = arrive(f"{server}?theme={theme}")
        visitor.point_at(HEADS, 1, 1)
        expect(visitor.page.locator(".bk-Tooltip").first).to_have_css("background-color", paper)


def test_a_click_in_any_map_moves_every_view(visitor: Visitor, tiny_model: attnxr.Model) -> None:
    encodings = tiny_model.encode(START)
    ranks = tiny_model.neighbors(encodings)["own_rank"].values

    visitor.press(HEADS, 2, 1)
    wait_for(visitor, 2, 1, 1)
    visitor.press(POSITIONS, 1, 6)
    wait_for(visitor, 1, 1, 6)
    assert chosen(visitor) == (1, 1, 6)
    assert outlined(visitor) == [(1, 1), (1, 6), (6, 0)]
    visitor.press(ATTENTION, 4, 2)
    wait_for(visitor, 1, 1, 4)
    assert chosen(visitor) == (1, 1, 4)
    assert outlined(visitor) == [(1, 1), (1, 4), (4, 0)]

    assert visitor.ranks() == {(i, j): rank for (i, j), rank in np.ndenumerate(ranks[:, :, 4])}
    np.testing.assert_array_equal(visitor.image(POSITIONS), ranks[:, 1].ravel())
    weights = encodings["attention"].values[1, 1].ravel()
    np.testing.assert_allclose(visitor.image(ATTENTION), weights, rtol=1e-4)


def test_the_pointer_is_told_the_tokens_as_text(visitor: Visitor, tiny_model: attnxr.Model) -> None:
    visitor.run("a <b>bold</b> move")
    names = visitor.tokens()
    for figure, said in ((POSITIONS, f"{names[3]} (position 3)"), (ATTENTION, f"{names[2]} (position 2)")):
        visitor.point_at(figure, 2, 3)
        visitor.page.locator(".bk-Tooltip, .bk-tooltip").filter(has_text=said).first.wait_for()


def test_another_measure_colours_maps_and_tokens(visitor: Visitor, tiny_model: attnxr.Model) -> None:
    near = tiny_model.neighbors(tiny_model.encode(START))
    visitor.press(HEADS, 1, 2)
    wait_for(visitor, 1, 2, 1)
    for name in ("origin", "overlap", "nearest_distance"):
        measure = MEASURES[name]
        visitor.select("Colour by", measure.label)
        visitor.page.get_by_text(f"In layer 1, head 2: {measure.title}").wait_for()
        cells, _ = visitor.sources(HEADS)
        shown = {
            (int(layer), int(head)): float(value)
            for layer, head, value in zip(cells["layer"], cells["head"], cells["zvalues"], strict=True)
        }
        for (layer, head), value in np.ndenumerate(measure_values(name, near, position=1)):
            np.testing.assert_allclose(shown[layer, head], value, rtol=1e-6)
        values = measure_values(name, near, head=2)
        np.testing.assert_allclose(visitor.image(POSITIONS), values.ravel(), rtol=1e-4)
        titles = visitor.strip.get_by_role("button").evaluate_all("(chips) => chips.map((chip) => chip.title)")
        expected = [f"{measure.short}: {measure.write(value)}" for value in values[1]]
        assert [title.rpartition(" · ")[2] for title in titles] == expected


def test_q_values_come_for_the_chosen_layer(visitor: Visitor) -> None:
    visitor.select("Colour by", MEASURES["q_value"].label)
    visitor.page.get_by_text("q-value: ").first.wait_for()
    cells, _ = visitor.sources(HEADS)
    there = {int(layer) for layer, q in zip(cells["layer"], cells["zvalues"], strict=True) if q != "NaN"}
    assert there == {0}
    visitor.press(HEADS, 2, 1)
    visitor.page.get_by_text("q-value: ").first.wait_for()


def test_the_tabs_are_a_tablist(visitor: Visitor) -> None:
    tab = visitor.page.get_by_role("tab", name="Attention")
    assert tab.get_attribute("aria-selected") == "true"
    assert visitor.page.get_by_role("tabpanel", name="Attention").is_visible()
