"""Maps of effects draw what the Dataset says of every head, at one position or over all."""

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
from attnxr.tokens import label
from tests.support.cases import Case

TEXT = "a b c d e f g h i j a b c d e"


@pytest.fixture(scope="module")
def found(inducing: attnxr.Model) -> xr.Dataset:
    """Of a decoder: with divergences, and without a true token at the last position."""
    return attnxr.effects(inducing, inducing.encode(TEXT), by=["mean", "neighbor", "own"], k=2)


def drawn(element: Any) -> tuple[dict[tuple[int, int], float], Any]:
    """Values by (layer, head), as indices, and the plot of the cells."""
    cells = next(iter(hv.renderer("bokeh").get_plot(element).subplots.values()))
    data = cells.handles["source"].data
    return {(i, j): v for i, j, v in zip(data["layer"], data["head"], data["zvalues"], strict=True)}, cells


def of(values: xr.DataArray) -> dict[tuple[int, ...], float]:
    return dict(np.ndenumerate(values.transpose("layer", "head").values))


def medians(values: xr.DataArray) -> xr.DataArray:
    return xr.DataArray(
        [[np.median([v for v in cell if not np.isnan(v)] or [np.nan]) for cell in row] for row in values.values],
        dims=("layer", "head"),
    )


def test_shares_are_those_of_the_divergence_by_the_nearest_word(found: xr.Dataset) -> None:
    values = found["recovered"].sel(replacement="neighbor 1", measure="kl")
    cells, plot = drawn(plots.effect_map(found))
    np.testing.assert_equal(cells, of(medians(values)))
    assert plot.handles["colorbar"].title == "Recovered share: divergence of the next word, in nats"
    title = plots.effect_map(found).opts.get("plot").kwargs["title"]
    assert title == "Replaced by neighbor 1, median of 16 positions"


@pytest.mark.parametrize("position", [0, 3, 15])
def test_one_position_has_its_values_and_words(found: xr.Dataset, position: int) -> None:
    here = found.isel(position=position).sel(replacement="neighbor 2")
    columns = plots.effect_columns(found, replacement="neighbor 2", position=position)
    np.testing.assert_equal(columns["value"], here["recovered"].sel(measure="kl").values.ravel())
    words = zip(here["replacement_token"].values.ravel(), here["replacement_text"].values.ravel(), strict=True)
    assert columns["word"].tolist() == [label(*word) for word in words]
    assert len(set(columns["word"])) > 1
    selected = plots.effect_columns(found.isel(position=position), replacement="neighbor 2")
    for name, column in columns.items():
        np.testing.assert_array_equal(selected[name], column)
    title = plots.effect_map(found, position=3).opts.get("plot").kwargs["title"]
    assert title == "Replaced by neighbor 1 at c"


@pytest.mark.parametrize("measure", ["kl", "kl_anywhere", "hidden_change", "hidden_change_anywhere", "logit_change"])
@pytest.mark.parametrize("dark", [False, True])
def test_changes_themselves_can_be_drawn(found: xr.Dataset, measure: str, dark: bool) -> None:
    element = plots.effect_map(found, replacement="own", measure=measure, recovered=False, dark=dark)
    cells, plot = drawn(element)
    values = medians(found[measure].sel(replacement="own"))
    np.testing.assert_equal(cells, of(values))
    mapper, most = plot.handles["color_mapper"], float(np.abs(values).max())
    signed = measure == "logit_change"
    assert (mapper.low, mapper.high) == (pytest.approx(-most if signed else 0), pytest.approx(most))
    away = np.abs(np.array([luminance(color) for color in mapper.palette]) - (0 if dark else 1))
    assert away[-1] > 0.4 > away[127 if signed else 0]  # what is large stands out from the background


@pytest.mark.parametrize("dark", [False, True])
def test_what_is_beyond_the_colours_is_said(found: xr.Dataset, dark: bool) -> None:
    some = found.copy(deep=True)
    some["recovered"][1, 2, 4] = -7.25
    some["recovered"][0, 1, 4] = np.nan
    some["recovered"][0, 0, 4] = -0.5
    cells, plot = drawn(plots.effect_map(some, position=4, dark=dark))
    assert cells[1, 2] == -7.25
    assert np.isnan(cells[0, 1])
    written = plots.effect_columns(some, position=4)["written"].reshape(2, 4)
    assert written[1, 2] == "−7.25, beyond the colours"
    assert written[0, :2].tolist() == ["−0.50", "– (the mean changes nothing)"]
    mapper, bar = plot.handles["color_mapper"], plot.handles["colorbar"]
    assert (mapper.low, mapper.high) == (-1, 1)
    assert bar.major_label_overrides[-1] == "≤ −1"
    low, middle, high = (mapper.palette[i] for i in (0, 127, 254))
    assert int(low[1:3], 16) > int(low[5:7], 16)  # red
    assert int(high[1:3], 16) < int(high[5:7], 16)  # blue
    assert mapper.nan_color not in (low, middle, high)
    assert luminance(middle) < 0.05 if dark else luminance(middle) > 0.9


