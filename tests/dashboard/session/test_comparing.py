"""The second request differs in one thing; what is said of the pair is what the library says, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr.dashboard.rows.compare import difference_note, neighbor_lists
from attnxr.dashboard.session.answer import Answer, Request
from attnxr.dashboard.session.comparing import Comparison, changed, held_against
from attnxr.dashboard.session.state import State
from attnxr.errors import InputError
from attnxr.plots import difference_columns, difference_map
from attnxr.tokens import label

OTHER = "Time flies like a banana. Nobody knows."
Solve = Callable[[Request], Answer]


@pytest.fixture
def first(answered: State) -> Answer:
    assert answered.answer is not None
    return answered.answer


@pytest.fixture(params=["mask", "text"])
def pair(request: pytest.FixtureRequest, first: Answer, solve: Solve) -> Comparison:
    return held_against(
        first, solve(changed(first, *{"mask": ("causal", "", ""), "text": ("text", OTHER, "")}[request.param]))
    )


def test_the_second_request_differs_in_one_thing(first: Answer) -> None:
    request = first.request
    assert changed(first, "causal", "", "") == replace(request, causal=True)
    assert changed(first, "text", OTHER, "") == replace(request, text=OTHER)
    assert changed(first, "model", "", "roberta") == replace(request, model="roberta")


@pytest.mark.parametrize(
    ("change", "text", "model", "message"),
    [
        ("text", " ", "", "Type another text"),
        ("text", None, "", "same text"),
        ("model", "", "", "no other model"),
        ("model", "", "bert", "no other model"),
    ],
)
def test_where_nothing_would_differ_it_says_so(
    first: Answer, change: str, text: str | None, model: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        changed(first, change, first.request.text if text is None else text, model)


def test_the_comparison_is_the_librarys(pair: Comparison) -> None:
    a, b = pair.a, pair.b
    expected = attnxr.comparison(a.neighbors, b.neighbors, a.encodings, b.encodings)
    assert pair.differences is not None
    for name in ("own_rank_difference", "own_distance_difference", "overlap", "rbo", "attention_distance"):
        np.testing.assert_array_equal(pair.differences[name].values, expected[name].values)
    counterpart = dict(zip(expected["position"].values, expected["other_position"].values, strict=True))
    assert pair.counterpart.tolist() == [counterpart.get(i, -1) for i in range(a.n_positions)]


def test_progress_is_told_and_can_end_it(first: Answer, solve: Solve) -> None:
    other, told = solve(replace(first.request, causal=True)), []
    held_against(first, other, told.append)
    assert told == pytest.approx(np.arange(1, first.n_layers + 1) / first.n_layers)

    class EnoughError(Exception):
        pass

    def end(_fraction: float) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        held_against(first, other, end)


def test_models_of_other_shapes_and_texts_without_a_common_token_cannot_be_compared(
    first: Answer, solve: Solve
) -> None:
    shapes = held_against(first, solve(replace(first.request, model="roberta")))
    assert shapes.differences is None
    assert "3 layers × 4 heads" in shapes.refusal
    assert "2 layers × 2 heads" in shapes.refusal
    bare = first.neighbors.assign_coords(token=("position", [f"x{i}" for i in range(first.n_positions)]))
    apart = held_against(first, replace(first, neighbors=bare))
    assert apart.differences is None
    assert "no token in common" in apart.refusal
    shown = neighbor_lists(apart, 0, 0, 1)
    assert len(shown["lists"]) == 1
    assert shown["note"] == apart.refusal
    assert difference_note(apart) == ""


def test_the_two_lists_say_what_is_in_both(pair: Comparison) -> None:
    position = 1
    counterpart = int(pair.counterpart[position])
    shown = neighbor_lists(pair, 1, 3, position)
    here, there = (
        each.neighbors.isel(layer=1, head=3, position=at) for each, at in ((pair.a, position), (pair.b, counterpart))
    )
    ids = [each["neighbor_id"].values.tolist() for each in (here, there)]
    for each, dataset, mine, others in zip(shown["lists"], (here, there), ids, reversed(ids), strict=True):
        assert each["own"][0] == f"{dataset['own_rank'].item():,}"
        named = zip(dataset["neighbor"].values, dataset["neighbor_text"].values, strict=True)
        assert [row[0] for row in each["rows"]] == [label(*pair) for pair in named]
        assert [row[2] for row in each["rows"]] == [others.index(i) + 1 if i in others else 0 for i in mine]
    assert shown["note"].startswith(f"{len(set(ids[0]) & set(ids[1]))} of 15 are in both")
    sides = [each["side"] for each in shown["lists"]]
    assert sides == (["mask off", "mask on"] if pair.b.request.causal else ["this text", "the other text"])


def test_tokens_without_counterpart_are_said_to_have_none(first: Answer, solve: Solve) -> None:
    pair = held_against(first, solve(changed(first, "text", OTHER, "")))
    position = int(np.flatnonzero(first.neighbors["token"].values == "arrow")[0])
    assert pair.counterpart[position] == -1
    assert pair.row(position) is None
    shown = neighbor_lists(pair, 0, 0, position)
    assert len(shown["lists"]) == 1
    assert shown["note"] == f"“arrow” at position {position} has no counterpart in the other text."
    note = difference_note(pair)
    assert f"“arrow” ({position})" in note
    assert "“nobody” (" in note.partition("of this answer")[2]
    same = held_against(first, solve(changed(first, "causal", "", "")))
    assert difference_note(same) == ""


def test_the_map_draws_what_changed(pair: Comparison) -> None:
    position = 1
    row = pair.row(position)
    assert row is not None
    assert pair.differences is not None
    before, after = (
        each.neighbors["own_rank"].isel(position=at)
        for each, at in ((pair.a, position), (pair.b, int(pair.counterpart[position])))
    )
    for measure, expected in (
        ("own_rank", np.log10(after / before)),
        ("rbo", pair.differences["rbo"].isel(position=row)),
        ("attention_distance", pair.differences["attention_distance"].isel(position=row)),
    ):
        columns = difference_columns(pair.differences, before, row, measure)
        drawn = xr.DataArray(columns["value"].reshape(before.shape), dims=("layer", "head"))
        np.testing.assert_allclose(drawn.values, expected.values)
        cells = difference_map(pair.differences, before, row, measure=measure, layer=1, head=2).HeatMap.I
        np.testing.assert_allclose(cells.dimension_values("value", flat=True), drawn.values.ravel())
    assert np.isnan(difference_columns(pair.differences, before, None, "rbo")["value"]).all()
    with pytest.raises(InputError, match="measure='colour'"):
        difference_columns(pair.differences, before, row, "colour")
