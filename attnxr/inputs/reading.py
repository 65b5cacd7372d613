"""Reading texts with a tokenizer: what it makes of a text, cut to what the model takes, the tokenizer left as it is."""

import copy
import json
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tokenizers import Tokenizer

from attnxr.errors import InputError, TextTooLongError
from attnxr.options import ReadAs
from attnxr.texts import PLACES
from attnxr.tokens import Tokens, backend, words_of

Messages = Sequence[Mapping[str, Any]]
"""A chat, as transformers takes it: ``[{"role": "user", "content": "Hello"}]``."""


@dataclass(frozen=True)
class Reading:
    """How texts are to be read.

    Attributes
    ----------
    max_tokens : int or None
        How many tokens, special ones included, the model takes.
    truncate : bool
        Keep the start of a text that has more, with the special tokens around it; of a pair, the start of the longer
        sentence, or of both.
    add_special_tokens : bool or "bos"
        Whether the tokenizer puts its special tokens around a text; or that the token that begins a text stands first,
        also where the tokenizer puts none there.
    add_generation_prompt : bool
        Whether a chat ends with the header of the answer to come.
    """

    max_tokens: int | None
    truncate: bool = False
    add_special_tokens: bool | Literal["bos"] = True
    add_generation_prompt: bool = False


class Reader:
    """Makes tokens of texts; any number of threads can use one.

    Cutting and padding are settings of a fast tokenizer, which any call to it can change. So texts are read by a copy
    of it that nobody else has; it is made anew where the caller has added tokens or changed what it makes of a text.

    Parameters
    ----------
    tokenizer : transformers tokenizer

    Attributes
    ----------
    tokenizer : transformers tokenizer
        The caller's.

    Raises
    ------
    InputError
        If it is no tokenizer.
    """

    def __init__(self, tokenizer: Any):
        _check(tokenizer)
        self.tokenizer = tokenizer
        self._lock = threading.Lock()
        self._state: tuple | None = None
        self._copy: Any = None

    def read_all(self, text: Any, pair: Any, how: Reading) -> tuple[list[str], list[Tokens]]:
        """Read one text or chat, or several, or pairs of texts.

        Parameters
        ----------
        text : str, messages, or list of these
        pair : str or list of str, optional
        how : Reading

        Returns
        -------
        list of str
            The texts as they were read.
        list of Tokens

        Raises
        ------
        InputError, TextTooLongError
            As `read`; or if texts and second sentences are not as many, or an option does not go with what is given.
        """
        several = isinstance(text, list | tuple) and not _is_chat(text)
        texts = list(text) if several else [text]
        if not texts:
            raise InputError("An empty list of texts was given; expected at least one text.")
        seconds = list(pair) if isinstance(pair, list | tuple) else [pair]
        if pair is None:
            seconds = [None] * len(texts)
        elif isinstance(pair, list | tuple) != several or len(seconds) != len(texts):
            raise InputError(
                f"{len(seconds)} second sentences were given in pair for {len(texts)} texts; expected one for each: "
                "two strings, or two lists of the same length."
            )
        chats = [_is_chat(each) for each in texts]
        if how.add_generation_prompt and not all(chats):
            raise InputError(
                "add_generation_prompt=True was given with a text; expected it with messages, such as "
                "[{'role': 'user', 'content': 'Hello'}]."
            )
        if any(chats) and pair is not None:
            raise InputError("pair was given with messages; expected a chat alone, or a pair of texts.")
        read, tokens = [], []
        for one, is_chat, second in zip(texts, chats, seconds, strict=True):
            # A template writes special tokens itself.
            here = replace(how, add_special_tokens=False) if is_chat else how
            as_text = self.messages(one, how.add_generation_prompt) if is_chat else one
            tokens.append(replace(self.read(as_text, here, second), said=_said(one, is_chat, how)))
            read.append(as_text if second is None else f"{as_text}\n{second}")
        return read, tokens

    def read(self, text: object, how: Reading, pair: object = None) -> Tokens:
        """Split a text into the tokens that the model will see, its special tokens included.

        A special token typed as text (``<mask>``, ``[MASK]``) is that special token, as everywhere in transformers.

        Parameters
        ----------
        text : str
        how : Reading
        pair : str, optional
            A second sentence. Its characters are counted on from those of the first, a line break between them.

        Raises
        ------
        InputError
            If a text is empty, blank, or no text, or the tokenizer takes no pairs.
        TextTooLongError
            If it has more tokens than the model takes and is not to be cut.
        """
        max_tokens = how.max_tokens
        sentences = [_checked(text), *([] if pair is None else [_checked(pair)])]
        tokenizer = self._own()
        fast = backend(tokenizer) is not None
        found = self._made(tokenizer, sentences, fast, how.add_special_tokens)
        ids = [int(i) for i in found["input_ids"]]
        if not ids:
            raise InputError(
                f"The tokenizer makes no token of the text {text!r}; expected at least one. Type a word or a sentence."
            )
        types = [int(i) for i in found.get("token_type_ids", ())]
        sentence_of = found.sequence_ids(0) if fast else []
        if fast:
            spans = _spans_of(sentences, _offsets(found, sentences, sentence_of), sentence_of)
            words = words_of(found.word_ids(0), sentence_of)
            tokens = Tokens(ids, [start for start, _ in spans], [end for _, end in spans], words, types=types)
        else:
            nowhere = [-1] * len(ids)
            tokens = Tokens(ids, nowhere, nowhere, nowhere, types=types)
        if how.add_special_tokens == "bos":
            tokens, sentence_of = self._begun(tokens, sentence_of)
            ids = tokens.ids
        if max_tokens is None or len(ids) <= max_tokens:
            return tokens
        if not how.truncate:
            raise TextTooLongError(
                f"The text has {len(ids)} tokens; the model takes at most {max_tokens}. Shorten it, or pass "
                f"truncate=True to keep its first {max_tokens}."
            )
        if not fast:
            sentence_of = self._sentence_of(tokenizer, sentences, ids)
        return _cut(tokens, sentence_of, max_tokens)

    def ways(self) -> list[ReadAs]:
        """How the tokenizer can read what is typed: see `arguments`."""
        tokenizer = self._own()
        fast = backend(tokenizer) is not None
        whole, bare = ([int(i) for i in self._made(tokenizer, ["a"], fast, special)["input_ids"]] for special in (1, 0))
        bos = getattr(tokenizer, "bos_token_id", None)
        found: list[ReadAs] = ["text"]
        if bos is not None and whole[:1] != [bos]:
            found.append("bos")
        if bos is not None and whole != bare:
            found.append("bare")
        if getattr(tokenizer, "chat_template", None):
            found += ["chat", "prompt"]
        return found

    def messages(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool) -> str:
        """The text that the tokenizer's chat template makes of messages; it has its special tokens.

        Raises
        ------
        InputError
            If there is no template, or it does not take the messages.
        """
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except Exception as error:  # what a template refuses, it refuses in its own words
            raise InputError(
                f"The tokenizer, a {type(self.tokenizer).__name__}, makes no text of the messages {messages!s:.80} "
                f"({error}). Expected a tokenizer with a chat template, and messages that it takes, such as "
                "[{'role': 'user', 'content': 'Hello'}]."
            ) from error
        return text

    def _begun(self, tokens: Tokens, sentence_of: list[int | None]) -> tuple[Tokens, list[int | None]]:
        """The tokens of a text behind the one that begins a text, and the sentence of each."""
        bos = getattr(self.tokenizer, "bos_token_id", None)
        if bos is None:
            raise InputError(
                f"add_special_tokens='bos' was given, and the tokenizer, a {type(self.tokenizer).__name__}, has no "
                "token that begins a text (bos_token). Leave it out, or type the token into the text."
            )
        if tokens.ids[0] == bos:
            return tokens, sentence_of
        places: dict[str, Any] = {name: [-1, *getattr(tokens, name)] for name in PLACES}
        types = [tokens.types[0], *tokens.types] if tokens.types else []
        return replace(tokens, ids=[int(bos), *tokens.ids], **places, types=types), [None, *sentence_of]

    def _made(self, tokenizer: Any, sentences: list[str], fast: bool, add_special_tokens: object) -> Any:
        options = options_of(fast, add_special_tokens)
        if len(sentences) == 1:
            return tokenizer(sentences[0], **options)
        try:
            return tokenizer(*sentences, **options)
        except Exception as error:  # each kind of tokenizer says it in its own way
            raise InputError(
                f"A pair of sentences was given, and the tokenizer, a {type(tokenizer).__name__}, takes none "
                f"({error}). Expected one text."
            ) from error

    def _own(self) -> Any:
        """The tokenizer that reads: a copy of a fast one, without cutting and padding; a slow one has no state."""
        inner = backend(self.tokenizer)
        if inner is None:
            return self.tokenizer
        with self._lock:
            parts = (inner.normalizer, inner.pre_tokenizer, inner.post_processor)
            try:
                rules = [part and part.__getstate__() for part in parts]
                added = repr(inner.get_added_tokens_decoder())
                split = getattr(self.tokenizer, "split_special_tokens", False)
                state = (id(inner), inner.get_vocab_size(), added, split, *rules)
                if state != self._state:
                    self._copy, self._state = copy.deepcopy(self.tokenizer), state
                    self._copy.backend_tokenizer.no_truncation()
                    self._copy.backend_tokenizer.no_padding()
            except Exception as error:  # a part written in Python, which the tokenizers library cannot copy
                if inner.truncation is None and inner.padding is None:
                    return self.tokenizer
                raise InputError(
                    f"The tokenizer, a {type(self.tokenizer).__name__}, is set to cut or pad texts, and cannot be "
                    f"copied ({error}), so that it could not be used without changing it. Expected one that does "
                    "neither: call tokenizer.backend_tokenizer.no_truncation() and .no_padding() first."
                ) from error
            return self._copy

    @staticmethod
    def _sentence_of(tokenizer: Any, sentences: list[str], ids: list[int]) -> list[int | None]:
        """The sentence of each token, None where it was put around, by what a slow tokenizer makes of each alone."""
        found: list[int | None] = [None] * len(ids)
        start = 0
        for number, sentence in enumerate(sentences):
            alone = [int(i) for i in tokenizer(sentence, add_special_tokens=False)["input_ids"]]
            starts = (i for i in range(start, len(ids) - len(alone) + 1) if ids[i : i + len(alone)] == alone)
            begins = next(starts, None)
            if begins is None:
                raise InputError(
                    f"truncate=True was given, and the tokenizer, a {type(tokenizer).__name__}, makes other tokens of "
                    "this text without its special tokens, so that it cannot be cut between them. Shorten the text."
                )
            start = begins + len(alone)
            found[begins:start] = [number] * len(alone)
        return found


