"""The bars are the words and what the head adds to their logits, in their order."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr import plots
from attnxr.errors import InputError
from attnxr.plots.colors import AGAINST, FOR
from attnxr.tokens import label


@pytest.fixture(scope="module")
def found(inducing: attnxr.Model) -> xr.Dataset:
    return attnxr.promoted(inducing, inducing.encode("a b c d a b"), k=4)


@pytest.mark.parametrize("head", [0, 3])
def test_each_word_has_a_bar_as_long_as_its_logit(found: xr.Dataset, head: int) -> None:
    one = found.isel(layer=1, head=head, position=5)
    columns = plots.promoted_columns(one)
    promoted = [label(*pair) for pair in zip(one["promoted"].values, one["promoted_text"].values, strict=True)]
    suppressed = [label(*pair) for pair in zip(one["suppressed"].values, one["suppressed_text"].values, strict=True)]
    names = [f"+{i + 1}  {word}" for i, word in enumerate(promoted)]
    names += [f"−{i + 1}  {word}" for i, word in reversed(list(enumerate(suppressed)))]
    assert columns["entry"] == names
    assert columns["logit"] == sorted(columns["logit"], reverse=True)
    drawn = hv.renderer("bokeh").get_plot(plots.promoted_plot(one)).handles["source"].data
    assert list(drawn["entry"]) == names[::-1]  # bokeh counts from below
    logits = np.concatenate([one["promoted_logit"].values, one["suppressed_logit"].values[::-1]])
    np.testing.assert_array_equal(drawn["logit"], logits[::-1])
    assert list(drawn["color"]) == [FOR if logit > 0 else AGAINST for logit in logits[::-1]]
    assert set(drawn["color"]) == {FOR, AGAINST}


def test_a_map_of_the_vocabulary_is_drawn_too(inducing: attnxr.Model) -> None:
    one = attnxr.vocabulary_map(inducing, layers=0, heads=1, k=3).isel(layer=0, head=0, vocab=7)
    columns = plots.promoted_columns(one)
    np.testing.assert_array_equal(columns["logit"][:3], one["promoted_logit"].values)
    np.testing.assert_array_equal(columns["logit"][:2:-1], one["suppressed_logit"].values)


def test_several_vectors_are_refused(found: xr.Dataset) -> None:
    with pytest.raises(InputError, match=r"found\.sel\(layer=0"):
        plots.promoted_plot(found.isel(layer=0))
    with pytest.raises(InputError, match=r"attnxr\.promoted"):
        plots.promoted_plot(found.drop_vars("promoted_logit").isel(layer=0, head=0, position=0))
