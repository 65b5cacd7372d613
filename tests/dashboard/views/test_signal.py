"""The panel on signal and noise says what the library says, of the layer and the token that are chosen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import panel as pn
import pytest
import xarray as xr
from panel.viewable import Viewer

import attnxr
from attnxr.dashboard import SignalOrNoise, State, state_of
from attnxr.dashboard.compute import aspects
from attnxr.dashboard.parts import Heading, SignalTable
from attnxr.dashboard.rows.signal import (
    far_line,
    hub_line,
    origin_line,
    overlap_line,
    power_line,
    signal_line,
    signal_rows,
)
from attnxr.dashboard.session.answer import Answer, Aspect
from attnxr.tokens import label
from tests.dashboard.compute.test_worker import until

Compute = Callable[..., xr.Dataset]


def part(view: Viewer, kind: type[Any]) -> Any:
    (found,) = pn.panel(view).select(kind)
    return found


@pytest.fixture
def answer(answered: State) -> Answer:
    assert answered.answer is not None
    return answered.answer


@pytest.fixture
def compute(answer: Answer, shelf: dict[str, attnxr.Model]) -> Compute:
    def compute(kind: str, layer: int) -> xr.Dataset:
        return aspects.compute(answer, shelf["bert"], Aspect(kind, layer), lambda _message, _fraction: None)

    return compute


def test_rows_are_the_numbers_of_significance(answer: Answer, shelf: dict[str, attnxr.Model], compute: Compute) -> None:
    near = answer.neighbors
    expected = attnxr.significance(shelf["bert"], answer.encodings.sel(layer=[2]))
    here = expected.isel(layer=0, position=3)
    rows = signal_rows(near, compute("significance", 2), 2, 3)
    assert len(rows) == answer.n_heads
    for head, (token, distance, null, p, q, verdict) in enumerate(rows):
        first = near.isel(layer=2, head=head, position=3, rank=0)
        assert token == label(first.neighbor.item(), first.neighbor_text.item())
        found = here.isel(head=head)
        names = ("nearest", "nearest_null", "nearest_p", "nearest_q")
        numbers = [float(found[name]) for name in names]
        np.testing.assert_allclose([float(each) for each in (distance, null, p, q)], numbers, atol=6e-4)
        assert verdict == ("nearer than chance" if numbers[3] <= 0.05 else "no nearer than chance")
    near_enough = int((expected.nearest_q <= 0.05).sum())
    of_all = expected.nearest_q.size
    assert signal_line(expected).startswith(f"{near_enough} of {of_all} head–positions")
    waiting = signal_rows(near, None, 2, 3)
    assert [row[:2] for row in waiting] == [row[:2] for row in rows]
    assert {cell for row in waiting for cell in row[2:]} == {""}


def test_the_verdict_turns_at_five_percent(answer: Answer) -> None:
    shape = (1, answer.n_heads, answer.n_positions)
    q = np.full(shape, 0.051)
    q[0, 1] = 0.05
    dims = ("layer", "head", "position")
    names = ("nearest_null", "nearest_p", "nearest_q", "nearest_far_p")
    found = xr.Dataset(dict.fromkeys(names, (dims, q)), attrs={"family": "what there is"})
    verdicts = [row[-1].split()[0] for row in signal_rows(answer.neighbors, found, 0, 0)]
    assert verdicts == ["no", "nearer", *["no"] * (answer.n_heads - 2)]
    assert signal_line(found).startswith(f"{answer.n_positions} of {q.size} ")
    assert signal_line(found).endswith("corrected over what there is")
    assert far_line(found).startswith(f"{1 / answer.n_heads:.0%} are farther than 95% of the random ones")


def test_power_is_measured_at_positions_of_the_text_and_said(
    answer: Answer, shelf: dict[str, attnxr.Model], compute: Compute
) -> None:
    found = compute("power", 1)
    expected = attnxr.significance_power(shelf["bert"], answer.encodings.sel(layer=[1]))
    xr.testing.assert_identical(found, expected)  # a text of few tokens is taken whole
    found["cosine_found"][:] = 0.859
    found["power"][:] = 0.29
    assert (
        power_line(found)
        == "80% of vectors are found at cosine 0.86 to a word, 29% at 0.7 (p ≤ 0.05, before correction)"
    )
    found["cosine_found"][:] = np.nan
    assert power_line(found).startswith("even at cosine 0.95 to a word only 29% are found")


def test_lines_say_origins_overlap_and_hubs_of_the_layer(answer: Answer, compute: Compute) -> None:
    near = answer.neighbors
    ids = near["neighbor_id"].values
    whole = attnxr.origins(near, answer.encodings).sel(layer=2)
    shares = [f"{float((whole.origin == kind).mean()):.0%}" for kind in ("own", "other", "neither")]
    own, other, neither = shares
    line = origin_line(compute("origins", 2))
    assert line == f"own token {own} · another token of the text {other} · neither {neither}"

    common = [len(set(a) & set(b)) for a, b in zip(ids[1].reshape(-1, 15), ids[2].reshape(-1, 15), strict=True)]
    line = overlap_line(compute("overlap", 2))
    assert line.startswith(f"{np.mean(common) / 15:.0%} of the 15 nearest tokens are also among those of layer 1 ")

    hubs = attnxr.hubness(near.sel(layer=[2]), hubs=5, over=("head", "position")).isel(layer=0)
    line = hub_line(compute("hubness", 2))
    counts = np.sort(np.unique(ids[2], return_counts=True)[1])[::-1][:5]
    assert [int(part.split(",")[0].split()[-1]) for part in line.split(" · ")] == counts.tolist()
    for token, text in zip(hubs.hub.values, hubs.hub_text.values, strict=True):
        assert f"“{label(token, text)}”" in line
    assert line.endswith(f"each of {answer.n_heads * answer.n_positions} neighbour lists")


def test_it_waits_follows_and_lets_a_head_be_chosen(answered: State, answer: Answer, compute: Compute) -> None:
    answered.select(layer=1, position=2)
    view = SignalOrNoise(answered)
    table = part(view, SignalTable)
    kinds = {"significance", "power", "origins", "overlap", "hubness"}
    assert set(answered.wanted) == {Aspect(kind, 1) for kind in kinds}
    assert [text for _, text in table.lines] == ["computing…"] * 6
    for kind in kinds:
        answered.land_aspect(answer, Aspect(kind, 1), compute(kind, 1))
    assert table.rows == signal_rows(answer.neighbors, compute("significance", 1), 1, 2)
    assert dict(table.lines)["Signal"] == signal_line(compute("significance", 1))
    answered.select(position=4)
    assert table.rows == signal_rows(answer.neighbors, compute("significance", 1), 1, 4)
    assert part(view, Heading).detail.endswith("at position 4")
    table._handle_msg({"head": 3})
    assert (answered.head, table.head) == (3, 3)

    answered.select(layer=0)
    assert Aspect("overlap", 0) not in answered.wanted
    assert dict(table.lines)["Layer before"] == "there is none before the first layer"
    view.shown = False
    assert answered.wanted == []
    answered.text = "Fruit flies."
    view.shown = True
    assert table.rows == []
    assert {text for _, text in table.lines} == {""}


def test_datasets_alone_show_what_is_in_them_and_say_what_else_is_needed(answer: Answer) -> None:
    with pytest.raises(attnxr.InputError, match="SignalOrNoise needs encodings"):
        SignalOrNoise(answer.neighbors)

    async def look() -> SignalTable:
        state = state_of(answer.neighbors, answer.encodings)
        view = SignalOrNoise(state)
        await until(lambda: state.arrived == 4)
        return part(view, SignalTable)

    table = asyncio.run(look())
    assert table.rows == signal_rows(answer.neighbors, None, 0, 1)
    assert all("needs the model" in text for name, text in table.lines if name != "Layer before")