def arguments(text: str, read_as: ReadAs) -> dict[str, Any]:
    """What `Model.encode` and `Model.generate` are given to read what somebody typed.

    Parameters
    ----------
    text : str
    read_as : {"text", "bos", "bare", "chat", "prompt"}
        A text, with the special tokens that the tokenizer puts around it; with the token that begins a text first; or
        without any. Or what a user says in a chat, without or with the header of the answer to come.
    """
    if read_as in ("chat", "prompt"):
        messages = [{"role": "user", "content": text}]
        return {"text": messages, "add_generation_prompt": read_as == "prompt"}
    special = {"text": True, "bos": "bos", "bare": False}
    return {"text": text, "add_special_tokens": special[read_as]}


def _said(given: Any, is_chat: bool, how: Reading) -> dict[str, Any]:
    """What attrs say of how a text was read, where not as by default."""
    if is_chat:
        messages = json.dumps(list(given), ensure_ascii=False, default=str).encode(errors="replace").decode()
        return {"read_as": "prompt" if how.add_generation_prompt else "chat", "messages": messages}
    return {} if how.add_special_tokens is True else {"read_as": "bos" if how.add_special_tokens else "bare"}


def options_of(fast: bool, add_special_tokens: object) -> dict[str, Any]:
    """What a tokenizer is called with besides a text."""
    options: dict[str, Any] = {"return_offsets_mapping": True, "verbose": False} if fast else {}
    return options if add_special_tokens else options | {"add_special_tokens": False}


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


