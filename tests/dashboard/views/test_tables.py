"""Views follow the state, and what is done to them moves it; driven without a server."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import panel as pn
import pytest
import xarray as xr
from panel.viewable import Viewer

from attnxr.dashboard import NeighborTable, SequenceTable, TokenStrip
from attnxr.dashboard.parts import Chips, Choices, Heading, RankTable, Status, TextBox
from attnxr.dashboard.rows.neighbors import fidelity, neighbor_table, sequence_table, token_chips
from attnxr.dashboard.session.answer import Answer, Request
from attnxr.dashboard.session.state import Activity, State
from attnxr.dashboard.views.controls import Controls, Progress
from attnxr.dashboard.views.open_file import OpenFile
from attnxr.plots import MEASURES
from tests.support import models

Solve = Callable[[Request], Answer]


def part(view: Viewer, kind: type[Any]) -> Any:
    (found,) = pn.panel(view).select(kind)
    return found


def test_strip_shows_the_tokens_and_a_click_chooses_one(answered: State) -> None:
    chips = part(TokenStrip(answered), Chips)
    assert answered.answer is not None
    assert chips.items == token_chips(answered.answer.encodings)
    assert chips.chosen == 1

    chips._handle_msg({"index": 4})

    assert answered.position == 4
    assert chips.chosen == 4


def test_strip_is_coloured_by_the_chosen_measure_at_the_chosen_layer_and_head(answered: State) -> None:
    strip = TokenStrip(answered)
    chips = part(strip, Chips)
    answered.param.update(layer=1, head=2)
    ranks = answered.answer.neighbors["own_rank"].values[1, 2]
    assert [note for _, _, note in chips.paint] == [f"own rank: {rank:,}" for rank in ranks]
    limits = (1, answered.answer.vocab_size)
    assert [color for color, _, _ in chips.paint] == MEASURES["own_rank"].colors(ranks, limits)
    assert chips.key["label"] == "In layer 1, head 2: Own rank (1 = nearest)"
    assert [written for _, _, written in chips.key["steps"]] == ["1", "10", "100"]

    strip.dark = True
    assert [color for color, _, _ in chips.paint] == MEASURES["own_rank"].colors(ranks, limits, dark=True)

    answered.measure = "origin"
    assert [written for _, _, written in chips.key["steps"]] == ["own", "of the text", "neither"]

    answered.text = "Fruit flies."
    assert (chips.paint, chips.key) == ([], {})


def test_tokens_without_a_value_are_not_coloured(answered: State) -> None:
    chips = part(TokenStrip(answered), Chips)
    answered.measure = "overlap"  # the first layer has none before it
    assert chips.paint == [[None, None, "overlap: –"]] * len(chips.items)


@pytest.mark.parametrize(("view", "rows"), [(NeighborTable, neighbor_table), (SequenceTable, sequence_table)])
def test_tables_follow_the_selection_and_a_click_chooses_a_head(
    answered: State, view: type[Viewer], rows: Callable[..., dict[str, Any]]
) -> None:
    shown = view(answered)
    table, heading = part(shown, RankTable), part(shown, Heading)
    answered.select(layer=2, position=3)
    assert table.table == rows(answered.answer, 2, 3)
    assert "layer 2" in heading.detail
    assert "like" in heading.detail

    table._handle_msg({"head": 3})

    assert answered.head == table.head == 3


def test_nothing_of_an_old_answer_stays(answered: State) -> None:
    strip, near, sequence = TokenStrip(answered), NeighborTable(answered), SequenceTable(answered)

    answered.text = "Fruit flies."

    assert part(strip, Chips).items == []
    for view in (near, sequence):
        assert part(view, RankTable).table == {}
        assert part(view, RankTable).head == -1
    assert [heading.detail for view in (strip, near, sequence) for heading in pn.panel(view).select(Heading)] == [
        ""
    ] * 3


def test_controls_change_the_request(state: State) -> None:
    controls = Controls(state, OpenFile(state))
    text, _target = pn.panel(controls).select(TextBox)
    text._handle_msg({"text": "Fruit flies."})
    for name, value in (("model", "roberta"), ("metric", "centered_cosine"), ("positional", False)):
        send(controls, {"name": name, "value": value})
    assert state.request == Request("Fruit flies.", "roberta", "centered_cosine", False)


def send(controls: Controls, message: dict[str, Any]) -> None:
    """Send a message to both rows of choices: one of them knows its field, if any does."""
    for choices in pn.panel(controls).select(Choices):
        choices._handle_msg(message)


def field(controls: Controls, name: str) -> dict[str, Any]:
    rows = pn.panel(controls).select(Choices)
    (found,) = (found for row in rows for found in row.fields if found["name"] == name)
    return found


def test_a_question_is_chosen_in_words_or_by_its_parts(answered: State) -> None:
    controls = Controls(answered, OpenFile(answered))
    assert field(controls, "question")["value"] == "as the demo"
    send(controls, {"name": "question", "value": "what it promotes"})  # the model has no output embeddings
    assert answered.asked() == ("encoding", "value", "input")
    (refusal,) = (said for _, words, said in field(controls, "question")["options"] if words == "what it promotes")
    assert "no output embeddings" in refusal
    send(controls, {"name": "question", "value": "queries against keys"})
    assert answered.asked() == ("query", "key", "same")
    send(controls, {"name": "of", "value": "hidden"})
    assert answered.asked() == ("hidden", "embedding", "input")
    assert field(controls, "vocab_layer")["disabled"]
    send(controls, {"name": "space", "value": "key"})  # has no meaning, and is on no list
    send(controls, {"name": "k", "value": 7})
    assert (answered.asked(), answered.k) == (("hidden", "embedding", "input"), 15)
    send(controls, {"name": "k", "value": 5})
    assert answered.k == 5


def test_choices_show_what_holds(state: State) -> None:
    controls = Controls(state, OpenFile(state))
    state.param.update(model="roberta", metric="dot", positional=False)
    assert [field(controls, name)["value"] for name in ("model", "metric", "positional")] == ["roberta", "dot", False]
    assert [shown for _, shown in field(controls, "metric")["options"]][:2] == ["Cosine", "Euclidean"]


def test_layer_choice_offers_what_the_model_has_and_moves_with_the_selection(answered: State) -> None:
    controls = Controls(answered, OpenFile(answered))
    assert field(controls, "layer")["options"] == [[0, "0"], [1, "1"], [2, "2"]]

    send(controls, {"name": "layer", "value": 2})
    assert answered.layer == field(controls, "layer")["value"] == 2

    answered.text = "Fruit flies."
    assert field(controls, "layer")["disabled"]


def test_a_page_that_sends_what_is_on_no_list_changes_nothing(answered: State) -> None:
    controls = Controls(answered, OpenFile(answered))
    for name, value in (("model", "/etc"), ("error", "made up"), ("of", "beauty"), ("vocab_layer", 9)):
        send(controls, {"name": name, "value": value})
    assert answered.asked() == ("encoding", "value", "input")
    assert (answered.model, answered.error) == ("bert", "")


def test_progress_says_what_is_done_then_what_was_found(state: State, solve: Solve) -> None:
    status = part(Progress(state), Status)
    state.activity = Activity("Searching the vocabulary", 0.25)
    assert (status.busy, status.fraction) == (True, 0.25)
    assert "Searching the vocabulary" in status.message

    found = solve(state.request)
    state.land(found)

    assert (status.busy, status.fraction) == (False, None)
    for part_of_it in ("bert", "3 layers", "4 heads", f"{found.vocab_size:,} vocabulary"):
        assert part_of_it in status.message
    assert status.notices == []


def failed(checks: xr.Dataset) -> xr.Dataset:
    """What a check would say of a model whose vocabulary encodings are wrong in one space."""
    checks = checks.copy(deep=True)
    checks["identity"][1] = 3.14e-4
    checks.attrs["passed"] = 0
    return checks


def test_the_corner_shows_the_check_of_the_model_that_answered(answered: State, solve: Solve) -> None:
    status = part(Progress(answered), Status)
    assert answered.answer is not None
    bert = status.check
    assert bert == fidelity(answered.answer.checks)
    assert (bert["passed"], bert["lead"]) == (True, "checked:")

    answered.metric = "dot"
    assert status.check == {}
    answered.land(solve(answered.request))
    assert status.check == bert

    answered.model = "roberta"
    assert status.check == {}
    answered.land(solve(answered.request))
    assert status.check == fidelity(answered.answer.checks) != bert

    answered.fail(answered.request, "There is no such model.")
    assert status.check == {}


def test_a_check_that_did_not_pass_is_plainly_said(answered: State) -> None:
    status = part(Progress(answered), Status)
    assert answered.answer is not None
    answered.answer = dataclasses.replace(answered.answer, checks=failed(answered.answer.checks))
    assert (status.check["passed"], status.check["lead"]) == (False, "does not agree:")
    assert status.check["figures"][1] == ["identity 3.1e-04 (allowed 1e-05)", False]
    assert [within for _, within in status.check["figures"]] == [True, False, True]


def test_a_failure_is_shown_alone(answered: State) -> None:
    status = part(Progress(answered), Status)
    answered.fail(answered.request, "There is no such model.")
    assert (status.error, status.message, status.busy) == ("There is no such model.", "", False)


def test_what_was_cut_is_said(answered: State, solve: Solve) -> None:
    status = part(Progress(answered), Status)
    answered.text = "flies " * 100
    answered.land(solve(answered.request))
    assert answered.answer is not None
    cut = int(answered.answer.encodings.attrs["truncated"])
    assert cut == 102 - answered.answer.n_positions
    (notice,) = status.notices
    assert f"last {cut} tokens were cut" in notice


def test_typed_special_tokens_are_said_to_be_read_as_such(state: State, solve: Solve) -> None:
    status = part(Progress(state), Status)
    state.param.update(model="roberta", text="Time <mask> like <mask>.")
    state.land(solve(state.request))
    (notice,) = status.notices
    assert notice.endswith(": <mask>")


def test_the_texts_own_special_tokens_are_not(answered: State) -> None:
    assert part(Progress(answered), Status).notices == []
    assert models.SENTENCE in answered.text
