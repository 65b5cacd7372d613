"""How fast the served page is: one real Chromium, and visitors on the wire, against ``panel serve app``.

    python benchmarks/app.py            some four minutes
    python benchmarks/app.py --quick    a little of everything: shows that all of it works, and no more

In the browser all times are taken inside the page, from the visitor's own event to the end of the frame that shows the
last change. On the wire a click has its last patch when none followed it within a second; eight visitors who click at
once have no browser, since eight browsers on two cores would measure their own drawing.
"""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

if not __package__:  # run as a program: this checkout is what is measured
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.parts import measure
from benchmarks.parts.app import browser, cold, heads, visits
from benchmarks.parts.app.server import MODEL, serve
from benchmarks.parts.app.size import QUICK, Size
from benchmarks.parts.app.verdict import judge


async def run(size: Size) -> None:
    started = await cold.look(size)
    with serve() as server:
        seen = await browser.look(server, size)
        alone = await visits.together(server, 1, size)
        many = await visits.together(server, size.visitors, size)
        beside = await visits.beside_a_job(server, size)
    memory = await visits.one_after_another(size)
    of_heads = await heads.look(size)
    print(judge(size, seen, alone, many, beside, memory, of_heads, started).text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a little of everything")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else its server would stay behind
    print(f"{measure.machine()}; model: {MODEL}", end="\n\n", flush=True)
    asyncio.run(run(QUICK if options.quick else Size()))


if __name__ == "__main__":
    main()
