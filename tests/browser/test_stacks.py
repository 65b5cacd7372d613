"""An encoder-decoder at home: its encoder first, its decoder where it is chosen, with a target to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import expect

import attnxr
from attnxr.analysis.sequence import sequence_distances
from tests.browser.test_address import said, wait_for_address
from tests.browser.visitor import Visitor

TEXT, TARGET, OTHER = "Fruit flies like a banana.", "Time flies like an arrow.", "An arrow & a <b>dog</b>"


def type_target(visitor: Visitor, target: str) -> None:
    with visitor.refresh():
        box = visitor.page.get_by_label("Target", exact=True)
        box.fill(target)
        box.press("Enter")


def test_the_decoder_is_chosen_reads_a_target_and_is_in_the_address(
    arrive: Callable[[str], Visitor], two_stacks_server: str, two_stacks_folder: str
) -> None:
    model = attnxr.load_model(two_stacks_folder)

    def see(visitor: Visitor, target: str | None, layer: int, position: int) -> None:
        encodings = model.encode(TEXT, target=target)
        visitor.sees(model.neighbors(encodings), sequence_distances(encodings), layer, 0, position)

    visitor = arrive(f"{two_stacks_server}?{urlencode({'text': TEXT})}")
    page: Any = visitor.page
    target = page.get_by_label("Target", exact=True)
    expect(target).to_be_hidden()
    see(visitor, None, 0, 1)
    refused = page.get_by_label("Stack", exact=True).locator("option", has_text="cross-attention")
    expect(refused).to_be_disabled()

    # Nothing is there of the decoder before it has something to read.
    visitor.select("Stack", "decoder")
    expect(page.get_by_role("alert").filter(has_text="Type a target")).to_be_visible()
    assert visitor.tokens() == []
    target.fill(TARGET)
    target.press("Enter")
    visitor.wait()
    visitor.select("Layer", "2")
    visitor.press_token(3)
    page.get_by_text("8 tokens of the target · chosen").wait_for()
    page.get_by_text("layer 2 · “␣flies” at position 3").first.wait_for()
    see(visitor, TARGET, 2, 3)

    type_target(visitor, OTHER)
    see(visitor, OTHER, 2, 2)
    expect(page.get_by_text("In the decoder: which vocabulary tokens").first).to_be_visible()
    wait_for_address(visitor, "stack=decoder")
    assert said(visitor).items() >= {"text": TEXT, "target": OTHER, "stack": "decoder", "layer": "2"}.items()

    page.reload()
    visitor.wait()
    see(visitor, OTHER, 2, 2)
    expect(target).to_have_value(OTHER)

    # Another model has one stack: it is asked as ever, and shows no target.
    visitor.choose("Model", "minilm")
    assert said(visitor).keys() & {"stack", "target"} == set()
    expect(target).to_be_hidden()
    expect(page.get_by_label("Stack", exact=True)).to_have_count(0)


def test_an_address_that_asks_a_model_with_one_stack_says_so(
    open_page: Callable[[str], Any], two_stacks_server: str
) -> None:
    page = open_page(f"{two_stacks_server}?{urlencode({'model': 'minilm', 'stack': 'decoder', 'target': TARGET})}")
    page.get_by_role("alert").filter(has_text="is no encoder-decoder").wait_for()
    page.get_by_label("Stack", exact=True).select_option(label="encoder")
    Visitor(page).wait()
