"""The page's address: copied, it shows the same page; the browser's back and forward move the selection."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import expect

import attnxr
from attnxr.analysis.sequence import sequence_distances
from tests.browser.visitor import Visitor

TEXT = "An arrow flies & a banana = 50%\nof <b>time</b>"
OTHER = "Time flies like a <b>banana</b>."
PAUSE_MS = 400  # steps quicker than this are one entry in the history


def said(visitor: Visitor) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(urlsplit(visitor.page.url).query).items()}


def wait_for_address(visitor: Visitor, part: str) -> None:
    visitor.page.wait_for_url(lambda url: part in url)
    visitor.page.wait_for_timeout(PAUSE_MS)


def test_a_copied_link_shows_the_same_page(
    arrive: Callable[[str], Visitor], server: str, minilm_model: attnxr.Model
) -> None:
    visitor = arrive(server)
    assert said(visitor) == {}
    visitor.choose("Model", "minilm")
    visitor.choose("Distance", "Euclidean")
    visitor.choose("Causal mask", "on")
    visitor.run(TEXT)
    visitor.press_token(3)
    visitor.select("Layer", "2")
    visitor.page.wait_for_url(re.compile("at=3.*|layer=2.*"))
    wait_for_address(visitor, "layer=2")
    assert said(visitor) == {
        "text": TEXT,
        "model": "minilm",
        "metric": "euclidean",
        "mask": "on",
        "layer": "2",
        "at": "3",
    }

    other = arrive(visitor.page.url)

    encodings = minilm_model.encode(TEXT, causal=True)
    near = minilm_model.neighbors(encodings, metric="euclidean")
    other.sees(near, sequence_distances(encodings, metric="euclidean"), layer=2, head=0, position=3)
    expect(other.text_box).to_have_value(TEXT)
    assert said(other) == said(visitor)


def test_a_copied_link_opens_the_tab_and_what_was_chosen_in_it(
    arrive: Callable[[str], Visitor], visitor: Visitor
) -> None:
    page = visitor.page
    page.get_by_role("tab", name="Over layers").click()
    wait_for_address(visitor, "panel=Over")
    visitor.select("Show", "own distance")
    wait_for_address(visitor, "quantity=own_distance")
    other = arrive(page.url).page
    expect(other.get_by_role("tab", name="Over layers")).to_have_attribute("aria-selected", "true")
    expect(other.get_by_label("Show", exact=True)).to_have_value("own distance")
    page.go_back()
    expect(page.get_by_label("Show", exact=True)).to_have_value("own rank")

    page.get_by_role("tab", name="Compare").click()
    page.get_by_label("Compare with").select_option(label="another text")
    page.get_by_label("Other text", exact=True).fill(OTHER)
    page.get_by_label("Other text", exact=True).press("Enter")
    page.get_by_role("combobox", name="Map", exact=True).select_option(label="Overlap of neighbours")
    wait_for_address(visitor, "versus_text=")
    wait_for_address(visitor, "difference=rbo")
    page.locator(".two-lists caption").nth(1).wait_for()
    other = arrive(page.url).page
    expect(other.get_by_label("Other text", exact=True)).to_have_value(OTHER)
    expect(other.get_by_role("combobox", name="Map", exact=True)).to_have_value("Overlap of neighbours")
    expect(other.locator(".two-lists table")).to_have_text(page.locator(".two-lists table").all_text_contents())


def test_back_undoes_selections_and_forward_redoes_them(arrive: Callable[[str], Visitor], server: str) -> None:
    visitor = arrive(f"{server}?theme=dark")
    visitor.page.evaluate("window.here = true")
    visitor.press_token(3)
    wait_for_address(visitor, "at=3")
    visitor.press_token(5)
    wait_for_address(visitor, "at=5")
    visitor.select("Layer", "1")
    wait_for_address(visitor, "layer=1")
    chosen = visitor.strip.locator("[aria-pressed=true]")

    visitor.page.go_back()
    expect(visitor.page.get_by_label("Layer", exact=True)).to_have_value("0")
    expect(chosen).to_have_attribute("data-index", "5")
    visitor.page.go_back()
    expect(chosen).to_have_attribute("data-index", "3")
    visitor.page.go_back()
    expect(chosen).not_to_have_attribute("data-index", "3")
    assert said(visitor) == {"theme": "dark"}

    for _ in range(3):
        visitor.page.go_forward()
    expect(visitor.page.get_by_label("Layer", exact=True)).to_have_value("1")
    expect(chosen).to_have_attribute("data-index", "5")
    assert said(visitor)["theme"] == "dark"
    assert visitor.page.evaluate("window.here")  # the same page all along


def test_back_from_another_text(visitor: Visitor) -> None:
    before = visitor.tokens()
    visitor.press_token(4)
    wait_for_address(visitor, "at=4")
    visitor.run("Fruit flies.")
    wait_for_address(visitor, "text=Fruit")

    with visitor.refresh():
        visitor.page.go_back()

    assert visitor.tokens() == before
    assert visitor.chosen_token() == 4


def test_a_bad_address_is_told_and_the_page_works(arrive: Callable[[str], Visitor], server: str) -> None:
    visitor = arrive(f"{server}?model=../../etc&layer=99&head=x&at=3&metric=%ff")
    assert len(visitor.notices()) == 4
    assert "this server" not in visitor.error()
    assert visitor.chosen_token() == 3
    visitor.press_token(2)
    wait_for_address(visitor, "at=2")
    expect(visitor.page.locator(".notices").first.locator("li")).to_have_count(0)
    assert set(said(visitor)) == {"at", "model"}


def test_a_long_text_is_not_in_the_address_and_back_still_works(visitor: Visitor) -> None:
    visitor.run("Time flies like an arrow. " * 100)
    wait_for_address(visitor, "long=")
    assert any("saved as a file instead" in notice for notice in visitor.notices())
    visitor.press_token(3)
    wait_for_address(visitor, "at=3")
    visitor.page.go_back()
    expect(visitor.strip.locator("[aria-pressed=true]")).not_to_have_attribute("data-index", "3")
    assert "text" not in said(visitor)
