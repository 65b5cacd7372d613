"""What the server takes for many visitors, told by visitors without a browser."""

import asyncio
import itertools
import random
import time

from benchmarks.parts.app.server import Server, serve
from benchmarks.parts.app.size import Size
from benchmarks.parts.app.wire import WireVisitor
from benchmarks.parts.measure import say

_WORDS = (
    "time flies like an arrow and fruit a banana while old man reads his long book near open water under light rain"
)
_UNCOUNTED = 2  # clicks, of which each takes a second
_LEAVE = 1.5  # seconds after which the server notices that a visitor has left


def text(words: int, seed: int) -> str:
    """Common words at random: a text that nobody has asked about yet."""
    return " ".join(random.Random(seed).choices(_WORDS.split(), k=words)) + "."


async def clicks(visitor: WireVisitor, count: int, tokens: int, every: float = 1.0) -> list[float]:
    """Click one token after the other; gives the seconds from each click to the last patch that followed it."""
    took = []
    for _ in range(count):
        visitor.patched.clear()
        clicked = time.perf_counter()
        await visitor.choose_another(tokens)
        await asyncio.sleep(every)
        if not visitor.patched:
            await visitor.until("")
        took.append(visitor.patched[-1][0] - clicked)
    return took


async def together(server: Server, visitors: int, size: Size) -> tuple[list[float], float]:
    """So many visitors click once a second, one after the other; also gives the server's CPU seconds for a click.

    The first two clicks of each are not counted. Nobody rests meanwhile: of a choice that rests, more is computed.
    """
    say(f"{visitors} on the wire")
    everyone = [WireVisitor() for _ in range(visitors)]
    for visitor in everyone:
        await visitor.arrive(server.address)
    await asyncio.sleep(2)  # for what comes after an answer

    async def one(i: int, visitor: WireVisitor) -> list[float]:
        await asyncio.sleep(i / visitors)
        return await clicks(visitor, _UNCOUNTED + size.wire_clicks, size.tokens)

    clicking = [asyncio.create_task(one(i, visitor)) for i, visitor in enumerate(everyone)]
    await asyncio.sleep(_UNCOUNTED)
    before = server.cpu()
    await asyncio.wait(clicking, return_when=asyncio.FIRST_COMPLETED)
    cpu = (server.cpu() - before) / (visitors * size.wire_clicks)
    took = [each[_UNCOUNTED:] for each in await asyncio.gather(*clicking)]
    for visitor in everyone:
        await visitor.leave()
    return list(itertools.chain(*took)), cpu


async def beside_a_job(server: Server, size: Size) -> tuple[list[float], float]:
    """One clicks while another's long texts are worked on; also gives the seconds that one of these took."""
    say("beside a job")
    one, other = WireVisitor(), WireVisitor()
    for visitor in (one, other):
        await visitor.arrive(server.address)
    jobs: list[float] = []

    async def work() -> None:
        while True:
            other.patched.clear()
            asked = time.perf_counter()
            await other.run(text(size.long, seed=1000 + len(jobs)))
            await other.until('"items"', since=asked)
            jobs.append(time.perf_counter() - asked)

    working = asyncio.create_task(work())
    took = await clicks(one, 2 * size.wire_clicks, size.tokens, every=0.5)
    working.cancel()
    for visitor in (one, other):
        await visitor.leave()
    return took, max(jobs, default=0.0)


async def one_after_another(size: Size) -> tuple[int, int]:
    """The server's memory after the first tenth of the visits, and after all."""
    say(f"{size.visits} visits")
    lifetimes = ("--check-unused-sessions", "500", "--unused-session-lifetime", "500")
    with serve(*lifetimes) as server:
        for i in range(size.visits):
            visitor = WireVisitor()
            await visitor.arrive(server.address)
            await clicks(visitor, 2, size.tokens, every=0.1)
            await visitor.leave()
            if i + 1 == size.visits // 10:
                await asyncio.sleep(_LEAVE)
                first = server.memory()
        await asyncio.sleep(_LEAVE)
        return first, server.memory()
