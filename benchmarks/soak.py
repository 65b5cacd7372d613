"""Whether a server stays as it is: visitors come and go for hours while corpora are built in the same process.

    python benchmarks/soak.py                    an hour
    python benchmarks/soak.py --minutes 15 --visitors 4

Every minute so many visitors come, ask a text and click four times, and leave. Told are the process' memory, open files
and threads over time, and how memory and files grew in the second half, by a line through all that was seen.
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
from benchmarks.parts.app.crowd import crowd
from benchmarks.parts.app.server import Server, serve
from benchmarks.parts.measure import MIB
from benchmarks.parts.report import Report, Table

_EVERY = 5  # seconds between two looks


async def run(minutes: float, visitors: int) -> Report:
    with serve(builds=True) as server:
        seen: list[tuple[float, int, int, int]] = []
        watching = asyncio.create_task(_watch(server, seen))
        faults: dict[str, int] = {}
        texts = clicks = 0
        loop = asyncio.get_running_loop()
        begins, turn = loop.time(), 0
        while loop.time() - begins < 60 * minutes:
            wave = await crowd(server, visitors, 0.9, False, seed=30_000_000 + 100_000 * turn)
            texts, clicks, turn = texts + len(wave.texts), clicks + len(wave.clicks), turn + 1
            for what, count in wave.faults.items():
                faults[what] = faults.get(what, 0) + count
            print(
                f"{(loop.time() - begins) / 60:.1f} min: {seen[-1][1] / MIB:,.0f} MiB, {seen[-1][2]} files", flush=True
            )
        watching.cancel()
        return _report(server, np.array(seen), texts, clicks, faults)


def _report(server: Server, seen: np.ndarray, texts: int, clicks: int, faults: dict[str, int]) -> Report:
    seconds, names = seen[:, 0], ("memory, MiB", "open files", "threads")
    values = seen[:, 1:] / (MIB, 1, 1)
    late = seconds >= seconds[-1] / 2
    table = Table("Of one process over time", ("", "quarter", "half", "three quarters", "end", "most", "slope an hour"))
    for name, column in zip(names, values.T, strict=True):
        shown = [column[np.searchsorted(seconds, seconds[-1] * part)] for part in (0.25, 0.5, 0.75, 1.0)]
        slope = 3600 * np.polyfit(seconds[late], column[late], 1)[0]
        table.rows.append((name, *(f"{each:,.0f}" for each in (*shown, column.max())), f"{slope:+,.1f}"))
    notes = [
        f"{texts} texts and {clicks} clicks were answered rightly, and {server.said('built')} corpora built, in "
        f"{seconds[-1] / 60:.0f} minutes.",
        *(f"{what}: {count}" for what, count in faults.items()),
        f"Lines of the server's log that tell of errors: {server.errors()}",
    ]
    return Report([table], notes)


async def _watch(server: Server, seen: list[tuple[float, int, int, int]]) -> None:
    loop = asyncio.get_running_loop()
    begins = loop.time()
    while True:
        seen.append((loop.time() - begins, server.memory(), *server.handles()))
        await asyncio.sleep(_EVERY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--visitors", type=int, default=4)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else its server would stay behind
    print(measure.machine(), end="\n\n", flush=True)
    print(asyncio.run(run(options.minutes, options.visitors)).text())


if __name__ == "__main__":
    main()
