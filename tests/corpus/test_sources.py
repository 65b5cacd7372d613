"""Texts come out of every source as they were put in, in order, a few at a time; what is wrong is named by its line."""

from __future__ import annotations

import bz2
import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import attnxr
from attnxr.errors import InputError

TEXTS = [
    "Time flies like an arrow.",
    "Früchte 🍌, 東京",
    "  indented,\twith a tab ",
    "a",
    "One\u2028text\x85 of one\x0cline",
]


def write(folder: Path, name: str, texts: list[str], field: str = "text") -> str:
    path = folder / name
    whole = ""
    if ".jsonl" in name or ".ndjson" in name:
        whole = "".join(json.dumps({"id": i, field: text}) + "\n" for i, text in enumerate(texts))
    elif not name.endswith(".parquet"):
        whole = "".join(text + "\n" for text in texts)
    if name.endswith(".parquet"):
        table = pyarrow.table({"id": range(len(texts)), field: texts})
        pyarrow.parquet.write_table(table, path, row_group_size=500)
    else:
        compress: Any = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)
        path.write_bytes(compress(whole.encode()))
    return str(path)


@pytest.mark.parametrize("name", ["a.txt", "a.b.md", "a.TXT", "a.txt.gz", "a.jsonl", "a.ndjson.bz2", "a.parquet"])
def test_texts_come_out_of_a_file_as_they_were_put_in(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, TEXTS)
    source = attnxr.texts_of(path)
    assert list(source) == TEXTS
    assert list(source) == TEXTS  # and once more, from the beginning
    assert source.record["files"] == [{"name": name, "bytes": Path(path).stat().st_size}]
    assert json.loads(json.dumps(source.record)) == source.record
    assert list(attnxr.texts_of(Path(path))) == TEXTS


