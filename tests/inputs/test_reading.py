"""Texts are read without changing the tokenizer, cut at their ends, and placed in the text that was given."""

from __future__ import annotations

import copy
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import transformers
from tokenizers import PreTokenizedString, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers import models as parts

import attnxr
from attnxr.errors import InputError, TextTooLongError
from attnxr.inputs.reading import arguments
from tests.support import models

LONG = " ".join(["banana", "flies", "arrow", "fruit"] * 20)


def state(tokenizer: Any) -> tuple:
    inner = tokenizer.backend_tokenizer
    return inner.truncation, inner.padding, tokenizer.truncation_side, tokenizer.padding_side


@pytest.fixture(scope="module", params=["wordpiece", "byte level"])
def pair(request: pytest.FixtureRequest) -> tuple[attnxr.Model, Any]:
    if request.param == "wordpiece":
        tokenizer = models.wordpiece_tokenizer()
        return attnxr.Model(models.tiny_bert(), tokenizer), tokenizer
    tokenizer = models.byte_level_tokenizer()
    return attnxr.Model(models.tiny_roberta(), tokenizer), tokenizer


def test_threads_that_cut_do_not_reach_those_that_do_not(pair: tuple[attnxr.Model, Any]) -> None:
    model, tokenizer = pair
    before = state(tokenizer)
    expected = model.encode(LONG, truncate=True)

    def ask(i: int) -> bool:
        if i % 3 == 2:  # the caller's own
            return len(tokenizer(LONG, truncation=True, max_length=7)["input_ids"]) == 7
        if i % 3 == 0:
            with pytest.raises(TextTooLongError):
                model.encode(LONG)
            return True
        found = model.encode(LONG, truncate=True)
        return found.identical(expected)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(240)))
    tokenizer.backend_tokenizer.no_truncation()  # the caller's own calls had set it
    assert state(tokenizer) == before


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_tokenizer_that_cuts_and_pads_is_read_whole_and_left_so(pair: tuple[attnxr.Model, Any], side: str) -> None:
    model, tokenizer = pair
    whole = tokenizer(LONG, truncation=False)["input_ids"]
    expected = [*whole[: model.max_tokens - 1], whole[-1]]
    short = model.encode("banana flies")
    inner = tokenizer.backend_tokenizer
    tokenizer.truncation_side = tokenizer.padding_side = side
    inner.enable_truncation(5, direction=side)
    inner.enable_padding(length=30, direction=side)
    before = state(tokenizer)
    try:
        assert model.encode("banana flies").identical(short)
        with pytest.raises(TextTooLongError, match=str(len(whole))):
            model.encode(LONG)
        enc = model.encode(LONG, truncate=True)
        assert state(tokenizer) == before
    finally:
        inner.no_truncation()
        inner.no_padding()
        tokenizer.truncation_side = tokenizer.padding_side = "right"
    assert enc.token_id.values.tolist() == expected
    assert enc.attrs["truncated"] == len(whole) - len(expected)
    ends = list(zip(enc.char_start.values[1:-1].tolist(), enc.char_end.values[1:-1].tolist(), strict=True))
    assert ends == tokenizer(LONG, return_offsets_mapping=True)["offset_mapping"][1 : len(expected) - 1]


def test_a_change_of_the_tokenizer_is_noticed() -> None:
    tokenizer = models.wordpiece_tokenizer()
    model = attnxr.Model(models.tiny_bert(), tokenizer)
    assert "[CLS]" in model.encode("banana").token
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("x", "banana")
    assert "banana" in model.encode("x").token
    tokenizer.add_tokens(["@@@"])
    with pytest.raises(InputError, match="out of range"):  # the model was built with fewer entries
        model.encode("x @@@")


def test_a_tokenizer_with_a_part_in_python_is_read() -> None:
    class Whole:
        def pre_tokenize(self, text: PreTokenizedString) -> None:
            text.split(lambda _, part: [part])

    tokenizer = models.wordpiece_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Whole())
    model = attnxr.Model(models.tiny_bert(), tokenizer)
    assert model.encode("banana").token.values.tolist() == ["[CLS]", "banana", "[SEP]"]
    tokenizer.backend_tokenizer.enable_truncation(5)
    with pytest.raises(InputError, match=r"no_truncation"):
        model.encode("banana")
    assert tokenizer.backend_tokenizer.truncation["max_length"] == 5


