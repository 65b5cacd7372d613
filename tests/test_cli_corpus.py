"""``attnxr corpus``: what it prints is what the library has of the corpus, and its exit codes say how it went."""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import attnxr
from attnxr import cli_corpus
from attnxr.cli import main
from attnxr.corpus.opened import info
from attnxr.dashboard.served.corpora import asked_for
from tests.support import models

ROOT = Path(__file__).parent.parent
DOCS, README = ROOT / "docs" / "corpora.md", ROOT / "README.md"
MEASURES = ("roles", "looking", "own", "words", "examples")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["corpus", *arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    path.write_text("".join(json.dumps({"body": text}) + "\n" for text in [*models.CORPUS, ""]))
    return str(path)


@pytest.fixture(scope="module")
def asked(roberta_folder: Path) -> list[str]:
    measures = [part for name in MEASURES for part in ("--measure", name)]
    return ["--model", str(roberta_folder), "--field", "body", *measures, "--keep", "own_rank", "--unit-tokens", "128"]


@pytest.fixture(scope="module")
def store(texts: str, asked: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("built") / "c.zarr")
    done = run("build", texts, path, *asked, "--keep-layer", "1", "--layer", "1", "--layer", "2", "--k", "4", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(json.dumps(info(path)))
    return path


def test_build_makes_the_librarys_corpus(store: str, texts: str, roberta_folder: Path, tmp_path: Path) -> None:
    model = attnxr.load_model(str(roberta_folder))
    source = attnxr.texts_of(texts, field="body")
    options: dict[str, Any] = {"measures": MEASURES, "keep": "own_rank", "keep_layers": [1], "layers": [1, 2], "k": 4}
    mine = attnxr.build_corpus(source, tmp_path / "c", model, unit_tokens=128, **options)
    corpus = attnxr.open_corpus(store)
    assert corpus.equals(mine)
    assert corpus["results"]["own_rank"].sizes["layer"] == 1


def test_build_goes_on_or_is_refused(store: str, texts: str, asked: list[str]) -> None:
    same = ["--keep-layer", "1", "--layer", "1", "--layer", "2", "--k", "4"]
    done = run("build", texts, store, *asked, *same)
    assert done.exit_code == 0
    told = dict(line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line)
    assert "finished" in told["store"]
    assert told["texts"].strip() == f"{len(models.CORPUS) + 1} (JSON lines), {info(store)['texts_cut']} cut, 1 failed"
    assert f"text {len(models.CORPUS)}: " in done.stdout
    done = run("build", texts, store, *asked)
    assert done.exit_code == 2
    assert "begun with other settings: " in done.stderr
    assert "options.k is 4 there and 15 here" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["build", "none.txt", "c"], "texts='none.txt' was given, and no such file could be found"),
        (["build", "pydoc", "c", "--measure", "colour"], "measures='colour' was given; expected one of 'roles'"),
        (["build", "pydoc", "c", "--workers", "2", "--scheduler", "tcp://a"], "one of --workers and --scheduler"),
        (["info", "nowhere.zarr"], "There is no corpus at"),
        (["verify", "nowhere.zarr"], "There is no corpus at"),
        (["top", "nowhere.zarr", "--layer", "0", "--head", "0"], "There is no corpus at"),
    ],
)
def test_what_is_refused_is_said_on_stderr(
    arguments: list[str], said: str, roberta_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ["--model", str(roberta_folder)] if arguments[0] == "build" else []
    done = run(*arguments, *model)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_a_disk_that_fails_says_that_the_build_can_go_on(
    texts: str, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("build", texts, str(tmp_path / ("c" * 300)), *asked)  # a name longer than any file system takes
    assert done.exit_code == 1, done.output
    assert cli_corpus._GOES_ON in done.stderr


def test_verify_names_the_file_that_was_changed(store: str) -> None:
    done = run("verify", store)
    assert done.exit_code == 0
    assert f"{store}: passed; " in done.stdout
    files = sorted(path for path in (Path(store) / "atlas").rglob("*") if path.is_file())
    path = max(files, key=lambda each: each.stat().st_size)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done, told = run("verify", store), run("verify", store, "--json")
    path.write_bytes(whole)
    assert done.exit_code == told.exit_code == 1
    name = path.relative_to(store).as_posix()
    assert f"changed: {name}" in done.stdout
    assert json.loads(told.stdout)["changed"] == [name]
    assert run("verify", store).exit_code == 0


def test_top_tells_what_the_atlas_has_of_a_head(store: str) -> None:
    atlas = attnxr.atlas(attnxr.open_corpus(store)).sel(layer=2, head=3)
    told = json.loads(run("top", store, "--layer", "2", "--head", "3", "-n", "4", "--json").stdout)
    assert [each["id"] for each in told["written"]] == atlas.written_id.values[:4].tolist()
    assert [each["count"] for each in told["written"]] == atlas.written_count.values[:4].tolist()
    assert [each["lift"] for each in told["key"]] == pytest.approx(atlas.key_lift.values[:4].tolist())
    assert told["numbers"]["own_share"] == pytest.approx(atlas.own_share.item())
    activations = [each["activation"] for each in told["examples"]]
    there = atlas.example_activation.values[atlas.example_text_id.values >= 0]
    assert activations == pytest.approx(np.sort(there)[::-1][:4].tolist())
    first = told["examples"][0]
    text = models.CORPUS[first["text_id"]]
    plain = re.sub(r"<(\[?[^<>]+\]?)>", r"\1", first["shown"]).replace("[", "").replace("]", "")
    assert plain.strip("… ").replace("␣", " ") in text
    written = run("top", store, "--layer", "2", "--head", "3", "-n", "4").stdout
    for each in told["examples"]:
        assert each["shown"] in written
    done = run("top", store, "--layer", "0", "--head", "3")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "layer=0 was given; expected one of 1, 2." in done.stderr


def test_what_the_vocabulary_is_encoded_by_can_be_chosen(texts: str, asked: list[str], tmp_path: Path) -> None:
    done = run("build", texts, str(tmp_path / "c"), *asked, "--vocab-layer", "same", "--no-positional", "--json")
    assert done.exit_code == 0, done.output
    options = json.loads(done.stdout)["settings"]["options"]
    assert (options["vocab_layer"], options["positional"]) == ("same", False)
    done = run("build", texts, str(tmp_path / "d"), *asked, "--vocab-layer", "last")
    assert done.exit_code == 2
    assert "'last' is none of 'input', 'same' and the number of a layer" in done.stderr


def test_export_writes_the_folder_of_headvis(store: str, tmp_path: Path) -> None:
    done = run("export", store, str(tmp_path / "h"), "--format", "headvis")
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "h" / "config.json").read_text())
    assert sorted(map(tuple, told["heads"])) == [(layer, head) for layer in (1, 2) for head in range(4)]
    assert (tmp_path / "h" / "heads" / "L1H0.json").exists()
    assert "8 heads of" in done.stdout  # of the corpus: the model has more
    (tmp_path / "file").write_text("")
    done = run("export", store, str(tmp_path / "file"))
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr


