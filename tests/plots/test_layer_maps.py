"""Maps over layers, and the attention matrix, draw what the Datasets say."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import pytest
import xarray as xr
from bokeh.models import LinearColorMapper, LogColorMapper

from attnxr import plots
from attnxr.plots import MEASURES, measure_values
from attnxr.plots.grids import thinned
from attnxr.tokens import label
from tests.support.cases import Case


@pytest.fixture(scope="module")
def enc(bert: Case) -> xr.Dataset:
    return bert.model.encode(bert.text)


@pytest.fixture(scope="module")
def near(bert: Case, enc: xr.Dataset) -> xr.Dataset:
    return bert.model.neighbors(enc, k=3)


def rendered(element: hv.Overlay) -> list[Any]:
    return list(hv.renderer("bokeh").get_plot(element).subplots.values())


@pytest.mark.parametrize("measure", MEASURES)
def test_head_columns_hold_every_cell_once(near: xr.Dataset, measure: str) -> None:
    position = 2
    columns = plots.head_columns(near, position, measure=measure)
    values = measure_values(measure, near, position=position)
    cells = list(zip(columns["layer"], columns["head"], strict=True))
    assert len(set(cells)) == len(cells) == near.sizes["layer"] * near.sizes["head"]
    for i, (layer, head) in enumerate(cells):
        cell = near.isel(layer=layer, head=head, position=position)
        np.testing.assert_equal(columns["value"][i], values[layer, head])
        assert columns["written"][i] == MEASURES[measure].write(values[layer, head])
        assert columns["own_rank"][i] == cell["own_rank"].item()
        assert columns["distance"][i] == cell["distance"].values[0]
        assert columns["nearest"][i] == label(cell["neighbor"].values[0], cell["neighbor_text"].values[0])


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dark", [False, True])
def test_colours_are_those_of_the_measure(near: xr.Dataset, measure: str, dark: bool) -> None:
    shown = MEASURES[measure]
    for drawn in (
        plots.head_map(near, 2, measure=measure, dark=dark),
        plots.position_map(near, 1, measure=measure, dark=dark),
    ):
        mapper = rendered(drawn)[0].handles["color_mapper"]
        assert type(mapper) is (LogColorMapper if shown.log else LinearColorMapper)
        assert (mapper.low, mapper.high) == pytest.approx(shown.limits(near))
        assert list(mapper.palette) == shown.palette(dark)


def test_the_colour_bar_says_which_end_is_which(near: xr.Dataset) -> None:
    bar = rendered(plots.head_map(near, 2))[0].handles["colorbar"]
    assert bar.title == "Own rank (1 = nearest)"
    bar = rendered(plots.head_map(near, 2, measure="origin"))[0].handles["colorbar"]
    assert bar.major_label_overrides == {0: "own", 1: "of the text", 2: "neither"}


def edges(plot: Any) -> list[tuple[float, ...]]:
    data = plot.handles["source"].data
    return list(zip(*(data[name] for name in ("left", "bottom", "right", "top")), strict=True))


def test_what_is_chosen_is_outlined_and_nothing_else(near: xr.Dataset, enc: xr.Dataset) -> None:
    n_layers, n = near.sizes["layer"], near.sizes["position"]
    assert edges(rendered(plots.head_map(near, 2, layer=1, head=3))[1]) == [(2.5, 0.5, 3.5, 1.5)]
    assert edges(rendered(plots.position_map(near, 0, layer=1, position=4))[1]) == [
        (3.5, -0.5, 4.5, n_layers - 0.5),
        (3.5, 0.5, 4.5, 1.5),
    ]
    assert edges(rendered(plots.attention_map(enc, 0, 0, position=4))[1]) == [(-0.5, 3.5, n - 0.5, 4.5)]
    for drawn in (plots.head_map(near, 2), plots.position_map(near, 2), plots.attention_map(enc, 0, 0)):
        assert edges(rendered(drawn)[1]) == []


@pytest.mark.parametrize("measure", MEASURES)
def test_the_position_map_is_an_image_whose_lowest_row_is_the_first_layer(near: xr.Dataset, measure: str) -> None:
    data = rendered(plots.position_map(near, 1, measure=measure))[0].handles["source"].data
    columns = plots.position_columns(near, 1, measure=measure)
    (image,), (nearest,) = data["image"], data["nearest"]
    np.testing.assert_array_equal(image, measure_values(measure, near, head=1).astype(np.float32))
    np.testing.assert_array_equal(image, columns["image"][0])
    np.testing.assert_array_equal(nearest, columns["nearest"][0])
    assert (list(data["y"]), list(data["dh"])) == ([-0.5], [near.sizes["layer"]])
    cell = near.isel(layer=2, head=1, position=3, rank=0)
    assert nearest[2, 3] == label(cell["neighbor"].item(), cell["neighbor_text"].item())


def test_tooltips_name_the_tokens(near: xr.Dataset, enc: xr.Dataset) -> None:
    names = [label(*pair) for pair in zip(near["token"].values, near["text"].values, strict=True)]
    for drawn, axes in ((plots.position_map(near, 1), "x"), (plots.attention_map(enc, 1, 1), "xy")):
        formatters = rendered(drawn)[0].handles["hover"].formatters
        for axis in axes:
            assert formatters[f"${axis}"].args["names"] == names


@pytest.mark.parametrize("selection", [{"layer": [1]}, {"head": [2]}, {"position": [1]}, {"layer": [0], "head": [0]}])
def test_a_single_layer_head_or_position_can_be_drawn(near: xr.Dataset, selection: dict[str, list[int]]) -> None:
    few = near.isel(selection)
    cells = rendered(plots.head_map(few, 0))[0].handles["source"].data
    drawn = {(i, j): rank for i, j, rank in zip(cells["layer"], cells["head"], cells["zvalues"], strict=True)}
    assert drawn == dict(np.ndenumerate(few["own_rank"].isel(position=0).values))
    (image,) = rendered(plots.position_map(few, 0))[0].handles["source"].data["image"]
    np.testing.assert_array_equal(image, few["own_rank"].isel(head=0).values)


def test_attention_is_an_image_whose_top_row_is_the_first_query(enc: xr.Dataset) -> None:
    plot = rendered(plots.attention_map(enc, 1, 2, position=3))[0]
    (image,) = plot.handles["source"].data["image"]
    weights = enc["attention"].values[1, 2]
    np.testing.assert_array_equal(image, weights)
    assert plot.handles["y_range"].start > plot.handles["y_range"].end
    assert image.dtype == np.float32
    np.testing.assert_allclose(image.sum(axis=1), 1, rtol=1e-5)
    assert plots.attention_map(enc, 1, 2).Image.I.vdims[0].label == "Attention weight (1 = all of it)"


def test_what_a_causal_mask_hides_has_no_weight(bert: Case) -> None:
    enc = bert.model.encode(bert.text, causal=True)
    (image,) = plots.attention_columns(enc, 0, 0)["image"]
    hidden = np.triu(np.ones(image.shape, bool), 1)
    np.testing.assert_array_equal(np.isnan(image), hidden)


def test_names_stand_at_the_axes_while_there_is_room(enc: xr.Dataset) -> None:
    names = [label(*pair) for pair in zip(enc["token"].values, enc["text"].values, strict=True)]
    few = rendered(plots.attention_map(enc, 0, 0))[0].handles["yaxis"]
    assert [few.major_label_overrides[tick] for tick in few.ticker.ticks] == names
    again = np.arange(60) % len(names)
    many = rendered(plots.attention_map(enc.isel(position=again, key_position=again), 0, 0))[0].handles["yaxis"]
    assert many.ticker.ticks == list(range(0, 60, 5))


@pytest.mark.parametrize(("count", "step"), [(1, 1), (16, 1), (17, 2), (60, 5), (300, 50), (512, 100)])
def test_ticks_are_few(count: int, step: int) -> None:
    assert thinned(count) == list(range(0, count, step))
