"""Encodings and neighbours in one file, and back from any file that holds them: NetCDF, or Zarr in a zip."""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import h5netcdf
import numpy as np
import xarray as xr

from attnxr import schema
from attnxr.errors import InputError

GROUPS = ("encodings", "neighbors")
MOST_BYTES = 1 << 30
"""What the arrays of a file may take once they are unpacked."""
_MOST_MEMORY = 5 << 30  # of the process that reads a stranger's file, its libraries included
_MOST_STRING = 4096  # characters of a token
_MOST_GROUPS = 8  # of a zip; ours has three
_REFUSED = 3  # what that process returns where there is a message
_SPECS = {"encodings": schema.ENCODINGS, "neighbors": schema.NEIGHBORS}
_TELLING = {"encodings": "encoding", "neighbors": "neighbor_id"}
_WORDS, _NUMBERS = ("model", "fingerprint", "text", "token_ids"), ("causal", "truncated")
_ATTRS: dict[str, dict[str, Any]] = {
    "encodings": dict.fromkeys(_WORDS, str) | dict.fromkeys(_NUMBERS, (int, np.integer)),
    "neighbors": dict.fromkeys((*_WORDS, "metric", "of", "space"), str)
    | dict.fromkeys((*_NUMBERS, "positional", "vocab_size"), (int, np.integer)),
}
# Numbers as they are stored: no dates are made of them, whatever units the file claims.
_AS_IT_IS: Any = {"decode_times": False, "decode_timedelta": False}
_ZARR_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
_CODECS = {
    *("blosc", "bytes", "bz2", "crc32c", "delta", "gzip", "lz4", "shuffle", "sharding_indexed", "transpose"),
    *("vlen-utf8", "zlib", "zstd"),
}
_NETCDF, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
_EXPECTED = "Expected a NetCDF file (or a Zarr store in a zip) of what Model.encode and Model.neighbors return"


@dataclass(frozen=True, eq=False)
class Saved:
    """What a file holds.

    Attributes
    ----------
    encodings, neighbors : xr.Dataset or None
        As `Model.encode` and `Model.neighbors` returned them; at least one is there.
    """

    encodings: xr.Dataset | None
    neighbors: xr.Dataset | None

    @property
    def attrs(self) -> dict[str, Any]:
        """Attrs of one of them: the model, its fingerprint, the text."""
        return dict((self.encodings if self.encodings is not None else self.neighbors).attrs)  # type: ignore[union-attr]


def write(encodings: xr.Dataset, neighbors: xr.Dataset) -> bytes:
    """Put both Datasets into one NetCDF file.

    Parameters
    ----------
    encodings, neighbors : xr.Dataset
        What `Model.encode` and `Model.neighbors` returned.

    Returns
    -------
    bytes
        A NetCDF-4 file with the groups ``encodings`` and ``neighbors``, numbers compressed without loss:
        ``xarray.open_dataset(file, group="neighbors")``.
    """
    with tempfile.TemporaryDirectory(prefix="attnxr-") as folder:
        path = Path(folder) / "saved.nc"
        for group, dataset in zip(GROUPS, (encodings, neighbors), strict=True):
            packed = {"zlib": True, "complevel": 1, "shuffle": True}
            numbers = [name for name, each in dataset.data_vars.items() if each.dtype.kind in "fib" and each.ndim]
            encoding = dict.fromkeys(numbers, packed)
            bare = dataset.drop_encoding()
            bare.to_netcdf(path, mode="a" if path.exists() else "w", group=group, engine="h5netcdf", encoding=encoding)
        return path.read_bytes()


