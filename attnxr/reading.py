"""Reading texts with a tokenizer: what it makes of a text, cut to what the model takes, the tokenizer left as it is."""

import copy
import threading
import unicodedata
from dataclasses import replace
from typing import Any

from tokenizers import Tokenizer

from attnxr.errors import InputError, TextTooLongError
from attnxr.tokens import Tokens, backend


class Reader:
    """Makes tokens of texts; any number of threads can use one.

    Cutting and padding are settings of a fast tokenizer, which any call to it can change. So texts are read by a copy
    of it that nobody else has; it is made anew where the caller has added tokens or changed what it makes of a text.

    Parameters
    ----------
    tokenizer : transformers tokenizer

    Raises
    ------
    InputError
        If it is none.
    """

    def __init__(self, tokenizer: Any):
        _check(tokenizer)
        self._given = tokenizer
        self._lock = threading.Lock()
        self._state: tuple | None = None
        self._copy: Any = None

    def read(self, text: object, max_tokens: int | None, truncate: bool) -> Tokens:
        """Split a text into the tokens that the model will see, its special tokens included.

        A special token typed as text (``<mask>``, ``[MASK]``) is that special token, as everywhere in transformers.

        Parameters
        ----------
        text : str
        max_tokens : int or None
            How many tokens, special ones included, the model takes.
        truncate : bool
            Keep the start of a text that has more, with the special tokens around it.

        Raises
        ------
        InputError
            If the text is empty, blank, or no text.
        TextTooLongError
            If it has more than `max_tokens` tokens and `truncate` is False.
        """
        text = _checked(text)
        tokenizer = self._own()
        fast = backend(tokenizer) is not None
        found = tokenizer(text, **({"return_offsets_mapping": True, "verbose": False} if fast else {}))
        ids = [int(i) for i in found["input_ids"]]
        if not ids:
            raise InputError(
                f"The tokenizer makes no token of the text {text!r}; expected at least one. Type a word or a sentence."
            )
        if fast:
            spans = _spans(text, found["offset_mapping"])
            words = [-1 if word is None else word for word in found.word_ids(0)]
            tokens = Tokens(ids, [start for start, _ in spans], [end for _, end in spans], words)
        else:
            nowhere = [-1] * len(ids)
            tokens = Tokens(ids, nowhere, nowhere, nowhere)
        if max_tokens is None or len(ids) <= max_tokens:
            return tokens
        if not truncate:
            raise TextTooLongError(
                f"The text has {len(ids)} tokens; the model takes at most {max_tokens}. Shorten it, or pass "
                f"truncate=True to keep its first {max_tokens}."
            )
        own = [each is not None for each in found.sequence_ids(0)] if fast else self._of_text(tokenizer, text, ids)
        return _cut(tokens, own, max_tokens)

    def _own(self) -> Any:
        """The tokenizer that reads: a copy of a fast one, without cutting and padding; a slow one has no state."""
        inner = backend(self._given)
        if inner is None:
            return self._given
        with self._lock:
            parts = (inner.normalizer, inner.pre_tokenizer, inner.post_processor)
            try:
                rules = [part and part.__getstate__() for part in parts]
                added = repr(inner.get_added_tokens_decoder())
                split = getattr(self._given, "split_special_tokens", False)
                state = (id(inner), inner.get_vocab_size(), added, split, *rules)
                if state != self._state:
                    self._copy, self._state = copy.deepcopy(self._given), state
                    self._copy.backend_tokenizer.no_truncation()
                    self._copy.backend_tokenizer.no_padding()
            except Exception as error:  # a part written in Python, which the tokenizers library cannot copy
                if inner.truncation is None and inner.padding is None:
                    return self._given
                raise InputError(
                    f"The tokenizer, a {type(self._given).__name__}, is set to cut or pad texts, and cannot be copied "
                    f"({error}), so that it could not be used without changing it. Expected one that does neither: "
                    "call tokenizer.backend_tokenizer.no_truncation() and .no_padding() first."
                ) from error
            return self._copy

    @staticmethod
    def _of_text(tokenizer: Any, text: str, ids: list[int]) -> list[bool]:
        """Which tokens are the text's and not put around it, by what a slow tokenizer makes of the text alone."""
        alone = [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
        for start in range(len(ids) - len(alone) + 1):
            if ids[start : start + len(alone)] == alone:
                return [start <= i < start + len(alone) for i in range(len(ids))]
        raise InputError(
            f"truncate=True was given, and the tokenizer, a {type(tokenizer).__name__}, makes other tokens of this "
            "text without its special tokens, so that it cannot be cut between them. Shorten the text."
        )


def _check(tokenizer: Any) -> None:
    if callable(tokenizer) and callable(getattr(tokenizer, "get_vocab", None)):
        return
    advice = "Load one with transformers.AutoTokenizer.from_pretrained(name)"
    if isinstance(tokenizer, Tokenizer):
        advice = "Wrap it: transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)"
    elif hasattr(tokenizer, "tokenizer"):
        advice = "Its attribute .tokenizer may be one"
    raise InputError(
        f"A tokenizer of type {type(tokenizer).__name__} was given; expected one of transformers, which is called with "
        f"a text and has get_vocab(). {advice}, or pass none and give Model.encode token_ids=[…]."
    )


def _checked(text: object) -> str:
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
    return text


def _spans(text: str, offsets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Where tokens stand in the text as it was given; (−1, −1) for those that stand for no characters.

    Where a tokenizer composes characters (NFC: e and an accent become é), it says that the result stands where the
    first of them did. The others belong to it too.
    """
    spans = [(start, end) if end > start else (-1, -1) for start, end in offsets]
    if text.isascii():
        return spans
    starts = {start for start, _ in spans}
    longer: dict[tuple[int, int], tuple[int, int]] = {}
    for start, end in {span for span in spans if span[0] >= 0}:
        stop = end
        while stop < len(text) and stop not in starts and _composes(text[start:stop], text[stop]):
            stop += 1
        longer[start, end] = start, stop
    return [longer.get(span, span) for span in spans]


def _composes(before: str, character: str) -> bool:
    """Whether a character is written together with those before it."""
    if unicodedata.combining(unicodedata.normalize("NFKC", character)[:1]):
        return True
    whole = unicodedata.normalize("NFC", before + character)
    return whole != unicodedata.normalize("NFC", before) + character


def _cut(tokens: Tokens, own: list[bool], max_tokens: int) -> Tokens:
    """The start of a text, with the tokens around it that are not its own."""
    room = max_tokens - own.count(False)
    if room < 1:
        raise TextTooLongError(
            f"The model takes at most {max_tokens} tokens, and the tokenizer puts {own.count(False)} special ones "
            "around a text, which leaves no room for it. Pass token_ids=[…] instead."
        )
    keep = []
    for i, is_own in enumerate(own):
        if not is_own or room > 0:
            keep.append(i)
        room -= is_own
    return replace(
        tokens,
        ids=[tokens.ids[i] for i in keep],
        char_start=[tokens.char_start[i] for i in keep],
        char_end=[tokens.char_end[i] for i in keep],
        word=[tokens.word[i] for i in keep],
        cut=len(own) - len(keep),
    )
