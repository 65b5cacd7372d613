"""The views live in a notebook: JupyterLab in a real Chromium, with no request to another host."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from playwright.sync_api import expect

import attnxr
from attnxr.tokens import label
from tests.browser.lab import lab, run_all
from tests.browser.visitor import VOCABULARY, Visitor, legibly

EXPLORE = Path(__file__).parents[2] / "examples" / "explore.ipynb"
TEXT = "Time flies like an arrow. Fruit flies like a banana."
# On a busy machine a view is still being drawn when the cells after it have been run: here each one is.
_DRAW_LATE = """
() => {
  const timer = setInterval(() => {
    if (window.Bokeh?.require === undefined) return
    clearInterval(timer)
    const {View} = window.Bokeh.require("core/view"), initialize = View.prototype.lazy_initialize
    View.prototype.lazy_initialize = async function () {
      await initialize.call(this)
      if (this.parent == null) await new Promise((resolve) => setTimeout(resolve, 2000))
    }
  }, 1)
}
"""

# An answer of the kernel was lost: what is done next waits until there is no hope of it.
_LOSE_AN_ANSWER = """
() => {
  for (const document of Bokeh.documents) {
    for (const model of document._all_models.values()) {
      if (model.type === "panel.models.comm_manager.CommManager") {
        model._blocked = true
        model._timeout = Date.now() + 1000
      }
    }
  }
}
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with lab(tmp_path, EXPLORE) as (address, _):
        yield address


class Cell(Visitor):
    """What one cell of the notebook shows."""

    def wait(self) -> None:
        """Wait until the cell shows an answer; of figures only the page as a whole knows.

        A kernel starts, imports all there is and loads the model first, beside JupyterLab and a browser.
        """
        self.table(VOCABULARY).and_(self.page.locator("table:not(.waiting)")).wait_for(timeout=180_000)

    def shows(self, near: xr.Dataset, layer: int, position: int) -> None:
        """Wait until the table shows the neighbours at a position."""
        here, table = near.isel(layer=layer, position=position), self.table(VOCABULARY)
        nearest = zip(here.neighbor.values[:, 0], here.neighbor_text.values[:, 0], strict=True)
        expect(table.locator(".own-rank .token")).to_have_text([f"{rank:,}" for rank in here.own_rank.values])
        expect(table.locator("tbody tr").first.locator(".token")).to_have_text(
            [re.compile(f"^{legibly(label(*pair)).pattern}$") for pair in nearest]
        )
        expect(self.strip.locator("[aria-pressed=true]")).to_have_attribute("data-index", str(position))


def test_a_click_on_a_token_reaches_the_views_of_a_notebook(
    address: str, open_page: Callable[[str], Any], minilm_model: attnxr.Model
) -> None:
    enc = minilm_model.encode(TEXT)
    page = open_page(address)
    page.evaluate(_DRAW_LATE)
    run_all(page)
    cells = page.locator(".jp-CodeCell")
    instrument, linked = Cell(cells.nth(2)), Cell(cells.nth(5))

    near = minilm_model.neighbors(enc)
    instrument.wait()
    instrument.shows(near, layer=1, position=1)  # a later cell moved it there
    instrument.press_token(5)
    instrument.shows(near, layer=1, position=5)
    instrument.select("Layer", "4")
    instrument.shows(near, layer=4, position=5)
    page.evaluate(_LOSE_AN_ANSWER)
    instrument.press_token(3)
    instrument.shows(near, layer=4, position=3)

    near = minilm_model.neighbors(enc, metric="euclidean")
    linked.shows(near, layer=0, position=8)  # a later cell moved it there
    linked.press_token(2)
    linked.shows(near, layer=0, position=2)
