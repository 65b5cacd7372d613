"""Tokens as people read them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from attnxr.tokens import VocabularyTokens, in_text, label, mark_spaces, pieces
from tests.support import models
from tests.support.cases import Case


@pytest.mark.parametrize(
    ("token", "text", "shown"),
    [
        ("Time", "Time", "Time"),
        ("Ġflies", " flies", "␣flies"),
        ("Ġ", " ", "␣"),
        ("##ing", "ing", "##ing"),
        ("<s>", "<s>", "<s>"),
        ("[MASK]", "[MASK]", "[MASK]"),
        ("Ã©", "é", "é"),
        ("ðŁ", "\ufffd", "ðŁ"),
    ],
)
def test_label(token: str, text: str, shown: str) -> None:
    assert label(token, text) == shown


@pytest.mark.parametrize(
    "text", ["\n", "\t", " \n", "\x01", "\x7f", "\u200d", "\u200f", "\u202e", "\xa0", "  ", "\xad"]
)
def test_label_of_what_cannot_be_seen_can_be_seen(text: str) -> None:
    shown = label("Ċ", text)
    assert shown.isprintable()
    assert shown.strip()


def test_the_texts_of_byte_level_tokens_make_up_the_text(roberta: Case) -> None:
    enc = roberta.model.encode("Fruit flies, unbelievably!  Two spaces.")
    assert "".join(enc.text.values[1:-1]) == "Fruit flies, unbelievably!  Two spaces."


def test_the_texts_of_wordpiece_tokens_are_words_and_their_ends(bert: Case) -> None:
    enc = bert.model.encode("Fruit unbelievable")
    assert "##" in "".join(enc.token.values)
    assert not any("##" in text for text in enc.text.values)
    assert "".join(text.strip() for text in enc.text.values[1:-1]) == "fruitunbelievable"


@pytest.mark.parametrize("tokenizer", [models.wordpiece_tokenizer, models.byte_level_tokenizer])
def test_tokens_in_their_text_read_as_the_tokenizer_decodes_them(tokenizer: Any) -> None:
    made = tokenizer()
    names = VocabularyTokens(made, len(made))
    marked = mark_spaces(names.text.tolist())
    for text in [*models.CORPUS, "Is it? Unbelievable foxes run, run!"]:
        ids = made(text)["input_ids"]
        found = in_text(names.token[ids].tolist(), names.text[ids].tolist(), marked)
        assert "".join(" " * spaced + piece for spaced, piece in found).replace("␣", " ") == made.decode(ids)


def test_characters_index_the_text(case: Case) -> None:
    text = "Time FLIES like   an arrow"
    enc = case.model.encode(text).isel(position=slice(1, -1))
    pieces = [text[a:b] for a, b in zip(enc.char_start.values, enc.char_end.values, strict=True)]
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    for piece, token in zip(pieces, enc.text.values, strict=True):
        assert piece.strip().lower() == token.strip().lower()


def test_tokens_without_characters_say_so(case: Case) -> None:
    ends = case.enc.isel(position=[0, -1])
    for name in ("char_start", "char_end", "word"):
        assert ends[name].values.tolist() == [-1, -1]
    assert ends.is_special.all()


def test_words_group_the_pieces_of_a_word(bert: Case) -> None:
    enc = bert.model.encode("Fruit unbelievable banana")
    words = enc.word.values[1:-1]
    assert words[0] == 0
    assert sorted(set(words)) == [0, 1, 2]
    assert (words == 1).sum() > 1


@pytest.mark.parametrize("name", ["roberta", "bert", "minilm"])
def test_every_vocabulary_entry_has_a_token_of_its_own_and_a_text(request: pytest.FixtureRequest, name: str) -> None:
    vocabulary = request.getfixturevalue(name).model.vocabulary
    assert len(set(vocabulary.token)) == len(vocabulary.token) == len(vocabulary.text)
    assert all(isinstance(each, str) and each for each in (*vocabulary.token, *vocabulary.text))
    assert all(label(token, text).strip() for token, text in zip(vocabulary.token, vocabulary.text, strict=True))


def test_entries_without_a_token_are_named_by_their_ids() -> None:
    names = VocabularyTokens(models.wordpiece_tokenizer(), models.VOCABULARY_SIZE).token
    assert all(str(i) in names[i] for i in range(len(models.wordpiece_tokenizer()), models.VOCABULARY_SIZE))
    assert len(set(names)) == models.VOCABULARY_SIZE


@pytest.mark.parametrize(("name", "typed", "token"), [("roberta", "<mask>", "<mask>"), ("bert", "[MASK]", "[MASK]")])
def test_a_mask_typed_as_text_is_the_mask(request: pytest.FixtureRequest, name: str, typed: str, token: str) -> None:
    case: Any = request.getfixturevalue(name)
    enc = case.model.encode(f"Time {typed} like")
    assert token in enc.token.values
    assert token in enc.text.values
    case.check(case.model.neighbors(enc, k=3), enc=enc)


@pytest.mark.parametrize("added", ["café", "ĀāĂ", "Ġnew", " two words ", "日本"])
def test_an_added_token_stands_for_what_it_says(added: str) -> None:
    """Its characters are no bytes, as those of a byte-level tokenizer's other tokens are."""
    tokenizer = models.byte_level_tokenizer()
    tokenizer.add_tokens([added])
    vocabulary = VocabularyTokens(tokenizer, len(tokenizer))
    assert vocabulary.text[-1] == vocabulary.token[-1] == added
    assert vocabulary.text[tokenizer.convert_tokens_to_ids("Ġflies")] == " flies"


