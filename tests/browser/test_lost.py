"""A page whose connection breaks says so, and comes back as it was when it is loaded again."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.visitor import Visitor

REMEMBER = """
    const Own = WebSocket
    window.sockets = []
    window.WebSocket = class extends Own {
        constructor(...about) {
            super(...about)
            window.sockets.push(this)
        }
    }
"""


def test_a_lost_connection_is_told_and_a_reload_shows_the_same(visitor: Visitor) -> None:
    page = visitor.page
    page.add_init_script(REMEMBER)
    page.reload()
    visitor.wait()
    visitor.run("Fruit flies.")
    visitor.press_token(2)
    visitor.strip.locator("[aria-pressed=true][data-index='2']").wait_for()
    tokens = visitor.tokens()
    expect(page.get_by_text("connection to the server is lost")).to_have_count(0)
    page.evaluate("sockets.forEach((each) => each.close())")
    page.get_by_text("The connection to the server is lost. Reload the page").wait_for()
    page.evaluate("document.fonts.ready")  # what the message is written with, else asked for in vain
    page.reload()
    visitor.strip.locator("[aria-pressed=true][data-index='2']").wait_for()
    assert visitor.tokens() == tokens
    expect(page.get_by_text("connection to the server is lost")).to_have_count(0)
