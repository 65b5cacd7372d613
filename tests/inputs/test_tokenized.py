"""All that a tokenizer returns reaches the model: pairs and their types, masks, chats; padding has no position."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import xarray as xr

import attnxr
from attnxr.errors import InputError, TextTooLongError
from attnxr.options import VARIABLE
from tests.support import models, oracles
from tests.support.cases import HEAD_VECTORS, INCLUDED, Case

FIRST, SECOND = "Time flies like an arrow.", "Fruit flies like a banana, bananas do not fly."
LONG = " ".join(["banana", "flies", "arrow", "fruit"] * 5)
TEMPLATE = (
    "{% if not messages[0]['role'] %}{{ raise_exception('no role') }}{% endif %}"
    "{% for message in messages %}<s>{{ message['role'] }}: {{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>answer:{% endif %}"
)
CHAT = [{"role": "user", "content": FIRST}, {"role": "answer", "content": SECOND}]


@pytest.fixture(scope="module", params=["bert", "minilm"])
def typed(request: pytest.FixtureRequest) -> Case:
    """A model with two token types."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def decoder() -> tuple[attnxr.Model, Any]:
    """A GPT-2 whose padding is the end of a text, as is usual."""
    config = transformers.GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=60)
    hf_model = models.randomise(transformers.GPT2Model(config), 3)
    inner = models.byte_level_tokenizer().backend_tokenizer
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="</s>", eos_token="</s>", pad_token="</s>"
    )
    return attnxr.Model(hf_model, tokenizer), hf_model


def llama() -> Any:
    config = transformers.LlamaConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
    )
    return models.randomise(transformers.LlamaModel(config), 4)


def values_of(dataset: xr.Dataset) -> xr.Dataset:
    """Without what tells of a text that ids do not have."""
    return dataset.drop_vars(["char_start", "char_end", "word", "source"], errors="ignore").drop_attrs()


def test_the_sentences_of_a_pair_have_their_types(typed: Case) -> None:
    tokenizer = typed.model.tokenizer
    given = tokenizer(FIRST, SECOND)
    types = given["token_type_ids"]
    assert 0 < sum(types) < len(types)
    enc = typed.model.encode(FIRST, pair=SECOND, include=INCLUDED)
    assert enc.token_id.values.tolist() == given["input_ids"]
    assert enc.attrs["token_type_ids"].tolist() == types
    trace = typed.oracle.trace(enc.token_id.values, types)
    assert oracles.relative_error(enc["head_encoding"].values, trace.encoding) < 1e-4
    assert abs(enc.attention.values - trace.attention).max() < 1e-5
    without = typed.model.encode(token_ids=given["input_ids"])
    assert oracles.relative_error(without["head_encoding"].values, trace.encoding) > 1e-2


@pytest.mark.parametrize("positional", [True, False])
@pytest.mark.parametrize("space", HEAD_VECTORS)
def test_the_vocabulary_has_the_type_of_each_position(typed: Case, space: Any, positional: bool) -> None:
    enc = typed.model.encode(FIRST, pair=SECOND, include=INCLUDED)
    places = [1, 4, enc.sizes["position"] - 3]
    types = enc.attrs["token_type_ids"].tolist()
    near = typed.model.neighbors(enc.isel(position=places), k=5, space=space, positional=positional)
    for i, place in enumerate(places):
        vocabulary = typed.oracle.vocabulary(space, place if positional else None, types[place])
        Case.check_position(
            near.isel(position=[i]), place, "cosine", enc["head_encoding"].values[:, :, place], vocabulary
        )
    # What the text's own tokens have is what the model itself was handed.
    if positional:
        own = typed.model.neighbors(enc, k=1, metric="euclidean", of=space, space=space).isel(layer=0)
        assert (own.own_rank == 1).all()
        assert (own.own_distance <= 1e-4 * np.linalg.norm(enc[VARIABLE[space]][0].values, axis=-1)).all()