def test_export_loads_the_model_in_the_precision_of_the_corpus(
    texts: str, roberta_folder: Path, tmp_path: Path
) -> None:
    measures = [part for name in ("roles", "looking", "examples") for part in ("--measure", name)]
    about = ["--model", str(roberta_folder), "--dtype", "float16", "--field", "body", *measures]
    assert run("build", texts, str(tmp_path / "c"), *about).exit_code == 0
    done = run("export", str(tmp_path / "c"), str(tmp_path / "h"))
    assert done.exit_code == 0, done.output


class Terminal(io.StringIO):
    """What bars are written to."""

    def isatty(self) -> bool:
        return True


def test_bars_count_texts_and_then_tokens_from_where_the_corpus_was(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with cli_corpus._progress(store, quiet=True) as told:
        assert told == {}
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
    with cli_corpus._progress(store, quiet=False) as told:
        for count in (1, 2, 3):
            told["reading"](count)
        for done in (0.25, 0.5, 1.0):
            told["progress"](done)
    first, last = (line.split("\r")[-1] for line in sys.stderr.getvalue().strip("\n").split("\n"))  # type: ignore[attr-defined]
    assert re.match(r"reading: 3\.00 texts \[", first)
    tokens = info(store)["tokens"]
    assert re.match(rf"100%\|.*\| ({tokens}|{tokens / 1e3:.3g}k)/\1 \[.* tokens/s\]", last)


def test_a_build_draws_both_bars(
    texts: str, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    shown = Terminal()
    begin = [texts, str(tmp_path / "c.zarr"), *asked, "--limit", "4"]
    monkeypatch.setattr(sys, "stderr", shown)
    main(["corpus", "build", *begin], standalone_mode=False)
    assert "reading: 4.00 texts" in shown.getvalue()
    assert "100%|" in shown.getvalue()
    assert "4 (JSON lines)" in capfd.readouterr().out


def test_the_commands_of_the_docs_are_commands() -> None:
    lines = re.findall(r"^attnxr corpus ([^#\n]*)", DOCS.read_text(), re.MULTILINE)
    assert {line.split()[0] for line in lines} == set(cli_corpus.corpus.commands)
    for line in lines:
        name, *arguments = shlex.split(line)
        cli_corpus.corpus.commands[name].make_context(name, arguments)  # which parses them, and does no more


def test_the_first_commands_run_as_they_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer texts: the small corpus of the docs takes a minute or two."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_corpus, "_DEMO", {**cli_corpus._DEMO, "limit": 3, "sample": 1})
    printed = re.findall(
        r"^attnxr corpus ([^#\n]* out\.zarr[^#\n]*)", DOCS.read_text() + README.read_text(), re.MULTILINE
    )
    assert [line.split()[0] for line in printed] == ["demo", "info", "top", "demo", "top"]
    for line in printed:
        done = run(*shlex.split(line))
        assert done.exit_code == 0, done.output
        if "top" in line:  # words are whole, and both tokens marked
            _, *examples = done.output.partition("examples, ")[2].splitlines()
            assert "##" not in "".join(examples)
            assert all(re.search(r"<\[?\S+?\]?>", each) and re.search(r"\[\S+?\]", each) for each in examples)
            assert examples
    told = info("out.zarr")
    assert told["finished"]
    assert told["texts"] == told["settings"]["texts"]["source"]["limit"] == 3
    assert len(told["sample"]) == 1
    assert not told["not_shown"]


def test_without_a_place_the_demo_is_put_where_the_page_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cli_corpus, "_DEMO", {**cli_corpus._DEMO, "limit": 2, "sample": 1})
    done = run("demo", "--quiet")
    assert done.exit_code == 0, done.output
    store = str(tmp_path / "attnxr" / "demo.zarr")
    assert info(store)["finished"]
    assert asked_for([])[1] == store


def test_the_demo_is_what_its_help_says() -> None:
    help_ = " ".join((cli_corpus.demo.help or "").split())
    printed = re.search(r'"attnxr corpus (build pydoc STORE [^"]*)"', help_)
    assert printed is not None
    name, *arguments = shlex.split(printed[1])
    asked = cli_corpus.corpus.commands[name].make_context(name, arguments).params
    plain = cli_corpus.corpus.commands[name].make_context(name, ["pydoc", "STORE"]).params
    assert {option: value for option, value in asked.items() if value != plain[option]} == cli_corpus._DEMO
    assert str(cli_corpus._DEMO["limit"]) in help_.partition("It is what")[0]


def test_the_lines_of_the_docs_run(store: str) -> None:
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL) if "atlas =" in block
    )
    found: dict[str, Any] = {}
    exec(code.replace("out.zarr", store), found)
    assert found["one"].prev_token_score == found["atlas"].prev_token_score.max()
