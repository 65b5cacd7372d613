"""The plots draw what the Datasets say, and render."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import pytest
import xarray as xr
from bokeh.models import LogColorMapper

from attnxr import plots
from attnxr.tokens import label
from tests.cases import Case


@pytest.fixture(scope="module")
def near(bert: Case) -> xr.Dataset:
    return bert.model.neighbors(bert.model.encode(bert.text), k=3)


def test_rank_columns_hold_every_cell_once(near: xr.Dataset) -> None:
    position = 2
    columns = plots.rank_columns(near, position)
    n_layers, n_heads = near.sizes["layer"], near.sizes["head"]

    assert {len(column) for column in columns.values()} == {n_layers * n_heads}
    for head, layer, rank, distance, nearest in zip(*columns.values(), strict=True):
        cell = near.isel(layer=layer, head=head, position=position)
        assert rank == cell["own_rank"].item()
        assert distance == cell["own_distance"].item()
        assert nearest == label(cell["neighbor"].values[0], cell["neighbor_text"].values[0])


def rendered(element: hv.Overlay) -> list[hv.plotting.bokeh.ElementPlot]:
    return list(hv.renderer("bokeh").get_plot(element).subplots.values())


def test_colours_run_from_one_to_the_vocabulary_size_on_a_log_scale(near: xr.Dataset) -> None:
    cells, _ = rendered(plots.rank_map(near, 2))
    mapper = cells.handles["color_mapper"]
    assert isinstance(mapper, LogColorMapper)
    assert (mapper.low, mapper.high) == (1, near.attrs["vocab_size"])
    assert list(mapper.palette) == plots.rank_palette()


def test_rank_one_stands_out_from_the_background() -> None:
    def lightness(colour: str) -> float:
        return sum(int(colour[i : i + 2], 16) for i in (1, 3, 5))

    light, dark = plots.rank_palette(), plots.rank_palette(dark=True)
    assert lightness(light[0]) < lightness(light[-1])
    assert lightness(dark[0]) > lightness(dark[-1])
    steps = np.diff([lightness(colour) for colour in light])
    assert (steps >= -3).all()  # even, so that it can be read without colour vision


def test_the_chosen_cell_is_outlined_and_no_other(near: xr.Dataset) -> None:
    _, outline = rendered(plots.rank_map(near, 2, layer=1, head=3))
    assert {name: list(edge) for name, edge in outline.handles["source"].data.items()} == plots.cell_outline(1, 3)

    _, none = rendered(plots.rank_map(near, 2))
    assert len(none.handles["source"].data["left"]) == 0


@pytest.mark.parametrize("selection", [{"layer": [1]}, {"head": [2]}, {"layer": [0], "head": [0]}])
def test_a_single_layer_or_head_can_be_drawn(near: xr.Dataset, selection: dict[str, list[int]]) -> None:
    cells, _ = rendered(plots.rank_map(near.isel(selection), 1))
    assert len(cells.handles["source"].data["zvalues"]) == near.isel(selection)["own_rank"].isel(position=1).size
