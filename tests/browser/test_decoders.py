"""A decoder at home: it continues the text, reads a chat, and a character of several tokens is shown once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import xarray as xr
from playwright.sync_api import expect

import attnxr
from attnxr.inputs.reading import arguments
from tests.browser.test_address import said, wait_for_address
from tests.browser.visitor import Visitor, legibly, on_chips

TEXT = "Fruit flies like a 🍌"


def see(visitor: Visitor, enc: xr.Dataset, near: xr.Dataset, generated: int) -> None:
    """Assert that strip and table show this text, its last tokens as those that the model wrote."""
    assert visitor.tokens() == on_chips(enc)
    marked = visitor.strip.locator(".chip").evaluate_all("chips => chips.map(x => x.classList.contains('generated'))")
    assert marked == [False] * (len(marked) - generated) + [True] * generated
    visitor._sees_neighbors(near.isel(layer=0, position=visitor.chosen_token()))


def test_a_text_is_continued_read_in_other_ways_and_its_characters_are_whole(
    arrive: Callable[[str], Visitor], decoder_server: str, decoder_folder: str
) -> None:
    model = attnxr.load_model(decoder_folder)

    def expected(read_as: Any, n: int, seed: int | None) -> tuple[xr.Dataset, xr.Dataset]:
        enc = model.encode(model.generate(**arguments(TEXT, read_as), n=n, seed=seed))
        return enc, model.neighbors(enc)

    visitor = arrive(f"{decoder_server}?{urlencode({'text': TEXT})}")
    page: Any = visitor.page
    assert visitor.tokens()[-4:] == ["🍌1/4", "2/4", "3/4", "4/4"]
    visitor.press_token(len(visitor.tokens()) - 2)
    expect(page.locator("header .detail", has_text=legibly("“🍌 3/4”")).first).to_be_visible()

    visitor.choose("Continue by", "10 tokens")
    see(visitor, *expected("text", 10, None), generated=10)
    visitor.choose("Tokens", "drawn, seed 2")
    see(visitor, *expected("text", 10, 2), generated=10)
    visitor.choose("Read as", "a chat, answer next")
    see(visitor, *expected("prompt", 10, 2), generated=10)
    detail = page.locator("header .detail", has_text="the last 10 are generated, drawn with seed 2").first
    expect(detail).to_contain_text("read as a chat, answer next")

    wait_for_address(visitor, "seed=2")
    asked = said(visitor)
    assert {name: asked[name] for name in ("read_as", "continued", "seed")} == {
        "read_as": "prompt",
        "continued": "10",
        "seed": "2",
    }
    copy = arrive(page.url)
    see(copy, *expected("prompt", 10, 2), generated=10)

    # A model that writes nothing is another one's choice: nothing is asked of it, and nothing offered.
    copy.choose("Model", "minilm")
    assert said(copy).keys() & {"read_as", "continued", "seed"} == set()
    assert copy.page.get_by_label("Continue by", exact=True).count() == 0


def test_a_model_that_cannot_says_what_to_load(open_page: Callable[[str], Any], decoder_server: str) -> None:
    page = open_page(f"{decoder_server}?model=minilm&continued=5")
    message = page.get_by_role("alert").filter(has_text="Load a decoder with its head for language")
    message.wait_for()
    heading = page.get_by_role("heading", name="Tokens", exact=True)
    color = "node => getComputedStyle(node).color"
    assert message.evaluate(color) == heading.evaluate(color)  # and not the white that Panel gives to errors
    page.get_by_label("Continue by", exact=True).select_option(label="nothing")
    Visitor(page).wait()
