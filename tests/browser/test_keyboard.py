"""Arrow keys move through tokens, layers and heads, but where they mean something already."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.visitor import Visitor


def test_arrows_move_through_tokens_layers_and_heads(visitor: Visitor) -> None:
    keys, live = visitor.page.keyboard, visitor.page.locator("[aria-live]", has_text="chosen:")
    expect(live).to_contain_text("at position 1, layer 0, head 0")
    keys.press("ArrowRight")
    expect(live).to_contain_text("at position 2, layer 0, head 0")
    keys.press("ArrowUp")
    expect(live).to_contain_text("at position 2, layer 1, head 0")
    keys.press("Shift+ArrowRight")
    expect(live).to_contain_text("at position 2, layer 1, head 1")
    assert (visitor.chosen_layer(), visitor.chosen_head(), visitor.chosen_token()) == (1, 1, 2)
    keys.press("ArrowDown")
    expect(live).to_contain_text("layer 0, head 1")
    keys.press("Shift+ArrowLeft")
    expect(live).to_contain_text("head 0")
    for _ in range(6):
        keys.press("ArrowLeft")
    expect(live).to_contain_text("at position 0")


def test_many_steps_at_once_are_all_made(visitor: Visitor) -> None:
    for _ in range(7):
        visitor.page.keyboard.press("ArrowRight")
    expect(visitor.page.locator("[aria-live]", has_text="chosen:")).to_contain_text("at position 8")


def test_arrows_keep_their_meaning_in_a_text_box_and_a_list(visitor: Visitor) -> None:
    visitor.text_box.press("ArrowUp")
    visitor.text_box.press("ArrowRight")
    visitor.page.get_by_label("Distance", exact=True).press("ArrowUp")  # it is the first one already
    visitor.page.keyboard.press("Escape")

    chip = visitor.strip.get_by_role("button").nth(3)
    chip.press("Enter")  # whatever was sent before has arrived when this one has
    chosen = visitor.strip.locator("[aria-pressed=true]")
    expect(chosen).to_have_attribute("data-index", "3")
    assert visitor.chosen_layer() == 0

    visitor.page.keyboard.press("ArrowRight")
    expect(chosen).to_have_attribute("data-index", "4")
    expect(chosen).to_be_focused()