def test_a_limit_takes_the_first_and_reads_no_further(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", TEXTS)
    with Path(path).open("a") as file:
        file.write("this is no JSON\n")
    source = attnxr.texts_of(path, limit=3)
    assert list(source) == list(source) == TEXTS[:3]
    assert source.record["limit"] == 3
    assert list(attnxr.texts_of(source, limit=2)) == TEXTS[:2]
    assert list(attnxr.texts_of(TEXTS, limit=99)) == TEXTS
    assert "limit" not in attnxr.texts_of(path).record
    for wrong in (0, True, 2.5):
        with pytest.raises(InputError, match=r"limit=.*expected a whole number, 1 or more"):
            attnxr.texts_of(path, limit=wrong)  # type: ignore[arg-type]


@given(texts=st.lists(st.text(min_size=1), max_size=8))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_goes_through_json_lines_and_parquet(tmp_path: Path, texts: list[str]) -> None:
    texts = [text.encode(errors="ignore").decode() for text in texts]  # no half of a surrogate pair
    for name in ("any.jsonl", "any.parquet"):
        assert list(attnxr.texts_of(write(tmp_path, name, texts))) == texts


def test_a_text_file_is_cut_into_lines_or_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\n  \n\nthree\n four\n\n")
    assert list(attnxr.texts_of(path)) == ["one", "two", "three", " four"]
    assert list(attnxr.texts_of(path, split="paragraph")) == ["one\ntwo", "three\n four"]
    assert attnxr.texts_of(path, split="paragraph").record["split"] == "paragraph"
    path.write_bytes(b"one\n\nlast, without an end")
    assert list(attnxr.texts_of(path, split="paragraph")) == ["one", "last, without an end"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_the_field_of_a_text_can_be_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, TEXTS, field="body")
    source = attnxr.texts_of(path, field="body")
    assert list(source) == TEXTS
    assert source.record["field"] == "body"
    with pytest.raises(
        InputError, match=rf"{name}.*no (field|column) 'text'; expected field= to be one of 'id', 'body'"
    ):
        list(attnxr.texts_of(path))


def test_a_pattern_is_all_its_files_by_name(tmp_path: Path) -> None:
    for name, text in (("b.jsonl", "second"), ("a.jsonl", "first"), ("c.jsonl", "third"), ("c.txt", "none of them")):
        write(tmp_path, name, [text])
    source = attnxr.texts_of(str(tmp_path / "*.jsonl"))
    assert list(source) == ["first", "second", "third"]
    assert [file["name"] for file in source.record["files"]] == ["a.jsonl", "b.jsonl", "c.jsonl"]


def test_a_url_is_read_where_it_is() -> None:
    with fsspec.open("memory://sources/a.txt", "wb") as stream:
        stream.write(b"ein Text\nund noch einer")
    assert list(attnxr.texts_of("memory://sources/a.txt")) == ["ein Text", "und noch einer"]


def test_an_iterable_is_iterated_and_not_read_ahead() -> None:
    taken = []

    def texts() -> Iterator[str]:
        for text in TEXTS:
            taken.append(text)
            yield text

    iterator = iter(attnxr.texts_of(texts()))
    assert taken == []
    assert next(iterator) == TEXTS[0]
    assert taken == TEXTS[:1]
    assert list(attnxr.texts_of(tuple(TEXTS))) == TEXTS
    assert attnxr.texts_of(TEXTS).record == {"kind": "iterable"}
    assert attnxr.texts_of(source := attnxr.texts_of(TEXTS)) is source


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_of_hugging_face(tmp_path: Path, streaming: bool) -> None:
    whole = datasets.Dataset.from_dict({"id": list(range(600)), "body": [f"text {i}" for i in range(600)]})
    given: Any = whole.to_iterable_dataset() if streaming else whole.with_format("numpy")
    source = attnxr.texts_of(given, field="body")
    iterator = iter(source)
    assert [next(iterator), next(iterator)] == ["text 0", "text 1"]
    assert list(source) == whole["body"][:]  # from its beginning, whatever was taken before
    assert source.record["kind"] == "Hugging Face dataset"
    if not streaming:
        assert source.record["fingerprint"] == given._fingerprint
    with pytest.raises(InputError, match="no column 'text'; expected field= to be one of 'id', 'body'"):
        attnxr.texts_of(given)
    with pytest.raises(InputError, match=r"row 0 \(from 0\), column 'id': 0 was found; expected a text"):
        list(attnxr.texts_of(given, field="id"))


def test_a_stream_that_does_not_know_its_columns() -> None:
    stream = datasets.IterableDataset.from_generator(lambda: ({"text": text} for text in TEXTS))
    assert list(attnxr.texts_of(stream)) == TEXTS
    with pytest.raises(InputError, match="no column 'body'; expected field= to be one of 'text'"):
        list(attnxr.texts_of(stream, field="body"))


def test_the_revision_of_a_dataset_is_recorded() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    info = datasets.DatasetInfo(download_checksums={f"hf://datasets/a/b@{commit}/train.parquet": {"num_bytes": 1}})
    info.dataset_name, info.config_name, info.version = "b", "default", datasets.Version("1.2.0")
    dataset = datasets.Dataset(pyarrow.table({"text": TEXTS}), info=info, split=datasets.Split.TRAIN)
    record = attnxr.texts_of(dataset).record
    told = {"revision": commit, "name": "b", "config": "default", "version": "1.2.0", "split": "train"}
    assert {key: record[key] for key in told} == told
    assert json.loads(json.dumps(record)) == record


def test_what_python_ships() -> None:
    source = attnxr.texts_of("pydoc")
    texts = list(source)
    assert len(texts) > 1000
    assert texts == list(source)
    assert all(text.strip() for text in texts)
    assert not [text for text in texts if text.strip("*=~-\n") == ""]
    assert any(text.startswith("Assert statements are a convenient way") for text in texts)


def test_a_long_file_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    peaks = {}
    for name in ("a.txt", "a.jsonl", "a.parquet"):
        for texts in (3_000, 30_000):
            path = write(tmp_path, name, [f"text number {i} " * 8 for i in range(texts)])
            tracemalloc.start()
            assert sum(1 for _ in attnxr.texts_of(path)) == texts
            peaks[name, texts] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peaks[name, 30_000] < 1.1 * peaks[name, 3_000] + 50_000


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"good\nbad \xff\n", r"a\.txt, line 2: expected text in UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', r"a\.jsonl, line 3: expected a JSON object"),
        (
            "a.jsonl",
            b'{"text": "a"}\n["text"]\n',
            r"a\.jsonl, line 2: \['text'\] was found; expected a JSON object with",
        ),
        ("a.jsonl", b'{"text": 5}\n', r"a\.jsonl, line 1, field 'text': 5 was found; expected a text \(str\)"),
        ("a.jsonl", b"{}\n", r"a\.jsonl, line 1: no field 'text'; it has none"),
        ("a.parquet", b"no table at all", r"a\.parquet: expected a Parquet file"),
        ("a.txt.gz", gzip.compress(b"some text\n" * 9999)[:-20], r"a\.txt\.gz, after line \d+: the file could not be"),
        ("a.txt.gz", b"not compressed", r"a\.txt\.gz, after line 0: the file could not be read on"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        list(attnxr.texts_of(tmp_path / name))


def test_a_row_without_a_text_is_named(tmp_path: Path) -> None:
    texts: list[Any] = ["a", None, "c"]
    path = write(tmp_path, "a.parquet", texts)
    with pytest.raises(
        InputError, match=r"a\.parquet, row 1 \(from 0\), column 'text': None was found; expected a text"
    ):
        list(attnxr.texts_of(path))
    with pytest.raises(InputError, match=r"texts, item 1 \(from 0\): None was found; expected a text"):
        list(attnxr.texts_of(texts))


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ("Time flies like an arrow.", "no such file could be found.*for a corpus of one text, \\[text\\]"),
        ("no/such/*.jsonl", "no such file could be found"),
        ("nowhere://a.txt", "no such file could be found.*nowhere"),
        (b"bytes", "expected an iterable of texts"),
        (5, "texts=5 was given; expected an iterable of texts"),
        ({"text": "a"}, "expected an iterable of texts"),
        (
            datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": ["a"]})}),
            r"DatasetDict\); expected one, such as dataset\['train'\]",
        ),
        (
            datasets.IterableDatasetDict({"a": datasets.Dataset.from_dict({"text": ["b"]}).to_iterable_dataset()}),
            r"IterableDatasetDict\); expected one, such as dataset\['a'\]",
        ),
    ],
    ids=str,
)
def test_what_is_no_source_is_refused(texts: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        attnxr.texts_of(texts)


def test_folders_other_endings_and_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder; expected a file, or a pattern such as"):
        attnxr.texts_of(tmp_path)
    (tmp_path / "a.csv").write_text("a,b\n")
    with pytest.raises(InputError, match=r"told by its ending: expected \.txt"):
        attnxr.texts_of(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"split='word' was given; expected one of 'line', 'paragraph'"):
        attnxr.texts_of(TEXTS, split="word")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"field='' was given; expected the name of a field"):
        attnxr.texts_of(TEXTS, field="")
