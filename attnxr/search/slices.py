"""What slices of distances are computed from: arrays, in memory or in files that several processes read."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnxr.errors import InputError
from attnxr.options import Metric
from attnxr.search import nearest
from attnxr.search.blocks import Block, Blocks, StoredBlock


@dataclass(frozen=True, eq=False)
class Part:
    """What is compared with the vocabulary of one layer.

    Attributes
    ----------
    chosen : int array
        Which of the queries' layers.
    queries : float32 or float64 array (layers, H, n, d)
        Where the blocks are.
    place : int array (n,)
        Which of the blocks' positions each position has.
    blocks : Blocks
    """

    chosen: NDArray[np.intp]
    queries: NDArray[np.floating]
    place: NDArray[np.intp]
    blocks: Blocks


class Slices:
    """Distances of vectors (L, H, n) to the vocabulary, some at a time.

    Parameters
    ----------
    metric : str
    layers : int array (L,)
        For each of the vectors' layers, that whose vocabulary it is compared with.
    heads : int array (H,)
        Which of the vocabulary's heads each head looks into.
    part : callable
        ``part(layer)``, for each of `layers`.
    """

    def __init__(self, metric: Metric, layers: NDArray[np.intp], heads: NDArray[np.intp], part: Callable[[int], Part]):
        self._metric, self._layers, self._heads, self._part = metric, layers, heads, part
        self._lock = threading.Lock()
        self._held: tuple[tuple[int, int], Block] | None = None  # the block that the last slice was taken from

    def distances(
        self, layers: NDArray[np.intp], heads: NDArray[np.intp], position: int, entries: NDArray[np.intp]
    ) -> NDArray[np.float32]:
        """Distances at one position, for some layers, heads and entries: float32 (layers, heads, entries)."""
        out = np.empty((len(layers), len(heads), len(entries)), np.float32)
        for layer in np.unique(self._layers[layers]).tolist():
            with self._lock:
                part = self._part(layer)
                place = part.place[position]
                i = next(i for i, (rows, _) in enumerate(part.blocks) if place in rows)
                if self._held is None or self._held[0] != (layer, i):
                    self._held = (layer, i), part.blocks[i][1]()
                block = self._held[1]
            here = np.flatnonzero(self._layers[layers] == layer)
            chosen = np.searchsorted(part.chosen, layers[here])
            row = int(np.searchsorted(part.blocks[i][0], place))
            queries = part.queries[:, :, position][np.ix_(chosen, heads)]
            out[here] = nearest.distances(block, self._metric, self._heads[heads], queries, row, entries)
        return out

    def save(self, folder: Path) -> None:
        """Write all that slices are computed from into a folder, for `open`: nothing of the model is in it."""
        tables: list[NDArray[np.float32]] = []  # blocks share their rows
        index: dict[str, Any] = {"metric": self._metric, "parts": {}}
        for layer in np.unique(self._layers).tolist():
            part = self._part(layer)
            for name in ("chosen", "queries", "place"):
                np.save(folder / f"{layer}-{name}.npy", getattr(part, name))
            for i, (rows, load) in enumerate(part.blocks):
                block = load()
                number = next((n for n, table in enumerate(tables) if table is block.rows), len(tables))
                if number == len(tables):
                    np.save(folder / f"rows-{number}.npy", block.rows)
                    tables.append(block.rows)
                places = np.arange(len(rows))
                every = np.arange(len(block.rows))
                mean = block.mean(every, places) if self._metric == "centered_cosine" else np.empty(0)
                arrays = {"places": rows, "shift": block.shift, "offset": block.offset}
                for name, array in {**arrays, "scale": block.scale(places), "mean": mean}.items():
                    np.save(folder / f"{layer}-{i}-{name}.npy", array)
                index["parts"].setdefault(str(layer), []).append(number)
        np.save(folder / "layers.npy", self._layers)
        np.save(folder / "heads.npy", self._heads)
        (folder / "index.json").write_text(json.dumps(index))

    @classmethod
    def open(cls, folder: Path) -> "Slices":
        """Read what `save` has written, as far as it is needed when it is needed.

        Raises
        ------
        InputError
            If it is no longer there.
        """
        try:
            index = json.loads((folder / "index.json").read_text())
        except FileNotFoundError:
            raise InputError(
                f"Distances were unpickled whose tables, in {folder}, are gone: they last as long as the distances "
                "that were pickled, and serve other processes of the same machine meanwhile. To keep distances, save "
                "a slice of them: dist.sel(layer=0).to_netcdf(…)."
            ) from None

        def read(name: str) -> NDArray:
            return np.load(folder / f"{name}.npy", mmap_mode="r")

        def block(layer: int, i: int, number: int) -> Block:
            shift, offset, scale, mean = (read(f"{layer}-{i}-{name}") for name in ("shift", "offset", "scale", "mean"))
            return StoredBlock.of(read(f"rows-{number}"), shift, offset, scale, mean)

        def part(layer: int) -> Part:
            blocks = [
                (read(f"{layer}-{i}-places"), partial(block, layer, i, number))
                for i, number in enumerate(index["parts"][str(layer)])
            ]
            return Part(read(f"{layer}-chosen"), read(f"{layer}-queries"), read(f"{layer}-place"), blocks)

        return cls(index["metric"], read("layers"), read("heads"), part)
