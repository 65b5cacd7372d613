"""Tables are made once, kept within their budget, and made without a lock that others could wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

import attnxr
from attnxr import Model
from attnxr.search.tables import Tables
from tests.support import models

WAIT = 60  # seconds after which two threads are taken to wait for each other


def ones(n: int) -> NDArray[np.float64]:
    return np.ones(n)


def test_the_table_not_used_for_longest_goes_first() -> None:
    tables, made = Tables(3 * 80), list[str]()

    def ask(key: str) -> None:
        tables.get(key, lambda: made.append(key) or ones(10))  # type: ignore[func-returns-value]

    for key in "abcadab":
        ask(key)
    assert made == [*"abcdb"]
    assert tables.nbytes == 3 * 80


def test_a_table_larger_than_the_budget_is_made_each_time() -> None:
    tables, made = Tables(79), []
    for _ in range(2):
        assert len(tables.get("large", lambda: made.append(1) or ones(10))) == 10  # type: ignore[func-returns-value]
    assert len(made) == 2
    assert tables.nbytes == 0


def test_of_several_the_missing_ones_are_made_in_one_call_and_none_twice() -> None:
    tables, asked = Tables(1000), []

    def make(missing: list[int]) -> list[NDArray[np.float64]]:
        asked.append(missing)
        return [np.full(2, i, float) for i in missing]

    tables.get("b", lambda: np.full(2, 7.0))
    found = tables.get_all(["a", "b", "a", "c"], make)
    assert len(asked) == 1
    assert [int(each[0]) for each in found] == [2, 7, 2, 3]


def test_one_makes_a_table_while_the_others_wait_for_it() -> None:
    tables, begun, goes_on, made = Tables(1000), threading.Event(), threading.Event(), []

    def make() -> NDArray[np.float64]:
        made.append(1)
        begun.set()
        assert goes_on.wait(WAIT)
        return ones(3)

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(tables.get, "a", make)]
        assert begun.wait(WAIT)
        asking += [pool.submit(tables.get, "a", make) for _ in range(3)]
        goes_on.set()
        found = [each.result(WAIT) for each in asking]
    assert len(made) == 1
    assert all(each is found[0] for each in found)


def test_where_one_fails_who_waits_makes_it() -> None:
    tables, begun, goes_on = Tables(1000), threading.Event(), threading.Event()

    def fail() -> NDArray[np.float64]:
        begun.set()
        assert goes_on.wait(WAIT)
        raise ValueError("no")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(tables.get, "a", fail)
        assert begun.wait(WAIT)
        second = pool.submit(tables.get, "a", lambda: ones(3))
        goes_on.set()
        with pytest.raises(ValueError, match="no"):
            first.result(WAIT)
        assert len(second.result(WAIT)) == 3


def test_two_who_ask_for_the_same_tables_in_another_order_do_not_wait_for_each_other() -> None:
    tables, both = Tables(1), threading.Barrier(2)  # nothing is kept: each round is made anew

    def ask(keys: str) -> int:
        both.wait(WAIT)
        return sum(len(each) for each in tables.get_all([*keys], lambda missing: [ones(2) for _ in missing]))

    with ThreadPoolExecutor(2) as pool:
        for _ in range(200):
            one, other = pool.submit(ask, "abc"), pool.submit(ask, "cba")
            assert one.result(WAIT) == other.result(WAIT) == 6


def test_what_makes_a_table_may_have_other_threads_ask_for_others() -> None:
    """With a lock held meanwhile, the thread that asks would wait for the one that waits for it."""
    tables = Tables(1000)
    with ThreadPoolExecutor(1) as pool:

        def make() -> NDArray[np.float64]:
            return pool.submit(tables.get, "part", lambda: ones(2)).result(WAIT) + 1

        assert tables.get("whole", make).tolist() == [2, 2]


def bert(**options: int) -> Model:
    return attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer(), **options)  # type: ignore[arg-type]


ASKED: list[Callable[[Model], object]] = [
    lambda model: model.neighbors(model.encode("a word"), metric="centered_cosine"),
    lambda model: model.moments(model.encode("a word"), include=["direction"]),
    lambda model: model.distances(model.encode("a word")).isel(vocab=[1, 2]).values,
]


@pytest.mark.parametrize("ask", ASKED, ids=["neighbors", "moments", "distances"])
def test_no_question_waits_for_a_table_of_another_one(ask: Callable[[Model], object]) -> None:
    """A server stood still for good: a search waited for a table, and who made that table for what the search held."""
    model = bert()
    tables = model._look().vocabulary.tables
    begun, goes_on = threading.Event(), threading.Event()

    def make() -> NDArray[np.float64]:
        begun.set()
        assert goes_on.wait(2 * WAIT)
        return ones(3)

    with ThreadPoolExecutor(2) as pool:
        making = pool.submit(tables.get, "of another question", make)
        try:
            assert begun.wait(WAIT)
            pool.submit(ask, model).result(WAIT)
        finally:
            goes_on.set()
        assert len(making.result(WAIT)) == 3


@pytest.mark.parametrize("memory", [0, 20_000, 1 << 30])
def test_threads_that_ask_everything_at_once_get_what_one_alone_gets(memory: int) -> None:
    words = models.SENTENCE.split()
    texts = [" ".join(words[: 1 + i % len(words)]) for i in range(24)]

    def ask(model: Model, text: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        encodings = model.encode(text)
        turn = len(text) % 2  # so that it is not always the same that comes first
        found = {}
        for which in (turn, 1 - turn):
            if which:
                found[which] = model.neighbors(encodings, k=3, vocab_layer="same").neighbor_id.values
            else:
                found[which] = model.moments(encodings, include=["covariance"]).covariance.values
        return found[1], found[0]

    alone, together = bert(), bert(memory=memory)
    expected = [ask(alone, text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, together, text) for text in texts]
        for future, (ids, covariance) in zip(asked, expected, strict=True):
            found_ids, found_covariance = future.result(WAIT)
            np.testing.assert_array_equal(found_ids, ids)
            np.testing.assert_array_equal(found_covariance, covariance)
