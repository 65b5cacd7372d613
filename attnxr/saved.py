"""Encodings and neighbours in one file, and back from any file that holds them: NetCDF, or Zarr in a zip."""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Hashable
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import h5netcdf
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr import checking, plausible, schema, texts
from attnxr.errors import InputError
from attnxr.packed import PACKED, pack, unpack

GROUPS = ("encodings", "neighbors")
MOST_BYTES = 1 << 30
"""What the arrays of a file may take once they are unpacked."""
_MOST_MEMORY = 5 << 30  # of the process that reads a stranger's file, its libraries included
_MOST_ENTRIES = 10_000  # of a zip
_MOST_DIRECTORY = 2 << 20  # bytes of a zip's list of its entries
_MOST_JSON = 8 << 20  # bytes of all that describes a Zarr store
_MOST_CHUNK = 256 << 20  # bytes of a piece of an array, unpacked
_MOST_STRING = 4096  # characters of a token
_MOST_GROUPS = 8  # of a zip; ours has three
_REFUSED = 3  # what that process returns where there is a message
_SPECS = {"encodings": schema.ENCODINGS, "neighbors": schema.NEIGHBORS}
_TELLING = {"encodings": "head_encoding", "neighbors": "neighbor_id"}
_WORDS, _NUMBERS = ("model", "fingerprint"), ("causal", "truncated")
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
_SAID = ("long_name", "units", "description")
_END, _LOCATOR = b"PK\x05\x06", b"PK\x06\x07"
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
    def either(self) -> xr.Dataset:
        """One of them, for what both say: the model, the text, its tokens."""
        return self.encodings if self.encodings is not None else self.neighbors  # type: ignore[return-value]

    @property
    def attrs(self) -> dict[str, Any]:
        """Attrs of one of them: the model, its fingerprint, the text."""
        return dict(self.either.attrs)


def write(encodings: xr.Dataset, neighbors: xr.Dataset) -> bytes:
    """Put both Datasets into one NetCDF file.

    Parameters
    ----------
    encodings, neighbors : xr.Dataset
        What `Model.encode` and `Model.neighbors` returned.

    Returns
    -------
    bytes
        A NetCDF-4 file with the groups ``encodings`` and ``neighbors``, numbers compressed without loss, and each of
        the neighbours' tokens once: `read` puts it together again, and so does
        ``attnxr.saved.unpack(xarray.open_dataset(file, group="neighbors"))``.
    """
    groups = _groups(encodings, neighbors)
    compressed = {"zlib": True, "complevel": 1, "shuffle": True}
    encoding = {
        f"/{group}": {
            name: compressed for name, each in dataset.data_vars.items() if each.dtype.kind in "fib" and each.ndim
        }
        for group, dataset in groups.items()
    }
    return bytes(xr.DataTree.from_dict(groups).to_netcdf(engine="h5netcdf", encoding=encoding))


def _groups(encodings: xr.Dataset | None, neighbors: xr.Dataset | None) -> dict[str, xr.Dataset]:
    """The groups of a file that holds those Datasets that are there."""
    groups = {"encodings": encodings, "neighbors": None if neighbors is None else pack(neighbors)}
    return {group: dataset.drop_encoding() for group, dataset in groups.items() if dataset is not None}


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
    if path.is_dir():
        corpus = (path / "attnxr" / "plan.json").is_file()
        advice = "Open a corpus with attnxr.open_corpus(path)." if corpus else _EXPECTED + "."
        raise InputError(f"{str(path)!r} is a folder{', of a corpus' if corpus else ''}. {advice}")
    with path.open("rb") as file:
        begins = file.read(8)
    try:
        if begins == _NETCDF:
            found = _read_netcdf(path)
        elif begins[:4] == _ZIP:
            found = _read_zarr(path)
        elif begins[:3] == b"CDF":
            raise InputError(
                "The file is of NetCDF 3. Open it with xarray, ds = xr.open_dataset(path), and give that to the "
                "analyses; or save it with format='NETCDF4'."
            )
        else:
            raise InputError(
                f"The file begins with {begins!r}, which is neither NetCDF-4 (HDF5) nor a zip. {_EXPECTED}."
            )
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a broken file breaks in many ways, each with an exception of its own
        raise InputError(f"The file cannot be read ({type(error).__name__}: {error!s:.200}). {_EXPECTED}.") from error
    if not found:
        raise InputError(f"The file has neither 'head_encoding' nor 'neighbor_id' in it. {_EXPECTED}.")
    saved = Saved(found.get("encodings"), found.get("neighbors"))
    _check(saved)
    return saved


