"""Texts for a corpus, one at a time: from an iterable, files, a Hugging Face dataset, or what Python itself ships."""

import json
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from os import PathLike, fspath
from pathlib import PurePosixPath
from typing import Any

from attnxr.checking import choice, whole_number
from attnxr.errors import InputError
from attnxr.options import SPLITS, Split

PYDOC = "pydoc"
_TEXT = (".txt", ".text", ".md", ".rst")
_JSON_LINES = (".jsonl", ".ndjson")
_PARQUET = (".parquet",)
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")  # by which fsspec infers how to read a file
_AT_ONCE = 256  # rows of a table, so that memory stays the same however long it is


@dataclass(frozen=True)
class Source:
    """Texts in an order that does not change, and what is known of where they come from.

    Attributes
    ----------
    record : dict
        What JSON can hold: the kind of source, the names and sizes of its files, the fingerprint or revision of a
        dataset. It is kept in the store; what the texts themselves were, their tokens tell.
    """

    record: dict[str, Any]
    _read: Callable[[], Iterator[str]]

    def __iter__(self) -> Iterator[str]:
        return self._read()


@dataclass(frozen=True)
class _File:
    """A file that may be far away or compressed."""

    name: str
    opened: Any  # fsspec's OpenFile, which can be entered again and again
    size: int | None


def texts_of(texts: Any, *, field: str = "text", split: Split = "line", limit: int | None = None) -> Source:
    """Texts for `build_corpus`, from any source; they are read when it is iterated, and never all at once.

    Parameters
    ----------
    texts : path, URL, iterable of str or Hugging Face dataset
        What a path or URL names is told by its ending:

        - ``.txt``, ``.text``, ``.md``, ``.rst``: text in UTF-8, see `split`. Lines that are blank are no texts.
        - ``.jsonl``, ``.ndjson``: JSON lines, an object a line.
        - ``.parquet``: a table, read by pyarrow (of the extra ``corpus``).

        ``.gz``, ``.bz2``, ``.xz`` or ``.zst`` may follow. ``*`` in it stands for anything: ``"shards/*.jsonl.gz"`` is
        all of them, in the order of their names. URLs are what fsspec knows: ``s3://…``, ``https://…``, ``hf://…``.
        ``"pydoc"`` is the paragraphs of the language reference that ``help()`` shows, which come with Python.

        An iterable is iterated once, from its beginning: one that can only be iterated once, such as a generator, has
        to be made anew for each call. Of a dataset (one split of it, streaming or not) the fingerprint and the
        revision on the hub are recorded; a streaming one is read from its beginning.
    field : str
        The field of JSON lines, or the column of a table, that holds a text.
    split : {"line", "paragraph"}
        What one text of a text file is. A line, or lines up to the next blank one.
    limit : int, optional
        How many texts to take at most, from the first; by default all.

    Returns
    -------
    Source
        Iterable of str, with `record`.

    Raises
    ------
    InputError
        If `texts` is none of these, or a file is not there or is of another kind. While it is iterated: if a line,
        row or item is not what was expected; the message names the file and the line.

    Examples
    --------
    >>> import attnxr
    >>> source = attnxr.texts_of("pydoc")
    >>> source.record["kind"]
    'pydoc_data.topics'
    >>> next(iter(source))
    'The "assert" statement'
    >>> len(list(attnxr.texts_of("pydoc", limit=20)))
    20
    """
    choice("split", split, SPLITS)
    if not isinstance(field, str) or not field:
        raise InputError(f"field={field!r} was given; expected the name of a field, such as 'text'.")
    source = _found(texts, field, split)
    if limit is None:
        return source
    first = whole_number("limit", limit, 1)
    return Source({**source.record, "limit": first}, partial(islice, source, first))


