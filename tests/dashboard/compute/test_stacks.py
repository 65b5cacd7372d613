"""An encoder-decoder on the page: which stack is asked about, and the target that its decoder reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import xarray as xr

import attnxr
from attnxr import saved
from attnxr.dashboard.compute import aspects
from attnxr.dashboard.compute.answering import answer_request
from attnxr.dashboard.compute.cache import Answers
from attnxr.dashboard.compute.worker import Worker
from attnxr.dashboard.files.exports import citation, netcdf
from attnxr.dashboard.files.standalone import Selection, contents
from attnxr.dashboard.session.answer import Answer, Aspect, Request
from attnxr.dashboard.session.comparing import changed, held_against
from attnxr.dashboard.session.opened import Opened, model_for, open_file
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.controls import Controls, notices, typed_special_tokens
from attnxr.dashboard.views.open_file import OpenFile
from attnxr.dashboard.views.question import sentence
from attnxr.dashboard.views.state_of import state_of
from attnxr.dashboard.views.tables import TokenStrip
from attnxr.errors import InputError, UnsupportedModelError
from tests.support import models

TEXT, TARGET = "Fruit flies like a banana.", "Time flies like an arrow."
ENCODER = Request(TEXT, "t5", "cosine", True, k=3)
DECODER = replace(ENCODER, stack="decoder", target=TARGET)


@pytest.fixture(scope="module")
def model() -> attnxr.Model:
    return attnxr.Model(models.tiny_t5(), models.byte_level_tokenizer(), name="t5")


@pytest.fixture(scope="module")
def solve(model: attnxr.Model) -> Callable[[Request], Answer]:
    return lambda request: answer_request(request, lambda _name: model, silent)


@pytest.fixture(scope="module")
def decoded(solve: Callable[[Request], Answer]) -> Answer:
    return solve(DECODER)


def silent(_message: str, _fraction: float | None) -> None:
    pass


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnxr.dashboard.session.opened.read_apart", saved.read)


def part(view: Any, name: str) -> Any:
    return getattr(view, f"_{name}")


def put(folder: Path, answer: Answer, **attrs: Any) -> Opened:
    datasets = [each.assign_attrs(attrs) for each in (answer.encodings, answer.neighbors)]
    (folder / "it.nc").write_bytes(saved.write(*datasets))
    return open_file(folder / "it.nc", "it.nc")


def shown(answer: Answer) -> State:
    asked = answer.request
    state = State(["t5"], text=asked.text, target=asked.target)
    state.stack, state.k = asked.stack, asked.k
    state.land(answer)
    assert state.answer is answer
    return state


def test_without_a_choice_it_is_the_encoder(model: attnxr.Model, solve: Callable[[Request], Answer]) -> None:
    found = solve(ENCODER)
    expected = model.encode(TEXT)
    assert found.encodings.identical(expected)
    assert found.neighbors.identical(model.neighbors(expected, k=3))
    assert found.checks.identical(model.verify(stack="encoder"))
    assert sentence(shown(found)).startswith("In the encoder: which vocabulary tokens")


def test_the_decoder_is_asked_with_its_target(model: attnxr.Model, decoded: Answer) -> None:
    expected = model.encode(TEXT, target=TARGET, stack="decoder")
    assert decoded.encodings.identical(expected)
    assert decoded.neighbors.identical(model.neighbors(expected, k=3))
    assert decoded.checks.identical(model.verify(stack="decoder"))
    assert decoded.questions is not None
    assert decoded.questions.identical(model.of_stack("decoder").questions())
    sequence = attnxr.sequence_neighbors(expected, k=decoded.sequence.sizes["rank"])
    np.testing.assert_allclose(decoded.sequence["distance"], sequence["distance"], atol=1e-6)
    assert (decoded.n_layers, decoded.n_positions) == (3, expected.sizes["position"])
    assert sentence(shown(decoded)).startswith("In the decoder: which vocabulary tokens")


def test_other_questions_and_the_mask_are_of_the_decoder_too(
    model: attnxr.Model, solve: Callable[[Request], Answer]
) -> None:
    asked: dict[str, Any] = {"of": "query", "space": "key", "vocab_layer": "same"}
    encodings = model.encode(TEXT, target=TARGET, include=["query_vector"], causal=False)
    found = solve(replace(DECODER, **asked, causal=False))
    assert found.neighbors.identical(model.neighbors(encodings, k=3, **asked))


def test_each_aspect_is_of_the_decoder(model: attnxr.Model, decoded: Answer) -> None:
    view, enc = model.of_stack("decoder"), decoded.encodings

    def compute(kind: str, **at: Any) -> xr.Dataset:
        return aspects.compute(decoded, view, Aspect(kind, **at), silent)

    assert compute("roles").identical(attnxr.roles(enc))
    found = compute("significance", layer=2)
    assert found.identical(attnxr.significance(model, enc.isel(layer=[2]), k=3))
    words = compute("decomposition", layer=2)
    n = words.sizes["step"]
    expected = attnxr.decompose(model, enc.isel(layer=[2]), n=n, include=["approximation"], vocab_layer="same")
    assert words.identical(expected)
    here = {"layer": [2], "head": [1], "position": [3]}
    mean = enc["head_encoding"].isel(layer=[2], head=[1]).mean("position")
    effect = attnxr.effects(model, enc.isel(here), by="neighbor", mean=mean)
    assert compute("effect", layer=2, head=1, position=3).identical(effect)
    residual = model.encode(TEXT, target=TARGET, include=["residual"])
    near = model.neighbors(residual, k=1, of="residual", space="embedding")
    assert compute("stream").identical(attnxr.trajectories(decoded.near, near))
    for kind, at in (("effects", {"head": 1, "position": 3}), ("power", {}), ("origins", {}), ("hubness", {})):
        assert compute(kind, layer=1, **at).attrs["fingerprint"] == enc.attrs["fingerprint"]
    assert compute("map", head=1, position=3).sizes
    with pytest.raises(UnsupportedModelError, match="What heads promote was asked of the decoder"):
        compute("promoted", layer=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target": " "}, "Type a target"),
        ({"read_as": "bare"}, "A target was to be read as “a bare text”"),
        ({"read_as": "chat"}, "A target was to be read as “a chat message”"),
        ({"continued": 5}, "it is an encoder-decoder"),
        ({"stack": "cross", "of": "encoding"}, "cross"),
    ],
)
def test_what_the_decoder_is_not_asked_says_why(
    solve: Callable[[Request], Answer], change: dict[str, Any], said: str
) -> None:
    with pytest.raises((InputError, UnsupportedModelError), match=said):
        solve(replace(DECODER, **change))


def test_a_model_with_one_stack_is_refused_and_offers_none() -> None:
    bert = attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer(), name="bert")
    with pytest.raises(InputError, match="bert is no encoder-decoder: it has no decoder that reads a target"):
        answer_request(replace(DECODER, model="bert"), lambda _name: bert, silent)
    found = answer_request(replace(ENCODER, model="bert"), lambda _name: bert, silent)
    assert list(found.offered.stacks(None)) == []
    assert "stack" not in found.question or found.question["stack"] is None


def test_answers_are_kept_of_each_stack_and_target_and_of_these_weights() -> None:
    model = attnxr.Model(models.tiny_t5(), models.byte_level_tokenizer(), name="t5")
    answers = Answers()

    def ask(**change: Any) -> Answer:
        return answers(replace(DECODER, **change), lambda _name: model, silent)

    first = ask()
    assert ask() is first
    assert ask(metric="dot").encodings is first.encodings
    for change in ({"target": "Fruit flies."}, {"text": "An arrow."}, {"stack": None, "target": ""}):
        assert ask(**change).encodings is not first.encodings
    # The decoder reads what the encoder makes of the text: other weights of it make another answer.
    with torch.no_grad():
        next(model.hf_model.get_encoder().block.parameters()).mul_(2)
    again = ask()
    assert again is not first
    assert again.checks.attrs["fingerprint"] == again.encodings.attrs["fingerprint"]
    assert again.encodings.identical(model.encode(TEXT, target=TARGET))


def test_choices_show_stack_and_target_where_there_are_two(model: attnxr.Model, solve: Callable) -> None:
    state = State(["t5"], text=TEXT)
    state.k = 3
    controls = Controls(state, OpenFile(state))
    choices, text, target = (part(controls, name) for name in ("choices", "text", "target"))

    def fields() -> dict[str, list]:
        return {each["name"]: each["options"] for each in choices.fields}

    assert "stack" not in fields()
    assert not target.visible
    state.land(solve(state.request))
    assert [(value, bool(refusal)) for value, _, refusal in fields()["stack"]] == [
        (None, False),
        ("decoder", False),
        ("cross", True),
    ]
    assert (target.visible, text.caption) == (False, "")
    choices._handle_msg({"name": "stack", "value": "cross"})
    assert state.stack is None
    state.read_as = "bare"
    choices._handle_msg({"name": "stack", "value": "decoder"})
    assert (state.stack, state.read_as, target.visible) == ("decoder", "text", True)
    assert (text.caption, target.caption) == ("Text, which the encoder reads", "Target, which the decoder reads")
    target._handle_msg({"text": "x" * (target.most + 1)})
    assert state.target == ""
    target._handle_msg({"text": TARGET})
    assert state.request == DECODER
    state.land(solve(state.request))
    assert "read_as" not in fields()
    assert "tokens of the target" in part(TokenStrip(state), "heading").detail
    # What was typed stays for the next time, and is no part of what is asked of the encoder.
    choices._handle_msg({"name": "stack", "value": None})
    assert (state.target, state.request) == (TARGET, ENCODER)


def test_where_the_encoder_is_refused_the_decoder_can_be_chosen() -> None:
    sizes = {"vocab_size": models.VOCABULARY_SIZE, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4}
    special = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = transformers.LongT5Config(**sizes, **special, num_layers=2, num_decoder_layers=3)
    hf_model = models.randomise(transformers.LongT5ForConditionalGeneration(config), 4)
    model = attnxr.Model(hf_model, models.byte_level_tokenizer(), name="long")
    state = State(["long"], text=TEXT)
    controls = Controls(state, OpenFile(state))

    async def until(reached: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not reached():
                await asyncio.sleep(0.01)

    async def visit() -> None:
        worker = Worker(state, lambda _name: model)
        state.param.trigger("text")
        await until(lambda: state.error)
        assert "sparse by blocks" in state.error
        assert "stack" in {each["name"] for each in part(controls, "choices").fields}
        part(controls, "choices")._handle_msg({"name": "stack", "value": "decoder"})
        await until(lambda: state.error)
        assert state.error.startswith("Type a target")
        part(controls, "target")._handle_msg({"text": TARGET})
        await until(lambda: state.answer)
        state.want("a view", Aspect("effect", 2, 1, 3))
        await until(lambda: state.aspect(Aspect("effect", 2, 1, 3)) is not None)
        worker.close()

    asyncio.run(visit())
    assert state.answer is not None
    encodings = model.encode(TEXT, target=TARGET)
    assert state.answer.encodings.identical(encodings)
    mean = encodings["head_encoding"].isel(layer=[2], head=[1]).mean("position")
    expected = attnxr.effects(model, encodings.isel(layer=[2], head=[1], position=[3]), by="neighbor", mean=mean)
    found = state.aspect(Aspect("effect", 2, 1, 3))
    assert found is not None
    # Values not to the last bit: it was computed in another thread, where torch may share out its sums otherwise.
    xr.testing.assert_allclose(found, expected)
    assert found.copy(data={name: values.data for name, values in expected.items()}).identical(expected)


def test_what_says_nothing_of_a_models_stacks_hides_none(decoded: Answer) -> None:
    state = State(["t5"], text=TEXT)
    state.fail(state.request, "There is no model.")
    assert list(state.offered.stacks(None)) == []
    state.fail(state.request, "The text is empty.", ("encoder", "decoder", "cross"))
    assert len(list(state.offered.stacks(None))) == 3
    state.fail(state.request, "There is no model.")
    assert len(list(state.offered.stacks(None))) == 3
    state.param.update(stack="decoder", target=TARGET, k=3)
    state.land(replace(decoded, stacks=()))  # as of a file
    state.stack = None
    assert len(list(state.offered.stacks(None))) == 3


def test_the_chosen_token_stays_only_where_the_same_text_is_looked_at(solve: Callable, decoded: Answer) -> None:
    state = shown(decoded)
    state.select(position=5)
    other = solve(replace(DECODER, text="An arrow."))
    state.text = "An arrow."
    state.land(other)
    assert state.position == 5
    encoder = solve(replace(ENCODER, text="An arrow."))
    state.stack = None
    state.land(encoder)
    assert state.position == 1


def test_what_is_taken_away_says_both_texts(decoded: Answer) -> None:
    said = f"The text is the decoder's, which reads it while the encoder reads “{TEXT}”."
    assert said in citation(decoded)
    assert citation(decoded).startswith("In the decoder: which vocabulary tokens")
    made = contents(decoded, Selection(0, 0, 0))
    assert ["Text", said] in made["facts"]
    assert made["text"] == TARGET
    assert made["question"].startswith("In the decoder: which")


def test_a_file_shows_both_texts_and_is_asked_on(
    model: attnxr.Model, solve: Callable, decoded: Answer, tmp_path: Path
) -> None:
    (tmp_path / "it.nc").write_bytes(netcdf(decoded))
    opened = open_file(tmp_path / "it.nc", "it.nc")
    assert [opened.inputs[name] for name in ("text", "target", "stack")] == [TEXT, TARGET, "decoder"]
    state = State(["t5"])
    state.open(opened)
    assert state.opened is opened
    assert solve(state.request).encodings.identical(decoded.encodings)
    off = solve(replace(state.request, causal=False))
    assert off.encodings.identical(model.encode(TEXT, target=TARGET, causal=False))
    assert model_for(opened, "t5", lambda _name: model, "This").n_layers == 3
    state.target = "Fruit flies."
    assert state.opened is None


@pytest.mark.parametrize(
    ("attrs", "said"),
    [
        ({"stack": "cross"}, "of the stack cross"),
        ({"stack": "<b>"}, "of the stack <b>"),
        ({"stack": 7}, "of the stack 7"),
        ({"encoder_text": 7}, "an encoder's text of 7"),
        ({"encoder_text": "x" * 200_001}, "more than 200,000 characters"),
        ({"encoder_token_ids": "x"}, "encoder_token_ids"),
    ],
)
def test_a_forged_file_is_refused(decoded: Answer, tmp_path: Path, attrs: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        put(tmp_path, decoded, **attrs)


def test_a_file_of_another_encoder_text_is_not_read_again(solve: Callable, decoded: Answer, tmp_path: Path) -> None:
    opened = put(tmp_path, decoded, encoder_text="Another text.")
    with pytest.raises(InputError, match="has other tokens than"):
        solve(replace(DECODER, **opened.inputs | {"causal": False}, opened=opened))


def test_a_target_or_a_text_is_compared_with_another(solve: Callable, decoded: Answer) -> None:
    target = changed(decoded, "target", "Fruit flies like an arrow.", "")
    assert target == replace(DECODER, target="Fruit flies like an arrow.")
    text = changed(decoded, "text", "An arrow.", "")
    assert text == replace(DECODER, text="An arrow.")
    found = held_against(decoded, solve(text))
    assert found.differences is not None
    expected = attnxr.comparison(*(each.near for each in (found.a, found.b)), found.a.encodings, found.b.encodings)
    assert found.differences["attention_distance"].identical(expected["attention_distance"])
    for change, words, said in (
        ("target", TARGET, "That is the same target"),
        ("target", " ", "Type another target"),
        ("text", TEXT, "That is the same text"),
    ):
        with pytest.raises(InputError, match=said):
            changed(decoded, change, words, "")
    with pytest.raises(InputError, match="No target is read here"):
        changed(solve(ENCODER), "target", "An arrow.", "")


def test_what_was_cut_or_typed_is_of_the_target(solve: Callable) -> None:
    assert typed_special_tokens(solve(replace(DECODER, target="Time</s>flies"))) == ["</s>"]
    assert typed_special_tokens(solve(replace(DECODER, text="Time</s>flies"))) == []
    cut = solve(DECODER)
    cut = replace_attrs(cut, truncated=2)
    assert "The text, the target, or each of them, is longer than t5 can take: 2 tokens were cut from the end." in (
        notices(cut)
    )


def replace_attrs(answer: Answer, **attrs: Any) -> Answer:
    return replace(answer, encodings=answer.encodings.assign_attrs(attrs))


def test_views_of_datasets_know_the_stack(model: attnxr.Model, decoded: Answer) -> None:
    state = state_of(decoded.neighbors, decoded.encodings, model=model)
    assert state.request == replace(DECODER, k=3)
    assert sentence(state).startswith("In the decoder: which")
    with pytest.raises(InputError, match="stack='cross'"):
        state_of(model.encode(TEXT, target=TARGET, stack="cross"))
