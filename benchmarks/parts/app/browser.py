"""What a visitor waits for in a real Chromium; all times are taken inside the page."""

import asyncio
import shutil
from typing import Any

import psutil
from playwright.async_api import Browser, Page, Playwright, async_playwright

from benchmarks.parts.app.server import Server
from benchmarks.parts.app.size import Size
from benchmarks.parts.app.visits import text
from benchmarks.parts.measure import say

_QUIET = 300  # milliseconds without a change after which all has arrived, once a figure changed
_FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# From the event that the visitor caused to the end of the frame that shows the last change: of the page's elements,
# in whatever shadow they stand, or of the data of a figure.
_WATCH = """() => {
    const log = window.waited = {start: 0, last: 0, sources: 0}
    const mark = () => requestAnimationFrame(() => setTimeout(() => { log.last = performance.now() }))
    const seen = new WeakSet()
    const observe = (root) => {
        if (seen.has(root)) return
        seen.add(root)
        const changes = {subtree: true, childList: true, attributes: true, characterData: true}
        new MutationObserver(() => { mark(); look(root) }).observe(root, changes)
        look(root)
    }
    const look = (root) => {
        for (const node of root.querySelectorAll("*")) if (node.shadowRoot) observe(node.shadowRoot)
    }
    observe(document)
    for (const {all_models} of Bokeh.documents) {
        for (const model of all_models) {
            if (model.type === "ColumnDataSource") {
                model.properties.data.change.connect(() => { log.sources += 1; mark() })
            }
        }
    }
    const start = (event) => Object.assign(log, {start: event.timeStamp, last: 0, sources: 0})
    addEventListener("pointerup", start, true)
    addEventListener("keydown", start, true)
}"""
_SETTLED = f"""() => new Promise((resolve, reject) => {{
    const {{waited}} = window
    setTimeout(() => reject(new Error("no figure changed")), 60_000)
    const look = () => {{
        const {{start, last, sources}} = waited
        if (sources > 0 && last > 0 && performance.now() - last > {_QUIET}) resolve(last - start)
        else setTimeout(look, 20)
    }}
    look()
}})"""
_DRAWN = """() => Bokeh.documents.some(({all_models}) =>
    Array.from(all_models).some((model) => model.type === "ColumnDataSource"))"""
FIRST_PAINT = """
    const filled = (root) => root.querySelector("table:not(.waiting) td .token") !== null
        || Array.from(root.querySelectorAll("*")).some((node) => node.shadowRoot && filled(node.shadowRoot))
    window.painted = new Promise((resolve) => {
        const look = () => {
            if (filled(document)) requestAnimationFrame(() => setTimeout(() => resolve(performance.now())))
            else setTimeout(look, 25)
        }
        addEventListener("DOMContentLoaded", look)
    })
    // Before that, what came with the first bytes: chips and tables of an answer that the server had at hand.
    window.stood = new Promise((resolve) => {
        const look = () => {
            const known = document.getElementById("first-tree")?.textContent.includes("[CLS]")
            if (performance.getEntriesByName("attnxr-first").length === 0) setTimeout(look, 5)
            else if (known) requestAnimationFrame(() => setTimeout(() => resolve(performance.now())))
            else window.painted.then(resolve)
        }
        look()
    })
"""


class Seen:
    """What was measured in the browser: seconds, and bytes.

    Attributes
    ----------
    words, words_again : list of float
        Until words and tables stand, of those who come for the first time, and of those who come again.
    paint, again : list of float
        Until the page proper shows them, which can be clicked.
    click, long_click : list of float
        From a click on a token to the last view, with a short and a long text.
    new_text : list of float
        From Enter to the last view.
    page, private, heap : int
        Memory of the process that draws the page with the long text, of what of it is no other process's too (as the
        browser's own task manager counts), and of what its scripts hold.
    """

    def __init__(self) -> None:
        self.words: list[float] = []
        self.words_again: list[float] = []
        self.paint: list[float] = []
        self.again: list[float] = []
        self.click: list[float] = []
        self.long_click: list[float] = []
        self.new_text: list[float] = []
        self.page = self.private = self.heap = 0


async def launch(playwright: Playwright) -> Browser:
    """Start the Chromium of this machine, or Playwright's own where there is none."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    return await playwright.chromium.launch(executable_path=path, args=_FLAGS)


async def look(server: Server, size: Size) -> Seen:
    """Measure all that is measured in a browser."""
    seen = Seen()
    async with async_playwright() as playwright:
        browser = await launch(playwright)
        say("first visits")
        await _arrive(browser, server, Seen())  # not counted: the model is loaded for the first of all visitors
        for _ in range(size.texts):
            await _arrive(browser, server, seen)
        page = await _arrive(browser, server, seen, stay=True)
        await page.wait_for_function(_DRAWN)  # what is watched must be there: figures come after the table
        await page.evaluate(_WATCH)
        say("clicks in a browser")
        seen.click = await _clicks(page, size.clicks)
        say("new texts")
        for seed in range(size.texts):
            seen.new_text.append(await _run(page, text(11, seed)))  # 14 tokens
        say("a long text")
        await _run(page, text(size.long, seed=99))
        seen.long_click = await _clicks(page, size.clicks)
        seen.page, seen.private, seen.heap = await _memory(page)
        await browser.close()
    return seen


async def _arrive(browser: Browser, server: Server, seen: Seen, stay: bool = False) -> Page:
    context = await browser.new_context(viewport={"width": 1400, "height": 1000})
    page = await context.new_page()
    await page.add_init_script(FIRST_PAINT)
    for stood, found in ((seen.words, seen.paint), (seen.words_again, seen.again)):
        await page.goto(server.address)
        stood.append(await page.evaluate("window.stood") / 1e3)
        found.append(await page.evaluate("window.painted") / 1e3)
        await page.wait_for_timeout(1000)  # nobody leaves at once, and comes again
    if not stay:
        await context.close()
    return page


async def _clicks(page: Page, count: int) -> list[float]:
    chips = page.get_by_role("group", name="Tokens of the text").get_by_role("button")
    tokens = await chips.count()
    took = []
    for i in range(count + 2):
        await chips.nth(1 + 7 * (i + 1) % (tokens - 2)).click()  # never one that is chosen already
        took.append(await _settled(page))
    return took[2:]  # the first ones draw what is only drawn once


async def _run(page: Page, words: str) -> float:
    box = page.get_by_label("Text", exact=True)
    await box.fill(words)
    await asyncio.sleep(0.5)
    await box.press("Enter")
    strip = page.get_by_role("group", name="Tokens of the text")
    await strip.filter(has_text="".join(words.split()[:5])).wait_for()
    return await _settled(page)


async def _settled(page: Page) -> float:
    """Seconds from what was done last to the last change that it brought."""
    took: float = await page.evaluate(_SETTLED)
    return took / 1e3


async def _memory(page: Page) -> tuple[int, int, int]:
    session: Any = await page.context.new_cdp_session(page)
    await session.send("HeapProfiler.collectGarbage")
    await session.send("Performance.enable")
    metrics = {each["name"]: each["value"] for each in (await session.send("Performance.getMetrics"))["metrics"]}
    started = psutil.Process().children(recursive=True)
    drawing = [each.memory_full_info() for each in started if "--type=renderer" in each.cmdline()]
    largest = max(drawing, key=lambda memory: memory.rss)
    return largest.rss, largest.uss, int(metrics["JSHeapUsedSize"])