def test_a_text_that_leaves_no_room_beside_special_tokens_is_refused() -> None:
    model = attnxr.Model(models.tiny_bert(max_position_embeddings=2), models.wordpiece_tokenizer())
    with pytest.raises(TextTooLongError, match="no room"):
        model.encode("banana", truncate=True)


DECOMPOSED = ["cafe\u0301", "o\u0302\u0323", "e\u0301\u0301", "\u1112\u1161\u11ab", "\uff76\uff9e", "A\u030a"]


@pytest.mark.parametrize("form", ["NFC", "NFKC", "NFD", "NFKD"])
@pytest.mark.parametrize("word", DECOMPOSED)
def test_spans_are_those_of_the_text_that_was_given(form: str, word: str) -> None:
    """A model of whole words: each stands for all of its characters, and not for the blanks between."""
    texts = [word, "is", f"is{word}"]
    names = [unicodedata.normalize(form, each) for each in texts]
    inner = Tokenizer(parts.WordLevel({"[UNK]": 0, **{name: i for i, name in enumerate(names, 1)}}, unk_token="[UNK]"))
    inner.normalizer = getattr(normalizers, form)()
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")
    text = f"{word} is  is{word} {word}"
    enc = attnxr.Model(models.tiny_bert(), tokenizer).encode(text)
    assert enc.token_id.values.tolist() == [1, 2, 3, 1]
    spans = zip(enc.char_start.values, enc.char_end.values, strict=True)
    assert [text[start:end] for start, end in spans] == [word, "is", f"is{word}", word]


def test_marks_that_a_tokenizer_leaves_out_belong_to_the_letter_before() -> None:
    tokenizer = copy.deepcopy(models.wordpiece_tokenizer())
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    text = "\u0939\u093f \u0e19\u0e35\u0e48 is"  # vowel signs, which have no class of combination, and a tone
    enc = attnxr.Model(models.tiny_bert(), tokenizer).encode(text, add_special_tokens=False)
    spans = zip(enc.char_start.values, enc.char_end.values, strict=True)
    assert [text[start:end] for start, end in spans][:2] == text.split()[:2]


def test_the_blank_before_a_text_stands_for_no_character() -> None:
    """T5's, XLM-R's and ALBERT's kind: where the first word is not begun by it, the blank is a token of its own."""
    inner = Tokenizer(parts.Unigram([("<unk>", 0.0), ("▁", -1.0), ("ab", -1.0), ("▁is", -1.0)], 0, False))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    enc = attnxr.Model(models.tiny_bert(), tokenizer).encode("ab is ab")
    assert enc.token.values.tolist() == ["▁", "ab", "▁is", "▁", "ab"]
    assert enc.char_start.values.tolist() == [-1, 0, 2, 5, 6]
    assert enc.char_end.values.tolist() == [-1, 2, 5, 6, 8]


def test_bytes_of_one_character_all_stand_for_it() -> None:
    tokenizer = models.byte_level_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    text = "cafe\u0301 is"
    enc = attnxr.Model(models.tiny_roberta(), tokenizer).encode(text)
    pieces = [text[a:b] for a, b in zip(enc.char_start.values, enc.char_end.values, strict=True)]
    assert pieces.count("e\u0301") == 2
    assert "".join(dict.fromkeys(pieces)) == text.replace(" ", "")


class Slow:
    """A tokenizer that has no more than it must: no class of transformers, no inside, no special tokens."""

    def __init__(self, inner: Any):
        self._inner = inner

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": self._inner(text, add_special_tokens=add_special_tokens)["input_ids"]}

    def get_vocab(self) -> dict[str, int]:
        return self._inner.get_vocab()

    def decode(self, ids: list[int]) -> str:
        return self._inner.decode(ids)

    def added_tokens_decoder(self) -> None:
        raise NotImplementedError

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        raise NotImplementedError


