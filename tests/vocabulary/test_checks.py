"""The three checks say how well a loaded model is read, and when it is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import xarray as xr

import attnxr
from attnxr import schema
from tests.support import models
from tests.support.cases import Case
from tests.support.families import FAMILIES


def test_the_checks_pass_and_say_by_how_much(case: Case, tmp_path: Any) -> None:
    checked = case.model.verify()
    schema.validate(checked, schema.CHECKS, required=("reconstruction", "identity", "unchanged"))
    assert checked.sizes == {"layer": case.model.n_layers, "space": 4}
    assert checked.space.values.tolist() == list(case.model.verification.paths)
    assert json.loads(checked.attrs["path"]) == dict(case.model.verification.paths)
    assert checked.attrs["fingerprint"] == case.model.fingerprint
    assert checked.attrs["passed"] == 1
    for name in checked.data_vars:
        assert (checked[name] < checked.attrs["tolerance"]).all()
    checked.to_netcdf(tmp_path / "checked.nc")
    with xr.open_dataset(tmp_path / "checked.nc") as back:
        xr.testing.assert_identical(back.load(), checked)
    xr.testing.assert_identical(case.model.verify(), checked)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_unchanged_compares_with_the_callers_own_attention(implementation: str) -> None:
    hf_model = models.tiny_roberta(attn_implementation=implementation)
    unchanged = attnxr.Model(hf_model).verify().unchanged
    assert (unchanged == 0) == (implementation == "eager")
    assert hf_model.config._attn_implementation == implementation


def test_a_model_that_says_something_else_each_time_does_not_pass() -> None:
    hf_model = FAMILIES["gpt2"].build()
    hf_model.h[1].register_forward_hook(lambda _m, _i, out: out + 0.1 * torch.randn_like(out))
    checked = attnxr.Model(hf_model).verify()
    assert checked.attrs["passed"] == 0
    assert checked.unchanged > 1e-3
    assert (checked.identity < 1e-5).all()  # what comes before layer 1 is sure
    found = checked.reconstruction.values
    assert (found[:2] < 1e-5).all()
    assert found[2] > 1e-3
