"""What a visitor can do on the page, and what he sees there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr

from attnxr.tokens import label, pieces

# Chromium without what asks its maker for news.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # newer Playwrights say so themselves; without it a warning is on the console
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
VOCABULARY = "Nearest vocabulary tokens by rank and head"
SEQUENCE = "Nearest tokens of the text by rank and head"

# A figure's view, by what its axis below begins with, and its sources: the cells and the outline.
_FIGURE = """(axis) => {
    const views = function* (view) {
        yield view
        for (const child of view.child_views ?? []) yield* views(child)
    }
    const named = ({model}) => model.type === "Figure" && model.below.some((one) => one.axis_label?.startsWith(axis))
    for (const root of Object.values(Bokeh.index)) {
        for (const view of views(root)) if (named(view)) return view
    }
    return null
}"""
_DRAWN = f"(axis) => Boolean(({_FIGURE})(axis)?.has_finished())"
_PIXEL = f"""([axis, y, x]) => {{
    const view = ({_FIGURE})(axis)
    view.canvas_view.el.scrollIntoView({{block: "center"}})
    const box = view.canvas_view.el.getBoundingClientRect()
    return [box.left + view.frame.x_scale.compute(x), box.top + view.frame.y_scale.compute(y)]
}}"""
_BOTTOM = f"""(axis) => {{
    const view = ({_FIGURE})(axis)
    return view.canvas_view.el.getBoundingClientRect().top + view.frame.bbox.bottom
}}"""
_SOURCES = f"""(axis) => ({_FIGURE})(axis).model.renderers.map(
    ({{data_source}}) => Object.fromEntries(
        Object.entries(data_source.data).map(([name, column]) => [name, Array.from(column, (x) => x?.toString())])
    )
)"""
HEADS, POSITIONS, ATTENTION = "Head", "Position", "Key"
"""What the axes below the figures begin with."""
# Leaves as `forgotten`, once the table has started to wait, "" as soon as no token, no cell and no check has any text;
# or the text there is when the wait is over and there was no such moment. It looks first when all that came in one
# patch is drawn, and not only when the next frame is: an answer may be there by then.
_WATCH = """(table) => {
    const deep = (root, selector) => [
        ...root.querySelectorAll(selector),
        ...Array.from(root.querySelectorAll("*"), (node) => node.shadowRoot)
            .filter(Boolean)
            .flatMap((shadow) => deep(shadow, selector)),
    ]
    window.forgotten = null
    const look = () => {
        const text = deep(document, ".chip, td, .fidelity").map((node) => node.textContent).join("")
        if (text && table.classList.contains("waiting")) requestAnimationFrame(look)
        else window.forgotten = text
    }
    new MutationObserver(() => {
        if (table.classList.contains("waiting")) look()
    }).observe(table, {attributes: true})
}"""
# What no font here has stands there as its code point, and as itself beside.
_CHIPS = """(chips) => chips.map((chip) => {
    const part = chip.querySelector("small")?.textContent ?? ""
    return chip.dataset.token === undefined ? chip.textContent : chip.dataset.token + part
})"""
_CELLS = """(rows) => rows.map((row) => Array.from(row.querySelectorAll("td"), (cell) => ({
    token: cell.querySelector(".token")?.dataset.token ?? cell.querySelector(".token")?.firstChild?.textContent ?? null,
    note: cell.querySelector("sub")?.textContent ?? "",
    distance: cell.querySelector(".number")?.textContent ?? null,
    marks: cell.className,
})))"""


class Visitor:
    """A page, by what is done to it and read from it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.text_box = page.get_by_label("Text", exact=True)
        self.strip = page.get_by_role("group", name="Tokens of the text")

    def wait(self) -> None:
        """Wait until the page shows an answer, figures too: they are drawn after all else."""
        self.page.locator("table:not(.waiting)", has_text=VOCABULARY).wait_for()
        self._wait_for(HEADS)

    def _wait_for(self, figure: str) -> None:
        self.page.wait_for_function(_DRAWN, arg=figure)

    @contextmanager
    def refresh(self) -> Iterator[None]:
        """Do what makes the page forget its answer, and wait until it has forgotten it and shows the next one."""
        self.table(VOCABULARY).evaluate(_WATCH)
        yield
        self.forgotten()
        self.wait()

    def forgotten(self) -> str:
        """What the page still showed of its answer when it had forgotten it; see `refresh`."""
        self.page.wait_for_function("window.forgotten !== null")  # to evaluate a promise knows no end of patience
        text: str = self.page.evaluate("window.forgotten")
        return text

    def run(self, text: str) -> None:
        with self.refresh():
            self.text_box.fill(text)
            self.text_box.press("Enter")

    def choose(self, field: str, option: str) -> None:
        with self.refresh():
            self.select(field, option)

    def select(self, field: str, option: str) -> None:
        self.page.get_by_label(field, exact=True).select_option(label=option)

    def press(self, figure: str, y: float, x: float) -> None:
        """Click a cell of a figure."""
        self._wait_for(figure)
        self.page.mouse.click(*self.page.evaluate(_PIXEL, [figure, y, x]))

    def point_at(self, figure: str, y: int, x: int) -> None:
        """Rest the pointer on a cell of a figure."""
        self._wait_for(figure)
        self.page.mouse.move(*self.page.evaluate(_PIXEL, [figure, y, x]), steps=3)

    def bottom(self, figure: str) -> float:
        """Where the cells of a figure end, in pixels from the top of the window."""
        self._wait_for(figure)
        return float(self.page.evaluate(_BOTTOM, figure))

    def sources(self, figure: str) -> list[dict[str, list[str]]]:
        """What a figure draws: columns of its cells, and of its outline."""
        self._wait_for(figure)
        return self.page.evaluate(_SOURCES, figure)

    def image(self, figure: str) -> np.ndarray:
        """Numbers of an image, in a row."""
        (image,) = self.sources(figure)[0]["image"]
        return np.array([float(number) for number in image.split(",")])

    def press_token(self, index: int) -> None:
        self.strip.get_by_role("button").nth(index).click()

    def press_cell(self, layer: int, head: int) -> None:
        self.press(HEADS, layer, head)

    def table(self, name: str) -> Any:
        return self.page.get_by_role("table", name=name)

    def cells(self, name: str) -> list[list[dict[str, str]]]:
        return self.table(name).locator("tbody tr").evaluate_all(_CELLS)

    def own(self) -> list[dict[str, str]]:
        (row,) = self.table(VOCABULARY).locator("thead tr.own-rank").evaluate_all(_CELLS)
        return row

    def tokens(self) -> list[str]:
        return self.strip.get_by_role("button").evaluate_all(_CHIPS)

    def chosen_token(self) -> int:
        return int(self.strip.locator("[aria-pressed=true]").get_attribute("data-index"))

    def chosen_head(self, name: str = VOCABULARY) -> int:
        return int(self.table(name).locator("thead button[aria-pressed=true]").text_content())

    def chosen_layer(self) -> int:
        return int(self.page.get_by_label("Layer", exact=True).locator("option:checked").text_content())

    def ranks(self) -> dict[tuple[int, int], int]:
        """What the map shows, by layer and head."""
        cells, _ = self.sources(HEADS)
        rows = zip(cells["layer"], cells["head"], cells["zvalues"], strict=True)
        return {(int(layer), int(head)): int(rank) for layer, head, rank in rows}

    def outline(self) -> tuple[int, int]:
        """Layer and head of the outlined cell."""
        return self.outlined(HEADS)

    def outlined(self, figure: str) -> tuple[int, int]:
        """First row and first column of what a figure outlines last."""
        _, outline = self.sources(figure)
        return int(float(outline["bottom"][-1]) + 0.5), int(float(outline["left"][-1]) + 0.5)

    def error(self) -> str:
        return self.page.locator(".error").first.text_content()

    def checked(self) -> str:
        """What the corner of the status line says."""
        return self.page.locator(".fidelity summary").first.text_content()

    def notices(self) -> list[str]:
        return self.page.locator(".notices").first.locator("li").all_text_contents()

    def sees(self, near: xr.Dataset, sequence: xr.Dataset, layer: int, head: int, position: int) -> None:
        """Assert that every view shows these Datasets, at this selection."""
        assert self.tokens() == on_chips(near)
        assert (self.chosen_layer(), self.chosen_head(), self.chosen_token()) == (layer, head, position)
        assert self.chosen_head(SEQUENCE) == head
        assert self.outline() == (layer, head)
        ranks = near.own_rank.isel(position=position).values
        assert self.ranks() == {(int(i), int(j)): int(rank) for (i, j), rank in np.ndenumerate(ranks)}
        self._sees_neighbors(near.isel(layer=layer, position=position))
        self._sees_sequence(sequence.distance.isel(layer=layer).values[:, position], position)

    def _sees_neighbors(self, here: xr.Dataset) -> None:
        for rank, row in enumerate(self.cells(VOCABULARY)):
            for head, cell in enumerate(row):
                found = here.isel(head=head, rank=rank)
                assert cell["token"] == label(found.neighbor.item(), found.neighbor_text.item())
                assert close(cell["distance"], found.distance.item())
                assert ("own" in cell["marks"].split()) == (found.neighbor_id.item() == here.token_id.item())
        assert rank + 1 == here.sizes["rank"]
        for head, cell in enumerate(self.own()):
            assert cell["token"] == f"{here.own_rank.values[head]:,}"
            assert close(cell["distance"], here.own_distance.values[head])

    def _sees_sequence(self, distances: np.ndarray, position: int) -> None:
        rows = self.cells(SEQUENCE)
        assert len(rows) == min(10, distances.shape[1] - 1)
        for rank, row in enumerate(rows):
            for head, cell in enumerate(row):
                nearest = np.sort(np.delete(distances[head], position))
                assert close(cell["distance"], nearest[rank])
                assert close(cell["distance"], distances[head, int(cell["note"])])
                assert int(cell["note"]) != position


def legibly(text: str) -> re.Pattern[str]:
    """Find a text in which any character that a font may lack stands as itself or as its code point."""
    return re.compile(
        "".join(f"(?:{char}| ?U\\+{ord(char):04X})" if ord(char) > 0x24F else re.escape(char) for char in text)
    )


def on_chips(dataset: xr.Dataset) -> list[str]:
    """What stands on the chips of a text: a character of several tokens once, and which of them each is."""
    return [
        piece.character * (piece.number == 1) + f"{piece.number}/{piece.count}" if piece.count > 1 else piece.name
        for piece in pieces(dataset.token.values, dataset.text.values)
    ]


def close(written: str, number: float) -> bool:
    """Whether a number is written as it is, but for its last decimal."""
    decimals = len(written.partition(".")[2])
    return abs(float(written) - number) <= 0.6 * 10**-decimals + 2e-6 * abs(number)
