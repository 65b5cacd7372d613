"""Whatever is asked, what the page shows, writes and compares is what `Model.neighbors` answers."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr import saved
from attnxr.asked import sentence
from attnxr.dashboard.compute import aspects
from attnxr.dashboard.compute.answering import answer_request
from attnxr.dashboard.files import exports
from attnxr.dashboard.files.standalone import Selection, contents
from attnxr.dashboard.rows.compare import neighbor_lists
from attnxr.dashboard.rows.measured import token_paint
from attnxr.dashboard.rows.neighbors import neighbor_table, number
from attnxr.dashboard.rows.signal import signal_rows
from attnxr.dashboard.session.answer import Answer, Aspect, Request
from attnxr.dashboard.session.comparing import changed, held_against
from attnxr.dashboard.session.opened import open_file
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.dashboard import Dashboard
from attnxr.errors import InputError
from attnxr.options import INCLUDE, VARIABLE
from attnxr.plots import head_columns
from attnxr.tokens import label
from tests.support import models
from tests.support.family_options import SIZES

ASKED = [
    ("bert", "encoding", "value", "same"),
    ("bert", "query", "key", 1),
    ("bert", "contribution", "embedding", "input"),
    ("bert", "hidden", "embedding", "input"),
    ("llama", "value", "key", "same"),
    ("llama", "query", "query", "input"),
    ("llama", "residual", "unembedding", "input"),
]
LAYER, HEAD, POSITION = 1, 3, 2


@pytest.fixture(scope="module")
def shelf() -> dict[str, attnxr.Model]:
    import torch
    import transformers

    torch.manual_seed(0)
    tokenizer = models.byte_level_tokenizer()
    sizes = SIZES | {"vocab_size": len(tokenizer)}
    llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, num_key_value_heads=2)).eval()
    return {
        "bert": attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer(), name="bert"),
        "llama": attnxr.Model(llama, tokenizer, name="llama"),
    }


def silent(_message: str, _fraction: float | None) -> None:
    pass


@pytest.fixture(scope="module", params=ASKED, ids=lambda asked: "-".join(map(str, asked)))
def answer(request: pytest.FixtureRequest, shelf: dict[str, attnxr.Model]) -> Answer:
    name, of, space, layer = request.param
    asked = Request(models.SENTENCE, name, "cosine", True, of=of, space=space, vocab_layer=layer, k=5)
    return answer_request(asked, shelf.__getitem__, silent)


def expected(answer: Answer, shelf: dict[str, attnxr.Model]) -> xr.Dataset:
    request = answer.request
    model, variable = shelf[request.model], VARIABLE[request.of]
    encodings = model.encode(request.text, include=[variable] if variable in INCLUDE else [])
    return model.neighbors(encodings, k=5, of=request.of, space=request.space, vocab_layer=request.vocab_layer)


def landed(answer: Answer) -> State:
    request = answer.request
    state = State([request.model], text=request.text)
    state.param.update(of=request.of, space=request.space, vocab_layer=request.vocab_layer, k=request.k)
    state.land(answer)
    state.select(layer=LAYER, head=HEAD, position=POSITION)
    assert (state.layer, state.head, state.position) == (LAYER, HEAD, POSITION)
    return state


def here(near: xr.Dataset) -> xr.Dataset:
    """The vectors at the selection that have the chosen head, share it, or have none."""
    at = near.isel(layer=LAYER, position=POSITION)
    return at.isel(head=HEAD) if "head" in at.dims else at.isel(kv_head=HEAD // 2) if "kv_head" in at.dims else at


def test_the_answer_is_the_librarys(answer: Answer, shelf: dict[str, attnxr.Model]) -> None:
    xr.testing.assert_identical(answer.neighbors, expected(answer, shelf))


def test_table_and_map_show_it(answer: Answer, shelf: dict[str, attnxr.Model]) -> None:
    near = expected(answer, shelf)
    at, column = here(near), answer.column(HEAD)
    table = neighbor_table(answer, LAYER, POSITION)
    assert [row[column][0] for row in table["cells"]] == [
        label(*pair) for pair in zip(at.neighbor.values, at.neighbor_text.values, strict=True)
    ]
    assert [row[column][1] for row in table["cells"]] == [number(far) for far in at.distance.values]
    assert table["own"][column] == [f"{at.own_rank.item():,}", number(at.own_distance.item())]
    columns = head_columns(answer.near, POSITION)
    cell = np.flatnonzero((columns["layer"] == LAYER) & (columns["head"] == column))
    assert columns["own_rank"][cell] == [at.own_rank.item()]
    assert len(columns["head"]) == near.own_rank.isel(position=0).size


def test_every_view_says_and_follows_it(answer: Answer) -> None:
    state = landed(answer)
    shown = Dashboard(state)
    said = sentence(answer.request.question)
    table, heads = shown._tables[0], shown._maps[0]._heads
    assert table._heading.help.startswith(said)
    assert heads._heading.help.startswith(said)
    for name in ("Over layers", "Map", "Signal or noise"):
        state.panel = name
        assert shown._panels.views[name]._heading.help.startswith(said)
    assert table._table.head == answer.column(HEAD)
    _, paint = token_paint(state)
    ranks = answer.near.own_rank.values[LAYER, answer.column(HEAD)]
    assert [words for _color, _ink, words in paint] == [f"own rank: {rank:,}" for rank in ranks]
    shown.cleanup()


def test_a_click_on_a_column_chooses_a_head_that_has_it(answer: Answer) -> None:
    state = landed(answer)
    shown = Dashboard(state)
    for column in range(answer.n_columns):
        shown._tables[0]._select({"head": column})
        assert answer.column(state.head) == column
    shown._tables[0]._select({"head": 99})
    assert answer.column(state.head) == answer.n_columns - 1
    assert answer.head_of(answer.column(2), 2) == 2
    shown.cleanup()


def test_files_hold_it(answer: Answer, shelf: dict[str, attnxr.Model], tmp_path: Path) -> None:
    near = expected(answer, shelf)
    rows = list(csv.DictReader(io.StringIO(exports.neighbors_csv(answer).decode("utf-8-sig"))))
    assert len(rows) == near.neighbor_id.size
    assert {"head", "kv_head"} & set(rows[0]) == ({answer.columns} if answer.columns else set())
    ids = [int(row["neighbor_id"]) for row in rows]
    assert ids == near.neighbor_id.transpose("layer", ..., "position", "rank").values.ravel().tolist()
    page = contents(answer, Selection(LAYER, HEAD, POSITION, "own_rank"))
    assert page["question"] == sentence(answer.request.question)
    assert ["Question", page["question"]] in page["facts"]
    assert page["columns"][0] == answer.n_columns

    file = tmp_path / "it.nc"
    file.write_bytes(exports.netcdf(answer))
    opened = open_file(file, "it.nc")
    state = State([answer.request.model])
    state.open(opened)
    again = answer_request(state.request, lambda name: pytest.fail(f"{name} was loaded"), silent)
    xr.testing.assert_identical(again.neighbors, near)
    assert again.request.question == answer.request.question
    other = answer_request(replace(state.request, of="encoding", space="key"), shelf.__getitem__, silent)
    assert (other.neighbors.attrs["of"], other.neighbors.attrs["space"]) == ("encoding", "key")


def test_chance_is_held_against_the_same_question(answer: Answer, shelf: dict[str, attnxr.Model]) -> None:
    request = answer.request
    model = shelf[request.model]
    if request.of == "contribution":
        with pytest.raises(InputError, match="turned it would be no head's"):
            aspects.compute(answer, model, Aspect("significance", LAYER), silent)
        return
    found = aspects.compute(answer, model, Aspect("significance", LAYER), silent)
    asked = {"of": request.of, "space": request.space, "vocab_layer": request.vocab_layer, "k": 5}
    alone: Any = attnxr.significance(model, answer.encodings.isel(layer=[LAYER]), **asked)
    np.testing.assert_array_equal(found.nearest_p.values.ravel(), alone.nearest_p.values.ravel())
    assert len(signal_rows(answer.near, found, LAYER, POSITION)) == answer.n_columns
    for kind in ("hubness", "overlap", "origins", "stream"):
        aspects.compute(answer, model, Aspect(kind, LAYER), silent)


def test_two_questions_stand_side_by_side(answer: Answer, shelf: dict[str, attnxr.Model]) -> None:
    question = {"of": "encoding", "space": "value", "vocab_layer": "input", "metric": "euclidean"}
    request = changed(answer, "question", "", "", question)
    other = answer_request(request, shelf.__getitem__, silent, answer)
    pair = held_against(answer, other)
    lists = neighbor_lists(pair, LAYER, HEAD, POSITION)
    ours, theirs = lists["lists"]
    assert (ours["side"], theirs["side"]) == ("this question", "the other question")
    for shown, near in ((ours, answer.neighbors), (theirs, other.neighbors)):
        at = here(near)
        assert [row[1] for row in shown["rows"]] == [number(far) for far in at.distance.values]
    if answer.columns == "head":
        found = attnxr.comparison(answer.neighbors, other.neighbors)
        xr.testing.assert_identical(pair.differences["rbo"], found["rbo"])
    else:
        assert "no map of differences" in lists["note"]
    with pytest.raises(InputError, match="same question"):
        changed(other, "question", "", "", question)


@pytest.mark.parametrize(
    "forged",
    [
        {"of": "encoding", "space": "embedding"},
        {"of": "beauty"},
        {"vocab_layer": "next"},
        {"vocab_layer": 1.5},
        {"vocab_layer": [1, 2]},
        {"metric": "x" * 5_000},
        {"of": "hidden", "space": "embedding"},  # with heads
    ],
)
def test_a_file_that_claims_another_question_is_refused(
    forged: dict[str, Any], shelf: dict[str, attnxr.Model], tmp_path: Path
) -> None:
    near = shelf["bert"].neighbors(shelf["bert"].encode(models.SENTENCE), k=2)
    near.attrs |= forged
    near.to_netcdf(tmp_path / "forged.nc")
    with pytest.raises(InputError) as raised:
        open_file(tmp_path / "forged.nc", "forged.nc")
    assert len(str(raised.value)) < 800


def test_saved_apart_is_the_same(tmp_path: Path, shelf: dict[str, attnxr.Model]) -> None:
    model = shelf["llama"]
    encodings = model.encode(models.SENTENCE, include=["key_vector"])
    near = model.neighbors(encodings, of="key", space="key", k=3)
    (tmp_path / "it.nc").write_bytes(saved.write(encodings, near))
    xr.testing.assert_identical(saved.read(tmp_path / "it.nc").neighbors, near)
