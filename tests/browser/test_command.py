"""``attnxr serve`` shows the page that ``panel serve app`` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attnxr
from tests.browser.visitor import Visitor

# What the page is made of, but for what tells one visit from another.
LOOK = """() => ({
    title: document.title,
    dark: document.documentElement.classList.contains("dark"),
    styles: Array.from(document.querySelectorAll("style"), (one) => one.textContent)
        .filter((text) => text.includes("html.dark .bk-Tooltip")),
})"""


def test_the_command_shows_the_same_page(
    arrive: Callable[[str], Visitor], command_server: str, server: str, tiny_folder: str, minilm_model: attnxr.Model
) -> None:
    visitor = arrive(f"{command_server}?theme=dark")
    look: dict[str, Any] = visitor.page.evaluate(LOOK)
    assert look == arrive(f"{server}?theme=dark").page.evaluate(LOOK)
    assert (look["title"], look["dark"], len(look["styles"])) == ("attnxr", True, 1)
    options = visitor.page.get_by_label("Model", exact=True).locator("option").all_text_contents()
    assert options == [tiny_folder, "minilm"]

    visitor.choose("Model", "minilm")
    encodings = minilm_model.encode(visitor.text_box.input_value())
    visitor.press_token(2)
    visitor.press_cell(4, 7)
    visitor.page.get_by_text("layer 4 · “flies” at position 2").first.wait_for()
    visitor.sees(minilm_model.neighbors(encodings), attnxr.sequence_distances(encodings), 4, 7, 2)


def test_the_servers_root_leads_to_the_page(arrive: Callable[[str], Visitor], command_server: str) -> None:
    assert arrive(command_server.removesuffix("app")).page.url.startswith(command_server)
