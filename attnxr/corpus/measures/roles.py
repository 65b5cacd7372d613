"""What a head's attention does, over the whole corpus: the roles of `attnxr.roles`."""

import numpy as np
import xarray as xr
from torch import Tensor

from attnxr.analysis import attending
from attnxr.analysis.attending import MEASURES
from attnxr.corpus.declared import ATLAS
from attnxr.corpus.measure import Batch, Facts, Measure, State
from attnxr.corpus.measures import fixed
from attnxr.corpus.measures.shown import on_cpu
from attnxr.schema import describe


class Roles(Measure):
    """The measures of `attnxr.roles`, means over all positions of all texts."""

    name = "roles"
    needs = frozenset({"attention"})

    def begin(self, facts: Facts) -> State:
        """No sums yet."""
        return {
            "sums": fixed.zeros(len(facts.layers), facts.n_heads, len(MEASURES)),
            "counts": np.zeros(len(MEASURES), np.int64),
            "causal": np.array(facts.causal),
        }

    def see_attention(self, state: State, batch: Batch, layer: int, attention: Tensor) -> None:
        """Add the sums of one layer."""
        places = np.arange(batch.token_id.shape[1])
        about = places, batch.same, batch.is_special, bool(state["causal"])
        fixed.add(state["sums"][layer], attending.sums(on_cpu(attention), *about))
        if layer == 0:
            state["counts"] += attending.counts(*about)

    def merge(self, first: State, second: State) -> State:
        """Sums and counts of both."""
        return {
            "sums": fixed.plus(first["sums"], second["sums"]),
            "counts": first["counts"] + second["counts"],
            "causal": first["causal"],
        }

    def finish(self, state: State, facts: Facts) -> xr.Dataset:
        """The means, by the names of `attnxr.roles`, and ``n_positions`` (measure)."""
        found = attending.means(fixed.value(state["sums"]), state["counts"])
        result = xr.Dataset({name: (("layer", "head"), found[..., i]) for i, name in enumerate(MEASURES)})
        result["n_positions"] = "measure", state["counts"]
        return describe(result.assign_coords(measure=np.array(MEASURES, object)), ATLAS)
