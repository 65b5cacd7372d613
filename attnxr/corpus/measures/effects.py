"""Whether what a head writes matters, and whether words would do in its place, on a sample of texts."""

from typing import Any

import numpy as np
import xarray as xr

from attnxr.analysis.effects import By, effects
from attnxr.corpus.declared import ATLAS
from attnxr.corpus.measure import Facts, Measure, State
from attnxr.corpus.measures import fixed
from attnxr.schema import describe

_BY: tuple[By, ...] = ("mean", "neighbor", "own")
_OF = {"hidden": "hidden_change_anywhere", "kl": "kl_anywhere"}


class Effects(Measure):
    """What `attnxr.effects` says of a head that is replaced at all tokens of a text that are not special, at once.

    A change is a mean over the texts of the sample. The recovered share is of changes summed over them, 1 − Σ change /
    Σ change by the mean: texts in which the head does nothing have no say, where a mean of shares would be theirs.
    """

    name = "effects"
    needs = frozenset({"sample"})

    def begin(self, facts: Facts) -> State:
        """Nothing replaced yet."""
        heads = len(facts.layers), facts.n_heads
        return {name: fixed.zeros(*heads, len(_BY)) for name in _OF} | {
            f"n_{name}": np.zeros((), np.int64) for name in _OF
        }

    def see_text(self, state: State, text: int, model: Any, encodings: xr.Dataset) -> None:
        """Replace what each head writes in one text."""
        written = encodings.isel(position=~encodings["is_special"].values)
        if not written.sizes["position"]:
            return
        found = effects(model, written, by=_BY, together=["position"])
        for name, variable in _OF.items():
            if variable in found:
                changes = found[variable].transpose("layer", "head", "replacement", ...).values
                fixed.add(state[name], changes.reshape(state[name].shape[:-1]))
                state[f"n_{name}"] += 1

    def merge(self, first: State, second: State) -> State:
        """Sums of both."""
        return {name: fixed.plus(first[name], second[name]) for name in _OF} | {
            name: np.array(first[name] + second[name]) for name in (f"n_{each}" for each in _OF)
        }

    def finish(self, state: State, facts: Facts) -> xr.Dataset:
        """``change``, ``recovered`` (replacement), ``n_replaced``, and with a head for language ``kl…`` likewise."""
        dims = ("layer", "head", "replacement")
        found: dict[str, Any] = {"n_replaced": ((), state["n_hidden"])}
        for name, (change, recovered) in {
            "hidden": ("change", "recovered"),
            "kl": ("kl_change", "kl_recovered"),
        }.items():
            if name == "kl" and not state["n_kl"]:
                continue
            total = fixed.value(state[name])
            of_mean = np.where(total[..., :1] > 0, total[..., :1], np.nan)
            found[change] = dims, total / (state[f"n_{name}"] or np.nan)
            found[recovered] = dims, 1 - total / of_mean
        return describe(xr.Dataset(found).assign_coords(replacement=np.array(_BY, object)), ATLAS)
