"""How fast the page of heads is: from a click on a head to its card, in a real Chromium."""

import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

from benchmarks.parts.app import atlases
from benchmarks.parts.app.browser import launch
from benchmarks.parts.app.server import serve
from benchmarks.parts.app.size import Size
from benchmarks.parts.measure import say

SHAPES = ((12, 12), (32, 32))
"""Layers and heads: those of RoBERTa, and those of Llama."""
# From the event that the visitor caused to the end of the frame that shows the last change of a card.
_WATCH = """() => {
    const parts = (root) => [
        ...root.querySelectorAll(".card-line h2, .bar-lists, .examples"),
        ...Array.from(root.querySelectorAll("*")).flatMap((node) => node.shadowRoot ? parts(node.shadowRoot) : []),
    ]
    const log = window.waited = {start: 0, last: 0}
    const begin = (event) => Object.assign(log, {start: event.timeStamp, last: 0})
    addEventListener("pointerup", begin, true)
    addEventListener("keydown", begin, true)
    const mark = () => requestAnimationFrame(() => setTimeout(() => { log.last = performance.now() }))
    for (const part of parts(document)) new MutationObserver(mark).observe(part, {childList: true, subtree: true})
}"""
_SETTLED = "() => waited.last > waited.start && performance.now() - waited.last > 300"


async def look(size: Size) -> dict[tuple[int, int], list[float]]:
    """Seconds from a click on a row, or an arrow key, to the card, by the shape of the model."""
    found = {}
    for shape in SHAPES:
        say(f"{shape[0] * shape[1]:,} heads")
        with tempfile.TemporaryDirectory() as folder:
            place = atlases.write(Path(folder) / "it.zarr", *shape)
            with serve(arguments=("--corpus", str(place))) as server:
                found[shape] = await _clicks(server.address, size.clicks)
    return found


async def _clicks(address: str, count: int) -> list[float]:
    took = []
    async with async_playwright() as playwright:
        browser = await launch(playwright)
        page = await browser.new_page(viewport={"width": 1400, "height": 1000})
        await page.goto(f"{address}?page=heads")
        await page.locator(".heads tbody tr").first.wait_for()
        await page.locator("canvas").first.wait_for()
        await page.wait_for_timeout(3000)  # for the model, which is loaded for the other page meanwhile
        await page.evaluate(_WATCH)
        rows = page.locator(".heads tbody tr")
        for i in range(count + 2):
            if i % 2:
                await page.keyboard.press("ArrowDown")
            else:
                await rows.nth(1 + 3 * i % 100).click()
            await page.wait_for_function(_SETTLED)
            took.append(await page.evaluate("waited.last - waited.start") / 1e3)
        await browser.close()
    return took[2:]  # the first ones draw what is only drawn once
