"""Look at the served page with a real Chromium: click a token and a cell, and hold the tables against attnxr.

python .ci/look.py http://localhost:5006/app
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))

import attnxr
from tests.browser.visitor import FLAGS, Visitor

SENTENCE = "Time flies like an arrow. Fruit flies like a banana."
LAYER, HEAD, POSITION = 4, 7, 2

model = attnxr.load_model("minilm")
encodings = model.encode(SENTENCE)

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(300_000)
    page.goto(sys.argv[1])
    visitor = Visitor(page)
    visitor.wait()
    visitor.press_token(POSITION)
    visitor.press_cell(LAYER, HEAD)
    page.get_by_text(f"layer {LAYER} · “flies” at position {POSITION}").first.wait_for()
    visitor.sees(model.neighbors(encodings), attnxr.sequence_distances(encodings), LAYER, HEAD, POSITION)
    shown = [row[HEAD]["token"] for row in visitor.cells("Nearest vocabulary tokens by rank and head")]
    browser.close()

print(f"the page shows, for “flies” in layer {LAYER}, head {HEAD}: {', '.join(shown)}")
