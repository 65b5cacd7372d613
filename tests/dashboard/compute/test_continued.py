"""What a model writes behind a text, and how a text is read, from a request to words, files and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import attnxr
from attnxr import saved
from attnxr.dashboard.compute.answering import answer_request
from attnxr.dashboard.compute.cache import Answers
from attnxr.dashboard.files.exports import citation
from attnxr.dashboard.files.standalone import Selection, contents
from attnxr.dashboard.rows.neighbors import token_chips
from attnxr.dashboard.rows.reading import fewer, sentence
from attnxr.dashboard.session.answer import Answer, Request
from attnxr.dashboard.session.opened import Opened, open_file
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.controls import Controls, typed_special_tokens
from attnxr.dashboard.views.open_file import OpenFile
from attnxr.dashboard.views.tables import TokenStrip
from attnxr.errors import InputError, UnsupportedModelError
from tests.support import models

TEXT = "Fruit flies like"
ASKED = Request(TEXT, "tiny", "cosine", True, k=3)


@pytest.fixture(scope="module")
def model() -> attnxr.Model:
    return attnxr.Model(models.tiny_gpt2(), models.decoder_tokenizer(), name="tiny")


@pytest.fixture(scope="module")
def solve(model: attnxr.Model) -> Callable[[Request], Answer]:
    return lambda request: answer_request(request, lambda _name: model, silent)


def silent(_message: str, _fraction: float | None) -> None:
    pass


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnxr.dashboard.session.opened.read_apart", saved.read)


def put(folder: Path, answer: Answer, **attrs: Any) -> Opened:
    datasets = [each.assign_attrs(attrs) for each in (answer.encodings, answer.neighbors)]
    (folder / "it.nc").write_bytes(saved.write(*datasets))
    return open_file(folder / "it.nc", "it.nc")


def part(view: Any, name: str) -> Any:
    return getattr(view, f"_{name}")


def test_the_answer_is_of_the_tokens_that_the_model_wrote(model: attnxr.Model, solve: Callable) -> None:
    found = solve(replace(ASKED, continued=5, seed=4))
    continued = model.generate(TEXT, n=5, seed=4)
    assert found.encodings.token_id.values.tolist() == continued.token_ids
    chips = token_chips(found.encodings)
    assert [chip["generated"] for chip in chips] == [False] * continued.n_own + [True] * 5
    assert sentence(found.encodings.attrs) == "Of its tokens the last 5 are generated, drawn with seed 4."
    assert "Of its tokens the last 5 are generated, drawn with seed 4." in citation(found)
    facts = contents(found, Selection(0, 0, 0))["facts"]
    assert ["Text", "Of its tokens the last 5 are generated, drawn with seed 4."] in facts
    assert "Underlined ones the model wrote itself." in contents(found, Selection(0, 0, 0))["chips_help"]


def test_another_metric_writes_nothing_again(model: attnxr.Model) -> None:
    answers, told = Answers(), []
    asked = replace(ASKED, continued=5, seed=4)
    first = answers(asked, lambda _name: model, silent)
    second = answers(replace(asked, metric="dot"), lambda _name: model, lambda said, _fraction: told.append(said))
    assert second.encodings is first.encodings
    assert not any("Generating" in said for said in told)
    for other in ({"seed": 5}, {"seed": None}, {"continued": 6}, {"read_as": "bos"}):
        changed: Any = replace(asked, **other)
        assert answers(changed, lambda _name: model, silent).encodings is not first.encodings


def test_who_calls_it_off_ends_it_at_the_next_token(model: attnxr.Model) -> None:
    told: list[float | None] = []

    class OvertakenError(Exception):
        pass

    def report(said: str, fraction: float | None) -> None:
        if said == "Generating 50 tokens":
            told.append(fraction)
            if len(told) == 4:
                raise OvertakenError

    with pytest.raises(OvertakenError):
        answer_request(replace(ASKED, continued=50), lambda _name: model, report)
    assert told == pytest.approx([0, 0.02, 0.04, 0.06])


@pytest.mark.parametrize("read_as", ["bos", "chat", "prompt"])
def test_a_text_is_read_as_it_is_asked_for(model: attnxr.Model, solve: Callable, read_as: Any) -> None:
    chat = [{"role": "user", "content": TEXT}]
    expected = {
        "bos": lambda: model.encode(TEXT, add_special_tokens="bos"),
        "chat": lambda: model.encode(chat),
        "prompt": lambda: model.encode(chat, add_generation_prompt=True),
    }[read_as]()
    found = solve(replace(ASKED, read_as=read_as))
    assert found.encodings.identical(expected)
    words = {"bos": "a text behind BOS", "chat": "a chat message", "prompt": "a chat, answer next"}[read_as]
    assert sentence(found.encodings.attrs) == f"The text is read as {words}."
    state = State(["tiny"], text=TEXT)
    state.read_as = read_as
    state.k = 3
    state.land(found)
    assert f"read as {words}" in part(TokenStrip(state), "heading").detail


def test_special_tokens_of_a_template_were_not_typed(solve: Callable) -> None:
    assert typed_special_tokens(solve(replace(ASKED, read_as="prompt"))) == []
    assert typed_special_tokens(solve(replace(ASKED, text="a</s>b", read_as="prompt"))) == ["</s>"]
    assert typed_special_tokens(solve(replace(ASKED, text="a</s>b"))) == ["</s>"]


def test_a_file_shows_what_was_asked_and_written(model: attnxr.Model, solve: Callable, tmp_path: Path) -> None:
    asked = replace(ASKED, read_as="prompt", continued=5, seed=4)
    opened = put(tmp_path, solve(asked))
    said = opened.inputs
    assert [said[name] for name in ("text", "read_as", "continued", "seed")] == [TEXT, "prompt", 5, 4]
    state = State(["tiny"])
    state.open(opened)
    assert state.opened is opened
    again = answer_request(state.request, lambda _name: model, silent)
    assert again.encodings.identical(opened.saved.encodings)
    off = answer_request(replace(state.request, causal=False), lambda _name: model, silent)
    assert off.encodings.attrs["causal"] == 0
    assert off.encodings.token_id.identical(again.encodings.token_id)
    state.seed = 5
    assert state.opened is None


def test_a_file_of_tokens_that_this_model_would_not_write_keeps_them(
    model: attnxr.Model, solve: Callable, tmp_path: Path
) -> None:
    found = solve(replace(ASKED, continued=5, seed=4))
    opened = put(tmp_path, found, seed=9)
    other = replace(ASKED, **opened.inputs | {"causal": False}, opened=opened)
    assert answer_request(other, lambda _name: model, silent).encodings.token_id.identical(found.encodings.token_id)


@pytest.mark.parametrize(
    ("attrs", "said"),
    [
        ({"generated": 10**6}, "are said to be generated"),
        ({"generated": -1}, "generated"),
        ({"seed": -3}, "seed"),
        ({"read_as": "<b>"}, "was read as <b>"),
        ({"own_text": 7}, "goes on 7"),
        ({"own_text": "x" * 200_001}, "more than 200,000 characters"),
    ],
)
def test_a_forged_file_is_refused(solve: Callable, tmp_path: Path, attrs: dict[str, Any], said: str) -> None:
    found = solve(replace(ASKED, continued=5, seed=4))
    with pytest.raises(InputError, match=said):
        put(tmp_path, found, **attrs)


@pytest.mark.parametrize("messages", ["[", "[]", '[{"role": "system", "content": "x"}]', '[{"role": "user"}]', "7"])
def test_a_chat_that_the_page_cannot_ask_is_a_text_of_its_template(
    solve: Callable, tmp_path: Path, messages: str
) -> None:
    found = solve(replace(ASKED, read_as="chat"))
    opened = put(tmp_path, found, messages=messages)
    assert opened.inputs["read_as"] == "bare"
    assert opened.inputs["text"] == found.encodings.attrs["text"]


def test_choices_are_those_of_the_model(model: attnxr.Model, solve: Callable, tmp_path: Path) -> None:
    state = State(["tiny"], text=TEXT)
    state.k = 3
    controls = Controls(state, OpenFile(state))

    def fields() -> dict[str, list]:
        return {each["name"]: each["options"] for each in part(controls, "choices").fields}

    assert not {"read_as", "continued", "seed"} & fields().keys()
    state.land(solve(state.request))
    assert [value for value, *_ in fields()["read_as"]] == ["text", "bos", "chat", "prompt"]
    assert [value for value, *_ in fields()["continued"]] == [0, 5, 10, 20, 50, 100]
    assert "seed" not in fields()
    choices = part(controls, "choices")
    choices._handle_msg({"name": "continued", "value": 101})
    assert state.continued == 0
    choices._handle_msg({"name": "continued", "value": 5})
    choices._handle_msg({"name": "seed", "value": 2})
    assert (state.continued, state.seed, state.answer) == (5, 2, None)
    choices._handle_msg({"name": "continued", "value": 0})
    assert state.seed is None


def test_a_model_that_writes_nothing_is_refused_with_what_to_load() -> None:
    bert = attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer(), name="bert")
    found = answer_request(replace(ASKED, model="bert"), lambda _name: bert, silent)
    assert list(found.offered.continuations(0)) == []
    assert [each.value for each in found.offered.readings("text")] == ["text"]
    assert [bool(each.refusal) for each in found.offered.continuations(5)] == [False] + [True] * 5
    with pytest.raises(UnsupportedModelError, match="Load a decoder with its head for language"):
        answer_request(replace(ASKED, model="bert", continued=5), lambda _name: bert, silent)


def test_fewer_tokens_than_were_asked_for_say_why(model: attnxr.Model, solve: Callable) -> None:
    assert fewer(solve(replace(ASKED, continued=5))) == ""
    long = replace(ASKED, text="banana " * 200, continued=5)
    assert fewer(solve(long)) == "Of 5 tokens that were asked for, none were generated: the model takes no longer text."
    ending = models.tiny_gpt2()
    first = model.generate(TEXT, n=1).token_ids[-1]
    ending.generation_config.eos_token_id = first
    tokenizer = models.decoder_tokenizer()
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(first)
    ended = attnxr.Model(ending, tokenizer, name="tiny")
    found = answer_request(replace(ASKED, continued=5), lambda _name: ended, silent)
    assert fewer(found) == "Of 5 tokens that were asked for, 1 was generated: the model ended the text there."