def test_what_a_tokenizer_returns_is_the_text_it_read(typed: Case) -> None:
    model, tokenizer = typed.model, typed.model.tokenizer
    expected = model.encode(FIRST, pair=SECOND)
    for options in ({}, {"return_tensors": "pt"}, {"return_tensors": "np", "return_offsets_mapping": True}):
        enc = model.encode(tokenizer(FIRST, SECOND, **options))
        xr.testing.assert_identical(values_of(enc), values_of(expected))
        assert enc.word.values.tolist() == expected.word.values.tolist()
        assert enc.attrs["token_type_ids"].tolist() == expected.attrs["token_type_ids"].tolist()
        near, of_text = (attnxr.words(model.neighbors(each, k=3)) for each in (enc, expected))
        assert near.own_rank.values.tolist() == of_text.own_rank.values.tolist()
    one = model.encode(dict(tokenizer(FIRST)))
    assert "token_type_ids" not in one.attrs
    xr.testing.assert_identical(values_of(one), values_of(model.encode(FIRST)))


def test_padding_has_no_position_and_gets_no_attention(typed: Case) -> None:
    model, tokenizer = typed.model, typed.model.tokenizer
    padded = tokenizer(FIRST, padding="max_length", max_length=25, return_tensors="pt")
    assert padded["attention_mask"].sum() < padded["input_ids"].numel()
    enc = model.encode(padded)
    xr.testing.assert_identical(values_of(enc), values_of(model.encode(FIRST)))
    for mask in (padded["attention_mask"].bool(), padded["attention_mask"].tolist()):
        again = model.encode({"input_ids": padded["input_ids"], "attention_mask": mask})
        xr.testing.assert_identical(values_of(again), values_of(enc))
    both = model.encode(tokenizer([FIRST, SECOND], padding=True, return_tensors="pt"), include="value_vector")
    xr.testing.assert_identical(values_of(both), values_of(model.encode([FIRST, SECOND], include="value_vector")))


def test_ids_that_end_in_padding_are_refused_without_a_mask(typed: Case) -> None:
    model, tokenizer = typed.model, typed.model.tokenizer
    padded = tokenizer(FIRST, padding="max_length", max_length=25)
    with pytest.raises(InputError, match=r"padding.*attention_mask"):
        model.encode(token_ids=padded["input_ids"])
    with pytest.raises(InputError, match=r"padding.*attention_mask"):
        model.encode({"input_ids": padded["input_ids"]})
    with pytest.raises(InputError, match="padding"):
        model.encode(token_ids=padded["input_ids"][::-1])


def test_one_end_of_a_text_is_no_padding_and_two_are(decoder: tuple[attnxr.Model, Any]) -> None:
    model, _ = decoder
    ids = model.encode(FIRST, add_special_tokens=False).token_id.values.tolist()
    end = model.tokenizer.eos_token_id
    assert model.encode(token_ids=[end, *ids, end]).sizes["position"] == len(ids) + 2
    for wrong in ([*ids, end, end], [end, end, *ids]):
        with pytest.raises(InputError, match="padding"):
            model.encode(token_ids=wrong)
        mask = [1] * len(wrong)
        assert model.encode({"input_ids": wrong, "attention_mask": mask}).sizes["position"] == len(wrong)


@pytest.mark.parametrize("kind", ["roberta", "llama"])
def test_a_text_behind_padding_is_that_text_where_the_model_says_so(roberta: Case, kind: str) -> None:
    model = roberta.model if kind == "roberta" else attnxr.Model(llama(), models.byte_level_tokenizer())
    tokenizer = model.tokenizer
    padded = tokenizer([FIRST, SECOND], padding=True, padding_side="left", return_tensors="pt")
    assert (padded["attention_mask"][:, 0] == 0).any()
    xr.testing.assert_identical(values_of(model.encode(padded)), values_of(model.encode([FIRST, SECOND])))