def test_an_added_token_goes_on_with_no_word() -> None:
    tokenizer = copy.deepcopy(models.wordpiece_tokenizer())
    tokenizer.add_tokens(["##new"])
    i = tokenizer.convert_tokens_to_ids("##new")
    assert VocabularyTokens(tokenizer, len(tokenizer)).text[i] == "##new"
    assert tokenizer("##new", add_special_tokens=False)["input_ids"] == [i]


def test_names_differ_whatever_the_tokenizer_calls_its_tokens() -> None:
    tokenizer = models.wordpiece_tokenizer()
    taken = len(tokenizer) + 5
    tokenizer.add_tokens(["\0", "␀", "a\0", "a␀", f"<id {taken}>"])
    names = VocabularyTokens(tokenizer, taken + 3).token
    assert len(set(names)) == len(names)
    assert "␀" in names
    assert names[tokenizer.convert_tokens_to_ids("␀")] == "␀"
    assert not any("\0" in name for name in names)


def parts_of(text: str) -> list[tuple[str, str]]:
    """What the tokens of a text are called, each with the bytes that GPT-2's own table says it has."""
    enc = models.byte_level_tokenizer()(text, add_special_tokens=False)["input_ids"]
    vocabulary = VocabularyTokens(models.byte_level_tokenizer(), models.VOCABULARY_SIZE)
    shown = pieces(vocabulary.token[enc], vocabulary.text[enc])
    return [(piece.name, piece.character) for piece in shown]


@pytest.mark.parametrize("character", ["🍌", "日", "é", "𝛼", "\u200d"])
def test_the_bytes_of_one_character_are_that_character(character: str) -> None:
    """However many tokens the tokenizer, which has seen none of them, makes of it."""
    shown = parts_of(f"flies{character}like")
    count = len(character.encode())
    seen = character if character.isprintable() else "\\u200d"
    assert [name for name, of in shown if of] == [f"{seen} {i + 1}/{count}" for i in range(count)]
    assert "".join(name for name, of in shown if not of) == "flieslike"


def test_characters_that_stand_together_are_apart() -> None:
    shown = [name for name, _ in parts_of("日本日")]
    assert shown == [f"{each} {i}/3" for each in "日本日" for i in (1, 2, 3)]


@pytest.mark.parametrize(
    ("tokens", "names"),
    [
        (["ĠðŁ", "į", "Į"], ["␣🍌 1/3", "␣🍌 2/3", "␣🍌 3/3"]),  # a token with a space before the bytes
        (["æĹ", "¥æľ", "¬"], ["日本 1/3", "日本 2/3", "日本 3/3"]),  # one with bytes of two characters
        (["<0xE6>", "<0x97>", "<0xA5>"], ["日 1/3", "日 2/3", "日 3/3"]),  # byte fallback
        (["ð", "\x9f", "\x8d", "\x8c"], [f"🍌 {i}/4" for i in (1, 2, 3, 4)]),  # ByT5
        (["ðŁ", "į"], ["ðŁ", "į"]),  # cut off
        (["į", "Į", "æĹ", "¥"], ["į", "Į", "日 1/2", "日 2/2"]),  # begun in the middle
        (["æĹ", "<s>", "¥"], ["æĹ", "<s>", "¥"]),
        (["ï¿½"], ["ï¿½"]),  # one token, whose text is the replacement character itself
    ],
)
def test_bytes_are_put_together_only_where_they_are_characters(tokens: list[str], names: list[str]) -> None:
    texts = [token if token == "<s>" else "\ufffd" for token in tokens]
    assert [piece.name for piece in pieces(tokens, texts)] == names


def test_letters_are_no_bytes_where_the_tokenizer_means_letters() -> None:
    assert [piece.name for piece in pieces(["Ã", "©"], ["Ã", "©"])] == ["Ã", "©"]
