"""The bars are the words and their weights, in their order."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr import plots
from attnxr.errors import InputError
from attnxr.plots.colors import OWN, QUIET
from attnxr.tokens import label
from tests.support.cases import Case


@pytest.fixture(scope="module")
def found(bert: Case) -> xr.Dataset:
    return attnxr.decompose(bert.model, bert.enc, n=4)


def test_each_word_has_a_bar_as_long_as_its_weight(found: xr.Dataset) -> None:
    colors = set()
    for position in range(found.sizes["position"]):
        one = found.isel(layer=0, head=1, position=position)
        columns = plots.decomposition_columns(one)
        tokens = zip(one.step.values, one.entry.values, one.entry_text.values, strict=True)
        assert columns["entry"] == [f"{step}  {label(*pair)}" for step, *pair in tokens]
        plot = hv.renderer("bokeh").get_plot(plots.decomposition_plot(one))
        drawn = plot.handles["source"].data
        assert list(drawn["entry"]) == columns["entry"][::-1]  # bokeh counts from below
        np.testing.assert_array_equal(drawn["weight"], one.weight.values[::-1])
        np.testing.assert_array_equal(np.array(drawn["color"]) == OWN, one.in_sequence.values[::-1])
        colors |= set(drawn["color"])
    assert colors == {OWN, QUIET}


def test_steps_that_found_nothing_have_none(found: xr.Dataset) -> None:
    one = found.isel(layer=0, head=1, position=2)
    ended = one.assign(entry_id=one.entry_id.where(one.step <= 2, -1))
    assert len(plots.decomposition_columns(ended)["entry"]) == 2
    nothing = plots.decomposition_plot(one.assign(entry_id=xr.full_like(one.entry_id, -1)))
    assert len(hv.renderer("bokeh").get_plot(nothing).handles["source"].data["weight"]) == 0


def test_several_vectors_are_refused(found: xr.Dataset) -> None:
    with pytest.raises(InputError, match=r"found\.sel\(layer=0"):
        plots.decomposition_plot(found.isel(layer=0))