def test_a_text_that_padding_moves_is_refused(bert: Case, decoder: tuple[attnxr.Model, Any]) -> None:
    """BERT and GPT-2 count positions from the padding on, unless they are told where the text stands."""
    for model in (bert.model, decoder[0]):
        tokenizer = model.tokenizer
        padded = dict(tokenizer([FIRST, SECOND], padding=True, padding_side="left", return_tensors="pt"))
        with pytest.raises(InputError, match="behind padding"):
            model.encode(padded)
        mask = padded["attention_mask"]
        padded["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)  # as `generate` tells it
        xr.testing.assert_identical(values_of(model.encode(padded)), values_of(model.encode([FIRST, SECOND])))
        padded["position_ids"] = padded["position_ids"] + 1
        with pytest.raises(InputError, match="position_ids"):
            model.encode(padded)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"attention_mask": [1, 1]}, id="no ids"),
        pytest.param({"input_ids": []}, id="no token"),
        pytest.param({"input_ids": [[5, 6], []]}, id="an empty text"),
        pytest.param({"input_ids": [5, 6], "attention_mask": [1]}, id="a short mask"),
        pytest.param({"input_ids": [5, 6], "attention_mask": [0, 0]}, id="all masked"),
        pytest.param({"input_ids": [5, 6, 7], "attention_mask": [1, 0, 1]}, id="a hole"),
        pytest.param({"input_ids": [5, 6, 7], "attention_mask": [1, 1, 2]}, id="a mask of twos"),
        pytest.param({"input_ids": [5, 6, 7], "attention_mask": torch.ones(1, 1, 3, 3).int()}, id="a mask of pairs"),
        pytest.param({"input_ids": [5, 6], "attention_mask": [0.5, 1.0]}, id="a mask of floats"),
        pytest.param({"input_ids": [5, 6], "token_type_ids": [0]}, id="short types"),
        pytest.param({"input_ids": [5, 6], "token_type_ids": [0, 2]}, id="a type that is none"),
        pytest.param({"input_ids": [5, 6], "token_type_ids": [0, -1]}, id="a negative type"),
        pytest.param({"input_ids": [5, 6], "labels": [5, 6]}, id="labels"),
        pytest.param({"input_ids": [5, 6], "inputs_embeds": torch.zeros(2, 32)}, id="embeddings"),
        pytest.param({"input_ids": ["5", "6"]}, id="strings"),
        pytest.param({"input_ids": 5}, id="a number"),
        pytest.param({"input_ids": [5, 10**6]}, id="out of range"),
        pytest.param({"input_ids": [5, 6], "position_ids": [0, 10**6]}, id="a place out of range"),
        pytest.param({"input_ids": torch.ones(2, dtype=torch.long, device="meta")}, id="no numbers"),
    ],
)
def test_other_mappings_are_errors(bert: Case, given: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        bert.model.encode(given)


def test_types_of_a_model_that_has_none_are_refused() -> None:
    ids = [0, 11, 40, 23, 2]
    ones = [1] * len(ids)
    without = attnxr.Model(llama())
    with pytest.raises(InputError, match="takes no token types"):
        without.encode({"input_ids": ids, "token_type_ids": ones})
    assert "token_type_ids" not in without.encode({"input_ids": ids, "token_type_ids": [0] * len(ids)}).attrs


@pytest.mark.parametrize("types", [[0, 0, 0, 0, 0], [0, 7, 7, 3, 3]])
def test_types_of_a_model_without_a_table_are_entries_that_are_added(
    decoder: tuple[attnxr.Model, Any], types: list[int]
) -> None:
    """GPT-2 adds the embedding of the entry of that number, for 0 too."""
    model, hf_model = decoder
    ids = [5, 6, 7, 8, 9]
    given = {"input_ids": ids, "token_type_ids": types}
    enc = model.encode(given, include=["value_vector", "hidden"])
    inputs = {name: torch.tensor([values]) for name, values in given.items()}
    with torch.no_grad():
        expected = hf_model(**inputs, output_hidden_states=True).hidden_states
    assert oracles.relative_error(enc.hidden.values[0], expected[1][0].numpy()) < 1e-5
    own = model.neighbors(enc, k=1, metric="euclidean", of="value").isel(layer=0)
    assert (own.own_rank == 1).all()
    plain = model.encode(token_ids=ids)
    assert oracles.relative_error(plain["head_encoding"].values, enc["head_encoding"].values) > 1e-2


def test_a_batch_of_one_is_one_text(roberta: Case) -> None:
    ids = roberta.token_ids
    one = roberta.model.encode(token_ids=ids)
    for batch in (torch.tensor(ids)[None], ids[None], [ids.tolist()]):
        xr.testing.assert_identical(roberta.model.encode(token_ids=batch), one)
    with pytest.raises(InputError, match=r"tokenizer\(texts\)"):
        roberta.model.encode(token_ids=np.stack([ids, ids]))


def test_special_tokens_can_be_left_out(typed: Case) -> None:
    tokenizer = typed.model.tokenizer
    enc = typed.model.encode(FIRST, add_special_tokens=False)
    assert enc.token_id.values.tolist() == tokenizer(FIRST, add_special_tokens=False)["input_ids"]
    assert not enc.is_special.any()


def test_a_text_with_its_first_special_token_has_it_once(case: Case) -> None:
    first = case.model.tokenizer.cls_token or case.model.tokenizer.bos_token
    enc = case.model.encode(f"{first} {FIRST}", add_special_tokens=False)
    assert enc.is_special.values.tolist()[:2] == [True, False]
    twice = case.model.encode(f"{first} {FIRST}")
    assert twice.is_special.values.tolist()[:3] == [True, True, False]


@pytest.mark.parametrize("prompt", [False, True])
def test_a_chat_is_what_the_template_makes_of_it(prompt: bool) -> None:
    tokenizer = models.byte_level_tokenizer()
    tokenizer.chat_template = TEMPLATE
    model = attnxr.Model(models.tiny_roberta(), tokenizer)
    chat = [{"role": "user", "content": "Time flies."}]
    enc = model.encode(chat, add_generation_prompt=prompt)
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=prompt)
    assert enc.token_id.values.tolist() == list(
        ids["input_ids"] if isinstance(ids, dict | transformers.BatchEncoding) else ids
    )
    written = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt)
    assert enc.attrs["text"] == written
    bare = model.encode(written, add_special_tokens=False)
    assert (enc.attrs.pop("read_as"), bare.attrs.pop("read_as")) == ("prompt" if prompt else "chat", "bare")
    assert json.loads(enc.attrs.pop("messages")) == chat
    xr.testing.assert_identical(enc, bare)
    both = model.encode([chat, chat[:1]], add_generation_prompt=prompt)
    assert both.source.values.tolist() == [written, written]
    for wrong in ({"pair": SECOND}, {"token_ids": [5]}):
        with pytest.raises(InputError):
            model.encode(chat, **wrong)
    with pytest.raises(InputError, match="messages"):
        model.encode(FIRST, add_generation_prompt=True)
    with pytest.raises(InputError, match="chat template"):
        model.encode([{"content": "no role"}])