def _found(texts: Any, field: str, split: Split) -> Source:
    if isinstance(texts, Source):
        return texts
    if isinstance(texts, str | PathLike):
        path = fspath(texts)
        return _pydoc() if path == PYDOC else _of_files(path, field, split)
    library = sys.modules.get("datasets")  # who has a dataset has imported it
    if library is not None and isinstance(texts, library.Dataset | library.IterableDataset):
        return _of_dataset(texts, field)
    if library is not None and isinstance(texts, library.DatasetDict | library.IterableDatasetDict):
        one = f", such as dataset[{next(iter(texts))!r}]" if texts else ""
        raise InputError(f"Several splits of a dataset were given ({type(texts).__name__}); expected one{one}.")
    if isinstance(texts, Mapping | bytes) or not isinstance(texts, Iterable):
        raise InputError(
            f"texts={texts!r:.80} was given; expected an iterable of texts (str), a path or URL of a file "
            f"({', '.join(_TEXT + _JSON_LINES + _PARQUET)}), or a Hugging Face dataset."
        )
    return Source({"kind": "iterable"}, partial(_items, texts))


def _items(texts: Iterable[Any]) -> Iterator[str]:
    for i, text in enumerate(texts):
        yield _checked(text, f"texts, item {i} (from 0)")


def _checked(text: Any, where: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"{where}: {text!r:.80} was found; expected a text (str).")
    return text


# Files


def _of_files(path: str, field: str, split: Split) -> Source:
    suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes]
    ending = next((suffix for suffix in reversed(suffixes) if suffix not in _COMPRESSED), "")
    files = _files(path, ending)
    told: dict[str, Any]
    if ending in _TEXT:
        kind, told, read = "text", {"split": split}, partial(_text_file, split=split)
    elif ending in _JSON_LINES:
        kind, told, read = "JSON lines", {"field": field}, partial(_json_lines, field=field)
    else:
        kind, told, read = "Parquet", {"field": field}, partial(_parquet, field=field)
        _pyarrow()
    listed = [{"name": PurePosixPath(file.name).name, "bytes": file.size} for file in files]
    return Source({"kind": kind, "files": listed, **told}, partial(_each, files, read))


def _each(files: list[_File], read: Callable[[_File], Iterator[str]]) -> Iterator[str]:
    for file in files:
        yield from read(file)


def _files(path: str, ending: str) -> list[_File]:
    """What a path stands for, in the order of names."""
    import fsspec  # which dask brings

    try:
        opened = fsspec.open_files(path, "rb", compression="infer")
        told = [each.fs.info(each.path) for each in opened]
    except (OSError, ValueError, ImportError) as error:  # no such file, protocol, compression or library, no right
        opened, told, reason = [], [], f" ({error})"
    else:
        reason = ""
    if not opened:
        raise InputError(
            f"texts={path!r} was given, and no such file could be found{reason}. Expected a path or URL of a file, "
            f"{PYDOC!r}, or a list of texts: for a corpus of one text, [text]."
        )
    if any(each.get("type") == "directory" for each in told):
        raise InputError(
            f"texts={path!r} is a folder; expected a file, or a pattern such as {path.rstrip('/') + '/*.jsonl'!r}."
        )
    if ending not in _TEXT + _JSON_LINES + _PARQUET:
        raise InputError(
            f"texts={path!r} was given; what is in it is told by its ending: expected "
            f"{', '.join(_TEXT)} (text), {', '.join(_JSON_LINES)} (JSON lines) or {', '.join(_PARQUET)}, and "
            f"{', '.join(_COMPRESSED)} behind it where it is compressed."
        )
    return [_File(each.path, each, size.get("size")) for each, size in zip(opened, told, strict=True)]


