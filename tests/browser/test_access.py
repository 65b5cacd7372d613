"""axe-core finds nothing against WCAG 2 at levels A and AA, in light and dark, whatever tab is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.visitor import Visitor

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], "resultTypes": ["violations"]}


def violations(visitor: Visitor) -> list[str]:
    """What axe finds fault with, element by element."""
    found = Axe().run(visitor.page, options=RULES).response
    assert len(found["passes"]) > 10  # it did look
    return [
        f"{rule['id']}: {node['target']} {node['html'][:150]} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("theme", ["default", "dark"])
def test_the_page_is_accessible(arrive: Callable[[str], Visitor], server: str, theme: str) -> None:
    visitor = arrive(f"{server}?theme={theme}")
    visitor.press_token(3)
    assert violations(visitor) == []
    tabs: Any = visitor.page.get_by_role("tab")
    for i in range(tabs.count()):
        tabs.nth(i).click()
        visitor.page.wait_for_timeout(500)
        assert violations(visitor) == [], tabs.nth(i).text_content()
