"""The page of heads in a real Chromium: found, looked at, compared, opened as a text and come back to."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

import attnxr
from tests.browser.conftest import HOSTILE, SENTENCES
from tests.browser.test_access import violations
from tests.browser.visitor import _DRAWN, _PIXEL, Visitor

_AXIS = "entropy of attention"


def cards(page: Any) -> list[str]:
    """Titles of the cards that are there."""
    return [each for each in page.locator(".card-line h2").all_text_contents() if each]


def row(page: Any, layer: int, head: int) -> Any:
    return page.get_by_role("button", name=f"layer {layer}, head {head}", exact=True)


def tap(page: Any, x: float, y: float) -> None:
    page.wait_for_function(_DRAWN, arg=_AXIS)
    page.mouse.click(*page.evaluate(_PIXEL, [_AXIS, y, x]))


def test_a_head_is_found_compared_and_seen_in_a_text(
    open_page: Callable[[str], Any], heads_server: str, tiny_model: attnxr.Model
) -> None:
    page = open_page(heads_server)
    page.get_by_role("tab", name="Heads").click()
    row(page, 1, 2).click()
    tabs = page.get_by_role("tablist", name="Pages").bounding_box()
    assert 46 <= tabs["y"] < 80 - tabs["height"]  # below the bar; and the map of one text is still on the first screen
    expect(page.locator(".card-line[data-mark=chosen] h2")).to_have_text("Layer 1, head 2")
    page.get_by_role("button", name="Pin beside another").click()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".card-line[data-mark=chosen] h2")).to_have_text("Layer 0, head 2")
    assert cards(page) == ["Layer 1, head 2 (pinned)", "Layer 0, head 2"]
    row(page, 0, 2).focus()
    page.keyboard.press("ArrowDown")
    expect(row(page, 0, 3)).to_be_focused()
    expect(page.locator(".card-line[data-mark=chosen] h2")).to_have_text("Layer 0, head 3")
    found = page.url

    page.get_by_role("button", name=re.compile("Open this text on the page of one text: the strongest")).last.click()
    page.wait_for_url(re.compile(r"text=|head="))
    visitor = Visitor(page)
    visitor.wait()
    assert (visitor.chosen_layer(), visitor.chosen_head()) == (0, 3)
    tokens = visitor.tokens()
    assert tokens in [
        [attnxr.tokens.label(*pair) for pair in zip(enc.token.values, enc.text.values, strict=True)]
        for enc in map(tiny_model.encode, SENTENCES)
    ]

    page.go_back()
    expect(page.locator(".card-line[data-mark=chosen] h2")).to_have_text("Layer 0, head 3")
    expect(page.locator(".card-line[data-mark=pinned] h2")).to_have_text("Layer 1, head 2 (pinned)")
    assert page.url == found


def test_a_point_a_filter_and_a_column(open_page: Callable[[str], Any], heads_server: str) -> None:
    page = open_page(f"{heads_server}?page=heads&x=pattern_entropy&y=own_share")
    page.wait_for_function(_DRAWN, arg=_AXIS)
    place = """(axis) => {
        for (const {all_models} of Bokeh.documents) for (const model of all_models) {
            const {name, x, y} = model.data ?? {}
            if (name?.[5] && x && y) return [name[5], x[5], y[5]]
        }
    }"""
    name, x, y = page.evaluate(place, _AXIS)
    tap(page, x, y)
    expect(page.locator(".card-line[data-mark=chosen] h2")).to_have_text(name.capitalize())
    page.get_by_role("columnheader", name="share of own tokens").get_by_role("button").click()
    expect(page.get_by_role("columnheader", name="share of own tokens")).to_have_attribute("aria-sort", "descending")
    page.get_by_label("Writes words that begin with").fill("<img")
    expect(page.locator(".heads .said")).to_contain_text("heads")
    page.wait_for_url(re.compile("words=%3Cimg"))
    page.reload()
    expect(page.get_by_label("Writes words that begin with")).to_have_value("<img")
    expect(page.get_by_role("columnheader", name="share of own tokens")).to_have_attribute("aria-sort", "descending")
    assert page.locator(".heads tbody tr").first.text_content()


def test_words_of_a_file_are_text(open_page: Callable[[str], Any], heads_server: str) -> None:
    page = open_page(f"{heads_server}?page=heads&card=1.1")
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    expect(page.locator(".card-line[data-mark=chosen] h2")).to_have_text("Layer 1, head 1")
    assert page.get_by_text(HOSTILE).count() > 2
    assert page.locator("img[src=x]").count() == 0
    page.wait_for_function(_DRAWN, arg=_AXIS)
    page.mouse.move(*page.evaluate(_PIXEL, [_AXIS, 0.5, 1.0]))
    page.wait_for_timeout(300)
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("theme", ["default", "dark"])
def test_the_page_is_accessible(open_page: Callable[[str], Any], heads_server: str, theme: str) -> None:
    page = open_page(f"{heads_server}?page=heads&card=1.1&pin=0.1&theme={theme}")
    page.wait_for_function(_DRAWN, arg=_AXIS)
    expect(page.locator(".card-line[data-mark=pinned] h2")).to_have_text("Layer 0, head 1 (pinned)")
    assert violations(Visitor(page)) == []