def _is_chat(text: Any) -> bool:
    return isinstance(text, list | tuple) and len(text) > 0 and all(isinstance(each, Mapping) for each in text)


def _offsets(found: Any, sentences: Sequence[str], sentence_of: Sequence[int | None]) -> list[tuple[int, int]]:
    """Where each token stands in its sentence, as the tokenizer says.

    Of the blank that some put before a text, it says the place of the first letter: the blank has no place in the text.
    """
    offsets = list(found["offset_mapping"])
    for i, (name, number) in enumerate(zip(found.tokens(), sentence_of, strict=True)):
        start, end = offsets[i]
        if name == "▁" and number is not None and sentences[number][start:end].strip():
            offsets[i] = start, start
    return offsets


def _spans_of(
    sentences: list[str], offsets: list[tuple[int, int]], sentence_of: list[int | None]
) -> list[tuple[int, int]]:
    """Where tokens stand in the sentences, one after the other with a line break between."""
    if len(sentences) == 1:
        return _spans(sentences[0], offsets)
    found = [(-1, -1)] * len(offsets)
    shift = 0
    for number, sentence in enumerate(sentences):
        of_sentence = [i for i, each in enumerate(sentence_of) if each == number]
        spans = _spans(sentence, [offsets[i] for i in of_sentence])
        for i, (start, end) in zip(of_sentence, spans, strict=True):
            if start >= 0:
                found[i] = start + shift, end + shift
        shift += len(sentence) + 1
    return found


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
    if unicodedata.category(unicodedata.normalize("NFKC", character)[0])[0] == "M":  # a mark: an accent, a vowel sign
        return True
    whole = unicodedata.normalize("NFC", before + character)
    return whole != unicodedata.normalize("NFC", before) + character


