"""Random repeats are what they say, around any tokenizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken

import attnxr
from attnxr.errors import InputError, TextTooLongError
from tests.support import models, trained
from tests.support.cases import Case
from tests.support.families import FAMILIES


@pytest.mark.parametrize("repeats", [2, 3])
def test_blocks_of_different_ordinary_tokens_are_repeated(tiny: Case, repeats: int) -> None:
    model, length = tiny.model, 11
    texts = attnxr.random_repeats(model, length=length, repeats=repeats, n=7)
    around = model.tokenizer("")["input_ids"]
    assert len(texts) == 7
    assert len({tuple(ids) for ids in texts}) == 7
    for ids in texts:
        assert [ids[0], ids[-1]] == around
        block, inside = ids[1 : 1 + length], ids[1:-1]
        assert inside == block * repeats
        assert len(set(block)) == length
        assert not set(inside) & set(model.tokenizer.all_special_ids)
        assert max(inside) < len(model.tokenizer)
        assert model.encode(token_ids=ids).token_id.values.tolist() == ids


def test_the_seed_makes_the_texts(roberta: Case) -> None:
    first = attnxr.random_repeats(roberta.model, length=9, n=3, seed=1)
    assert first == attnxr.random_repeats(roberta.model, length=9, n=3, seed=1)
    assert first != attnxr.random_repeats(roberta.model, length=9, n=3, seed=2)
    assert first[:2] == attnxr.random_repeats(roberta.model, length=9, n=2, seed=1)


def test_every_ordinary_token_is_drawn(roberta: Case) -> None:
    texts = attnxr.random_repeats(roberta.model, length=18, n=400)
    assert {i for ids in texts for i in ids} == {0, 2, *range(5, models.VOCABULARY_SIZE)}


def test_added_tokens_are_not_drawn() -> None:
    tokenizer = models.wordpiece_tokenizer()
    tokenizer.add_tokens([AddedToken("<|reserved|>", special=True), AddedToken("<|tool|>")])
    reserved = set(tokenizer.convert_tokens_to_ids(["<|reserved|>", "<|tool|>"]))
    model = attnxr.Model(models.tiny_bert(), tokenizer)
    assert max(reserved) < model.vocab_size
    size = len(tokenizer) - 2 - len(tokenizer.all_special_ids)
    drawn = {i for ids in attnxr.random_repeats(model, length=18, n=200) for i in ids}
    assert not drawn & reserved
    assert len(drawn - set(tokenizer.all_special_ids)) == size


def test_what_begins_a_text_stands_first_also_where_the_tokenizer_does_not_put_it() -> None:
    """As that of GPT-2."""
    hf_model = trained.untrained()
    tokenizer = trained.tokenizer()
    assert attnxr.random_repeats(attnxr.Model(hf_model, tokenizer), length=4)[0][0] == 0
    tokenizer.backend_tokenizer.post_processor = None
    model = attnxr.Model(hf_model, tokenizer)
    assert tokenizer("a b")["input_ids"] == [1, 2]
    for ids in attnxr.random_repeats(model, length=4):
        assert ids[0] == 0
        assert ids[1:] == ids[1:5] * 2
    tokenizer.bos_token = None
    assert len(attnxr.random_repeats(model, length=4)[0]) == 8


@pytest.mark.parametrize(("name", "first"), [("llama", 0), ("bert", 0)])
def test_without_a_tokenizer_the_configuration_says_what_is_special(name: str, first: int) -> None:
    model = attnxr.Model(FAMILIES[name].build())
    texts = attnxr.random_repeats(model, length=20, n=50)
    assert {ids[0] for ids in texts} == {first}
    assert {i for ids in texts for i in ids[1:]} == set(range(3, model.vocab_size))  # 0, 1 and 2 begin, pad and end
    assert np.isfinite(attnxr.roles(model.encode(token_ids=texts[0])).induction_score).all()


def test_the_longest_that_fits_fits(roberta: Case) -> None:
    (ids,) = attnxr.random_repeats(roberta.model, length=18, n=1)
    assert len(ids) == roberta.model.max_tokens == 38
    with pytest.raises(TextTooLongError, match=r"length=19.*make 40 tokens.*at most 38.*length=18 or less"):
        attnxr.random_repeats(roberta.model, length=19)


def test_what_makes_no_texts_is_refused(roberta: Case) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"length": 0}, "length=0"),
        ({"length": 396}, "1 to 395"),
        ({"length": True}, "length=True"),
        ({"length": 5, "repeats": 1}, "repeats=1"),
        ({"length": 5, "n": 0}, "n=0"),
        ({"length": 5, "seed": -1}, "seed=-1"),
    ]
    for options, named in wrong:
        with pytest.raises(InputError, match=named):
            attnxr.random_repeats(roberta.model, **options)
    with pytest.raises(InputError, match=r"RobertaModel.*attnxr\.Model"):
        attnxr.random_repeats(roberta.hf_model)
