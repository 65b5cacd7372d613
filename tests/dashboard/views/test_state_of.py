"""Views take Datasets as well as a State, and say what they lack."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import panel as pn
import pytest
import xarray as xr

import attnxr
from attnxr.dashboard import HeadMap, NeighborTable, SequenceTable, State, TokenStrip, state_of
from attnxr.dashboard.parts import Chips, RankTable
from attnxr.dashboard.rows.neighbors import token_chips
from attnxr.tokens import label
from tests.support import models


def part(view: Any, kind: type[Any]) -> Any:
    (found,) = pn.panel(view).select(kind)
    return found


@pytest.fixture(scope="module")
def model(shelf: dict[str, attnxr.Model]) -> attnxr.Model:
    return shelf["bert"]


@pytest.fixture(scope="module")
def enc(model: attnxr.Model) -> xr.Dataset:
    return model.encode(models.SENTENCE)


@pytest.fixture(scope="module")
def near(model: attnxr.Model, enc: xr.Dataset) -> xr.Dataset:
    return model.neighbors(enc, k=7, metric="euclidean", positional=False)


def test_a_table_of_neighbors_alone(near: xr.Dataset) -> None:
    view = NeighborTable(near)
    view.state.select(layer=2, position=3)
    table = part(view, RankTable).table
    here = near.isel(layer=2, position=3)
    for rank, row in enumerate(table["cells"]):
        for head, (token, *_) in enumerate(row):
            found = here.isel(rank=rank, head=head)
            assert token == label(found.neighbor.item(), found.neighbor_text.item())
    np.testing.assert_allclose([float(cell) for _, cell in table["own"]], here.own_distance, rtol=2e-3)
    part(view, RankTable)._handle_msg({"head": 2})
    assert view.state.head == 2


def test_the_state_says_how_the_neighbors_were_asked_for(near: xr.Dataset) -> None:
    state = state_of(near)
    assert (state.model, state.text) == ("bert", models.SENTENCE)
    assert (state.metric, state.positional) == ("euclidean", False)


def test_a_map_of_neighbors_alone(near: xr.Dataset) -> None:
    view = HeadMap(near)
    pn.panel(view).get_root()
    ((plot, _),) = part(view, pn.pane.HoloViews)._plots.values()
    cells = next(iter(plot.subplots.values())).handles["source"].data
    assert list(cells["own_rank"]) == list(near.own_rank.isel(position=1).values.ravel())


def test_a_table_of_the_text_alone(enc: xr.Dataset) -> None:
    view = SequenceTable(enc)
    view.state.select(layer=1, position=2)
    distance = attnxr.sequence_distances(enc)["distance"].isel(layer=1, position=2).values
    for head, (_, shown, _, other) in enumerate(part(view, RankTable).table["cells"][0]):
        assert distance[head, int(other)] == np.delete(distance[head], 2).min()
        assert float(shown) == pytest.approx(distance[head, int(other)], abs=6e-4)


def test_a_strip_of_either(enc: xr.Dataset, near: xr.Dataset) -> None:
    for dataset in (enc, near):
        assert part(TokenStrip(dataset), Chips).items == token_chips(enc)


def test_views_of_one_state_are_linked(enc: xr.Dataset, near: xr.Dataset) -> None:
    state = state_of(near, enc)
    strip, table, sequence = TokenStrip(state), NeighborTable(state), SequenceTable(state)
    assert strip.state is table.state is sequence.state is state
    before = [part(view, RankTable).table for view in (table, sequence)]

    part(strip, Chips)._handle_msg({"index": 5})

    for view, old in zip((table, sequence), before, strict=True):
        assert part(view, RankTable).table != old
    distance = attnxr.sequence_distances(enc, metric="euclidean")["distance"].values[0, 0, 5]
    other = int(part(sequence, RankTable).table["cells"][0][0][3])
    assert distance[other] == np.delete(distance, 5).min()


@pytest.mark.parametrize("view", [NeighborTable, HeadMap])
def test_what_shows_neighbors_wants_neighbors(view: type[Any], enc: xr.Dataset) -> None:
    with pytest.raises(attnxr.InputError, match=rf"{view.__name__} needs neighbours.*model\.neighbors"):
        view(enc)
    with pytest.raises(attnxr.InputError, match=rf"{view.__name__} needs neighbours"):
        view(state_of(enc))


def test_what_shows_the_text_wants_encodings(near: xr.Dataset) -> None:
    with pytest.raises(attnxr.InputError, match=r"SequenceTable needs encodings.*model\.encode"):
        SequenceTable(near)


@pytest.mark.parametrize(
    "selection",
    [{"layer": 1}, {"head": 0}, {"head": [1, 2]}, {"position": 3}, {"position": slice(1, -1)}],
)
def test_selections_are_refused(enc: xr.Dataset, near: xr.Dataset, selection: dict[str, Any]) -> None:
    (dim,) = selection
    for dataset in (enc, near):
        with pytest.raises(attnxr.InputError, match=rf"without all of its {dim}s.*select in the view"):
            state_of(dataset.isel(selection))
    with pytest.raises(attnxr.InputError, match="without all of its positions"):
        TokenStrip(near.isel(position=slice(0, -1)))


def test_datasets_of_different_layers_are_refused(enc: xr.Dataset, near: xr.Dataset) -> None:
    with pytest.raises(attnxr.InputError, match="different layers: 0, 1, 2 and 0, 2"):
        state_of(near.isel(layer=[0, 2]), enc)


def test_neighbors_of_something_else_are_refused(model: attnxr.Model) -> None:
    enc = model.encode(models.SENTENCE, include=["query_vector"])
    with pytest.raises(attnxr.InputError, match="of='query', space='query'"):
        NeighborTable(model.neighbors(enc, of="query", space="query"))


def test_several_texts_are_refused(model: attnxr.Model) -> None:
    with pytest.raises(attnxr.InputError, match="2 texts"):
        TokenStrip(model.encode([models.SENTENCE, "Fruit flies."]))


def test_datasets_that_do_not_belong_together_are_refused(
    model: attnxr.Model, enc: xr.Dataset, near: xr.Dataset, shelf: dict[str, attnxr.Model]
) -> None:
    with pytest.raises(attnxr.InputError, match="'token_ids' differs"):
        state_of(near, model.encode("Fruit flies."))
    with pytest.raises(attnxr.InputError, match="'causal' differs"):
        state_of(near, model.encode(models.SENTENCE, causal=True))
    with pytest.raises(attnxr.InputError, match="beside another one of its kind"):
        state_of(near, near)
    with pytest.raises(attnxr.InputError, match="Give the model that they were made with"):
        state_of(near, enc, model=shelf["roberta"])


def test_other_things_are_refused(model: attnxr.Model, enc: xr.Dataset) -> None:
    with pytest.raises(attnxr.InputError, match="A str was given; expected what"):
        NeighborTable("near")  # type: ignore[arg-type]
    with pytest.raises(attnxr.InputError, match=r"A Dataset of \['distance'\] was given"):
        TokenStrip(attnxr.sequence_distances(enc))
    with pytest.raises(attnxr.InputError, match="No Dataset was given"):
        state_of()


def test_what_was_saved_can_be_shown(near: xr.Dataset, tmp_path: Any) -> None:
    near.to_netcdf(tmp_path / "near.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "near.nc", engine="h5netcdf") as saved:
        assert part(NeighborTable(saved), RankTable).table == part(NeighborTable(near), RankTable).table


def test_another_question_is_answered_with_the_model_and_refused_without(
    enc: xr.Dataset, near: xr.Dataset, model: attnxr.Model
) -> None:
    async def ask(state: State) -> State:
        state.metric = "dot"
        async with asyncio.timeout(60):
            while not (state.answer or state.error):
                await asyncio.sleep(0.01)
        return state

    assert "needs the model" in asyncio.run(ask(state_of(near, enc))).error
    state = asyncio.run(ask(state_of(near, enc, model=model)))
    assert state.answer is not None
    xr.testing.assert_equal(
        state.answer.neighbors, model.neighbors(enc, k=near.sizes["rank"], metric="dot", positional=False)
    )
