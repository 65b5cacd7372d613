"""Visitors who come, type, click, check what they are told, and leave: what a server has to stand."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import attnxr
from benchmarks.parts.app.server import MODEL, Server
from benchmarks.parts.app.visits import text
from benchmarks.parts.app.wire import WireVisitor

WORDS = 12  # of a text
_LONGEST = 498  # words that fill the model
_PATIENCE = 60.0  # seconds after which what was asked is given up
_EVERY = 0.02


@dataclass
class Seen:
    """What all visitors together saw.

    Attributes
    ----------
    texts, clicks : list of float
        Seconds until the table was right.
    faults : Counter
        What was never right, by kind.
    memory : list of int
        The server's bytes, once a second.
    """

    texts: list[float] = field(default_factory=list)
    clicks: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)


class Truth:
    """What the page must say of a text, as the library says it in this process."""

    def __init__(self) -> None:
        self._model = attnxr.load_model(MODEL)

    def __call__(self, asked: str) -> list[list[str]]:
        """Own ranks of the first layer as the table shows them, by position and head."""
        encodings = self._model.encode(asked).isel(layer=[0])
        ranks = self._model.neighbors(encodings).own_rank.isel(layer=0).transpose("position", "head").values
        return [[f"{rank:,}" for rank in row] for row in ranks.tolist()]


async def crowd(server: Server, visitors: int, minutes: float, greedy: bool, seed: int) -> Seen:
    """Let visitors come one after the other; each asks one text and clicks four times a minute.

    Parameters
    ----------
    server : Server
    visitors : int
    minutes : float
        How long each stays.
    greedy : bool
        Whether another one sends the longest text over and over meanwhile.
    seed : int
        Of their texts.
    """
    truth = Truth()
    rounds = max(1, round(minutes))
    asked = [[text(WORDS, seed + 1000 * who + turn) for turn in range(rounds)] for who in range(visitors)]
    expected = {one: truth(one) for each in asked for one in each}
    seen = Seen()
    watching = asyncio.create_task(_watch(server, seen))
    pest = asyncio.create_task(_send_long_texts(server)) if greedy else None
    minute = 60 * minutes / rounds
    await asyncio.gather(
        *(_visit(server, who * minute / visitors, each, expected, minute, seen) for who, each in enumerate(asked))
    )
    for task in (watching, pest):
        if task is not None:
            task.cancel()
    return seen


async def _visit(
    server: Server, after: float, asked: list[str], expected: dict[str, list[list[str]]], minute: float, seen: Seen
) -> None:
    await asyncio.sleep(after)
    visitor = WireVisitor()
    try:
        await visitor.arrive(server.address)
    except (TimeoutError, OSError) as error:
        seen.faults[f"did not get in ({type(error).__name__})"] += 1
        return
    chance = random.Random(asked[0])
    try:
        for each in asked:
            begins = time.perf_counter()
            ranks = expected[each]
            visitor.patched.clear()
            await visitor.run(each)
            first = ranks[visitor.position]
            await _until_right(visitor, lambda rows, first=first: rows == first, begins, seen.texts, "text", seen)
            for turn in range(1, 5):
                await asyncio.sleep(max(0.0, begins + (turn + chance.random() / 2) * minute / 5 - time.perf_counter()))
                visitor.patched.clear()
                clicked = time.perf_counter()
                await visitor.choose_another(len(ranks))
                right = ranks[visitor.position]
                await _until_right(
                    visitor, lambda rows, right=right: rows == right, clicked, seen.clicks, "click", seen
                )
            await asyncio.sleep(max(0.0, begins + minute - time.perf_counter()))
    finally:
        await visitor.leave()


async def _until_right(
    visitor: WireVisitor, right: Any, since: float, took: list[float], what: str, seen: Seen
) -> None:
    looked = 0
    while time.perf_counter() - since < _PATIENCE:
        while looked < len(visitor.patched):
            when, content = visitor.patched[looked]
            looked += 1
            if any(right(rows) for rows in _own_ranks(content)):
                took.append(when - since)
                return
        await asyncio.sleep(_EVERY)
    seen.faults[f"{what}: the right table did not come within {_PATIENCE:.0f} s"] += 1


def _own_ranks(content: str) -> Iterator[list[str]]:
    """The own ranks of each table of neighbours that a patch brings."""
    if '\\"own\\"' not in content:
        return
    for each in _texts(json.loads(content)):
        if each.startswith("{") and '"own"' in each and '"cells"' in each:
            yield [rank for rank, _distance in json.loads(each).get("own", [])]


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _texts(child)


async def _send_long_texts(server: Server) -> None:
    """Ask the longest texts, each as soon as the one before it is answered, or after a second at the latest."""
    visitor = WireVisitor()
    await visitor.arrive(server.address)
    for turn in range(1_000_000):
        visitor.patched.clear()
        await visitor.run(text(_LONGEST, 10_000_000 + turn))
        await asyncio.sleep(1)


async def _watch(server: Server, seen: Seen) -> None:
    while True:
        seen.memory.append(server.memory())
        await asyncio.sleep(1)