def _cut(tokens: Tokens, sentence_of: list[int | None], max_tokens: int) -> Tokens:
    """The start of a text, or of both sentences of a pair, with the tokens around it that are not its own.

    Of a pair, the longer sentence is cut first (transformers' ``longest_first``).
    """
    around = sentence_of.count(None)
    room = max_tokens - around
    lengths = [sentence_of.count(0), sentence_of.count(1)]
    if room < 1 + (lengths[1] > 0):
        raise TextTooLongError(
            f"The model takes at most {max_tokens} tokens, and the tokenizer puts {around} special ones "
            "around a text, which leaves no room for it. Pass token_ids=[…] instead."
        )
    shorter = min(room // 2, *lengths)
    left = [room - shorter, shorter] if lengths[0] > lengths[1] else [shorter, room - shorter]
    keep = []
    for i, sentence in enumerate(sentence_of):
        if sentence is None or left[sentence] > 0:
            keep.append(i)
        if sentence is not None:
            left[sentence] -= 1
    return Tokens(
        ids=[tokens.ids[i] for i in keep],
        char_start=[tokens.char_start[i] for i in keep],
        char_end=[tokens.char_end[i] for i in keep],
        word=[tokens.word[i] for i in keep],
        cut=len(sentence_of) - len(keep),
        types=[tokens.types[i] for i in keep] if tokens.types else [],
    )
