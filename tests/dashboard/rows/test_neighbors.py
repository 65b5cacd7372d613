"""Every number and name in a table is that of the Dataset."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest

import attnxr
from attnxr.dashboard.compute.answering import nearest_positions
from attnxr.dashboard.rows.neighbors import PATHS, fidelity, neighbor_table, number, sequence_table, token_chips
from attnxr.dashboard.session.answer import Answer, Request
from attnxr.options import METRICS
from attnxr.tokens import label
from attnxr.vocabulary.paths import Name
from tests.support import models

Solve = Callable[[Request], Answer]


@pytest.fixture(params=["bert", "roberta"])
def request_(request: pytest.FixtureRequest) -> Request:
    return Request(models.SENTENCE, request.param, "cosine", True)


def test_neighbor_table_is_the_dataset_by_rank_and_head(request_: Request, solve: Solve) -> None:
    found = solve(request_)
    layer, position = 1, 4
    here = found.neighbors.isel(layer=layer, position=position)
    table = neighbor_table(found, layer, position)

    assert len(table["cells"]) == 15
    for rank, row in enumerate(table["cells"]):
        assert len(row) == table["heads"] == found.n_heads
        for head, (token, distance, mark) in enumerate(row):
            cell = here.isel(head=head, rank=rank)
            assert token == label(cell["neighbor"].item(), cell["neighbor_text"].item())
            assert float(distance) == pytest.approx(cell["distance"].item(), abs=5e-4)
            is_own = cell["neighbor_id"].item() == here["token_id"].item()
            assert mark == ("own" if is_own else "text" if cell["in_sequence"].item() else "")
    ranks = [int(rank.replace(",", "")) for rank, _ in table["own"]]
    assert ranks == here["own_rank"].values.tolist()
    assert [float(distance) for _, distance in table["own"]] == pytest.approx(here["own_distance"].values, abs=5e-4)


def test_both_marks_occur(request_: Request, solve: Solve) -> None:
    found = solve(request_)
    tables = [neighbor_table(found, 0, position) for position in range(found.n_positions)]
    marks = {mark for table in tables for row in table["cells"] for _, _, mark in row}
    assert marks == {"own", "text", ""}


@pytest.mark.parametrize("metric", METRICS)
def test_sequence_table_orders_all_other_positions(metric: str, shelf: dict[str, attnxr.Model], solve: Solve) -> None:
    found = solve(Request(models.SENTENCE, "bert", metric, True))
    layer, position = 2, 3
    distances = attnxr.sequence_distances(shelf["bert"].encode(models.SENTENCE), metric=metric)["distance"]
    table = sequence_table(found, layer, position)

    assert len(table["cells"]) == 10
    for head in range(found.n_heads):
        expected = distances.values[layer, head, position]
        others = [int(row[head][3]) for row in table["cells"]]
        assert position not in others
        assert len(set(others)) == len(others)
        np.testing.assert_array_equal(expected[others], np.sort(np.delete(expected, position))[:10])
        written = [float(row[head][1]) for row in table["cells"]]
        assert written == pytest.approx(expected[others], abs=0.06 if metric == "dot" else 5e-3)


def test_sequence_table_marks_the_same_token_elsewhere(solve: Solve) -> None:
    found = solve(Request("flies like flies", "bert", "cosine", True))
    flies = 1
    marked = {cell[3] for row in sequence_table(found, 0, flies)["cells"] for cell in row if cell[2] == "own"}
    assert marked == {"3"}


def test_a_text_of_few_tokens_has_a_short_sequence_table(solve: Solve) -> None:
    found = solve(Request("flies", "bert", "cosine", True))
    assert len(sequence_table(found, 0, 1)["cells"]) == found.n_positions - 1 == 2


def test_equally_near_positions_stand_in_the_order_of_the_text(solve: Solve) -> None:
    found = solve(Request("flies", "bert", "cosine", True))
    encodings = found.encodings.copy(deep=True)
    encodings["head_encoding"][:] = 1
    nearest = nearest_positions(encodings, "euclidean")
    assert nearest["neighbor_position"].values[0, 0].tolist() == [[1, 2], [0, 2], [0, 1]]


def test_chips_show_words_and_special_tokens(solve: Solve) -> None:
    found = solve(Request("Fruit flying", "bert", "cosine", True))
    chips = token_chips(found.encodings)
    joined = [chip["joined"] for chip in chips]

    assert [chip["special"] for chip in chips] == [True] + [False] * (len(chips) - 2) + [True]
    assert [chip["label"] for chip in chips][:2] == ["[CLS]", "fruit"]
    assert joined == [False, False, False] + [True] * (len(chips) - 4) + [False]
    assert any(joined)


def test_a_line_break_is_shown_and_breaks_no_line(solve: Solve) -> None:
    found = solve(Request("a\n\tb", "roberta", "cosine", True))
    names = [chip["label"] for chip in token_chips(found.encodings)]
    assert "\\n" in "".join(names)
    assert all(name.isprintable() for name in names)


def test_chips_of_any_text_can_be_told_apart_from_markup(solve: Solve) -> None:
    found = solve(Request("<script>", "roberta", "cosine", True))
    text = "".join(chip["label"] for chip in token_chips(found.encodings) if not chip["special"])
    assert text == "<script>"


def test_a_character_of_several_tokens_is_shown_once_and_each_token_is_one_of_its_parts(solve: Solve) -> None:
    found = solve(Request("a🍌b", "roberta", "cosine", True))
    chips = token_chips(found.encodings)[1:-1]
    assert [chip["label"] for chip in chips] == ["a", "🍌", "", "", "", "b"]
    assert [chip["part"] for chip in chips] == ["", "1/4", "2/4", "3/4", "4/4", ""]
    assert [chip["name"] for chip in chips][1:5] == [f"🍌 {i}/4" for i in (1, 2, 3, 4)]
    assert all(chip["joined"] for chip in chips[2:5])
    assert "part 2 of 4 of 🍌" in chips[2]["title"]
    cells = [row[0] for row in sequence_table(found, 0, 1)["cells"]]
    assert {name for name, _distance, _mark, position in cells if position in "2345"} == {
        chip["name"] for chip in chips[1:5]
    }


def test_figures_of_the_check_are_the_largest_of_the_dataset(
    request_: Request, shelf: dict[str, attnxr.Model], solve: Solve
) -> None:
    checks = shelf[request_.model].verify()
    shown = fidelity(solve(request_).checks)
    assert shown["passed"]
    names = {"reconstruction": "W_O z ", "identity": "identity ", "unchanged": "output unchanged "}
    for (text, within), (name, start) in zip(shown["figures"], names.items(), strict=True):
        assert within
        assert text.startswith(start)
        assert float(text.removeprefix(start)) == pytest.approx(checks[name].values.max(), rel=0.05)


def test_the_check_says_which_path_each_space_takes_and_what_is_allowed(solve: Solve) -> None:
    checks = solve(Request("flies", "bert", "cosine", True)).checks
    meaning, allowed = fidelity(checks)["help"]
    assert all(name in meaning for name in ("W_O z", "identity", "output unchanged"))
    assert "1e-05 is allowed" in allowed
    assert "for value, key, query and embedding (path: factored)" in allowed

    path = {"value": "factored", "key": "shared", "query": "shared", "embedding": "reference"}
    _, allowed = fidelity(checks.assign_attrs(path=json.dumps(path), tolerance=3.9e-3))["help"]
    assert "At most 3.9e-03 is allowed" in allowed
    for ways in ("for value (path: factored);", "for key and query (path: shared);", "for embedding (path: reference)"):
        assert ways in allowed
    assert set(PATHS) == set(get_args(Name))


def test_a_figure_that_is_no_number_is_beyond_and_an_exact_one_is_0(solve: Solve) -> None:
    checks = solve(Request("flies", "bert", "cosine", True)).checks.copy(deep=True)
    checks["reconstruction"][1] = np.nan
    checks["unchanged"][...] = 0
    reconstruction, _, unchanged = fidelity(checks.assign_attrs(passed=0))["figures"]
    assert reconstruction == ["W_O z nan (allowed 1e-05)", False]
    assert unchanged == ["output unchanged 0", True]


@pytest.mark.parametrize(
    ("distance", "written"),
    [(0.12345, "0.123"), (-0.0001, "0.000"), (-1.5, "-1.500"), (12.345, "12.35"), (-123.456, "-123.5")],
)
def test_number(distance: float, written: str) -> None:
    assert number(distance) == written


def test_an_answer_cannot_be_changed(solve: Solve) -> None:
    found = solve(Request("flies", "bert", "cosine", True))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.vocab_size = 1  # type: ignore[misc]