def _lines(file: _File) -> Iterator[tuple[int, str]]:
    """Lines without their ends, and their numbers from 1."""
    number = 0
    try:
        with file.opened as stream:
            for number, line in enumerate(stream, 1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{file.name}, line {number}: expected text in UTF-8 ({error}).") from error
    except (OSError, EOFError) as error:  # damaged compression, a network that fails
        raise InputError(f"{file.name}, after line {number}: the file could not be read on ({error}).") from error


def _text_file(file: _File, split: Split) -> Iterator[str]:
    paragraph: list[str] = []
    for _, line in _lines(file):
        if split == "line":
            if line.strip():
                yield line
        elif line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "\n".join(paragraph)
            paragraph = []
    if paragraph:
        yield "\n".join(paragraph)


def _json_lines(file: _File, field: str) -> Iterator[str]:
    for number, line in _lines(file):
        if not line.strip():
            continue
        where = f"{file.name}, line {number}"
        try:
            found = json.loads(line)
        except ValueError as error:
            raise InputError(f"{where}: expected a JSON object ({error}).") from error
        if not isinstance(found, dict):
            raise InputError(f"{where}: {found!r:.80} was found; expected a JSON object with a text in {field!r}.")
        if field not in found:
            raise InputError(f"{where}: no field {field!r}; {_other_field(found)}.")
        yield _checked(found[field], f"{where}, field {field!r}")


def _parquet(file: _File, field: str) -> Iterator[str]:
    arrow, parquet = _pyarrow()
    with file.opened as stream:
        try:
            table = parquet.ParquetFile(stream, pre_buffer=False)  # it would be read ahead, all of it
        except arrow.ArrowException as error:
            raise InputError(f"{file.name}: expected a Parquet file ({error}).") from error
        if field not in table.schema_arrow.names:
            raise InputError(f"{file.name}: no column {field!r}; {_other_field(table.schema_arrow.names)}.")
        row = 0
        try:
            for batch in table.iter_batches(batch_size=_AT_ONCE, columns=[field]):
                for text in batch.column(0).to_pylist():
                    yield _checked(text, f"{file.name}, row {row} (from 0), column {field!r}")
                    row += 1
        except (arrow.ArrowException, OSError) as error:
            raise InputError(f"{file.name}, after row {row}: the file could not be read on ({error}).") from error


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("Parquet files are read by pyarrow: pip install 'attnxr[corpus]'.") from error
    return pyarrow, pyarrow.parquet


def _other_field(names: Iterable[str]) -> str:
    listed = ", ".join(map(repr, names))
    return f"expected field= to be one of {listed}" if listed else "it has none"


# A dataset of Hugging Face


def _of_dataset(dataset: Any, field: str) -> Source:
    columns = dataset.column_names  # a stream may not know them before it is read
    if columns is not None and field not in columns:
        raise InputError(f"The dataset has no column {field!r}; {_other_field(columns)}.")
    info = dataset.info
    record = {
        "kind": "Hugging Face dataset",
        "name": info.dataset_name,
        "config": info.config_name,
        "version": None if info.version is None else str(info.version),
        "split": None if dataset.split is None else str(dataset.split),
        "revision": _revision(info.download_checksums),
        "fingerprint": getattr(dataset, "_fingerprint", None),
        "field": field,
    }
    return Source({key: value for key, value in record.items() if value is not None}, partial(_rows, dataset, field))


def _revision(checksums: Mapping[str, Any] | None) -> str | None:
    """The commit on the hub that a dataset's files are of: datasets keeps it in their addresses alone."""
    found = {commit for url in checksums or () for commit in re.findall(r"@([0-9a-f]{40})/", url)}
    return found.pop() if len(found) == 1 else None


def _rows(dataset: Any, field: str) -> Iterator[str]:
    row = 0
    if dataset.column_names is not None:
        dataset = dataset.select_columns([field])
    for batch in dataset.with_format(None).iter(batch_size=_AT_ONCE):
        if field not in batch:
            raise InputError(f"The dataset, row {row} (from 0): no column {field!r}; {_other_field(batch)}.")
        for text in batch[field]:
            yield _checked(text, f"The dataset, row {row} (from 0), column {field!r}")
            row += 1


# What comes with Python


def _pydoc() -> Source:
    return Source({"kind": "pydoc_data.topics", "python": platform.python_version()}, _paragraphs_of_topics)


def _paragraphs_of_topics() -> Iterator[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise InputError("This Python comes without pydoc_data.topics; expected another source of texts.") from error
    for name in sorted(topics):
        text = re.sub(r"^[*=~\-]+$\n?", "", topics[name], flags=re.MULTILINE)  # what underlines titles
        yield from (paragraph.strip("\n") for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip())