def read(path: str | Path) -> Saved:
    """Read what `write` wrote, or what ``to_netcdf`` or ``to_zarr`` made of either Dataset, the store in a zip.

    Nothing in the file is run, and no more is unpacked than `MOST_BYTES`.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Saved
        Loaded, and as the schema declares it.

    Raises
    ------
    InputError
        If it is no such file, or too large, or what is in it is not as declared.
    """
    path = Path(path)
    with path.open("rb") as file:
        begins = file.read(8)
    try:
        if begins == _NETCDF:
            found = _read_netcdf(path)
        elif begins[:4] == _ZIP:
            found = _read_zarr(path)
        else:
            raise InputError(
                f"The file begins with {begins!r}, which is neither NetCDF-4 (HDF5) nor a zip. {_EXPECTED}."
            )
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a broken file breaks in many ways, each with an exception of its own
        raise InputError(f"The file cannot be read ({type(error).__name__}: {error!s:.200}). {_EXPECTED}.") from error
    if not found:
        raise InputError(f"The file has neither 'encoding' nor 'neighbor_id' in it. {_EXPECTED}.")
    saved = Saved(found.get("encodings"), found.get("neighbors"))
    _check(saved)
    return saved


def read_apart(path: str | Path, seconds: float = 60) -> Saved:
    """As `read`, after a process of its own, with limited memory and time, has come through it.

    For files from strangers: what brings the HDF5 library down, or makes it swell, brings down that process only.

    Parameters
    ----------
    path : str or Path
    seconds : float
        How long it may take.

    Raises
    ------
    InputError
        As `read`; or if the process did not come through.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "attnxr.saved", str(path)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(f"Reading the file took more than {seconds:g} seconds and was ended. {_EXPECTED}.") from None
    if done.returncode == _REFUSED:
        raise InputError(done.stdout.decode(errors="replace"))
    if done.returncode:
        raise InputError(
            f"Reading the file brought its reader down, or took more memory than the {_MOST_MEMORY >> 30} GiB it may. "
            f"{_EXPECTED}."
        )
    return read(path)


def _read_netcdf(path: Path) -> dict[str, xr.Dataset]:
    with h5netcdf.File(path, "r", phony_dims="access") as file:
        groups = [None, *(group for group in GROUPS if group in file.groups)]
    found: dict[str, xr.Dataset] = {}
    for group in groups:
        with xr.open_dataset(path, group=group, engine="h5netcdf", phony_dims="access", **_AS_IT_IS) as opened:
            found |= _loaded(opened)
    return found


def _read_zarr(path: Path) -> dict[str, xr.Dataset]:
    import zarr  # takes a while, and most files are NetCDF

    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _fits(sum(entry.file_size for entry in entries))
        groups = []
        for entry in entries:
            path_in = PurePosixPath(entry.filename)
            if path_in.name in _ZARR_METADATA:
                described = json.loads(archive.read(entry))
                _check_codecs(described)
                if path_in.name == ".zgroup" or (isinstance(described, dict) and described.get("node_type") == "group"):
                    groups.append("/".join(path_in.parent.parts))
    if not groups:
        raise InputError(f"The zip has no Zarr store in it. {_EXPECTED}.")
    found: dict[str, xr.Dataset] = {}
    with zarr.storage.ZipStore(path, mode="r", read_only=True) as store:
        for group in sorted(groups, key=len)[:_MOST_GROUPS]:  # the store may lie in a folder of the zip
            with xr.open_zarr(store, group=group, consolidated=False, chunks=None, **_AS_IT_IS) as opened:
                found |= _loaded(opened)
    return found


def _check_codecs(metadata: Any) -> None:
    """Let only those codecs unpack that unpack numbers and strings: Zarr also has one that runs code (pickle)."""
    if isinstance(metadata, dict):
        for key, value in metadata.items():
            if key in ("codecs", "index_codecs", "filters", "compressor"):
                for codec in value if isinstance(value, list) else [value] if value else []:
                    name = codec.get("name", codec.get("id")) if isinstance(codec, dict) else codec
                    if name not in _CODECS:
                        raise InputError(
                            f"The Zarr store asks for the codec {name!r}, which is not unpacked here. Expected one of "
                            f"{', '.join(sorted(_CODECS))}, such as to_zarr writes."
                        )
            _check_codecs(value)
    elif isinstance(metadata, list):
        for value in metadata:
            _check_codecs(value)


def _loaded(opened: xr.Dataset) -> dict[str, xr.Dataset]:
    """The Dataset by the name of its group, with what is declared of it and nothing else, once it is known to fit."""
    group = next((group for group, name in _TELLING.items() if name in opened.variables), None)
    if group is None:
        return {}
    known = {"layer", "head", "kv_head", "rank", *schema.TOKEN_COORDS, *schema.SEVERAL_TEXTS, *_SPECS[group]}
    kept = opened.drop_vars([name for name in opened.variables if name not in known])
    _fits(sum(variable.size * max(variable.dtype.itemsize, 8) for variable in kept.variables.values()))
    kept = kept.load()
    for name, variable in kept.variables.items():
        if variable.dtype.kind in "OUT" and not all(
            isinstance(each, str) and len(each) <= _MOST_STRING for each in variable.values.ravel()
        ):
            raise InputError(f"{name!r} has entries that are no strings, or longer than {_MOST_STRING} characters.")
        if variable.dtype.kind == "f" and not np.isfinite(variable.values).all():
            raise InputError(f"{name!r} has numbers that are infinite or NaN; expected what attnxr computed.")
    return {group: kept}


def _fits(size: int) -> None:
    if size > MOST_BYTES:
        raise InputError(
            f"What the file holds takes {size >> 20:,} MiB unpacked; at most {MOST_BYTES >> 20:,} MiB are taken. Save "
            "a shorter text, or leave out what is not needed: drop_vars('attention')."
        )


def _check(saved: Saved) -> None:
    """Fail unless both are as declared, and of the same text."""
    for group, dataset in (("encodings", saved.encodings), ("neighbors", saved.neighbors)):
        if dataset is None:
            continue
        needed = [name for name in ("layer", *schema.TOKEN_COORDS, _TELLING[group]) if name not in dataset.variables]
        if needed:
            raise InputError(f"The {group} in the file have no {needed[0]!r}. {_EXPECTED}.")
        schema.validate(dataset, schema.only_dims(_SPECS[group], dataset.dims))
        for name, kind in _ATTRS[group].items():
            value = dataset.attrs.get(name)
            if not isinstance(value, kind):
                raise InputError(f"The {group} in the file have attrs[{name!r}] {value!r:.80}. {_EXPECTED}.")
        _check_token_ids(group, dataset)
        schema.token_types(dataset)
    if saved.encodings is not None and saved.neighbors is not None:
        for name in ("fingerprint", "token_ids", "token_type_ids", "causal", "text"):
            if saved.encodings.attrs.get(name) != saved.neighbors.attrs.get(name):
                raise InputError(f"The encodings and the neighbours in the file differ in attrs[{name!r}].")
        for name in ("layer", *schema.TOKEN_COORDS):
            if not saved.encodings[name].equals(saved.neighbors[name]):
                raise InputError(f"The encodings and the neighbours in the file differ in {name!r}.")


def _check_token_ids(group: str, dataset: xr.Dataset) -> None:
    try:
        texts = json.loads(dataset.attrs["token_ids"])
        ids = [id for text in texts for id in text]
    except (ValueError, TypeError, RecursionError):
        raise InputError(f"The {group} in the file have attrs['token_ids'] that are no lists of numbers.") from None
    if "text_id" in dataset.coords:
        return
    places, found = (np.atleast_1d(dataset[name].values).tolist() for name in ("position", "token_id"))
    if not all(0 <= place < len(ids) for place in places) or found != [ids[place] for place in places]:
        raise InputError(f"The {group} in the file have other token ids than their attrs say.")


def _limit_memory() -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))


def _main(path: str) -> int:
    _limit_memory()
    try:
        read(path)
    except InputError as error:
        sys.stdout.buffer.write(str(error).encode())
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