def read_apart(path: str | Path, seconds: float = 60) -> Saved:
    """As `read`, after a process of its own, with limited memory and time, has come through it.

    For files from strangers: what brings the HDF5 library down, or makes it swell, brings down that process only. What
    is given is read from a file that that process wrote of what it had read, never from the stranger's.

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
    with tempfile.TemporaryDirectory(prefix="attnxr-") as folder:
        again = Path(folder) / "read.nc"
        command = [sys.executable, "-m", "attnxr.saved", str(path), str(again)]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise InputError(
                f"Reading the file took more than {seconds:g} seconds and was ended. {_EXPECTED}."
            ) from None
        if done.returncode == _REFUSED:
            raise InputError(done.stdout.decode(errors="replace"))
        if done.returncode:
            raise InputError(
                f"Reading the file brought its reader down, or took more memory than the {_MOST_MEMORY >> 30} GiB it "
                f"may. {_EXPECTED}."
            )
        return read(again)


def _read_netcdf(path: Path) -> dict[str, xr.Dataset]:
    with h5netcdf.File(path, "r", phony_dims="access") as file:
        groups = [None, *(group for group in GROUPS if group in file.groups)]
        for group in groups:
            for variable in (file if group is None else file[group]).variables.values():
                item = variable.dtype.itemsize if isinstance(variable.dtype, np.dtype) else 8
                _check_chunk(variable.chunks, item, variable.name)
    found: dict[str, xr.Dataset] = {}
    for group in groups:
        with xr.open_dataset(path, group=group, engine="h5netcdf", phony_dims="access", decode_cf=False) as stored:
            found |= _loaded(stored)
    return found


def _read_zarr(path: Path) -> dict[str, xr.Dataset]:
    import zarr  # takes a while, and most files are NetCDF

    _check_directory(path)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) > _MOST_ENTRIES:
            raise InputError(f"The zip has {len(entries):,} entries; at most {_MOST_ENTRIES:,} are taken. {_EXPECTED}.")
        _fits(sum(entry.file_size for entry in entries))
        describing = [entry for entry in entries if PurePosixPath(entry.filename).name in _ZARR_METADATA]
        size = sum(entry.file_size for entry in describing)
        if size > _MOST_JSON:
            raise InputError(
                f"The Zarr store's metadata take {size >> 10:,} KiB; at most {_MOST_JSON >> 10:,} KiB are taken. "
                f"{_EXPECTED}."
            )
        groups = []
        for entry in describing:
            path_in = PurePosixPath(entry.filename)
            described = json.loads(archive.read(entry))
            _check_codecs(described)
            if path_in.name in ("zarr.json", ".zarray"):
                _check_zarr_chunk(described, entry.filename)
            if path_in.name == ".zgroup" or (isinstance(described, dict) and described.get("node_type") == "group"):
                groups.append("/".join(path_in.parent.parts))
    if not groups:
        raise InputError(f"The zip has no Zarr store in it. {_EXPECTED}.")
    found: dict[str, xr.Dataset] = {}
    with zarr.storage.ZipStore(path, mode="r", read_only=True) as store:
        for group in sorted(groups, key=len)[:_MOST_GROUPS]:  # the store may lie in a folder of the zip
            with xr.open_zarr(store, group=group, consolidated=False, chunks=None, decode_cf=False) as stored:
                found |= _loaded(stored)
    return found


def _check_directory(path: Path) -> None:
    """Fail where a zip's list of its entries, which Python reads whole, is longer than it may be.

    The last record of the file says how long it is (PKWARE's APPNOTE, 4.3.16); another one before it, of zips beyond
    4 GiB or 65,535 entries, would say otherwise.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16) - 42))
        last = file.read()
    end = len(last) - 22 if last[-22:-18] == _END and last[-2:] == b"\0\0" else last.rfind(_END)
    if end < 0 or len(last) < end + 22:
        raise InputError(f"The file cannot be read: it is a zip without its end. {_EXPECTED}.")
    if last[max(0, end - 20) :][:4] == _LOCATOR or int.from_bytes(last[end + 12 :][:4], "little") > _MOST_DIRECTORY:
        raise InputError(
            f"The zip has a list of entries of more than {_MOST_DIRECTORY >> 20} MiB, or of the form of zips with more "
            f"than 65,535 of them; at most {_MOST_ENTRIES:,} entries are taken. {_EXPECTED}."
        )


def _check_zarr_chunk(described: Any, name: str) -> None:
    """Fail where an array of a Zarr store has pieces larger than they may be; both formats say them in their way."""
    if not isinstance(described, dict):
        return
    grid = described.get("chunk_grid")
    configuration = grid.get("configuration") if isinstance(grid, dict) else None
    shape = configuration.get("chunk_shape") if isinstance(configuration, dict) else described.get("chunks")
    said = described.get("dtype", described.get("data_type"))
    try:
        item = np.dtype(said).itemsize or 8
    except TypeError:  # strings, and what Zarr itself refuses
        item = 8
    _check_chunk(shape, item, name)


