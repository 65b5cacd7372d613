"""What a browser sends and is no message of its part reaches nobody, and leaves a short line in the log at most."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from panel.custom import DataEvent

from attnxr.dashboard import parts
from attnxr.dashboard.parts import Part
from attnxr.dashboard.session.limits import LIMITS
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.maps import HeadMap

SECRET = "what a visitor typed"
FIELDS = [
    {"name": "measure", "options": [["own_rank", "Own rank"], ["overlap", "Overlap"], [None, "none"], [1, "one"]]},
    {"name": "positional", "options": None},
    {"name": "versus_model", "options": []},
]
GOOD: dict[str, list[dict[str, Any]]] = {
    "AddressBar": [{"query": "?text=a&layer=3"}, {"query": ""}],
    "BarLists": [],
    "CardHeading": [{"name": "pin"}],
    "Chips": [{"index": 0}, {"index": 5}, {"index": -1}],
    "Choices": [
        {"name": "measure", "value": "overlap"},
        {"name": "measure", "value": None},
        {"name": "measure", "value": 1},
        {"name": "positional", "value": False},
    ],
    "FigureFiles": [{"format": "png"}, {"format": "svg"}],
    "Findings": [{"name": "What it does"}],
    "HeadExamples": [{"example": 3, "position": 12}],
    "Heading": [],
    "HeadsTable": [
        {"do": "choose", "at": 1023, "words": ""},
        {"do": "order", "at": 2, "words": ""},
        {"do": "search", "at": -1, "words": SECRET},
    ],
    "Links": [],
    "Keys": [{"layer": 1}, {"position": -3, "head": 2}, {"position": 1, "layer": 1, "head": 1}],
    "OpenFileButton": [{"name": "a.nc", "size": 4, "start": 0, "data": "AAAA"}],
    "RankTable": [{"head": 3}],
    "SignalTable": [{"head": 3}],
    "Status": [{"cancel": True}],
    "Tabs": [{"name": "Map"}],
    "TakeAwayFiles": [{"name": "netcdf"}],
    "TextBox": [{"text": ""}, {"text": SECRET}, {"text": "x" * LIMITS.text_characters}],
    "TwoLists": [],
}
COMPONENTS = [each for each in map(parts.__dict__.get, parts.__all__) if each is not Part and issubclass(each, Part)]
WRONG_VALUES: list[Any] = [
    *(None, True, False, -1, 0, 1, 1.0, 10**400, math.nan, math.inf, "", SECRET, "x" * 5_000_000, b"\0", [], [1], {}),
    *({"a": {"b": []}}, np.zeros(3), np.int64(1), object(), {SECRET: SECRET}, ["overlap"], ("overlap",)),
]
WRONG_MESSAGES: list[Any] = [
    *(*WRONG_VALUES, {}, {"": ""}, {1: 2}, {None: None}, {SECRET: 1}, {"name": "measure"}, {"value": "overlap"}),
    *({"name": "error", "value": SECRET}, {"name": "versus_model", "value": SECRET}, {"name": ["measure"], "value": 1}),
    {"name": "versus_model", "value": True},
]


@pytest.fixture
def heard() -> list[Any]:
    return []


def component(kind: type[Part], heard: list[Any]) -> Part:
    return kind(heard.append, **({"fields": FIELDS} if kind is parts.Choices else {}))


def variations(message: dict[str, Any]) -> Iterator[Any]:
    """Messages that differ from one in a field: one more, one less, or another value."""
    yield message | {"more": 1}
    for name in message:
        yield {key: value for key, value in message.items() if key != name}
        for value in WRONG_VALUES:
            yield message | {name: value}


def may_be(kind: str, message: Any) -> bool:
    """Whether a part's script could have sent it, said once more, by the fields and types of `GOOD`."""
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message) or not GOOD[kind]:
        return False
    if kind == "Choices":
        return any(message.keys() == good.keys() and repr(message) == repr(good) for good in GOOD[kind]) or (
            repr(message) in ("{'name': 'positional', 'value': True}", "{'name': 'measure', 'value': 'own_rank'}")
        )
    fields = {name: type(value) for name, value in GOOD[kind][-1].items()}
    fits = message and set(message) <= set(fields) and all(type(message[name]) is fields[name] for name in message)
    if not fits or (set(message) != set(fields) and kind != "Keys"):
        return False
    most = {
        "text": LIMITS.text_characters,
        "query": 100_000,
        "data": 3 << 20,
        "words": 1000,
        "do": 6,
        "name": 1000 if kind == "OpenFileButton" else 100,
    }
    for name, value in message.items():
        if isinstance(value, str) and len(value) > most.get(name, 5):
            return False
        if type(value) is int and abs(value) > 1 << 31:
            return False
    if kind == "FigureFiles":
        return message["format"] in ("png", "svg")
    if kind == "HeadsTable":
        return message["do"] in ("choose", "order", "search")
    return kind != "Status" or message["cancel"] is True


def test_every_part_is_looked_at() -> None:
    assert {each.__name__ for each in COMPONENTS} == set(GOOD)


@pytest.mark.parametrize("kind", COMPONENTS)
def test_a_part_takes_its_own_messages_and_no_others(kind: type[Part], heard: list[Any]) -> None:
    part, good = component(kind, heard), GOOD[kind.__name__]
    for message in good:
        part._process_event(DataEvent(None, message))
        assert heard[-1] is message
    assert len(heard) == len(good)
    wrong = [*WRONG_MESSAGES, *(each for message in good for each in variations(message))]
    expected = [message for message in wrong if may_be(kind.__name__, message)]
    assert len(wrong) - len(expected) >= 30
    heard.clear()
    for message in wrong:
        part._process_event(DataEvent(None, message))
    assert list(map(id, heard)) == list(map(id, expected))


def test_what_is_ignored_is_told_in_few_short_lines_without_what_it_said(caplog: pytest.LogCaptureFixture) -> None:
    part = parts.TextBox(lambda data: data["text"])
    with caplog.at_level(logging.DEBUG):
        for _ in range(2_000):
            part._process_event(DataEvent(None, {}))
            part._process_event(DataEvent(None, {SECRET: SECRET}))
    assert 1 <= len(caplog.records) <= 12  # a line whenever there are twice as many
    for record in caplog.records:
        assert record.exc_info is None
        assert "TextBox" in record.getMessage()
        assert SECRET not in record.getMessage()
        assert len(record.getMessage()) < 120


@pytest.mark.parametrize("place", [math.nan, math.inf, -math.inf, None, "3", [1], pytest.param(10**400, id="huge")])
def test_a_click_that_is_at_no_place_chooses_nothing(answered: State, place: Any) -> None:
    figure = HeadMap(answered)
    figure._on_tap(1.0, 2.0)
    assert (answered.layer, answered.head) == (2, 1)
    for x, y in ((place, 2.0), (1.0, place), (place, place)):
        figure._on_tap(x, y)
    assert (answered.layer, answered.head) == (2, 1)
