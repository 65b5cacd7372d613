"""The first pass over a corpus: texts become tokens, which are written with the plan of all that follows."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnxr import schema
from attnxr.corpus import arrays
from attnxr.corpus.arrays import Array
from attnxr.corpus.mixing import INCREMENT, mixed
from attnxr.corpus.plan import PLAN, Options, Plan, needs
from attnxr.corpus.schema import FILL, KEPT, TOKENS
from attnxr.corpus.storage import Storage
from attnxr.corpus.written import Files
from attnxr.errors import InputError
from attnxr.query.batches import Batches

_FILE = 1 << 16  # numbers in a file of the tokens
_CHUNK = 1024  # positions that are read at once of what is kept, or fewer
_VERSIONS = ("attnxr", "numba", "numpy", "torch", "transformers")


class _Spool:
    """Numbers as they come, on the disk: a corpus may have more tokens than fit into memory."""

    def __init__(self, dtype: str, folder: Any):
        self.dtype = np.dtype(dtype)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it has no name, and goes with this process
        self.size = 0

    def add(self, numbers: list[int]) -> None:
        self._file.write(np.array(numbers, self.dtype).tobytes())
        self.size += len(numbers)

    def parts(self) -> Iterator[NDArray[Any]]:
        """What was added, as much at a time as a file of the store has."""
        self._file.flush()
        whole = np.memmap(self._file, self.dtype, "r", shape=(self.size,))
        for start in range(0, self.size, _FILE):
            yield whole[start : start + _FILE]

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, eq=False)
class _Read:
    """What the first pass found."""

    digest: str
    tokens: _Spool
    types: _Spool
    row_size: _Spool
    cut: _Spool
    errors: dict[str, str]
    typed: bool


def settings(batches: Batches, model: Any, options: Options, texts: dict[str, Any]) -> dict[str, Any]:
    """All that decides what numbers a corpus has, as JSON holds it."""
    return {
        "model": {
            "name": model.name,
            "fingerprint": model.fingerprint,
            "dtype": str(model.hf_model.dtype).removeprefix("torch."),
            "device": model.hf_model.device.type,
            "n_heads": model.n_heads,
            "head_size": model.head_size,
            "vocab_size": batches.names.size,
            "causal": batches.causal,
        },
        "options": options.as_json(),
        "texts": texts,
        "versions": {name: version(name) for name in _VERSIONS},
    }


class _Digest:
    """A hash of texts in their order, and how many there are."""

    def __init__(self) -> None:
        self.count = 0
        self._hash = hashlib.sha256()

    def add(self, text: str) -> None:
        data = str(text).encode("utf-8", "surrogatepass")
        self._hash.update(len(data).to_bytes(8, "little") + data)
        self.count += 1

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def told_of(texts: Iterable[str], reading: Callable[[int], None] | None) -> Iterator[str]:
    """The texts; after each of them, `reading` is told how many that makes."""
    for number, text in enumerate(texts, 1):
        yield text
        if reading is not None:
            reading(number)


def identity_of(texts: Iterable[str]) -> dict[str, Any]:
    """What tells a list of texts from others: how many, and their hash."""
    digest = _Digest()
    for text in texts:
        digest.add(text)
    return {"count": digest.count, "sha256": digest.hexdigest()}


def make(
    storage: Storage,
    texts: Iterable[str],
    record: dict[str, Any],
    batches: Batches,
    model: Any,
    options: Options,
) -> None:
    """Read all texts, write them as tokens, and then the plan.

    Parameters
    ----------
    storage : Storage
        With no corpus in it.
    texts : iterable of str
    record : dict
        What is known of where they come from.
    batches : Batches
    model : attnxr.Model
    options : Options

    Raises
    ------
    InputError
        If there are no texts, or none could be read.
    """
    folder = getattr(storage, "path", None)
    spools = [_Spool("i4", folder), _Spool("i4", folder), _Spool("i8", folder), _Spool("i8", folder)]
    try:
        read = _read(texts, batches, options.truncate, *spools)
        count, n_tokens = read.row_size.size, read.tokens.size
        if not n_tokens:
            why = f": {next(iter(read.errors.values()))}" if read.errors else "."
            raise InputError(f"{count} texts were given, of which none could be read{why} Expected at least one text.")
        found = settings(batches, model, options, {"count": count, "sha256": read.digest, "source": record})
        files = Files(storage)
        _write_tokens(files, found, read, batches)
        if options.keep:
            _declare_results(files, found, options, n_tokens, model.head_size)
        first_text, first_position = _units(read.row_size, n_tokens, options.unit_tokens)
        sample = _sample(read.row_size, options) if "sample" in needs(options) else []
        plan: dict[str, Any] = {
            "settings": found,
            "n_texts": count,
            "n_tokens": n_tokens,
            "first_text": first_text,
            "first_position": first_position,
            "sample": sample,
            "typed": read.typed,
            "errors": read.errors,
            "files": files.digests,
        }
        assert {*plan, "store", "identity"} == {field.name for field in fields(Plan)}
        storage.put_whole(PLAN, json.dumps(plan, indent=1, sort_keys=True).encode())
    finally:
        for spool in spools:
            spool.close()


def _read(
    texts: Iterable[str],
    batches: Batches,
    truncate: bool,
    tokens: _Spool,
    types: _Spool,
    row_size: _Spool,
    cut: _Spool,
) -> _Read:
    errors: dict[str, str] = {}
    typed = False
    digest = _Digest()
    for number, text in enumerate(texts):
        digest.add(text)
        try:
            found = batches.read(text, truncate)
        except InputError as error:
            errors[str(number)] = str(error)
            row_size.add([0])
            cut.add([0])
            continue
        tokens.add(found.ids)
        types.add(found.types or [-1] * len(found.ids))
        typed = typed or bool(found.types)
        row_size.add([len(found.ids)])
        cut.add([found.cut])
    return _Read(digest.hexdigest(), tokens, types, row_size, cut, errors, typed)


def _write_tokens(files: Files, found: dict[str, Any], read: _Read, batches: Batches) -> None:
    n_tokens, count = read.tokens.size, read.row_size.size
    of_model, options = found["model"], found["options"]
    about = {
        "model": of_model["name"],
        "fingerprint": of_model["fingerprint"],
        "causal": int(of_model["causal"]),
        **{f"{name}_version": found["versions"][name] for name in ("attnxr", "torch", "transformers")},
    }
    arrays.group(files.put, "", {"Conventions": "CF-1.11", **about, "units": -(-n_tokens // options["unit_tokens"])})
    arrays.group(files.put, "tokens", about)
    special = batches.names.special
    lines: dict[str, tuple[int, Iterator[NDArray[Any]]]] = {
        "token_id": (n_tokens, read.tokens.parts()),
        "is_special": (n_tokens, (special[part] for part in read.tokens.parts())),
        "text_id": (n_tokens, (text for text, _ in _places(read.row_size, n_tokens))),
        "text_position": (n_tokens, (place for _, place in _places(read.row_size, n_tokens))),
        "row_size": (count, read.row_size.parts()),
        "cut": (count, read.cut.parts()),
        "vocab_token": (batches.names.size, iter([batches.names.token])),
        "vocab_text": (batches.names.size, iter([batches.names.text])),
    }
    if read.typed:
        lines["token_type_id"] = n_tokens, read.types.parts()
    for name, (n, parts) in lines.items():
        array = line(name, n)
        array.declare(files.put)
        for i, part in enumerate(parts):
            files.put(*array.encoded([i], part))
    line("error", count).declare(files.put)


def line(name: str, n: int) -> Array:
    """The array of a variable of the tokens, n numbers or strings long."""
    spec = TOKENS[name]
    size = max(n, 1) if spec.dims == ("vocab",) else min(max(n, 1), _FILE)
    more = {"sample_dimension": "position"} if name == "row_size" else {}
    fill: Any = "" if spec.dtype == "str" else np.zeros((), spec.dtype).item()
    return Array(f"tokens/{name}", (n,), spec.dtype, (size,), (size,), spec.dims, spec.attrs | more, fill)


def _places(row_size: _Spool, n_tokens: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Text and place in it of each token, as many tokens at a time as a file has."""
    text, place = np.empty(0, np.int64), np.empty(0, np.int64)
    done = 0
    for sizes in row_size.parts():
        for some in np.array_split(sizes, -(-len(sizes) // 1024)):  # which may have many tokens
            numbers = np.repeat(np.arange(done, done + len(some)), some)
            starts = np.cumsum(some) - some
            places = np.arange(some.sum()) - np.repeat(starts, some)
            text, place = np.concatenate([text, numbers]), np.concatenate([place, places])
            done += len(some)
            while len(text) >= _FILE:
                yield text[:_FILE], place[:_FILE]
                text, place = text[_FILE:], place[_FILE:]
    if len(text):
        yield text, place


def _declare_results(files: Files, found: dict[str, Any], options: Options, n_tokens: int, head_size: int) -> None:
    of_model = found["model"]
    about = {
        "model": of_model["name"],
        "fingerprint": of_model["fingerprint"],
        "causal": int(of_model["causal"]),
        "metric": options.metric,
        "of": "encoding",
        "space": "value",
        "vocab_layer": options.vocab_layer,
        "positional": int(options.positional),
        "vocab_size": of_model["vocab_size"],
        "k": options.k,
    }
    arrays.group(files.put, "results", about)
    for array in kept(options, n_tokens, head_size).values():
        array.declare(files.put)
    labels = {"layer": options.keep_layers, "head": options.keep_heads}
    if {"neighbor_id", "distance", "in_sequence"} & set(options.keep):
        labels["rank"] = tuple(range(1, options.k + 1))
    for name, values in labels.items():
        n = len(values)
        array = Array(f"results/{name}", (n,), "int64", (n,), (n,), (name,), schema.AXES[name].attrs, 0)
        array.declare(files.put)
        files.put(*array.encoded([0], np.array(values)))


def kept(options: Options, n_tokens: int, head_size: int) -> dict[str, Array]:
    """The arrays of what is kept token by token; a file is what a unit has of it."""
    size = options.unit_tokens
    some = next(n for n in range(min(size, _CHUNK), 0, -1) if size % n == 0)
    found = {}
    for name in options.keep:
        spec = KEPT[name]
        last = {"rank": options.k, "feature": head_size}.get(spec.dims[-1])
        more = () if last is None else (last,)
        layers, heads = len(options.keep_layers), len(options.keep_heads)
        fill = FILL.get(name, "NaN")
        found[name] = Array(
            f"results/{name}",
            (layers, heads, n_tokens, *more),
            spec.dtype,
            (layers, heads, size, *more),
            (1, 1, some, *more),
            spec.dims,
            spec.attrs,
            fill,
        )
    return found


def _units(row_size: _Spool, n_tokens: int, unit_tokens: int) -> tuple[list[int], list[int]]:
    """`Plan.first_text` and `Plan.first_position`."""
    bounds = np.arange(0, n_tokens, unit_tokens)
    texts, positions = np.zeros(len(bounds), np.int64), np.full(len(bounds), -1)
    start = 0
    for sizes in row_size.parts():
        starts = start + np.cumsum(sizes) - sizes
        start += int(sizes.sum())
        index = np.searchsorted(starts, bounds)
        texts += index
        here = (index < len(starts)) & (positions < 0)
        positions[here] = starts[index[here]]
    positions[positions < 0] = n_tokens
    return [*texts.tolist(), row_size.size], [*positions.tolist(), n_tokens]


def _sample(row_size: _Spool, options: Options) -> list[int]:
    """The texts with the smallest hashes, of those that could be read, ascending."""
    best: NDArray[np.int64] = np.empty(0, np.int64)
    done = 0
    for sizes in row_size.parts():
        here = done + np.flatnonzero(sizes)
        done += len(sizes)
        some = np.concatenate([best, here])
        order = np.argsort(hash_of(some, options.seed), kind="stable")
        best = some[order[: options.sample]]
    return sorted(best.tolist())


def hash_of(numbers: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """A hash of each number, 64 bits, that is another one for each seed: SplitMix64."""
    x = numbers.astype(np.uint64) + np.uint64(seed % 2**64) * np.uint64(0xD1342543DE82EF95)
    return mixed((x + np.uint64(1)) * INCREMENT)