def _check_chunk(shape: Any, item: int, name: str) -> None:
    """Fail where an array's pieces take more, once one is unpacked, than they may."""
    if not isinstance(shape, list | tuple):
        return  # in one piece, as large as the array
    if not all(isinstance(size, int) and size > 0 for size in shape) or prod(shape) * item > _MOST_CHUNK:
        raise InputError(
            f"{name} is stored in pieces of {shape!s:.80} numbers; a piece may take {_MOST_CHUNK >> 20} MiB unpacked. "
            f"{_EXPECTED}."
        )


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


def _loaded(stored: xr.Dataset) -> dict[str, xr.Dataset]:
    """The Dataset by the name of its group, with what is declared of it and nothing else, once it is known to fit."""
    group = next((group for group, name in _TELLING.items() if name in stored.variables), None)
    if group is None:
        return {}
    declared = _SPECS[group] | (PACKED if group == "neighbors" else {})
    known = {"layer", "head", "kv_head", "rank", "key_position", *schema.TEXT_COORDS, *declared}
    kept = stored.drop_vars([name for name in stored.variables if name not in known])
    _fits(_nbytes(kept))  # before characters are put together into strings, which do not show how long they are
    kept = xr.decode_cf(kept, **_AS_IT_IS)
    kept = kept.set_coords([name for name in (*schema.TEXT_COORDS, *schema.KEY_COORDS) if name in kept.variables])
    strings = 8 * (len(PACKED) - 1) * kept["neighbor_id"].size if "table_id" in kept.variables else 0
    _fits(strings + _nbytes(kept))
    kept = kept.load()
    for name, variable in kept.variables.items():
        most = plausible.MOST_TEXT if name in schema.SOURCE else _MOST_STRING
        if variable.dtype.kind in "OUT" and not all(
            isinstance(each, str) and len(each) <= most for each in variable.values.ravel()
        ):
            raise InputError(f"{name!r} has entries that are no strings, or longer than {most} characters.")
        # What else is said of a variable may be what no file could be written with.
        variable.attrs = {
            said: words for said, words in variable.attrs.items() if said in _SAID and isinstance(words, str)
        }
        if variable.dtype.kind == "f" and not _has_numbers(name, variable.values):
            raise InputError(f"{name!r} has numbers that are infinite or NaN; expected what attnxr computed.")
    return {group: unpack(kept)}


def _has_numbers(name: Hashable, values: NDArray[np.floating]) -> bool:
    """Whether all are finite; but a gate is NaN where the head encoding, which it is read off from, is 0."""
    return bool((np.isfinite(values) | (np.isnan(values) & (name == "gate"))).all())


def _nbytes(dataset: xr.Dataset) -> int:
    """What a Dataset takes once it is loaded, its numbers as Python's own where they are compared one by one."""
    return sum(
        each.size * max(each.dtype.itemsize, 1 if each.dtype.kind == "S" else 8) for each in dataset.variables.values()
    )


def _fits(size: int) -> None:
    if size > MOST_BYTES:
        raise InputError(
            f"What the file holds takes {size >> 20:,} MiB unpacked; at most {MOST_BYTES >> 20:,} MiB are taken. Save "
            "a shorter text, or leave out what is not needed: drop_vars('attention')."
        )


def _check(saved: Saved) -> None:
    """Fail unless both are as declared, and of the same texts."""
    for group, dataset in (("encodings", saved.encodings), ("neighbors", saved.neighbors)):
        if dataset is None:
            continue
        several = len(texts.token_ids(dataset, f"The {group}")) > 1 or "text_id" in dataset.coords
        needed = ["layer", *schema.TOKEN_COORDS, *(schema.SEVERAL_TEXTS if several else ()), _TELLING[group]]
        if missing := [name for name in needed if name not in dataset.variables]:
            raise InputError(f"The {group} in the file have no {missing[0]!r}. {_EXPECTED}.")
        schema.validate(dataset, schema.only_dims(_SPECS[group], dataset.dims))
        for name, kind in _ATTRS[group].items():
            value = dataset.attrs.get(name)
            if not isinstance(value, kind):
                raise InputError(f"The {group} in the file have attrs[{name!r}] {value!r:.80}. {_EXPECTED}.")
        checking.tokens(dataset, f"The {group} in the file")
        texts.token_types(dataset)
        texts.sources(dataset)
        plausible.check(dataset, f"The {group} in the file")
    if saved.encodings is not None and saved.neighbors is not None:
        plausible.check_together(saved.encodings, saved.neighbors)


def _limit_memory() -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))


def _main(path: str, again: str) -> int:
    _limit_memory()
    try:
        saved = read(path)
        xr.DataTree.from_dict(_groups(saved.encodings, saved.neighbors)).to_netcdf(again, engine="h5netcdf")
    except InputError as error:
        sys.stdout.buffer.write(str(error).encode())
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
