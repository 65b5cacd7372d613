"""What the server stands: visitors on the wire, each of whom asks texts and clicks, and checks the numbers.

    python benchmarks/load.py                   32 visitors, ten minutes
    python benchmarks/load.py --greedy          and one more, who sends the longest text every second
    python benchmarks/load.py --visitors 8 --minutes 1

The visitors share the machine with the server, and draw nothing. A text or a click has its answer when the table of
neighbours has the own ranks that the library finds for that text and that token in this process.
"""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import numpy as np

if not __package__:  # run as a program: this checkout is what is measured
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.parts import measure
from benchmarks.parts.app.crowd import Seen, crowd
from benchmarks.parts.app.server import Server, serve
from benchmarks.parts.report import Report, Table, in_mib, in_seconds

TEXT, CLICK = 3.0, 0.5
"""Seconds at the 95th percentile that are aimed at."""
_AFTER = 60  # seconds after which who left is forgotten


async def run(visitors: int, minutes: float, greedy: bool) -> Report:
    with serve() as server:
        await crowd(server, 1, 0.2, False, seed=999_000)  # what is made once is made
        begins = server.memory()
        seen = await crowd(server, visitors, minutes, greedy, seed=0)
        await asyncio.sleep(_AFTER)
        return _report(server, seen, begins, visitors, greedy)


def _report(server: Server, seen: Seen, begins: int, visitors: int, greedy: bool) -> Report:
    table = Table(
        f"{visitors} visitors{', and one who sends the longest texts' if greedy else ''}",
        ("", "count", "p50", "p95", "most"),
    )
    for what, took in (("a new text → the right table", seen.texts), ("a click → the right table", seen.clicks)):
        p50, p95 = (in_seconds(float(np.percentile(took, q))) if took else "–" for q in (50, 95))
        table.rows.append((what, str(len(took)), p50, p95, in_seconds(max(took, default=0.0))))
    notes = [f"{what}: {count}" for what, count in seen.faults.items()] or ["Every table was right."]
    notes += [
        f"Lines of the server's log that tell of errors: {server.errors()}",
        f"The server's memory: {in_mib(begins)} before, {in_mib(max(seen.memory))} at most, "
        f"{in_mib(server.memory())} when {_AFTER} s had passed after the last one left",
    ]
    report = Report([table], notes)
    for name, took, most in (("text", seen.texts, TEXT), ("click", seen.clicks, CLICK)):
        if took:
            report.target(name, {"p95": float(np.percentile(took, 95))}, most, "s")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--greedy", action="store_true", help="with a visitor who sends the longest text every second")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else its server would stay behind
    print(measure.machine(), end="\n\n", flush=True)
    print(asyncio.run(run(options.visitors, options.minutes, options.greedy)).text())


if __name__ == "__main__":
    main()
