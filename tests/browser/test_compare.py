"""The answer beside another one."""

from __future__ import annotations

from typing import Any

import numpy as np

import attnxr
from attnxr.tokens import label
from tests.browser.test_page import START
from tests.browser.visitor import Visitor

OTHER = "Time flies like a banana."
_LISTS = """(tables) => tables.map((table) => Array.from(table.tBodies[0].rows, (row) => [
    row.cells[1].title, row.cells[3].textContent, row.className,
]))"""
_VALUES = """() => {
    const source = Object.values(Bokeh.documents).flatMap((doc) => Array.from(doc.all_models))
        .find((model) => model.type === "ColumnDataSource" && "before" in model.data)
    return ["layer", "head", "value"].map((name) => Array.from(source.data[name], Number))
}"""


def lists(visitor: Visitor) -> list[list[list[str]]]:
    return visitor.page.locator(".two-lists table").evaluate_all(_LISTS)


def see_lists(visitor: Visitor, here: Any, there: Any) -> None:
    names = [
        [label(*pair) for pair in zip(each.neighbor.values, each.neighbor_text.values, strict=True)]
        for each in (here, there)
    ]
    ids = [each.neighbor_id.values.tolist() for each in (here, there)]
    for shown, mine, own, others in zip(lists(visitor), names, ids, reversed(ids), strict=True):
        assert [row[0] for row in shown] == mine
        assert [row[1] for row in shown] == [f"↔ {others.index(i) + 1}" if i in others else "–" for i in own]
        assert [row[2] == "both" for row in shown] == [i in others for i in own]


def test_the_mask_another_text_and_a_click(visitor: Visitor, tiny_model: attnxr.Model) -> None:
    page = visitor.page
    near = tiny_model.neighbors(tiny_model.encode(START))
    masked = tiny_model.neighbors(tiny_model.encode(START, causal=True))
    page.get_by_role("tab", name="Compare").click()
    page.get_by_text("Every token has a counterpart.").wait_for()
    see_lists(visitor, near.isel(layer=0, head=0, position=1), masked.isel(layer=0, head=0, position=1))
    layer, head, value = page.evaluate(_VALUES)
    change = np.log10(masked.own_rank / near.own_rank).isel(position=1).values
    np.testing.assert_allclose(value, [change[int(i), int(j)] for i, j in zip(layer, head, strict=True)], atol=1e-6)

    page.get_by_label("Compare with").select_option(label="another text")
    page.get_by_label("Other text", exact=True).fill(OTHER)
    page.get_by_label("Other text", exact=True).press("Enter")
    page.get_by_text("Without counterpart:").wait_for()
    other = tiny_model.neighbors(tiny_model.encode(OTHER))
    found = attnxr.comparison(near, other)
    position = int(found.position[2])
    counterpart = int(found.other_position[2])
    visitor.press_token(position)
    page.locator(".two-lists caption", has_text=f"at position {position}").first.wait_for()
    see_lists(visitor, near.isel(layer=0, head=0, position=position), other.isel(layer=0, head=0, position=counterpart))

    alone = int(np.setdiff1d(near.position.values, found.position.values)[0])
    visitor.press_token(alone)
    page.get_by_text(f"at position {alone} has no counterpart in the other text.").wait_for()
    assert len(lists(visitor)) == 1

    # A click on the comparison's map moves the one selection.
    visitor.press_token(position)
    page.locator(".bk-Figure:visible").last.click()
    page.locator("h2:has-text('side by side') + .detail", has_not_text="layer 0 · head 0").wait_for()
    chosen = visitor.chosen_layer(), visitor.chosen_head()
    see_lists(
        visitor,
        near.isel(layer=chosen[0], head=chosen[1], position=position),
        other.isel(layer=chosen[0], head=chosen[1], position=counterpart),
    )


def test_models_of_other_shapes_are_said_to_have_no_counterparts(visitor: Visitor) -> None:
    visitor.page.get_by_role("tab", name="Compare").click()
    visitor.page.get_by_label("Compare with").select_option(label="another model")
    visitor.page.get_by_label("Other model").select_option(label="minilm")
    visitor.page.get_by_text("their heads have no counterparts in each other").first.wait_for()
