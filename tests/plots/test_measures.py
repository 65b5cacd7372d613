"""Measures are what the Datasets say, and their colours can be told apart and written on."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr.plots import MEASURES, measure_values
from attnxr.plots.colors import ink_on, luminance
from tests.support.cases import Case

SENTENCE = "time flies like an arrow. fruit flies like a banana."


@pytest.fixture(scope="module")
def near(bert: Case) -> xr.Dataset:
    return bert.model.neighbors(bert.model.encode(bert.text), k=4)


@pytest.fixture(scope="module")
def found(bert: Case) -> list[xr.Dataset]:
    enc = bert.model.encode(bert.text)
    found = [attnxr.significance(bert.model, enc.isel(layer=[layer]), k=2, draws=9) for layer in (2, 0)]
    # Of random weights nothing is significant: every q is 1, which would show nothing.
    return [one.assign(nearest_q=one["nearest_p"]) for one in found]


def slow(name: str, near: xr.Dataset, layer: int, head: int, position: int) -> float:
    """A measure of one cell, from its definition."""
    here = near.isel(layer=layer, head=head, position=position)
    if name == "own_rank":
        return float(here["own_rank"])
    if name == "nearest_distance":
        return float(here["distance"].min())
    ids = here["neighbor_id"].values
    if name == "origin":
        text = near.attrs["token_ids"]
        return 0 if ids[0] == text[position] else 1 if ids[0] in text else 2
    if layer == 0:
        return float("nan")
    before = near["neighbor_id"].isel(layer=layer - 1, head=head, position=position).values
    return len(set(ids) & set(before)) / len(ids)


@pytest.mark.parametrize("name", ["own_rank", "nearest_distance", "origin", "overlap"])
def test_values_are_those_of_the_definition(name: str, near: xr.Dataset) -> None:
    layers, heads, positions = (near.sizes[dim] for dim in ("layer", "head", "position"))
    every = np.array(
        [[[slow(name, near, i, j, p) for p in range(positions)] for j in range(heads)] for i in range(layers)]
    )
    assert len(set(every[~np.isnan(every)])) > 1
    for position in range(positions):
        np.testing.assert_allclose(measure_values(name, near, position=position), every[:, :, position], rtol=1e-6)
    for head in range(heads):
        np.testing.assert_allclose(measure_values(name, near, head=head), every[:, head], rtol=1e-6)


def test_overlap_is_the_librarys(near: xr.Dataset) -> None:
    ours = np.stack([measure_values("overlap", near, head=head)[1:] for head in range(near.sizes["head"])], axis=1)
    known = attnxr.overlap(near)
    np.testing.assert_array_equal(ours, known["overlap"].values)
    for at in ({"head": 1}, {"position": 2}, {}):
        np.testing.assert_array_equal(
            measure_values("overlap", near, overlaps=known, **at), measure_values("overlap", near, **at)
        )


def test_one_layer_overlaps_with_none(near: xr.Dataset) -> None:
    assert np.isnan(measure_values("overlap", near.isel(layer=[1]), head=0)).all()


def test_q_values_are_there_for_the_layers_that_are(near: xr.Dataset, found: list[xr.Dataset]) -> None:
    values = measure_values("q_value", near, significance=found, position=3)
    np.testing.assert_array_equal(values[2], found[0]["nearest_q"].values[0, :, 3])
    np.testing.assert_array_equal(values[0], found[1]["nearest_q"].values[0, :, 3])
    assert np.isnan(values[1]).all()
    np.testing.assert_array_equal(
        measure_values("q_value", near, significance=found, head=1)[2], found[0]["nearest_q"].values[0, 1]
    )
    assert np.isnan(measure_values("q_value", near, head=1)).all()


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("dark", [False, True])
def test_what_stands_out_differs_most_in_lightness_from_the_background(name: str, dark: bool) -> None:
    measure = MEASURES[name]
    lightness = [luminance(color) for color in measure.palette(dark)]
    if not measure.low:
        lightness = lightness[::-1]
    background = 0.0 if dark else 1.0
    away = np.abs(np.array(lightness) - background)
    assert away[0] > 0.5 > away[-1]
    # Evenly, so that the order can be read without colour vision.
    assert (np.diff(away) <= (-0.15 if measure.categories else 0.01)).all()


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("dark", [False, True])
def test_text_on_every_colour_can_be_read(name: str, dark: bool) -> None:
    for color in MEASURES[name].palette(dark):
        lighter, darker = sorted((luminance(color), luminance(ink_on(color))), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_luminance_is_that_of_wcag() -> None:
    assert luminance("#ffffff") == pytest.approx(1)
    assert luminance("#000000") == 0
    assert luminance("#777777") == pytest.approx(0.184, abs=1e-3)
    assert luminance("#ff0000") == pytest.approx(0.2126)


def test_colours_go_from_limit_to_limit() -> None:
    ranks = MEASURES["own_rank"]
    palette = ranks.palette()
    colors = ranks.colors(np.array([1, 10, 100, 1000, np.nan]), (1, 100))
    assert colors == [palette[0], palette[128], palette[255], palette[255], None]
    shares = MEASURES["overlap"]
    assert shares.colors(np.array([0.0, 1.0]), (0, 1)) == [shares.palette()[0], shares.palette()[-1]]
    origin = MEASURES["origin"]
    assert origin.colors(np.array([0.0, 1.0, 2.0]), (-0.5, 2.5), dark=True) == origin.palette(dark=True)
    distance = MEASURES["nearest_distance"]
    assert distance.colors(np.array([0.3, 0.3]), (0.3, 0.3)) == [distance.palette()[0]] * 2  # all the same


def test_limits_hold_every_value(near: xr.Dataset, found: list[xr.Dataset]) -> None:
    for name, measure in MEASURES.items():
        lower, upper = measure.limits(near)
        if name == "recovered":  # a share that misleads has no bound: its colour is that of the lower limit
            continue
        values = measure_values(name, near, significance=found)
        values = values[~np.isnan(values)]
        assert lower <= values.min() < values.max() <= upper


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("own_rank", 12777, "12,777"),
        ("nearest_distance", 0.12345, "0.123"),
        ("nearest_distance", -12.345, "-12.3"),
        ("nearest_distance", -123.45, "-123"),
        ("origin", 1, "of the text"),
        ("overlap", np.nan, "–"),
        ("overlap", 0.2, "0.200"),
    ],
)
def test_values_are_written_for_a_reader(name: str, value: float, written: str) -> None:
    assert MEASURES[name].write(value) == written
