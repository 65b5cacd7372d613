"""A search that takes a while can be called off, and nothing that was typed is lost."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.visitor import VOCABULARY, Visitor

LONG = "Time flies like an arrow, and fruit flies like a banana. " * 120


def test_a_long_search_is_cancelled_by_keyboard_and_asked_again(visitor: Visitor) -> None:
    visitor.select("Model", "minilm")
    visitor.text_box.fill(LONG)
    visitor.text_box.press("Enter")
    visitor.page.get_by_role("button", name="Cancel").press("Enter")

    expect(visitor.page.get_by_role("status").filter(has_text="Cancelled")).to_be_visible()
    expect(visitor.page.get_by_role("button", name="Cancel")).to_have_count(0)
    expect(visitor.text_box).to_have_value(LONG)
    visitor.page.wait_for_timeout(1000)
    expect(visitor.table(VOCABULARY)).to_have_class(re.compile("waiting"))

    visitor.text_box.fill("Fruit flies.")
    visitor.text_box.press("Enter")
    visitor.wait()
    assert visitor.tokens() == ["[CLS]", "fruit", "flies", ".", "[SEP]"]
