"""Plots of roles draw what the Dataset says of every head."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr import plots
from attnxr.errors import InputError
from attnxr.plots.colors import luminance
from tests.support.cases import Case


@pytest.fixture(scope="module")
def found(bert: Case) -> xr.Dataset:
    """Of a causal mask, under which no head has a next token."""
    return attnxr.roles(bert.model.encode(bert.text, causal=True))


def rendered(element: Any) -> Any:
    plot = hv.renderer("bokeh").get_plot(element)
    return list(plot.subplots.values()) if hasattr(plot, "subplots") and plot.subplots else plot


def test_every_measure_can_be_drawn(found: xr.Dataset) -> None:
    assert list(plots.ROLES) == found["measure"].values.tolist()
    assert list(plots.ROLES.values()) == [found[name].attrs["long_name"].capitalize() for name in plots.ROLES]


def test_columns_hold_every_head_once(found: xr.Dataset) -> None:
    columns = plots.role_columns(found.isel(layer=[2, 0]))
    heads = list(zip(columns["layer_number"], columns["head_number"], strict=True))
    assert len(set(heads)) == len(heads) == 2 * found.sizes["head"]
    for i, (layer, head) in enumerate(heads):
        assert (columns["layer"][i], columns["head"][i]) == ([2, 0].index(layer), head)
        for name in plots.ROLES:
            np.testing.assert_equal(columns[name][i], found[name].sel(layer=layer, head=head).item())


@pytest.mark.parametrize("role", plots.ROLES)
@pytest.mark.parametrize("dark", [False, True])
def test_a_map_colours_every_head_by_its_role(found: xr.Dataset, role: str, dark: bool) -> None:
    cells, outline = rendered(plots.role_map(found, role, layer=1, head=3, dark=dark))
    data, mapper = cells.handles["source"].data, cells.handles["color_mapper"]
    drawn = {(i, j): value for i, j, value in zip(data["layer"], data["head"], data["zvalues"], strict=True)}
    np.testing.assert_equal(drawn, dict(np.ndenumerate(found[role].values)))
    assert cells.handles["colorbar"].title == plots.ROLES[role]
    most = 1 if role.endswith("_score") else found[role].values.max()
    assert (mapper.low, mapper.high) == (0, pytest.approx(most))
    away = np.abs(np.array([luminance(color) for color in mapper.palette]) - (0 if dark else 1))
    assert away[-1] > 0.5 > away[0]  # who has the role stands out from the background
    edges = [outline.handles["source"].data[name] for name in ("left", "bottom", "right", "top")]
    assert [list(each) for each in edges] == [[2.5], [0.5], [3.5], [1.5]]


def test_a_head_without_value_looks_like_none(found: xr.Dataset) -> None:
    cells, _ = rendered(plots.role_map(found, "next_token_score"))
    assert np.isnan(cells.handles["source"].data["zvalues"]).all()
    assert cells.handles["color_mapper"].nan_color == "#8080801f"


@pytest.mark.parametrize("dark", [False, True])
def test_a_scatter_has_a_point_for_each_head(found: xr.Dataset, dark: bool) -> None:
    x, y = "prev_token_score", "pattern_entropy"
    plot = rendered(plots.role_scatter(found, x, y, dark=dark))
    data = plot.handles["source"].data
    np.testing.assert_array_equal(data[x], found[x].values.ravel())
    np.testing.assert_array_equal(data[y], found[y].values.ravel())
    np.testing.assert_array_equal(data["layer_number"], np.repeat(found["layer"].values, found.sizes["head"]))
    assert (plot.handles["xaxis"].axis_label, plot.handles["yaxis"].axis_label) == (plots.ROLES[x], plots.ROLES[y])
    for axis, name in (("x", x), ("y", y)):
        limits = plot.handles[f"{axis}_range"]
        assert limits.start < min(data[name]) <= max(data[name]) < limits.end
    colours = plot.handles["color_color_mapper"]
    assert (colours.low, colours.high) == (0, 2)
    assert plot.handles["color_colorbar"].title == "Layer (0 reads the input)"
    background = 0 if dark else 1
    assert all(abs(luminance(color) - background) > 0.1 for color in colours.palette)


def test_heads_that_lack_a_role_are_no_points(found: xr.Dataset) -> None:
    some = found.copy(deep=True)
    some["next_token_score"][:] = 0.25
    some["next_token_score"][1, 2] = np.nan
    data = rendered(plots.role_scatter(some, "self_attention_score", "next_token_score")).handles["source"].data
    heads = set(zip(data["layer_number"], data["head_number"], strict=True))
    assert heads == {(i, j) for i in range(3) for j in range(4)} - {(1, 2)}
    data = rendered(plots.role_scatter(found, "self_attention_score", "next_token_score")).handles["source"].data
    assert len(data["layer"]) == 0


@pytest.mark.parametrize("selection", [{"layer": 1}, {"head": 2}, {"layer": [2], "head": [0]}, {"layer": 0, "head": 0}])
def test_a_single_layer_or_head_can_be_drawn(found: xr.Dataset, selection: dict[str, Any]) -> None:
    few = found.isel(selection)
    cells = rendered(plots.role_map(few, "self_attention_score"))[0].handles["source"].data
    np.testing.assert_array_equal(cells["zvalues"], np.ravel(few.self_attention_score.values))
    points = rendered(plots.role_scatter(few, "self_attention_score", "qk_distance")).handles["source"].data
    np.testing.assert_array_equal(points["qk_distance"], np.ravel(few.qk_distance.values))


def test_what_is_no_role_is_refused(found: xr.Dataset) -> None:
    with pytest.raises(InputError, match=r"role='induction'.*'induction_score'"):
        plots.role_map(found, "induction")
    with pytest.raises(InputError, match="x='n_positions'"):
        plots.role_scatter(found, "n_positions", "qk_distance")
    with pytest.raises(InputError, match="y='qk_distance'"):
        plots.role_scatter(found, "qk_distance", "qk_distance")
