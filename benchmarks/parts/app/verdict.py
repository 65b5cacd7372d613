"""The figures beside their targets."""

import numpy as np

from benchmarks.parts.app.browser import Seen
from benchmarks.parts.app.size import Size
from benchmarks.parts.measure import MIB
from benchmarks.parts.report import Report, Table

_Clicks = tuple[list[float], float]


def judge(
    size: Size,
    seen: Seen,
    alone: _Clicks,
    many: _Clicks,
    beside: _Clicks,
    memory: tuple[int, int],
    heads: dict[tuple[int, int], list[float]],
    cold: tuple[list[float], list[float]],
) -> Report:
    """Lay what was measured beside the targets.

    Parameters
    ----------
    size : Size
    seen : Seen
        In the browser.
    alone, many : tuple
        Seconds on the wire for each click, and CPU seconds for one, of one visitor and of several.
    beside : tuple
        Seconds on the wire for each click beside another's job, and how long that job took.
    memory : tuple of int
        The server's after the first tenth of the visits, and after all.
    heads : dict
        Seconds in the browser from a click on a head to its card, by layers and heads.
    cold : tuple of list
        Seconds from ``attnxr serve`` to the page's words, and to its first answer.
    """
    table = Table("The served page", ("", "p50", "p95", "target", ""))

    def times(what: str, took: list[float], most: float) -> None:
        p50, p95 = (1e3 * np.percentile(took, q) for q in (50, 95))
        row(what, f"{p50:.0f} ms", f"{p95:.0f} ms", f"p95 ≤ {most:.0f} ms", p95 <= most)

    def row(what: str, p50: str, p95: str, target: str, reached: bool) -> None:
        table.rows.append((what, p50, p95, target, "reached" if reached else "MISSED"))

    def amount(what: str, found: str, target: str, reached: bool) -> None:
        row(what, found, "", target, reached)

    times("browser: click → all visible views", seen.click, 100)
    times(f"browser: click, {size.long + 2} tokens", seen.long_click, 250)
    times("browser: new text of 14 tokens → all views", seen.new_text, 1000)
    times("browser: words and tables stand, first visit", seen.words, 1000)
    times("browser: words and tables stand, second visit", seen.words_again, 700)
    times("browser: the page can be clicked, first visit", seen.paint, 2000)
    times("browser: the page can be clicked, second visit", seen.again, 2000)
    times("cold start: attnxr serve → the page's words", cold[0], 8000)
    times("cold start: attnxr serve → its first answer", cold[1], 8000)
    for (layers, of_layer), took in heads.items():
        times(f"browser: head chosen → its card, {layers * of_layer:,} heads", took, 150)
    page, private, heap = (each / MIB for each in (seen.page, seen.private, seen.heap))
    amount(f"browser: memory of the page, {size.long + 2} tokens", f"{page:.0f} MiB", "≤ 500 MB", seen.page <= 5e8)
    amount("  of which is its alone", f"{private:.0f} MiB", "≤ 500 MB", seen.private <= 5e8)
    amount("  of which its scripts hold", f"{heap:.0f} MiB", "≤ 500 MB", seen.heap <= 5e8)
    times("wire: click → all patches, one visitor", alone[0], 100)
    times(f"wire: the same, {size.visitors} visitors", many[0], 150)
    for who, (_, cpu) in (("one visitor", alone), (f"{size.visitors} visitors", many)):
        amount(f"server: CPU for a click, {who}", f"{1e3 * cpu:.1f} ms", "≤ 30 ms", cpu <= 0.030)
    times(f"wire: click beside another's job of {beside[1]:.1f} s", beside[0], 250)
    first, last = memory
    amount(
        f"server: memory after {size.visits} visits, of {first / MIB:.0f} MiB after {size.visits // 10}",
        f"{100 * last / first - 100:+.1f} %",
        "≤ 10 %",
        last <= 1.1 * first,
    )
    return Report([table])
