"""From ``attnxr serve`` to a page that has its first answer, in a process that has imported nothing yet."""

import os
import subprocess
import sys
import time

from playwright.async_api import async_playwright

from benchmarks.parts.app.browser import FIRST_PAINT, launch
from benchmarks.parts.app.server import MODEL, ROOT, free_port, wait_for
from benchmarks.parts.app.size import Size
from benchmarks.parts.measure import say


async def look(size: Size) -> tuple[list[float], list[float]]:
    """Seconds from the command to the page's words, and to its first answer; a browser is open already.

    Returns
    -------
    words, answer : list of float
        Of each start. The first one is not counted: files are not in the machine's memory yet.
    """
    say("cold starts")
    words: list[float] = []
    answer: list[float] = []
    async with async_playwright() as playwright:
        browser = await launch(playwright)
        for start in range(size.starts + 1):
            port = free_port()
            page = await (await browser.new_context()).new_page()
            await page.add_init_script(FIRST_PAINT)
            command = [sys.executable, "-m", "attnxr", "serve", MODEL, "--address", "127.0.0.1", "--port", str(port)]
            began = time.perf_counter()
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                wait_for(f"http://127.0.0.1:{port}/health", process)
                await page.goto(f"http://127.0.0.1:{port}/app")
                await page.wait_for_function("performance.getEntriesByName('attnxr-first').length")
                stood = time.perf_counter() - began
                await page.evaluate("window.painted")
                painted = time.perf_counter() - began
            finally:
                process.terminate()
                process.wait(60)
            await page.context.close()
            if start:
                words.append(stood)
                answer.append(painted)
        await browser.close()
    return words, answer
