"""The commands in a terminal: what they print is what the library computes, and their exit codes say how it went."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr
from click.testing import CliRunner, Result

import attnxr
from attnxr.asked import sentence
from attnxr.cli import main
from attnxr.loading.tested import Tried, read_families, read_tried
from attnxr.terminal import table as as_table
from tests.support import models
from tests.support.families import FAMILIES, build
from tests.support.family_options import GEMMA4
from tests.support.models import SENTENCE

AT = ["--layer", "1", "--head", "2"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.fixture(scope="module")
def folder(roberta_folder: Path) -> str:
    return str(roberta_folder)


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiny-bert")
    return str(models.save(folder, models.tiny_bert(), models.wordpiece_tokenizer()))


@pytest.fixture(scope="module")
def model(folder: str) -> attnxr.Model:
    return attnxr.load_model(folder)


@pytest.fixture(scope="module")
def again(model: attnxr.Model) -> tuple[str, list[int]]:
    """A token that stands twice in the sentence, and where."""
    tokens = model.encode(SENTENCE).token.values.tolist()
    token = next(one for one in tokens if tokens.count(one) == 2)
    return token, [position for position, one in enumerate(tokens) if one == token]


def expected(near: xr.Dataset, position: int) -> dict[str, Any]:
    here = near.sel(layer=1, head=2, position=position)
    return {
        "position": position,
        "token_id": here.token_id.item(),
        "token": here.token.item(),
        "text": here.text.item(),
        "own_rank": here.own_rank.item(),
        "own_distance": pytest.approx(here.own_distance.item(), rel=1e-6),
        "neighbors": [
            {
                "rank": rank + 1,
                "token_id": here.neighbor_id.values[rank],
                "token": here.neighbor.values[rank],
                "text": here.neighbor_text.values[rank],
                "distance": pytest.approx(here.distance.values[rank].item(), rel=1e-6),
                "in_sequence": here.in_sequence.values[rank],
            }
            for rank in range(here.sizes["rank"])
        ],
    }


@pytest.mark.parametrize(
    ("options", "encoding", "asked"),
    [
        ([], {}, {}),
        (["--k", "4", "--metric", "euclidean"], {}, {"k": 4, "metric": "euclidean"}),
        (["--space", "key", "--vocab-layer", "same"], {}, {"space": "key", "vocab_layer": "same"}),
        (["--vocab-layer", "2", "--no-positional"], {}, {"vocab_layer": 2, "positional": False}),
        (["--causal"], {"causal": True}, {}),
        (["--no-causal"], {"causal": False}, {}),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_neighbors_are_those_of_the_library(
    folder: str, model: attnxr.Model, options: list[str], encoding: dict[str, Any], asked: dict[str, Any]
) -> None:
    done = run("neighbors", SENTENCE, *AT, "--position", "3", "--model", folder, "--json", *options)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    near = model.neighbors(model.encode(SENTENCE, **encoding), **asked)
    assert told.pop("positions") == [expected(near, 3)]
    assert told == {
        **{name: near.attrs[name] for name in ("model", "fingerprint", "text", "truncated", "of", "k")},
        **{name: near.attrs[name] for name in ("metric", "space", "vocab_layer")},
        "positional": bool(near.attrs["positional"]),
        "causal": bool(near.attrs["causal"]),
        "layer": 1,
        "head": 2,
    }


def test_a_token_is_looked_up_wherever_it_stands(
    folder: str, model: attnxr.Model, again: tuple[str, list[int]]
) -> None:
    token, positions = again
    done = run("neighbors", SENTENCE, *AT, "--token", token, "--model", folder, "--json", "--k", "3")
    near = model.neighbors(model.encode(SENTENCE), k=3)
    assert json.loads(done.stdout)["positions"] == [expected(near, position) for position in positions]


@pytest.mark.parametrize(("written", "position"), [("Time", 1), ("time", 1), ("of", 2), ("##l", 3), ("l", 3)])
def test_a_token_may_be_written_as_the_tokenizer_or_the_text_has_it(
    bert_folder: str, written: str, position: int
) -> None:
    done = run("neighbors", "Time ofl x", *AT, "--token", written, "--model", bert_folder, "--json", "--k", "1")
    assert [one["position"] for one in json.loads(done.stdout)["positions"]] == [position]


def test_the_table_holds_ranks_tokens_distances_and_the_own_rank(
    folder: str, model: attnxr.Model, again: tuple[str, list[int]]
) -> None:
    token, positions = again
    done = run("neighbors", SENTENCE, *AT, "--token", token, "--model", folder, "--k", "400")
    near = model.neighbors(model.encode(SENTENCE), k=400).sel(layer=1, head=2)
    question, *tables = done.stdout.strip().split("\n\n")
    assert question == sentence(near.attrs)
    assert len(tables) == 2 * len(positions)
    for position, title, table in zip(positions, tables[::2], tables[1::2], strict=True):
        here = near.sel(position=position)
        assert f"at position {position}, layer 1, head 2 of {folder}" in title
        heading, *rows, last = table.splitlines()
        assert heading.split() == ["rank", "token", "distance"]
        cells = [re.split(r"  +", row.strip()) for row in rows]
        assert [int(cell[0]) for cell in cells] == here["rank"].values.tolist()
        assert [cell[2] for cell in cells] == [f"{distance:.4f}" for distance in here.distance.values]
        (own,) = (int(cell[0]) for cell in cells if cell[3:] == ["own"])
        assert own == here.own_rank.item()
        assert sum(cell[3:] != [] for cell in cells) == here.in_sequence.values.sum()
        assert last == f"own rank {own}, distance {here.own_distance.item():.4f}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*AT, "--token", "elephant"], "token='elephant' was given, and the text has no such token"),
        (["--layer", "3", "--head", "0", "--position", "1"], "layer=3 was given; expected one of 0, 1, 2."),
        (["--layer", "1", "--head", "4", "--position", "1"], "head=4 was given; expected a whole number, 0 to 3."),
        ([*AT, "--position", "-1"], "position=-1 was given; expected a whole number, 0 to "),
        ([*AT, "--position", "1", "--k", "401"], "k=401 was given; expected a whole number, 1 to 400"),
        ([*AT, "--position", "1", "--model", "no-such-model"], "No model 'no-such-model' could be had"),
        ([*AT], "Expected one of --token and --position."),
        ([*AT, "--position", "1", "--token", "a"], "Expected one of --token and --position."),
        ([*AT, "--position", "1", "--vocab-layer", "last"], "'last' is none of 'input', 'same' and the number"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_what_is_refused_is_said_on_stderr(folder: str, arguments: list[str], said: str) -> None:
    done = run("neighbors", SENTENCE, "--model", folder, *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert f"Error: {said}" in done.stderr.replace("Invalid value for '--vocab-layer': ", "")


def test_verify_tells_the_three_checks(folder: str, model: attnxr.Model) -> None:
    done = run("verify", folder)
    assert done.exit_code == 0
    heading, *rows, last = done.stdout.splitlines()
    checked = model.verify()
    assert heading.split() == ["check", "largest", "error"]
    assert [row.split() for row in rows] == [
        [name, f"{error.max().item():.1e}", "passed"] for name, error in checked.data_vars.items()
    ]
    assert last.startswith(f"{folder}: passed")

    told = json.loads(run("verify", folder, "--json").stdout)
    assert told["passed"] is True
    assert (told["model"], told["fingerprint"]) == (folder, model.fingerprint)
    assert list(told["reconstruction"].values()) == checked.reconstruction.values.tolist()
    assert told["identity"] == dict(zip(checked.space.values.tolist(), checked.identity.values.tolist(), strict=True))
    assert told["unchanged"] == checked.unchanged.item()


def test_verify_ends_with_1_where_a_check_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    hf_model = FAMILIES["gpt2"].build()
    hf_model.h[1].register_forward_hook(lambda _m, _i, out: out + 0.1 * torch.randn_like(out))
    model = attnxr.Model(hf_model, name="noisy")
    monkeypatch.setattr(attnxr, "load_model", lambda name, layers: {"noisy": model}[name])  # no file holds a hook
    done = run("verify", "noisy")
    assert done.exit_code == 1
    results = {row.split()[0]: row.split()[-1] for row in done.stdout.splitlines()[1:4]}
    assert results == {"reconstruction": "failed", "identity": "passed", "unchanged": "failed"}
    assert "noisy: failed" in done.stdout

    done = run("verify", "noisy", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["passed"] is False


def test_layers_of_one_shape_are_chosen(tmp_path: Path) -> None:
    hf_model = build("gemma4_text", GEMMA4 | {"vocab_size": 400, "vocab_size_per_layer_input": 400})
    folder = str(models.save(tmp_path / "gemma", hf_model, models.byte_level_tokenizer()))
    refused = run("verify", folder)
    assert refused.exit_code == 2
    assert "layers=[1, 3]: 4 query and 1 value heads of 12 features" in refused.stderr
    told = json.loads(run("verify", folder, "--layers", "1,3", "--json").stdout)
    assert told["passed"] is True
    assert list(told["reconstruction"]) == ["1", "3"]
    asked = ["--layer", "3", "--head", "2", "--position", "0", "--layers", "1,3", "--json"]
    assert json.loads(run("neighbors", SENTENCE, "--model", folder, *asked).stdout)["layer"] == 3
    assert run("verify", folder, "--layers", "1-3").exit_code == 2
    assert "'1-3' is no list of layers" in run("verify", folder, "--layers", "1-3").stderr


def test_the_families_are_listed() -> None:
    heading, *rows = run("families").stdout.splitlines()
    assert [re.split(r"  +", row) for row in rows] == [list(family) for family in read_families()]
    assert heading.split() == list(read_families()[0]._fields)
    told = json.loads(run("families", "--json").stdout)
    assert [tuple(one.values()) for one in told] == read_families()
    assert [one["model_type"] for one in told] == [family.model_type for family in FAMILIES.values()]


def test_the_other_model_types_are_listed_with_what_came_of_them() -> None:
    heading, *rows = run("families", "--others").stdout.splitlines()
    assert [re.split(r"  +", row) for row in rows] == [list(each) for each in read_tried()]
    assert heading.split() == list(Tried._fields)
    told = json.loads(run("families", "--others", "--json").stdout)
    assert [tuple(one.values()) for one in told] == read_tried()


def test_a_tables_columns_are_straight_whatever_stands_in_them() -> None:
    table = as_table([("a", "b", "c"), ("東京", "1", "x"), ("e\u0301e", "22", "")], right={1})
    assert table == "a      b  c\n東京   1  x\ne\u0301e    22"


def start(*command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, *command], capture_output=True, env={**os.environ, **environment})


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = start("-m", "attnxr", "serve", "--address", "127.0.0.1", "--port", str(port))
    assert done.returncode == 2
    assert f"Error: The server cannot listen on port {port} of '127.0.0.1'" in done.stderr.decode()
    assert b"Another server has it" in done.stderr


def test_a_terminal_without_the_characters_shows_their_numbers(folder: str, model: attnxr.Model) -> None:
    done = start(
        *("-m", "attnxr", "neighbors", SENTENCE, *AT, "--position", "3", "--model", folder, "--k", "400"),
        PYTHONIOENCODING="latin-1",
    )
    assert done.returncode == 0, done.stderr
    assert rb"\u2423" in done.stdout  # the sign for a space
    last = model.neighbors(model.encode(SENTENCE), k=1).sel(layer=1, head=2, position=3)
    assert f"own rank {last.own_rank.item()}, distance {last.own_distance.item():.4f}" in done.stdout.decode("latin-1")


def test_the_version_and_the_help_need_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "xarray", "panel", "bokeh", "numba", "huggingface_hub"]
    code = f"""
import sys
from attnxr.cli import main
for asked in ("--version", "--help"):
    main([asked], prog_name="attnxr", standalone_mode=False)
print([name for name in {heavy} if name in sys.modules])
"""
    done = start("-c", code)
    version, *usage, loaded = done.stdout.decode().splitlines()
    assert version == f"attnxr {attnxr.__version__}"
    assert {"corpus", "families", "neighbors", "serve", "verify"} <= {
        word for line in usage for word in line.split()[:1]
    }
    assert loaded == "[]"
