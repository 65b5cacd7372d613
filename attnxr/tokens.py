"""Tokens: from a text to vocabulary ids and back to what a person can read."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnxr.errors import InputError, TextTooLongError

# Neither NumPy's nor HDF5's strings can hold a NUL at the end: the sign for it stands in its place.
_NUL = str.maketrans({"\0": "␀"})


@dataclass(frozen=True)
class Tokens:
    """The tokens of one text.

    Attributes
    ----------
    ids : list of int, length n
    char_start, char_end : list of int, length n
        Where in the text a token stands; −1 where it stands for no characters, or the tokenizer does not say.
    word : list of int, length n
        Which word it belongs to, counted by the tokenizer; −1 where it belongs to none.
    cut : int
        How many tokens did not fit and were left out.
    """

    ids: list[int]
    char_start: list[int] = field(default_factory=list)
    char_end: list[int] = field(default_factory=list)
    word: list[int] = field(default_factory=list)
    cut: int = 0


def tokenize(tokenizer: Any, text: object, max_tokens: int | None, truncate: bool) -> Tokens:
    """Split a text into the tokens that the model will see, its special tokens included.

    A special token typed as text (``<mask>``, ``[MASK]``) is that special token, as everywhere in transformers.

    Raises
    ------
    InputError
        If the text is empty, blank, or no text.
    TextTooLongError
        If it has more than `max_tokens` tokens and `truncate` is False.
    """
    if not isinstance(text, str):
        raise InputError(
            f"A text of type {type(text).__name__} was given; expected a str or a list of them. Pass token_ids=[…] for "
            "ids."
        )
    if not text.strip():
        raise InputError(
            f"The text {text!r} is empty or blank; expected at least one visible character. Type a word or a sentence."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"The text has a lone surrogate, {text[error.start]!r} at character {error.start}, which is not valid "
            "Unicode; expected text that can be written as UTF-8. Remove it, or decode the source with the right "
            "encoding."
        ) from error
    options = {"return_offsets_mapping": True} if tokenizer.is_fast else {}
    found = tokenizer(text, verbose=False, **options)
    length = len(found["input_ids"])
    cut = 0
    if max_tokens is not None and length > max_tokens:
        if not truncate:
            raise TextTooLongError(
                f"The text has {length} tokens; the model takes at most {max_tokens}. Shorten it, or pass "
                f"truncate=True to keep its first {max_tokens}."
            )
        found = tokenizer(text, truncation=True, max_length=max_tokens, **options)
        cut = length - len(found["input_ids"])
    ids = list(found["input_ids"])
    if not ids:
        raise InputError(
            f"The tokenizer makes no token of the text {text!r}; expected at least one. Type a word or a sentence."
        )
    if not tokenizer.is_fast:
        nowhere = [-1] * len(ids)
        return Tokens(ids, nowhere, nowhere, nowhere, cut)
    spans = [(start, end) if end > start else (-1, -1) for start, end in found["offset_mapping"]]
    words = [-1 if word is None else word for word in found.word_ids(0)]
    return Tokens(ids, [start for start, _ in spans], [end for _, end in spans], words, cut)


class VocabularyTokens:
    """Names and readings of all vocabulary entries.

    Parameters
    ----------
    tokenizer : transformers tokenizer or None
        Without one, entries are named by their ids, as ``<id 7>``.
    size : int
        Number of entries, V.
    """

    def __init__(self, tokenizer: Any, size: int):
        self._tokenizer = tokenizer
        self.size = size

    @cached_property
    def token(self) -> NDArray[np.object_]:
        """The tokenizer's token of each entry: array of str (V,), each different."""
        names: list[str | None] = [None] * self.size
        if self._tokenizer is not None:
            for name, i in self._tokenizer.get_vocab().items():
                if i < self.size:
                    names[i] = name.translate(_NUL)
        return _strings([f"<id {i}>" if name is None else name for i, name in enumerate(names)])

    @cached_property
    def text(self) -> NDArray[np.object_]:
        """What each entry stands for in a text, such as `` flies`` for ``Ġflies``: array of str (V,)."""
        special = self.special
        return _strings([token if special[i] else self._read(token) for i, token in enumerate(self.token)])

    @cached_property
    def special(self) -> NDArray[np.bool_]:
        """Whether each entry is one of the tokenizer's special tokens: array of bool (V,)."""
        special = np.zeros(self.size, bool)
        if self._tokenizer is not None:
            special[[i for i in self._tokenizer.all_special_ids if i < self.size]] = True
        return special

    def _read(self, token: str) -> str:
        # Decoders treat the first token of a text apart, so the token is read behind another one.
        alone, behind = self._decode([token]), self._decode(["a", token])
        behind = behind.removeprefix("a")
        return (token if alone == token and behind == f" {token}" else behind).translate(_NUL)

    def _decode(self, tokens: list[str]) -> str:
        decoder = getattr(getattr(self._tokenizer, "backend_tokenizer", None), "decoder", None)
        if decoder is not None:
            return decoder.decode(tokens)
        if self._tokenizer is not None:
            return self._tokenizer.convert_tokens_to_string(tokens)
        return "".join(tokens)


def label(token: str, text: str) -> str:
    """A token as a person should see it.

    Spaces are shown as ␣, other characters that cannot be seen by their escapes, and bytes that are no character by
    the token itself.
    """
    if "\ufffd" in text or token.lstrip("#") == text:
        text = token
    return "".join(
        "␣" if each == " " else each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _strings(names: list[str]) -> NDArray[np.object_]:
    array = np.empty(len(names), object)
    array[:] = names
    return array
