"""What stands on the page before its scripts have come, and that the page proper takes its place without a jump."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

import attnxr
from attnxr.tokens import label
from tests.browser.test_page import START

HOSTILE = "</script><script>window.taken = 1</script><b>&amp;"
# Closed roots are opened for the test's eyes.
_OPEN = """const attach = Element.prototype.attachShadow
    Element.prototype.attachShadow = function () { return attach.call(this, { mode: "open" }) }"""
_SHIFTS = """window.shifts = []
    new PerformanceObserver((list) => { for (const entry of list.getEntries()) shifts.push(entry.value) })
        .observe({ type: "layout-shift", buffered: true })"""

# Where names stand, and how wide they are.
_PLACES = """(roots) => {
    const found = []
    const walk = (root) => {
        for (const node of root.querySelectorAll("*")) {
            if (node.matches("h2, .name:not(#first .bar *), .sample") && node.offsetWidth) {
                const { x, width } = node.getBoundingClientRect()
                found.push([node.textContent, [x, width]])
            }
            if (node.shadowRoot) walk(node.shadowRoot)
        }
    }
    document.querySelectorAll(roots).forEach(walk)
    return Object.fromEntries(found)
}"""


@pytest.fixture
def without_scripts(browser: Browser, server: str) -> Any:
    """Opens an address to which no script file comes."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})

    def come(query: str = "") -> Any:
        page = context.new_page()
        page.add_init_script(_OPEN)
        page.route("**/*.js*", lambda route: route.abort())
        page.goto(server + query)
        return page

    yield come
    context.close()


def test_words_and_numbers_stand_where_no_script_has_come(
    without_scripts: Any, arrive: Any, server: str, tiny_model: attnxr.Model
) -> None:
    arrive(server)  # from now on the answer is at hand
    page = without_scripts()
    expect(page.locator("#first")).to_contain_text("Nearest vocabulary tokens")
    near = tiny_model.neighbors(tiny_model.encode(START), k=15)
    chips = page.locator("#first .chip")
    expect(chips).to_have_count(near.sizes["position"])
    rows = page.locator("#first table").first.locator("tbody tr")
    expect(rows).to_have_count(15)
    shown = rows.first.locator(".number").all_text_contents()
    position = int(page.locator("#first .chip[aria-pressed=true]").get_attribute("data-index"))
    expected = near.distance.values[0, :, position, 0]
    assert [float(number) for number in shown] == pytest.approx(expected, abs=6e-4)
    words = near.isel(layer=0, position=position, rank=0)
    titles = [label(*pair) for pair in zip(words.neighbor.values, words.neighbor_text.values, strict=True)]
    assert rows.first.locator("td").count() == len(titles)


def test_a_hostile_text_stays_text(without_scripts: Any) -> None:
    page = without_scripts("?text=" + quote(HOSTILE))
    expect(page.locator("#first textarea")).to_have_value(HOSTILE)
    assert page.evaluate("window.taken") is None


def test_the_page_proper_takes_its_place_without_a_jump(browser: Browser, server: str) -> None:
    for width in (1280, 390):
        context = browser.new_context(viewport={"width": width, "height": 800})
        page = context.new_page()
        page.add_init_script(_SHIFTS)
        page.goto(server)
        page.locator("table:not(.waiting)").first.wait_for()
        page.locator("canvas").first.wait_for()
        expect(page.locator("#first")).to_have_count(0)
        page.wait_for_timeout(500)
        assert page.evaluate("shifts.reduce((sum, each) => sum + each, 0)") < 0.05, width
        context.close()


def test_names_stand_where_the_page_proper_has_them(browser: Browser, server: str) -> None:
    for _ in range(2):  # the second visitor's first words are those of an answer
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.add_init_script(_OPEN)
        page.goto(server, wait_until="commit")
        page.locator("#first .first-part").first.wait_for()
        before = page.evaluate(_PLACES, "#first")
        expect(page.locator("#first")).to_have_count(0)
        page.locator("table:not(.waiting)").first.wait_for()
        after = page.evaluate(_PLACES, "[data-root-id]")
        page.close()
    assert {"Model", "Tokens", "Signal"} <= set(before)
    for name, place in before.items():
        assert place == pytest.approx(after[name], abs=0.5), name


def test_what_no_font_has_is_told_by_its_code_point(visitor: Any) -> None:
    said = visitor.page.evaluate("['arrow', 'é', '\\u{F8123}b', '\\u{F8123}\\u{F8124}'].map(attnxrLegible)")
    assert said == ["arrow", "é", "U+F8123b", "U+F8123 U+F8124"]
