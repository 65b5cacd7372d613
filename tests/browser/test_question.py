"""Any question, chosen in words or by its parts: heading and table follow, the address holds it, two are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import xarray as xr
from playwright.sync_api import expect

import attnxr
from attnxr.asked import sentence
from tests.browser.test_address import said, wait_for_address
from tests.browser.test_compare import see_lists
from tests.browser.test_page import START
from tests.browser.visitor import VOCABULARY, Visitor


def see(visitor: Visitor, near: xr.Dataset, layer: int = 0, position: int = 1) -> None:
    """Assert that table and headings show these neighbours."""
    question = sentence(near.attrs)
    for title in ("Nearest vocabulary tokens", "Layers and heads"):
        heading = visitor.page.locator("header", has=visitor.page.get_by_role("heading", name=title, exact=True))
        expect(heading.locator("p")).to_contain_text(question)
    at = near.isel(layer=layer, position=position)
    visitor._sees_neighbors(at if "head" in at.dims else at.expand_dims("head"))


def test_a_question_is_chosen_copied_and_compared(
    arrive: Callable[[str], Visitor], visitor: Visitor, tiny_model: attnxr.Model
) -> None:
    page: Any = visitor.page
    encodings = tiny_model.encode(START, include=["query_vector", "hidden"])

    visitor.choose("Question", "queries against keys")
    near = tiny_model.neighbors(encodings, of="query", space="key", vocab_layer="same")
    see(visitor, near)
    expect(page.get_by_label("Vectors", exact=True)).to_have_value("queries")
    visitor.choose("In layer", "1")
    expect(page.get_by_label("Question", exact=True)).to_have_value("another question")
    near = tiny_model.neighbors(encodings, of="query", space="key", vocab_layer=1)
    see(visitor, near)
    wait_for_address(visitor, "vocab_layer=1")
    asked = said(visitor)
    assert {name: asked[name] for name in ("of", "space", "vocab_layer")} == {
        "of": "query",
        "space": "key",
        "vocab_layer": "1",
    }
    copy = arrive(page.url)
    see(copy, near)
    assert said(copy) == asked

    # The model has no output embeddings: what needs them cannot be chosen, and says why.
    lacking = page.get_by_label("Question", exact=True).locator("option", has_text="what it promotes")
    expect(lacking).to_be_disabled()
    assert "no output embeddings" in lacking.get_attribute("title")

    page.get_by_role("tab", name="Compare").click()
    page.get_by_label("Compare with").select_option(label="another question")
    page.get_by_label("Other: Question", exact=True).select_option(label="as the demo")
    page.get_by_text("Every token has a counterpart.").wait_for()
    there = tiny_model.neighbors(encodings)
    page.get_by_text(f"Right: {sentence(there.attrs)}").wait_for()
    see_lists(visitor, near.isel(layer=0, head=0, position=1), there.isel(layer=0, head=0, position=1))

    # The stream has no heads: one column, and the lists stand side by side all the same.
    visitor.choose("Question", "the stream, as input")
    stream = tiny_model.neighbors(encodings, of="hidden", space="embedding")
    see(visitor, stream)
    assert visitor.table(VOCABULARY).locator("thead tr.names th").all_text_contents() == ["", "stream"]
    page.get_by_text("there is no map of differences").first.wait_for()
    see_lists(visitor, stream.isel(layer=0, position=1), there.isel(layer=0, head=0, position=1))
    visitor.press_cell(2, 0)
    expect(page.get_by_label("Layer", exact=True)).to_have_value("2")
    see(visitor, stream, layer=2)


def test_a_forged_question_is_told_and_does_no_harm(arrive: Callable[[str], Visitor], server: str) -> None:
    visitor = arrive(f"{server}?of=query&space=%3Cb%3Eembedding&vocab_layer=-1&k=99999999&versus_of=hidden")
    told = " ".join(visitor.notices())
    for part in ("space “<b>embedding”", "vocab_layer “-1”", "k “99999999”", "no meaning"):
        assert part in told
    expect(visitor.page.get_by_label("Vectors", exact=True)).to_have_value("queries")
    assert visitor.page.locator("b", has_text="embedding").count() == 0


def test_an_embedded_page_is_what_is_shown_and_no_more(open_page: Callable[[str], Any], server: str) -> None:
    page = open_page(f"{server}?controls=off&embed=1")
    page.get_by_role("heading", name="Tokens", exact=True).wait_for()
    expect(page.locator(".MuiAppBar-root")).to_be_hidden()
    expect(page.get_by_role("button", name="Run")).to_have_count(0)
    page.locator("[aria-label='Tokens of the text'] button").first.wait_for()
    assert "embed=1" in page.url
