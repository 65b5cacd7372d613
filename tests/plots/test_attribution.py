"""The map has what each head and feed-forward adds to a logit, and its title what all parts add up to."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr import plots
from attnxr.errors import InputError
from tests.support import models
from tests.support.attributed import TEXT, build


@pytest.fixture(scope="module")
def found() -> xr.Dataset:
    """Of a GPT-2, with the next token at each position as its target: the last has none."""
    model = attnxr.Model(build("gpt2"), models.byte_level_tokenizer())
    return attnxr.attribute(model, model.encode(token_ids=TEXT))


def title(found: xr.Dataset, position: int | None = None) -> str:
    return plots.attribution_plot(found, position).opts.get("plot").kwargs["title"]


@pytest.mark.parametrize("position", [0, 4])
@pytest.mark.parametrize("dark", [False, True])
def test_every_head_and_feed_forward_has_a_cell(found: xr.Dataset, position: int, dark: bool) -> None:
    plot = hv.renderer("bokeh").get_plot(plots.attribution_plot(found, position, dark=dark))
    cells = next(iter(plot.subplots.values()))
    data, here = cells.handles["source"].data, found.isel(position=position)
    values = {(i, j): v for i, j, v in zip(data["layer"], data["head"], data["zvalues"], strict=True)}
    expected = dict(np.ndenumerate(here["head_logit"].values))
    expected |= {(i, found.sizes["head"]): value for i, value in enumerate(here["feed_forward_logit"].values)}
    np.testing.assert_equal(values, expected)
    mapper, most = cells.handles["color_mapper"], max(np.abs(list(values.values())))
    assert (mapper.low, mapper.high) == (pytest.approx(-most), pytest.approx(most))
    low, high = mapper.palette[0], mapper.palette[-1]
    assert int(low[1:3], 16) > int(low[5:7], 16)  # red: against
    assert int(high[1:3], 16) < int(high[5:7], 16)  # blue: for
    names = dict(zip(zip(data["layer"], data["head"], strict=True), data["part"], strict=True))
    assert names[1, 2] == "layer 1, head 2"
    assert names[0, found.sizes["head"]] == "layer 0, feed-forward"
    assert [float(each.replace("−", "-")) for each in data["written"]] == pytest.approx(data["zvalues"], abs=5e-4)


@pytest.mark.parametrize(
    "selection", [{}, {"layer": [1]}, {"layer": 0}, {"head": [2, 0]}, {"head": 1}, {"layer": 1, "head": 3}]
)
def test_totals_add_up_to_the_logit(found: xr.Dataset, selection: dict[str, Any]) -> None:
    here = found.isel(position=3)
    few = found.isel(selection)
    totals = plots.attribution_totals(few, 3)
    assert totals["logit"] == here["logit"].item()
    assert sum(totals.values()) - totals["logit"] == pytest.approx(totals["logit"], rel=1e-12)
    heads, feed_forward = few["head_logit"].isel(position=3).sum(), few["feed_forward_logit"].isel(position=3).sum()
    expected = {"heads": heads, "feed-forwards": feed_forward, "embedding": here["embedding_logit"]}
    expected |= {"biases": here["bias_logit"], "remainder": here["remainder"]}
    assert {name: totals[name] for name in expected} == pytest.approx({k: float(v) for k, v in expected.items()})
    missing = here["head_logit"].sum() - heads + here["feed_forward_logit"].sum() - feed_forward
    assert totals["not shown"] == pytest.approx(float(missing), abs=1e-9)
    columns = plots.attribution_columns(few, 3)
    assert len(columns["value"]) == few.sizes.get("layer", 1) * (few.sizes.get("head", 1) + 1)
    assert columns["value"].sum() == pytest.approx(totals["heads"] + totals["feed-forwards"])
    hv.renderer("bokeh").get_plot(plots.attribution_plot(few, 3))


def test_the_title_says_the_target_and_the_sums(found: xr.Dataset) -> None:
    totals = plots.attribution_totals(found, 3)
    lines = title(found, 3).split("\n")
    here = found.isel(position=3)
    assert lines[0].startswith("Logit of ")
    assert lines[0].endswith(f": {totals['logit']:.2f}".replace("-", "−"))
    for name in ("heads", "feed-forwards", "embedding", "biases"):
        assert f"{name} {totals[name]:+.2f}".replace(" -", " −") in "   ".join(lines[1:])
    assert "remainder" not in title(found, 3)  # it is rounding
    assert "not shown" not in title(found, 3)
    assert "not shown" in title(found.isel(layer=[0]), 3)
    assert title(here) == title(found, 3)


def test_the_last_position_of_a_decoder_has_no_logit(found: xr.Dataset) -> None:
    last = found.sizes["position"] - 1
    assert title(found, last).startswith("No logit at ")
    columns = plots.attribution_columns(found, last)
    assert np.isnan(columns["value"]).all()
    assert set(columns["written"]) == {"–"}
    plot = hv.renderer("bokeh").get_plot(plots.attribution_plot(found, last))
    mapper = next(iter(plot.subplots.values())).handles["color_mapper"]
    assert (mapper.low, mapper.high) == (-1, 1)
    assert mapper.nan_color != mapper.palette[127]


def test_one_target_is_drawn(found: xr.Dataset) -> None:
    model = attnxr.Model(build("gpt2"), models.byte_level_tokenizer())
    of_two = attnxr.attribute(model, model.encode(token_ids=TEXT), tokens=[3, 9])
    columns = plots.attribution_columns(of_two.isel(entry=1), 2)
    np.testing.assert_array_equal(
        columns["value"].reshape(of_two.sizes["layer"], -1)[:, :-1], of_two["head_logit"].isel(entry=1, position=2)
    )
    np.testing.assert_array_equal(plots.attribution_columns(of_two.isel(entry=[1]), 2)["value"], columns["value"])
    with pytest.raises(InputError, match=r"isel\(entry=0\)"):
        plots.attribution_plot(of_two, 2)


def test_what_cannot_be_drawn_is_refused(found: xr.Dataset) -> None:
    with pytest.raises(InputError, match="give position"):
        plots.attribution_plot(found)
    with pytest.raises(InputError, match="position=8"):
        plots.attribution_plot(found, 8)
    with pytest.raises(InputError, match="Leave it out"):
        plots.attribution_plot(found.isel(position=1), 1)
    with pytest.raises(InputError, match="no 'bias_logit'"):
        plots.attribution_plot(found.drop_vars("bias_logit"), 1)
