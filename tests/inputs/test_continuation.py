"""What a model writes behind a text: by the model itself, by a seed, within what it takes, and leaving it as it is."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import attnxr
from attnxr import saved
from attnxr.errors import InputError, TextTooLongError, UnsupportedModelError
from attnxr.plots.grids import token_names
from attnxr.probe.generating import drawn
from tests.support import models, trained

TEXT = "Fruit flies like"


@pytest.fixture(scope="module")
def hf_model() -> Any:
    return models.tiny_gpt2()


@pytest.fixture(scope="module")
def model(hf_model: Any) -> attnxr.Model:
    return attnxr.Model(hf_model, models.decoder_tokenizer(), name="tiny")


def likeliest(hf_model: Any, ids: list[int], n: int) -> list[int]:
    """One whole pass a token, in float64, and nothing remembered between them."""
    exact = type(hf_model)(hf_model.config).double().eval()
    exact.load_state_dict(hf_model.state_dict())
    for _ in range(n):
        with torch.no_grad():
            ids = [*ids, int(exact(torch.tensor([ids])).logits[0, -1].argmax())]
    return ids


def bloom() -> Any:
    sizes = {"vocab_size": models.VOCABULARY_SIZE, "hidden_size": 32, "n_layer": 2, "n_head": 4}
    return models.randomise(transformers.BloomForCausalLM(transformers.BloomConfig(**sizes, eos_token_id=None)), 3)


@pytest.mark.parametrize("build", [models.tiny_gpt2, trained.untrained, bloom])
def test_greedy_is_what_the_model_itself_says_is_likeliest(build: Any) -> None:
    hf_model = build()
    continued = attnxr.Model(hf_model).generate(token_ids=[7, 3, 9], n=10)
    assert continued.token_ids == likeliest(hf_model, [7, 3, 9], 10)
    assert continued.n_own == 3


def test_a_seed_draws_the_same_in_any_thread_whatever_else_is_drawn(model: attnxr.Model) -> None:
    def sample(seed: int) -> list[int]:
        torch.rand(seed % 5)  # as another visitor would
        return model.generate(TEXT, n=8, seed=seed % 4).token_ids

    state = torch.random.get_rng_state()
    expected = [model.generate(TEXT, n=8, seed=seed).token_ids for seed in range(4)]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len({tuple(ids) for ids in expected}) == 4
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(sample, range(12))) == expected * 3


def test_what_is_drawn_has_the_probability_that_the_model_gives_it() -> None:
    logits, generator = torch.tensor([0.0, 2.0, -1.0, 1.0, -torch.inf]), torch.Generator().manual_seed(0)
    counts = np.bincount([int(drawn(logits, generator)) for _ in range(20_000)], minlength=5)
    expected = np.exp([0.0, 2.0, -1.0, 1.0, -np.inf])
    expected *= 20_000 / expected.sum()
    assert counts[4] == 0
    assert ((counts - expected)[:4] ** 2 / expected[:4]).sum() < 16.3  # χ² with 3 degrees of freedom, p = 0.001


def test_the_model_stays_as_it_is_and_its_own_wishes_do_not_count(hf_model: Any, model: attnxr.Model) -> None:
    expected = model.generate(TEXT, n=8).token_ids
    other = models.tiny_gpt2()
    other.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=9.0, max_new_tokens=2, top_k=1)
    other.train()

    def seen() -> list:
        named = [(name, parameter.detach().clone()) for name, parameter in other.named_parameters()]
        about = [other.config.to_dict(), other.generation_config.to_dict(), other.training]
        hooks = [(len(each._forward_hooks), len(each._forward_pre_hooks)) for each in other.modules()]
        return [sorted(vars(other)), *about, hooks, [name for name, _ in named], *(tensor for _, tensor in named)]

    before = seen()
    assert attnxr.Model(other, models.decoder_tokenizer()).generate(TEXT, n=8).token_ids == expected
    for was, now in zip(before, seen(), strict=True):
        assert torch.equal(was, now) if isinstance(was, torch.Tensor) else was == now


def test_a_text_is_never_longer_than_the_model_takes() -> None:
    model = attnxr.Model(models.tiny_gpt2(n_positions=16), models.decoder_tokenizer())
    n_own = len(model.encode(TEXT).position)
    room = 16 - n_own
    assert len(model.generate(TEXT, n=room).token_ids) == 16
    with pytest.raises(TextTooLongError, match=rf"n={room + 1} was given.*Pass n={room} or less"):
        model.generate(TEXT, n=room + 1)
    assert len(model.generate(TEXT, n=500, truncate=True).token_ids) == 16
    long = "banana " * 200
    with pytest.raises(TextTooLongError):
        model.generate(long)
    none = model.generate(long, truncate=True)
    assert none.n_own == len(none.token_ids) == 16
    enc = model.encode(none)
    assert enc.attrs["generated"] == 0
    assert enc.attrs["truncated"] == model.encode(long, truncate=True).attrs["truncated"]


def test_it_can_be_called_off_after_any_token(model: attnxr.Model) -> None:
    told: list[float] = []

    class OffError(Exception):
        pass

    def tell(fraction: float) -> None:
        told.append(fraction)
        if fraction > 0.5:
            raise OffError

    with pytest.raises(OffError):
        model.generate(TEXT, n=10, progress=tell)
    assert told == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_encodings_are_of_the_very_tokens(model: attnxr.Model) -> None:
    continued = model.generate(TEXT, n=12, seed=5)
    enc = model.encode(continued)
    own = model.encode(TEXT)
    assert enc.token_id.values.tolist() == continued.token_ids == enc.attrs["token_ids"].tolist()
    assert enc.token_id.values[: continued.n_own].tolist() == own.token_id.values.tolist()
    assert enc.attrs["text"] == continued.text
    assert continued.text.startswith(TEXT)
    assert continued.own_text == enc.attrs["own_text"] == TEXT
    assert (enc.attrs["generated"], enc.attrs["seed"]) == (12, 5)
    by_ids = model.encode(token_ids=continued.token_ids)
    np.testing.assert_array_equal(enc.head_encoding, by_ids.head_encoding)
    for name in ("char_start", "char_end", "word"):
        assert enc[name].values[: continued.n_own].tolist() == own[name].values.tolist()


def writing(wanted: list[int], tokenizer: Any) -> attnxr.Model:
    """A model that says these tokens are likeliest, one after the other, whatever it reads."""
    hf_model = models.tiny_gpt2(tie_word_embeddings=False)
    # Positions alone decide: words weigh nothing, and each position has a direction of its own.
    with torch.no_grad():
        for name, parameter in hf_model.named_parameters():
            parameter.fill_(float("ln" in name and name.endswith("weight")))
        hf_model.transformer.wpe.weight[:32] = torch.eye(32)
        for place, token in enumerate(wanted):
            if token >= 0:
                hf_model.lm_head.weight[token, place] = 1.0
    return attnxr.Model(hf_model, tokenizer)


def ids_of(tokenizer: Any, *tokens: str) -> list[int]:
    return tokenizer.convert_tokens_to_ids(list(tokens))


def test_words_are_known_where_the_tokenizer_makes_the_same_tokens_of_the_whole() -> None:
    tokenizer = models.decoder_tokenizer()
    n_own = len(tokenizer(TEXT)["input_ids"])
    behind = tokenizer(" a banana.")["input_ids"]
    model = writing([-1] * (n_own - 1) + behind, tokenizer)
    continued = model.generate(TEXT, n=len(behind))
    assert continued.text == f"{TEXT} a banana."
    enc, whole = model.encode(continued), model.encode(f"{TEXT} a banana.")
    for name in ("token_id", "char_start", "char_end", "word"):
        assert enc[name].values.tolist() == whole[name].values.tolist()


def test_tokens_that_the_tokenizer_would_not_make_stay_what_they_are() -> None:
    """Two letters, one after the other, where the text of both is one token."""
    tokenizer = models.decoder_tokenizer()
    n_own = len(tokenizer(TEXT)["input_ids"])
    behind = ids_of(tokenizer, "Ġ", "f", "l", "i", "e", "s")
    assert len(tokenizer(" flies")["input_ids"]) < len(behind)
    model = writing([-1] * (n_own - 1) + behind, tokenizer)
    continued = model.generate(TEXT, n=len(behind))
    assert continued.text == f"{TEXT} flies"
    enc = model.encode(continued)
    assert enc.token_id.values[n_own:].tolist() == behind
    assert set(enc.char_start.values[n_own:].tolist()) == set(enc.word.values[n_own:].tolist()) == {-1}
    assert enc.char_start.values[:n_own].tolist() == model.encode(TEXT).char_start.values.tolist()


def test_the_token_that_ends_a_text_ends_it() -> None:
    tokenizer = models.decoder_tokenizer()
    n_own = len(tokenizer(TEXT)["input_ids"])
    behind = ids_of(tokenizer, "Ġlike", "</s>")
    model = writing([-1] * (n_own - 1) + behind, tokenizer)
    model.hf_model.generation_config.eos_token_id = behind[-1]
    assert model.generate(TEXT, n=20).token_ids[n_own:] == behind


def test_a_text_that_the_tokenizer_ends_goes_on_where_it_ends() -> None:
    model = attnxr.Model(models.tiny_gpt2(), models.byte_level_tokenizer())
    ids = model.encode(TEXT).token_id.values.tolist()
    assert ids[-1] == model.tokenizer.eos_token_id
    continued = model.generate(TEXT, n=3)
    assert continued.n_own == len(ids) - 1
    assert continued.token_ids[: len(ids) - 1] == ids[:-1]
    typed = model.generate(f"{TEXT}</s>", n=1)  # which somebody wanted there
    assert typed.token_ids[typed.n_own - 1] == ids[-1]


def test_a_tokenizer_that_says_no_places_goes_on_there_too() -> None:
    tokenizer = transformers.ByT5Tokenizer()
    model = attnxr.Model(models.tiny_gpt2(vocab_size=384), tokenizer)
    continued = model.generate("flies 🍌", n=2)
    assert continued.token_ids[: continued.n_own] == tokenizer("flies 🍌", add_special_tokens=False)["input_ids"]
    assert token_names(model.encode(continued))[6:10] == [f"🍌 {i}/4" for i in (1, 2, 3, 4)]


def test_rows_beyond_the_vocabulary_are_no_tokens() -> None:
    hf_model = models.tiny_gpt2(tie_word_embeddings=False)
    hf_model.lm_head = nn.Linear(32, models.VOCABULARY_SIZE + 9)
    hf_model.eval()
    with torch.no_grad():
        hf_model.lm_head.bias[models.VOCABULARY_SIZE :] = 1e4
    for seed in (None, 1):
        continued = attnxr.Model(hf_model).generate(token_ids=[7, 3], n=5, seed=seed)
        assert max(continued.token_ids) < models.VOCABULARY_SIZE


def test_logits_that_are_no_numbers_choose_nothing() -> None:
    hf_model = models.tiny_gpt2(tie_word_embeddings=False)
    model = attnxr.Model(hf_model)
    with torch.no_grad():
        hf_model.lm_head.weight[5] = torch.nan
    with pytest.raises(UnsupportedModelError, match="NaN"):
        model.generate(token_ids=[7, 3], n=2)


def unable() -> Iterator[Any]:
    yield pytest.param(lambda: models.tiny_gpt2(transformers.GPT2Model), "no head for language", id="no head")
    yield pytest.param(lambda: models.tiny_bert(transformers.BertForMaskedLM), "see those behind", id="encoder")
    yield pytest.param(lambda: models.tiny_roberta(transformers.RobertaForCausalLM), "see those behind", id="both ways")
    sizes = {"vocab_size": 60, "d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    t5 = transformers.T5ForConditionalGeneration
    yield pytest.param(lambda: models.randomise(t5(transformers.T5Config(**sizes)), 0), "encoder-decoder", id="t5")


@pytest.mark.parametrize(("build", "reason"), list(unable()))
def test_a_model_that_cannot_says_what_to_load(build: Any, reason: str) -> None:
    model = attnxr.Model(build())
    assert not model.can_generate
    with pytest.raises(UnsupportedModelError, match=rf"{reason}.*Load a decoder with its head for language"):
        model.generate(token_ids=[7, 3])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"n": 0}, "n=0 was given"),
        ({"n": 2.5}, "n=2.5 was given"),
        ({"seed": -1}, "seed=-1 was given"),
        ({"seed": 2**31}, "seed=2147483648 was given"),
        ({"text": ["a", "b"]}, "2 texts were given to Model.generate"),
        ({"text": " "}, "empty or blank"),
        ({"text": None, "token_ids": [4000]}, "4000"),
        ({"add_special_tokens": "eos"}, "add_special_tokens='eos' was given"),
    ],
)
def test_what_cannot_be_asked(model: attnxr.Model, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        model.generate(**({"text": TEXT} | wrong))


def test_a_continuation_is_given_alone_and_where_it_fits(model: attnxr.Model) -> None:
    continued = model.generate(TEXT, n=10)
    with pytest.raises(InputError, match="token ids"):
        model.encode(continued, add_special_tokens=False)
    with pytest.raises(InputError, match="Continuation"):
        model.generate(continued)
    with pytest.raises(InputError, match="type Continuation"):
        model.encode([continued, continued])
    small = attnxr.Model(models.tiny_gpt2(n_positions=12), models.decoder_tokenizer())
    with pytest.raises(TextTooLongError, match="at most 12"):
        small.encode(continued)


def test_a_file_holds_it(model: attnxr.Model, tmp_path: Path) -> None:
    continued = model.generate(TEXT, n=6, seed=2)
    enc = model.encode(continued)
    near = model.neighbors(enc, k=3)
    (tmp_path / "it.nc").write_bytes(saved.write(enc, near))
    again = saved.read(tmp_path / "it.nc")
    assert again.encodings is not None
    assert again.attrs["own_text"] == TEXT
    assert (again.attrs["generated"], again.attrs["seed"]) == (6, 2)
    assert attnxr.Continuation.of(again.encodings).tokens == attnxr.Continuation.of(enc).tokens == continued.tokens
    assert model.encode(attnxr.Continuation.of(again.either)).identical(enc)
    for part in (enc.isel(position=slice(0, 3)), model.encode(TEXT)):
        with pytest.raises(InputError, match="whole of a continued text"):
            attnxr.Continuation.of(part)


def test_a_chat_goes_on_with_the_answer(model: attnxr.Model) -> None:
    chat = [{"role": "user", "content": "Fruit?"}]
    continued = model.generate(chat, n=4, add_generation_prompt=True)
    asked = model.encode(chat, add_generation_prompt=True)
    assert continued.token_ids[:-4] == asked.token_id.values.tolist()
    enc = model.encode(continued)
    assert (enc.attrs["read_as"], enc.attrs["messages"]) == ("prompt", '[{"role": "user", "content": "Fruit?"}]')
    assert enc.attrs["own_text"] == asked.attrs["text"]


def test_words_of_an_answer_are_known_too() -> None:
    """A template writes special tokens itself: its text is read again without others."""
    tokenizer = models.byte_level_tokenizer()
    tokenizer.chat_template = models.CHAT_TEMPLATE
    chat = [{"role": "user", "content": "Fruit?"}]
    own = attnxr.Model(models.tiny_gpt2(), tokenizer).encode(chat, add_generation_prompt=True)
    behind = tokenizer(" flies", add_special_tokens=False)["input_ids"]
    model = writing([-1] * (own.sizes["position"] - 1) + behind, tokenizer)
    enc = model.encode(model.generate(chat, n=len(behind), add_generation_prompt=True))
    end = len(own.attrs["text"]) + len(" flies")
    assert enc.char_end.values[-1] == end
    assert enc.word.values[-1] > own.word.values[-1]
