"""Runs examples/explore.ipynb in JupyterLab and keeps it as it ran, with pictures where its views are.

    python -m tests.browser.stills

What makes views live is megabytes of scripts, and shows nothing without a kernel; pictures show on any page.
"""

from __future__ import annotations

import base64
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.browser.lab import lab, run_all
from tests.browser.visitor import FLAGS

EXPLORE = Path(__file__).parents[2] / "examples" / "explore.ipynb"
_LIVE = "application/vnd.holoviews_exec.v0+json"
_SIZE = {"width": 1360, "height": 4200}  # as high as it takes to show every output whole


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        lab(Path(folder), EXPLORE) as (address, copy),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport=_SIZE)
        page.set_default_timeout(120_000)
        page.goto(address)
        run_all(page)
        cells = page.locator(".jp-CodeCell")
        cells.last.locator(".jp-OutputArea-output").wait_for()
        page.locator("table:not(.waiting)").last.wait_for()
        page.wait_for_timeout(3000)  # for figures to be drawn
        with page.expect_response(lambda reply: reply.request.method == "PUT" and copy.name in reply.url):
            page.keyboard.press("Control+s")
        ran = [cell for cell in nbformat.read(copy, as_version=4).cells if cell.cell_type == "code"]
        kept = nbformat.read(EXPLORE, as_version=4)
        for i, cell in enumerate(cell for cell in kept.cells if cell.cell_type == "code"):
            cell.execution_count = ran[i].execution_count
            cell.outputs = [_still(output, cells.nth(i)) for output in ran[i].outputs if not _is_script(output)]
        browser.close()
    nbformat.write(kept, EXPLORE)


def _is_script(output: Any) -> bool:
    """Whether an output is there for its scripts, with nothing to see."""
    return output.output_type == "display_data" and "text/plain" not in output.data


def _still(output: Any, cell: Any) -> Any:
    if _LIVE not in output.get("data", {}):
        return output
    shot = Image.open(io.BytesIO(cell.locator(".jp-OutputArea-output").last.screenshot()))
    small = io.BytesIO()
    shot.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    data = {"image/png": base64.b64encode(small.getvalue()).decode(), "text/plain": output.data["text/plain"]}
    return nbformat.v4.new_output(output.output_type, data, execution_count=output.execution_count)


if __name__ == "__main__":
    main()
