"""The page of its own holds the answer's numbers, asks for nothing, and nothing in it can be taken for markup."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from attnxr.dashboard.files import standalone
from attnxr.dashboard.files.standalone import Selection
from attnxr.dashboard.rows.measured import token_paint
from attnxr.dashboard.session.answer import Answer, Request
from attnxr.dashboard.session.state import State
from attnxr.plots import MEASURES, measure_values
from attnxr.tokens import label

CHOSEN = Selection(layer=1, head=2, position=3)
HOSTILE = "</script><script>alert(1)</script> <!--data--> <!-- =1 '\" &amp; \u2028 <img src=x onerror=alert(2)>"


@pytest.fixture
def answer(answered: State) -> Answer:
    assert answered.answer is not None
    return answered.answer


def unpacked(packed: str, dtype: str, *shape: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed), dtype).reshape(shape)


class Elements(HTMLParser):
    """Start tags, and what stands in script elements."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data


def contents_of(made: Elements) -> dict[str, Any]:
    """What lies in a page as its data."""
    (data,) = (script for script in made.scripts if script.startswith('{"title"'))
    return json.loads(data)


def test_the_tables_are_the_datasets(answer: Answer) -> None:
    found = json.loads(json.dumps(standalone.contents(answer, CHOSEN)))
    near = answer.neighbors
    shape = near["neighbor"].shape
    names = np.array(found["names"], object)
    expected = [
        label(*pair) for pair in zip(near["neighbor"].values.ravel(), near["neighbor_text"].values.ravel(), strict=True)
    ]
    assert names[unpacked(found["neighbor"], "<u4", *shape)].ravel().tolist() == expected
    np.testing.assert_array_equal(unpacked(found["distance"], "<f4", *shape), near["distance"].values)
    np.testing.assert_array_equal(unpacked(found["own_rank"], "<i4", *shape[:3]), near["own_rank"].values)
    np.testing.assert_array_equal(unpacked(found["own_distance"], "<f4", *shape[:3]), near["own_distance"].values)
    nearest = np.array(expected, object).reshape(shape)[..., 0]
    assert (names[unpacked(found["nearest"], "<u4", *shape[:3])] == nearest).all()
    tokens = [label(*pair) for pair in zip(near["token"].values, near["text"].values, strict=True)]
    assert names[unpacked(found["own"], "<u4", -1)].tolist() == tokens
    weights = unpacked(found["attention"]["weights"], "<f4", *answer.encodings["attention"].shape)
    np.testing.assert_array_equal(weights, answer.encodings["attention"].values)
    others = answer.sequence["neighbor_position"]
    np.testing.assert_array_equal(unpacked(found["other_position"], "<u2", *others.shape), others.values)
    assert found["notes"] == []


@pytest.mark.parametrize("measure", MEASURES)
def test_the_chosen_measure_colours_it(answered: State, answer: Answer, measure: str) -> None:
    answered.param.update(measure=measure, layer=2, head=1)
    found = standalone.contents(answer, replace(CHOSEN, measure=measure))["measure"]
    shape = answer.neighbors["own_rank"].shape
    values = unpacked(found["values"], "<f4", *shape)
    for head in range(answer.n_heads):
        np.testing.assert_allclose(values[:, head], measure_values(measure, answer.neighbors, head=head), rtol=1e-6)
    key, paint = token_paint(answered)
    of_tokens = [found["paints"][i] for i in unpacked(found["paint"], "<u4", *shape)[2, 1]]
    assert [[color, ink, f"{found['short']}: {words}"] for color, ink, words in of_tokens] == paint
    assert key == {"label": f"In layer 2, head 1: {found['title']}", "steps": found["steps"]}


def test_where_the_tables_do_not_fit_those_about_the_chosen_token_are_kept_and_the_page_says_so(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standalone, "MOST_TABLES", 10_000)
    monkeypatch.setattr(standalone, "MOST_ATTENTION", 100)
    found = standalone.contents(answer, CHOSEN)
    first, last = found["first"], found["last"]
    assert 0 <= first <= CHOSEN.position < last < answer.n_positions
    assert len(found["neighbor"]) + len(found["distance"]) + len(found["other_position"]) <= 10_000
    kept = answer.neighbors.isel(position=slice(first, last))
    np.testing.assert_array_equal(unpacked(found["distance"], "<f4", *kept["distance"].shape), kept["distance"].values)
    assert found["attention"]["of"] == [CHOSEN.layer, CHOSEN.head]
    of_head = answer.encodings["attention"].isel(layer=CHOSEN.layer, head=CHOSEN.head)
    np.testing.assert_array_equal(unpacked(found["attention"]["weights"], "<f4", *of_head.shape), of_head.values)
    tables, attention = found["notes"]
    assert f"positions {first} to {last - 1} of {answer.n_positions}" in tables
    assert "one head only" in attention


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_asks_for_nothing(answer: Answer, dark: bool) -> None:
    made = Elements(standalone.page(answer, CHOSEN, dark=dark))
    policy = next(attrs for tag, attrs in made.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none';")
    sources = [attrs[name] for _, attrs in made.tags for name in ("src", "href") if name in attrs]
    assert sources == ["data:,"]


def test_a_hostile_text_is_text(solve: Callable[[Request], Answer], state: State) -> None:
    hostile = solve(replace(state.request, text=HOSTILE))
    plain = solve(state.request)
    made, harmless = (Elements(standalone.page(each, Selection(0, 0, 1))) for each in (hostile, plain))
    assert [tag for tag, _ in made.tags] == [tag for tag, _ in harmless.tags]
    data = next(script for script in made.scripts if script.startswith('{"title"'))
    assert "<" not in data
    assert contents_of(made)["text"] == HOSTILE
    (title,) = re.findall(r"<title>(.*)</title>", standalone.page(hostile, Selection(0, 0, 1)).decode())
    assert "<" not in title
    assert html.unescape(title) == f"attnxr · {' '.join(HOSTILE.split())[:60]}…"


def test_an_answer_without_attention_has_a_page_too(answer: Answer) -> None:
    bare = replace(answer, encodings=answer.encodings.drop_vars("attention"))
    found: dict[str, Any] = standalone.contents(bare, CHOSEN)
    assert found["attention"] is None
    assert re.search(rb"<title>attnxr", standalone.page(bare, CHOSEN))
