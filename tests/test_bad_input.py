"""Whatever is typed or passed: a right answer, or an error that says what was given and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import attnxr
from attnxr.errors import AttnxrError, InputError, ModelNotFoundError, TextTooLongError, UnsupportedModelError
from tests.support.cases import Case


@pytest.mark.parametrize("text", ["", " ", "\n\t ", "\u2003\u3000"])
def test_empty_and_blank_texts_are_errors(case: Case, text: str) -> None:
    with pytest.raises(InputError, match="blank"):
        case.model.encode(text)


@pytest.mark.parametrize("texts", [[], [""], ["fine", " "], ["fine", None], ["fine", 3]])
def test_a_bad_text_among_several_is_an_error(tiny: Case, texts: Any) -> None:
    with pytest.raises(InputError):
        tiny.model.encode(texts)


@pytest.mark.parametrize("text", [3, b"bytes", 2.5, True])
def test_something_else_than_a_text_is_an_error(tiny: Case, text: Any) -> None:
    with pytest.raises(InputError):
        tiny.model.encode(text)


@pytest.mark.parametrize("text", ["\ud800", "a \udfff b"])
def test_a_lone_surrogate_is_an_error(case: Case, text: str) -> None:
    with pytest.raises(InputError, match="surrogate"):
        case.model.encode(text)


ODD_TEXTS = {
    "control": "a\x01b\x07c\x1b[31m",
    "emoji": "a 😀 👩\u200d👩\u200d👧 🇪🇺",
    "right to left": "שלום עולם مرحبا",
    "override": "abc\u202edef",
    "script": "<script>alert('x')</script>",
    "mask": "Time <mask> like",
    "bert mask": "Time [MASK] like",
    "special": "</s><s><pad>",
    "html": "&lt;b&gt; &amp; <b>",
    "combining": "Z\u0351\u0343\u0311a\u0327\u0315l\u0334g\u0335o\u0328",
    "zero width": "a\u200bb\ufeff",
    "template": "{{ 7*7 }} ${x} %s {0} \\n",
    "wide": "你好，世界",
    "line ends": "a\r\nb\rc\u2028d",
}


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_odd_texts_get_a_right_answer(tiny: Case, text: str) -> None:
    enc = tiny.model.encode(text)
    assert enc.attrs["text"] == text
    check_encoding(tiny, enc)
    tiny.check(tiny.model.neighbors(enc, k=3), enc=enc)
    for name in ("token", "text"):
        assert all(isinstance(each, str) and each for each in enc[name].values)


def test_a_nul_gets_a_right_answer_and_does_not_end_any_string(case: Case) -> None:
    enc = case.model.encode("a\x00b")
    check_encoding(case, enc)
    assert "\x00" not in "".join([*enc.token.values, *enc.text.values, enc.attrs["text"]])
    assert len(enc.attrs["text"]) == 3


def check_encoding(case: Case, enc: xr.Dataset) -> None:
    true = case.oracle.trace(enc.token_id.values).encoding
    np.testing.assert_allclose(enc["head_encoding"], true, atol=1e-5 * np.abs(true).max())


def test_too_long_a_text_says_how_long_it_is_and_what_fits(case: Case) -> None:
    n = case.model.max_tokens + 100
    with pytest.raises(TextTooLongError, match=rf"\b{n + 2}\b.*\b{case.model.max_tokens}\b"):
        case.model.encode(" ".join("a" * n))


@pytest.mark.parametrize(
    "token_ids",
    [
        pytest.param([], id="none"),
        pytest.param([-1, 5], id="negative"),
        pytest.param([5, 400], id="beyond the vocabulary"),
        pytest.param([[[5, 6]]], id="3-D"),
        pytest.param([1.5, 2.0], id="fractions"),
        pytest.param(["a"], id="strings"),
        pytest.param("12", id="a string"),
        pytest.param([True, False], id="booleans"),
        pytest.param([None], id="nothing"),
        pytest.param(5, id="a number"),
        pytest.param([10**30], id="beyond 64 bits"),
        pytest.param(np.zeros((2, 2, 2), int), id="a 3-D array"),
        pytest.param(torch.tensor([0.5]), id="a float tensor"),
        pytest.param([[5, 6], [7]], id="lists of different lengths"),
    ],
)
def test_bad_token_ids_are_errors(tiny: Case, token_ids: Any) -> None:
    with pytest.raises(InputError, match=r"[Tt]oken"):
        tiny.model.encode(token_ids=token_ids)


def test_text_and_token_ids_together_or_neither_are_errors(tiny: Case) -> None:
    with pytest.raises(InputError, match="token_ids"):
        tiny.model.encode("fine", token_ids=[5])
    with pytest.raises(InputError, match="token_ids"):
        tiny.model.encode()


@pytest.mark.parametrize("include", [("values",), ("query", "nothing"), "attention maps", (3,)])
def test_an_unknown_name_to_include_is_an_error(tiny: Case, include: Any) -> None:
    with pytest.raises(InputError, match="hidden"):
        tiny.model.encode("fine", include=include)


@pytest.mark.parametrize("k", [0, -1, 10**6, 2.5, 3.0, "3", None, np.float64(3), float("nan"), [3]])
def test_k_must_be_a_whole_number_from_1_to_the_vocabulary_size(tiny: Case, k: Any) -> None:
    with pytest.raises(InputError, match=r"\bk\b"):
        tiny.model.neighbors(tiny.enc, k=k)


def test_k_may_be_a_numpy_integer(tiny: Case) -> None:
    assert tiny.model.neighbors(tiny.enc, k=np.int64(2)).sizes["rank"] == 2


@pytest.mark.parametrize("value", ["", "nope", "Cosine", None, 3, ["cosine"]])
@pytest.mark.parametrize("option", ["metric", "of", "space"])
def test_an_unknown_option_is_an_error_that_lists_the_known_ones(tiny: Case, option: str, value: Any) -> None:
    known = {"metric": "euclidean", "of": "encoding", "space": "value"}[option]
    for use in (tiny.model.neighbors, tiny.model.distances):
        with pytest.raises(InputError, match=known) as caught:
            use(tiny.enc, **{option: value})
        assert repr(value) in str(caught.value)


@pytest.mark.parametrize("positional", ["no", None, 2])
def test_positional_is_on_or_off(tiny: Case, positional: Any) -> None:
    with pytest.raises(InputError, match="positional"):
        tiny.model.neighbors(tiny.enc, positional=positional)


def test_what_was_not_included_cannot_be_compared(tiny: Case) -> None:
    enc = tiny.model.encode("fine")
    for use in (tiny.model.neighbors, tiny.model.distances):
        with pytest.raises(InputError, match="include") as caught:
            use(enc, of="query")
        assert "query" in str(caught.value)


@pytest.mark.parametrize("thing", [None, "text", 3, np.zeros((3, 4, 5, 8)), {"head_encoding": 1}])
def test_something_else_than_a_dataset_is_an_error(tiny: Case, thing: Any) -> None:
    for use in (tiny.model.neighbors, tiny.model.distances, attnxr.sequence_distances):
        with pytest.raises(InputError):
            use(thing)


def test_a_foreign_dataset_is_an_error(tiny: Case) -> None:
    foreign = tiny.enc.rename(layer="floor")
    for use in (tiny.model.neighbors, tiny.model.distances, attnxr.sequence_distances):
        with pytest.raises(InputError):
            use(foreign)


def test_encodings_of_another_model_are_an_error(roberta: Case, bert: Case) -> None:
    """They have the same shape, so that nothing else would show it."""
    for use in (roberta.model.neighbors, roberta.model.distances):
        with pytest.raises(InputError, match=r"fingerprint|another model"):
            use(bert.enc)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_an_error(tiny: Case, value: float) -> None:
    enc = tiny.enc.copy(deep=True)
    enc["head_encoding"][1, 2, 3, 4] = value
    with pytest.raises(InputError, match=r"finite|NaN|nan"):
        tiny.model.neighbors(enc)


def test_no_positions_give_no_neighbours_or_an_error(tiny: Case) -> None:
    nothing = tiny.enc.isel(position=slice(0, 0))
    with pytest.raises(InputError, match="position"):
        tiny.model.neighbors(nothing)


def test_every_error_is_of_one_kind() -> None:
    assert issubclass(InputError, AttnxrError)
    assert issubclass(InputError, ValueError)
    assert issubclass(TextTooLongError, InputError)
    assert issubclass(ModelNotFoundError, AttnxrError)
    assert issubclass(ModelNotFoundError, OSError)
    assert issubclass(UnsupportedModelError, AttnxrError)


@pytest.mark.parametrize("weights", ["anything", None, True])
def test_weights_are_safetensors_or_pickle(roberta_folder: Any, weights: Any) -> None:
    with pytest.raises(InputError, match="safetensors"):
        attnxr.load_model(str(roberta_folder), weights=weights)
