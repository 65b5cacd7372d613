"""Views follow the state, and what is done to them moves it; driven without a server."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
import pytest
import xarray as xr
from panel.viewable import Viewer

from attnxr.dashboard import NeighborTable, RankMap, SequenceTable, TokenStrip
from attnxr.dashboard.answer import Answer, Request
from attnxr.dashboard.components import Chips, Choices, Heading, RankTable, Status, TextBox
from attnxr.dashboard.controls import Controls, Progress
from attnxr.dashboard.rows import fidelity, neighbor_table, sequence_table, token_chips
from attnxr.dashboard.state import Activity, State
from tests import models

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
    ranks = RankMap(answered)
    pn.panel(ranks).get_root()

    answered.text = "Fruit flies."

    assert part(strip, Chips).items == []
    for view in (near, sequence):
        assert part(view, RankTable).table == {}
        assert part(view, RankTable).head == -1
    assert [
        heading.detail for view in (strip, near, sequence, ranks) for heading in pn.panel(view).select(Heading)
    ] == [""] * 4
    cells, outline = sources(ranks)
    assert np.isnan(cells["zvalues"]).all()
    assert np.isnan(cells["own_rank"]).all()
    assert set(cells["nearest"]) == {""}
    assert outline == {"left": [], "bottom": [], "right": [], "top": []}


def sources(view: RankMap) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the figure on screen draws: its cells and its outline."""
    ((plot, _),) = part(view, pn.pane.HoloViews)._plots.values()
    cells, outline = (sub.handles["source"].data for sub in plot.subplots.values())
    return dict(cells), {name: list(edge) for name, edge in outline.items()}


def ranks_by_cell(cells: dict[str, Any]) -> dict[tuple[int, int], int]:
    return {
        (int(layer), int(head)): int(rank)
        for layer, head, rank in zip(cells["layer"], cells["head"], cells["zvalues"], strict=True)
    }


def expected_ranks(state: State) -> dict[tuple[int, int], int]:
    assert state.answer is not None
    ranks = state.answer.neighbors["own_rank"].isel(position=state.position).values
    return {(int(layer), int(head)): int(rank) for (layer, head), rank in np.ndenumerate(ranks)}


def test_map_follows_the_token_without_being_drawn_again(answered: State) -> None:
    view = RankMap(answered)
    pane = part(view, pn.pane.HoloViews)
    pn.panel(view).get_root()
    drawn = pane.object
    assert ranks_by_cell(sources(view)[0]) == expected_ranks(answered)
    assert sources(view)[1]["left"] == [-0.5]

    answered.select(position=5)

    assert pane.object is drawn
    cells, _ = sources(view)
    assert ranks_by_cell(cells) == expected_ranks(answered)
    assert [int(rank) for rank in cells["own_rank"]] == [int(rank) for rank in cells["zvalues"]]


def test_a_map_displayed_late_shows_what_is_chosen_now(answered: State) -> None:
    view = RankMap(answered)
    answered.select(layer=2, head=1, position=5)
    pn.panel(view).get_root()
    cells, outline = sources(view)
    assert ranks_by_cell(cells) == expected_ranks(answered)
    assert outline["bottom"] == [1.5]


def test_map_is_drawn_again_for_a_model_of_another_shape(answered: State, solve: Solve) -> None:
    view = RankMap(answered)
    pn.panel(view).get_root()

    answered.model = "roberta"
    answered.land(solve(answered.request))

    cells, outline = sources(view)
    assert ranks_by_cell(cells) == expected_ranks(answered)
    assert len(cells["zvalues"]) == 4
    assert outline["left"] == [-0.5]


def test_a_click_on_the_map_chooses_layer_and_head_and_the_outline_follows(answered: State) -> None:
    view = RankMap(answered)
    pn.panel(view).get_root()
    (tap,) = hv.streams.Stream.registry[part(view, pn.pane.HoloViews).object.HeatMap.I]

    tap.event(x=2.3, y=0.8)

    assert (answered.layer, answered.head) == (1, 2)
    _, outline = sources(view)
    assert outline == {"left": [1.5], "bottom": [0.5], "right": [2.5], "top": [1.5]}

    tap.event(x=-3.0, y=99.0)
    assert (answered.layer, answered.head) == (1, 2)


def test_a_layer_chosen_elsewhere_moves_the_outline(answered: State) -> None:
    view = RankMap(answered)
    pn.panel(view).get_root()
    answered.select(layer=2)
    assert sources(view)[1]["bottom"] == [1.5]


def test_map_turns_its_colours_with_the_theme(answered: State) -> None:
    view = RankMap(answered)
    pn.panel(view).get_root()
    ((plot, _),) = part(view, pn.pane.HoloViews)._plots.values()
    mapper = next(iter(plot.subplots.values())).handles["color_mapper"]
    light = list(mapper.palette)

    view.dark = True

    assert list(mapper.palette) == light[::-1]


def test_map_lets_go_of_its_plots(answered: State) -> None:
    view = RankMap(answered)
    pn.panel(view).get_root()
    ((plot, _),) = part(view, pn.pane.HoloViews)._plots.values()
    callbacks = [callback for sub in plot.subplots.values() for callback in sub.callbacks]
    assert any(callback.streams for callback in callbacks)

    view.cleanup()

    assert not any(callback.streams for callback in callbacks)
    answered.select(position=2)


def test_controls_change_the_request(state: State) -> None:
    controls = Controls(state)
    part(controls, TextBox)._handle_msg({"text": "Fruit flies."})
    for name, value in (("model", "roberta"), ("metric", "centered_cosine"), ("positional", False)):
        part(controls, Choices)._handle_msg({"name": name, "value": value})
    assert state.request == Request("Fruit flies.", "roberta", "centered_cosine", False)


def field(controls: Controls, name: str) -> dict[str, Any]:
    (found,) = (found for found in part(controls, Choices).fields if found["name"] == name)
    return found


def test_choices_show_what_holds(state: State) -> None:
    controls = Controls(state)
    state.param.update(model="roberta", metric="dot", positional=False)
    assert [field(controls, name)["value"] for name in ("model", "metric", "positional")] == ["roberta", "dot", False]
    assert [shown for _, shown in field(controls, "metric")["options"]][:2] == ["Cosine", "Euclidean"]


def test_layer_choice_offers_what_the_model_has_and_moves_with_the_selection(answered: State) -> None:
    controls = Controls(answered)
    assert field(controls, "layer")["options"] == [[0, "0"], [1, "1"], [2, "2"]]

    part(controls, Choices)._handle_msg({"name": "layer", "value": 2})
    assert answered.layer == field(controls, "layer")["value"] == 2

    answered.text = "Fruit flies."
    assert field(controls, "layer")["disabled"]


def test_a_page_that_sends_what_is_on_no_list_changes_nothing(answered: State) -> None:
    choices = part(Controls(answered), Choices)
    with pytest.raises(ValueError, match="model"):
        choices._handle_msg({"name": "model", "value": "/etc"})
    choices._handle_msg({"name": "error", "value": "made up"})
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
