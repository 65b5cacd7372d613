"""Zarr arrays of which each chunk, or shard, is one file that is made in memory and written whole."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.abc.buffer import Buffer
from zarr.storage import MemoryStore

Put = Callable[[str, bytes], Any]
"""Writes a file of that name, whole."""


@dataclass(frozen=True, eq=False)
class Array:
    """An array of the store, as it is declared at the start.

    Attributes
    ----------
    name : str
        Its path in the store, such as ``tokens/token_id``.
    shape : tuple of int
    dtype : str
        A NumPy dtype, or ``str``.
    file : tuple of int
        What of it is in one file.
    chunks : tuple of int
        What of a file is read at once; the same, where the file is one chunk.
    dims : tuple of str
    attrs : mapping
    fill : Any
        What is where no file is.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: tuple[int, ...]
    chunks: tuple[int, ...]
    dims: tuple[str, ...]
    attrs: Mapping[str, Any]
    fill: Any

    def declare(self, put: Put) -> None:
        """Write what Zarr is to know of it."""
        kept: dict[str, Buffer] = {}
        self._create(kept, self.shape)
        put(f"{self.name}/zarr.json", kept["zarr.json"].to_bytes())

    def encoded(self, place: Sequence[int], values: NDArray[Any]) -> tuple[str, bytes]:
        """Make a file.

        Parameters
        ----------
        place : sequence of int
            Which file, counted along each dimension.
        values : array
            What is in it: of the shape `file`, or less at the end of a dimension.

        Returns
        -------
        str
            Its name.
        bytes
        """
        kept: dict[str, Buffer] = {}
        array = self._create(kept, self.file)
        array[tuple(slice(size) for size in values.shape)] = values
        only = "/".join(["c", *("0" for _ in self.file)])
        return "/".join([self.name, "c", *map(str, place)]), kept[only].to_bytes()

    def _create(self, kept: dict[str, Buffer], shape: tuple[int, ...]) -> Any:
        sharded = self.chunks != self.file
        return zarr.create_array(
            MemoryStore(kept),
            shape=shape,
            dtype=str if self.dtype == "str" else self.dtype,
            chunks=self.chunks,
            shards=self.file if sharded else None,
            fill_value=self.fill,
            dimension_names=self.dims,
            attributes=dict(self.attrs),
            config={"write_empty_chunks": True},  # what is not there was not written
        )


def group(put: Put, name: str, attrs: Mapping[str, Any]) -> None:
    """Write what Zarr is to know of a group; the root's name is empty."""
    kept: dict[str, Buffer] = {}
    zarr.create_group(MemoryStore(kept), attributes=dict(attrs))
    put(f"{name}/zarr.json".lstrip("/"), kept["zarr.json"].to_bytes())


def consolidated(files: Mapping[str, bytes]) -> bytes:
    """The root's metadata with that of all arrays and groups in it.

    In the form that zarr-python gives it. It would look for these in all folders, those that hold no arrays too, and
    warn that not all programs know the form: those that do not, read the metadata where else it is.

    Parameters
    ----------
    files : mapping of str to bytes
        Of the root and of all of them, by the names of the files.
    """
    nodes = {name.removesuffix("zarr.json").rstrip("/"): json.loads(data) for name, data in files.items()}
    for node in nodes.values():
        if node["node_type"] == "group":
            node["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": {}}
    root = nodes.pop("")
    root["consolidated_metadata"]["metadata"] = dict(sorted(nodes.items()))
    return json.dumps(root, indent=2).encode()


def files_of(dataset: xr.Dataset, name: str) -> Iterator[tuple[str, bytes]]:
    """The files of a Dataset as a group of that name, one after the other."""
    kept: dict[str, Buffer] = {}
    dataset.to_zarr(MemoryStore(kept), zarr_format=3, consolidated=False)
    for key in sorted(kept):
        yield f"{name}/{key}", kept[key].to_bytes()