def test_a_tokenizer_without_a_template_makes_no_chat(roberta: Case) -> None:
    with pytest.raises(InputError, match="chat template"):
        roberta.model.encode(CHAT)


def test_words_of_a_pair_are_those_of_both_sentences(typed: Case) -> None:
    enc = typed.model.encode(FIRST, pair=SECOND)
    assert enc.attrs["text"] == f"{FIRST}\n{SECOND}"
    words = attnxr.words(typed.model.neighbors(enc, k=3))
    alone = [
        attnxr.words(typed.model.neighbors(typed.model.encode(each), k=3)).word_text.values for each in (FIRST, SECOND)
    ]
    assert words.word_text.values.tolist() == np.concatenate(alone).tolist()
    ends = zip(words.char_start.values, words.char_end.values, strict=True)
    assert [enc.attrs["text"][start:end] for start, end in ends] == words.word_text.values.tolist()


@pytest.mark.parametrize("sentences", [(LONG, LONG), (FIRST, LONG), (LONG, FIRST), ("a", LONG + LONG)])
def test_a_pair_is_cut_as_transformers_cuts_it(bert: Case, sentences: tuple[str, str]) -> None:
    tokenizer, most = models.wordpiece_tokenizer(), bert.model.max_tokens
    expected = tokenizer(*sentences, truncation="longest_first", max_length=most)
    whole = tokenizer(*sentences)["input_ids"]
    enc = bert.model.encode(sentences[0], pair=sentences[1], truncate=True)
    assert enc.token_id.values.tolist() == expected["input_ids"]
    assert enc.attrs["truncated"] == len(whole) - len(expected["input_ids"])
    if enc.attrs["truncated"]:
        assert enc.attrs["token_type_ids"].tolist() == expected["token_type_ids"]
        with pytest.raises(TextTooLongError):
            bert.model.encode(sentences[0], pair=sentences[1])


