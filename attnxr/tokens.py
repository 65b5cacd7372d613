"""Tokens: from a text to vocabulary ids and back to what a person can read."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

# Neither NumPy's nor HDF5's strings can hold a NUL at the end: the sign for it stands in its place.
_NUL = str.maketrans({"\0": "␀"})
_CLOSING = set(".,!?")  # before which decoders of WordPiece leave no space


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
    said : dict
        What attrs say of how the text was read, where not as by default, and of what a model wrote behind it.
    """

    ids: list[int]
    char_start: list[int] = field(default_factory=list)
    char_end: list[int] = field(default_factory=list)
    word: list[int] = field(default_factory=list)
    cut: int = 0
    types: list[int] = field(default_factory=list)
    said: dict[str, Any] = field(default_factory=dict)


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
        """Entries that stand for what their names say: special tokens, and those added.

        These are made of no bytes, and a ``##`` says of none that it goes on with a word.
        """
        found = set(np.flatnonzero(self.special).tolist())
        inner = backend(self._tokenizer)
        decoder = b"" if inner is None or inner.decoder is None else inner.decoder.__getstate__()
        if inner is None or b"ByteLevel" in decoder or b"WordPiece" in decoder:
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
    return _visible(token if "\ufffd" in text or token.lstrip("#") == text else text)


@dataclass(frozen=True)
class Piece:
    """How a token of a text is shown.

    Attributes
    ----------
    name : str
        What `label` says of it; of one of several tokens that are the bytes of a character, that character and which of
        them it is, as ``🍌 2/3``.
    character : str
        That character, or several where a token has bytes of two; empty of any other token.
    number, count : int
        Which of so many tokens it is, from 1.
    """

    name: str
    character: str = ""
    number: int = 1
    count: int = 1


def pieces(tokens: Iterable[str], texts: Iterable[str]) -> list[Piece]:
    """How the tokens of a text are shown, those put together that are the bytes of one character.

    Nothing but the tokens is asked, so that it is the same of a text, of token ids and of what a model generated.

    Parameters
    ----------
    tokens, texts : iterable of str
        The text's ``token`` and ``text``, in order.
    """
    pairs = [(str(token), str(text)) for token, text in zip(tokens, texts, strict=True)]
    found = [Piece(label(token, text)) for token, text in pairs]
    parts = [_bytes_of(token) if "\ufffd" in text else None for token, text in pairs]
    first = 0
    for known, run in groupby(parts, lambda part: part is not None):
        of_run = list(run)
        if known:
            for start, stop, character in _characters([part or b"" for part in of_run]):
                shown, count = _visible(character), stop - start
                for i in range(count):
                    found[first + start + i] = Piece(f"{shown} {i + 1}/{count}", shown, i + 1, count)
        first += len(of_run)
    return found


def _characters(parts: list[bytes]) -> list[tuple[int, int, str]]:
    """Where characters lie across several of these pieces: first piece, one past the last, and what they stand for."""
    whole = b"".join(parts)
    piece_of = [i for i, part in enumerate(parts) for _ in part]
    spans: list[tuple[int, int]] = []
    at = 0
    while at < len(whole):
        size = next((n for n in range(1, 5) if _is_character(whole[at : at + n])), 1)
        first, last = piece_of[at], piece_of[min(at + size, len(whole)) - 1]
        if last > first:
            if spans and first < spans[-1][1]:  # a piece with bytes of two characters
                first = spans.pop()[0]
            spans.append((first, last + 1))
        at += size
    return [(first, stop, b"".join(parts[first:stop]).decode(errors="replace")) for first, stop in spans]


def _is_character(encoded: bytes) -> bool:
    try:
        return len(encoded.decode()) == 1
    except UnicodeDecodeError:
        return False


def _bytes_of(token: str) -> bytes | None:
    """The bytes that a token stands for, as byte-level tokenizers and byte fallback write them; None of any other."""
    if re.fullmatch("<0x[0-9A-Fa-f]{2}>", token):
        return bytes([int(token[3:5], 16)])
    found = [_BYTES.get(each) for each in token]
    return None if None in found else bytes(each for each in found if each is not None)


def _byte_letters() -> dict[str, int]:
    """The letters that stand for each byte: ByT5's are those of Latin-1.

    GPT-2's, and those of all byte-level tokenizers since, are the same where these can be seen, and others elsewhere.
    """
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in range(256)} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_letters()


def _visible(text: str) -> str:
    return "".join(
        "␣" if each == " " else each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def mark_spaces(texts: Iterable[str]) -> bool:
    """Whether entries with these texts say where a space stands, as those of WordPiece do not."""
    return any(text.startswith(" ") for text in texts)


def in_text(tokens: Sequence[str], texts: Sequence[str], spaces_marked: bool) -> list[tuple[bool, str]]:
    """Tokens that follow each other, as they can be read in their text.

    Parameters
    ----------
    tokens, texts : sequence of str
        Of each, its token and what that stands for, as of `VocabularyTokens`.
    spaces_marked : bool
        What `mark_spaces` says of the tokenizer's entries.

    Returns
    -------
    list of (bool, str)
        Whether a space stands before it, never before the first one; and what stands there. What cannot be seen is
        shown as by `label`.
    """
    found = []
    for i, (token, text) in enumerate(zip(tokens, texts, strict=True)):
        begins = text.startswith(" ") if spaces_marked else not token.startswith("##") and text not in _CLOSING
        plain = text.removeprefix(" ")
        readable = bool(plain) and plain.isprintable() and "\ufffd" not in plain
        # Of an entry that is a space and no more, the sign for it stands there.
        found.append((begins and bool(plain) and i > 0, plain if readable else label(token, text)))
    return found


def _strings(names: list[str]) -> NDArray[np.object_]:
    array = np.empty(len(names), object)
    array[:] = names
    return array
