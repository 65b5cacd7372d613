"""Tokens: from a text to vocabulary ids and back to what a person can read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

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
    types : list of int, length n
        Token types, as those of the two sentences of a pair; empty where the model is given none, as where all are 0.
    """

    ids: list[int]
    char_start: list[int] = field(default_factory=list)
    char_end: list[int] = field(default_factory=list)
    word: list[int] = field(default_factory=list)
    cut: int = 0
    types: list[int] = field(default_factory=list)


def words_of(words: Sequence[int | None], sentences: Sequence[int | None]) -> list[int]:
    """Words numbered through both sentences of a pair, each of which the tokenizer counts from 0; −1 for none."""
    first = 1 + max(
        (word for word, of in zip(words, sentences, strict=True) if word is not None and of == 0), default=-1
    )
    return [-1 if word is None else word + (first if of == 1 else 0) for word, of in zip(words, sentences, strict=True)]


def backend(tokenizer: Any) -> Tokenizer | None:
    """The inside of a fast tokenizer, which says more of its tokens; None of any other."""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    return inner if isinstance(inner, Tokenizer) else None


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
        names = [f"<id {i}>" if name is None else name.translate(_NUL) for i, name in enumerate(self._names)]
        taken = {name for name in self._names if name is not None}
        for i, name in enumerate(names):
            if name != self._names[i]:  # one of ours, which the tokenizer can have given to another entry
                while names[i] in taken:
                    names[i] += f"<id {i}>"
                taken.add(names[i])
        return _strings(names)

    @cached_property
    def text(self) -> NDArray[np.object_]:
        """What each entry stands for in a text, such as `` flies`` for ``Ġflies``: array of str (V,)."""
        as_written = self._as_written()
        return _strings(
            [
                token if name is None or i in as_written else self._read(i, name).translate(_NUL)
                for i, (token, name) in enumerate(zip(self.token, self._names, strict=True))
            ]
        )

    @cached_property
    def special(self) -> NDArray[np.bool_]:
        """Whether each entry is one of the tokenizer's special tokens: array of bool (V,)."""
        special = np.zeros(self.size, bool)
        special[[i for i in getattr(self._tokenizer, "all_special_ids", ()) if i < self.size]] = True
        return special

    @cached_property
    def _names(self) -> list[str | None]:
        """The tokenizer's own names; None for entries that it does not name."""
        names: list[str | None] = [None] * self.size
        if self._tokenizer is not None:
            for name, i in self._tokenizer.get_vocab().items():
                if i < self.size:
                    names[i] = name
        return names

    def _as_written(self) -> set[int]:
        """Entries that stand for what their names say: special tokens, and those added, which bytes are not made of."""
        found = set(np.flatnonzero(self.special).tolist())
        inner = backend(self._tokenizer)
        if inner is None or (inner.decoder is not None and b"ByteLevel" in inner.decoder.__getstate__()):
            added = getattr(self._tokenizer, "added_tokens_decoder", None)
            found.update(added if isinstance(added, dict) else ())  # a method that raises in MistralCommonBackend
        return found

    def _read(self, i: int, token: str) -> str:
        # Decoders treat the first token of a text apart, so the token is read behind another one.
        alone, behind = self._decode([(i, token)]), self._decode([(self._a, "a"), (i, token)])
        behind = behind.removeprefix("a")
        found = token if alone == token and behind == f" {token}" else behind
        return found or "\ufffd"  # bytes that are no character, which some decoders leave out

    @cached_property
    def _a(self) -> int | None:
        return self._tokenizer.get_vocab().get("a")

    def _decode(self, entries: list[tuple[int | None, str]]) -> str:
        tokens = [token for _, token in entries]
        decoder = getattr(backend(self._tokenizer), "decoder", None)
        if decoder is not None:
            return decoder.decode(tokens)
        try:
            return self._tokenizer.convert_tokens_to_string(tokens)
        except (NotImplementedError, AttributeError):  # MistralCommonBackend reads ids alone
            return self._tokenizer.decode([i for i, _ in entries if i is not None])


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