def test_a_tokenizer_without_the_fast_ones_attributes_is_as_a_slow_one(pair: tuple[attnxr.Model, Any]) -> None:
    fast, tokenizer = pair
    slow = attnxr.Model(fast.hf_model, Slow(tokenizer))
    for text, truncate in (("banana flies", False), (LONG, True)):
        found, expected = slow.encode(text, truncate=truncate), fast.encode(text, truncate=truncate)
        assert found.token_id.values.tolist() == expected.token_id.values.tolist()
        assert found.token.values.tolist() == expected.token.values.tolist()
        assert found.attrs["truncated"] == expected.attrs["truncated"]
        np.testing.assert_array_equal(found["head_encoding"], expected["head_encoding"])
        assert set(found.char_start.values.tolist()) == {-1}
        plain = ~expected.is_special.values
        stripped = [[each.strip() for each in enc.text.values[plain]] for enc in (found, expected)]
        assert stripped[0] == stripped[1]


@pytest.mark.parametrize(
    ("tokenizer", "advice"),
    [
        ("roberta-base", "AutoTokenizer"),
        (Tokenizer(parts.WordLevel({"a": 0})), "PreTrainedTokenizerFast"),
        (str.split, "get_vocab"),
    ],
)
def test_what_is_no_tokenizer_is_refused_when_the_model_is_built(tokenizer: Any, advice: str) -> None:
    with pytest.raises(InputError, match=advice):
        attnxr.Model(models.tiny_bert(), tokenizer)


def test_byt5_reads_bytes() -> None:
    tokenizer = transformers.ByT5Tokenizer()
    model = attnxr.Model(models.tiny_bert(), tokenizer)
    enc = model.encode("a\0é")
    assert enc.token_id.values.tolist() == [100, 3, 198, 172, 1]
    assert enc.text.values.tolist() == ["a", "␀", "\ufffd", "\ufffd", "</s>"]
    cut = model.encode("é" * 60, truncate=True)
    assert cut.token_id.values.tolist() == [*[198, 172] * 19, 198, 1]
    assert cut.attrs["truncated"] == 121 - 40


@pytest.fixture(scope="module")
def decoder() -> attnxr.Model:
    return attnxr.Model(models.tiny_gpt2(), models.decoder_tokenizer())


def test_the_token_that_begins_a_text_stands_first_where_it_is_asked_for(decoder: attnxr.Model) -> None:
    plain, begun = (decoder.encode("Fruit flies", add_special_tokens=special) for special in (True, "bos"))
    assert begun.token.values.tolist() == ["<s>", *plain.token.values]
    assert begun.char_start.values.tolist() == [-1, *plain.char_start.values]
    assert begun.attrs["read_as"] == "bos"
    assert "read_as" not in plain.attrs
    cut = decoder.encode(LONG, add_special_tokens="bos", truncate=True)
    whole = decoder.encode(LONG, truncate=True)
    assert cut.token.values.tolist() == ["<s>", *whole.token.values[:-1]]
    assert cut.attrs["truncated"] == whole.attrs["truncated"] + 1


def test_it_stands_there_once(pair: tuple[attnxr.Model, Any]) -> None:
    model, tokenizer = pair
    if tokenizer.bos_token is None:
        with pytest.raises(InputError, match=r"no token that begins a text \(bos_token\)"):
            model.encode("Fruit flies", add_special_tokens="bos")
    else:
        found = model.encode("Fruit flies", add_special_tokens="bos")
        assert found.token.values.tolist() == model.encode("Fruit flies").token.values.tolist()


def test_ways_to_read_are_those_that_the_tokenizer_has(decoder: attnxr.Model, pair: tuple[attnxr.Model, Any]) -> None:
    assert decoder.readings == ["text", "bos", "chat", "prompt"]
    assert pair[0].readings == (["text"] if pair[1].bos_token is None else ["text", "bare"])
    assert attnxr.Model(models.tiny_gpt2()).readings == []
    for model in (decoder, pair[0]):
        for read_as in model.readings:
            said = model.encode(**arguments("Fruit flies", read_as)).attrs.get("read_as", "text")
            assert said == read_as