def test_positions_without_value_are_left_out_of_medians(found: xr.Dataset) -> None:
    some = found.copy(deep=True)
    some["recovered"][0, 0, 2:] = np.nan
    some["recovered"][0, 0, :2, :] = np.array([0.25, 0.75])[:, None, None]
    some["recovered"][0, 1] = np.nan
    cells, _ = drawn(plots.effect_map(some))
    assert cells[0, 0] == 0.5
    assert np.isnan(cells[0, 1])


@pytest.mark.parametrize(
    "selection",
    [{"layer": 1}, {"head": 2}, {"layer": [1, 0], "head": [3, 1]}, {"layer": 0, "head": 0}, {"position": [2, 5]}],
)
def test_selections_can_be_drawn(found: xr.Dataset, selection: dict[str, Any]) -> None:
    few = found.isel(selection)
    columns = plots.effect_columns(few, position=1)
    drawn(plots.effect_map(few, position=1))
    heads = list(zip(columns["layer_number"], columns["head_number"], columns["value"], strict=True))
    assert len(heads) == few.sizes.get("layer", 1) * few.sizes.get("head", 1)
    position = few["position"].values[1]
    for layer, head, value in heads:
        one = found["recovered"].sel(layer=layer, head=head, position=position, replacement="neighbor 1", measure="kl")
        np.testing.assert_equal(value, one.item())


def test_what_was_selected_need_not_be_named(found: xr.Dataset) -> None:
    few = found.sel(replacement="own", measure="hidden_change")
    cells, _ = drawn(plots.effect_map(few))
    np.testing.assert_equal(cells, of(medians(few["recovered"])))
    whole = plots.effect_map(found, replacement="own", measure="hidden_change")
    np.testing.assert_equal(cells, drawn(whole)[0])


@pytest.mark.parametrize("together", ["layer", "head", "position", ("layer", "position"), ("layer", "head")])
def test_what_is_replaced_together_is_one(bert: Case, together: Any) -> None:
    found = attnxr.effects(bert.model, bert.enc, by=["mean", "neighbor"], together=together)
    columns = plots.effect_columns(found)
    drawn(plots.effect_map(found))
    whole = {dim for dim in ("layer", "head") if dim in together}
    for dim in ("layer", "head"):
        assert (set(columns[f"{dim}_number"]) == {"all"}) == (dim in whole)
    values = found["recovered"].sel(replacement="neighbor 1").isel(measure=0)
    if "position" in values.dims:
        values = values.median("position")
    np.testing.assert_allclose(columns["value"], values.values.ravel(), rtol=1e-12)
    assert not any(columns["word"])


def test_what_was_chosen_is_one_cell(bert: Case) -> None:
    chosen = xr.DataArray([True, False, True], dims="layer")
    found = attnxr.effects(bert.model, bert.enc, by=["mean", "own"], together=chosen)
    shown = plots.effect_map(found, replacement="own")
    assert shown.opts.get("plot").kwargs["title"] == "Replaced by own where it was chosen, together"
    assert drawn(shown)[0] == {(0, 0): found["recovered"].sel(replacement="own").values[0]}


def test_texts_have_a_median_where_their_positions_go_together(bert: Case) -> None:
    found = attnxr.effects(
        bert.model, bert.model.encode([bert.text, bert.text[:9]]), by=["mean", "own"], together="position"
    )
    columns = plots.effect_columns(found, replacement="own")
    values = found["recovered"].sel(replacement="own", measure="hidden_change_anywhere")
    np.testing.assert_allclose(columns["value"], values.mean("source_id").values.ravel(), rtol=1e-12)


def test_the_chosen_cell_is_outlined(found: xr.Dataset) -> None:
    _, outline = hv.renderer("bokeh").get_plot(plots.effect_map(found, layer=1, head=3)).subplots.values()
    edges = [outline.handles["source"].data[name] for name in ("left", "bottom", "right", "top")]
    assert [list(each) for each in edges] == [[2.5], [0.5], [3.5], [1.5]]


def test_what_cannot_be_drawn_is_refused(found: xr.Dataset, bert: Case) -> None:
    with pytest.raises(InputError, match=r"replacement='neighbour 1'.*'neighbor 1'"):
        plots.effect_map(found, replacement="neighbour 1")
    with pytest.raises(InputError, match="measure='logit_change'"):
        plots.effect_map(found, measure="logit_change")
    with pytest.raises(InputError, match=r"measure='recovered'.*'logit_change'"):
        plots.effect_map(found, measure="recovered", recovered=False)
    with pytest.raises(InputError, match="position=16"):
        plots.effect_map(found, position=16)
    with pytest.raises(InputError, match="Leave it out"):
        plots.effect_map(found.isel(position=2), position=2)
    with pytest.raises(InputError, match=r"recovered='kl'"):
        plots.effect_map(found, recovered="kl")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one or more of each"):
        plots.effect_map(found.isel(layer=[]))
    with pytest.raises(InputError, match=r"attnxr\.effects"):
        plots.effect_map(bert.enc)
    with pytest.raises(InputError, match=r"attnxr\.effects"):
        plots.effect_map(found.drop_vars("recovered"))