def test_pairs_that_do_not_fit_texts_are_errors(bert: Case) -> None:
    wrong: list[tuple[Any, Any]] = [
        (FIRST, [SECOND]),
        ([FIRST], SECOND),
        ([FIRST, FIRST], [SECOND]),
        (FIRST, ""),
        (FIRST, 5),
        (FIRST, []),
    ]
    for text, pair in wrong:
        with pytest.raises(InputError):
            bert.model.encode(text, pair=pair)
    both = bert.model.encode([FIRST, SECOND], pair=[SECOND, FIRST])
    for i, (text, pair) in enumerate([(FIRST, SECOND), (SECOND, FIRST)]):
        one = bert.model.encode(text, pair=pair)
        np.testing.assert_array_equal(
            both["head_encoding"].values[:, :, both.text_id == i], one["head_encoding"].values
        )
    near = bert.model.neighbors(both, k=3)
    first = bert.model.neighbors(bert.model.encode(FIRST, pair=SECOND), k=3)
    assert near.neighbor_id.values[:, :, near.text_id == 0].tolist() == first.neighbor_id.values.tolist()


def test_a_list_of_one_text_is_that_text(bert: Case) -> None:
    xr.testing.assert_identical(bert.model.encode([FIRST]), bert.model.encode(FIRST))


def test_analyses_know_types(bert: Case, tmp_path: Any) -> None:
    model = bert.model
    pair = model.encode(FIRST, pair=SECOND, include="value_vector")
    plain = model.encode(token_ids=pair.token_id.values)
    near = model.neighbors(pair, k=3)
    assert not np.allclose(model.moments(pair)["vocabulary_mean"], model.moments(plain)["vocabulary_mean"])
    with pytest.raises(InputError, match="token_type_ids"):
        attnxr.origins(near, plain)
    # With one token that is no special one, every order is the text's own.
    one = model.encode("banana", pair="[MASK]")
    shuffled = attnxr.significance(model, one, null="shuffled", draws=3)
    np.testing.assert_allclose(shuffled.nearest_null, shuffled.nearest, rtol=1e-6)
    csls = attnxr.csls_neighbors(model, one, k=3)
    assert (csls.own_rank >= 1).all()
    pair.drop_vars(["attention"]).to_netcdf(tmp_path / "pair.nc")
    again = xr.load_dataset(tmp_path / "pair.nc")
    xr.testing.assert_identical(model.neighbors(again, k=3), near)
    for wrong in ("[[0, 1]]", 5, [0, 1], pair.attrs["token_type_ids"] - 2, pair.attrs["token_type_ids"] * 0.5):
        with pytest.raises(InputError, match="token_type_ids"):
            model.neighbors(pair.assign_attrs(token_type_ids=wrong), k=3)
