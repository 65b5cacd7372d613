"""What a decoder is to read: a text, of which the model makes what its decoder is handed, or ids as they are given."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from attnxr.errors import InputError
from attnxr.inputs import tokenized
from attnxr.inputs.reading import Reader, Reading, options_of
from attnxr.probe.stacks import DecoderWindow
from attnxr.texts import PLACES
from attnxr.tokens import Tokens


class TargetReader(Reader):
    """Makes tokens of a decoder's texts, as a tokenizer makes labels of them: ``tokenizer(text_target=…)``.

    Some tokenizers split a target in another way, or put other special tokens around it, and change themselves for as
    long as it takes: so this one has a copy of its own. See `Reader`.
    """

    def __init__(self, tokenizer: Any):
        super().__init__(tokenizer)
        self._languages: list[Any] = []
        self._slow: Any = None

    def _own(self) -> Any:
        languages = [getattr(self.tokenizer, name, None) for name in ("src_lang", "tgt_lang")]
        with self._lock:
            if languages != self._languages:
                self._languages, self._state, self._slow = languages, None, None
        own = super()._own()
        if own is not self.tokenizer:
            return own
        with self._lock:
            if self._slow is None:
                self._slow = copy.deepcopy(self.tokenizer)
            return self._slow

    def _made(self, tokenizer: Any, sentences: list[str], fast: bool, add_special_tokens: object) -> Any:
        with self._lock:
            return tokenizer(text_target=sentences[0], **options_of(fast, add_special_tokens))


def read(
    target: Any, how: Reading, reader: Reader | None, window: DecoderWindow, name: str
) -> tuple[list[str], list[Tokens]]:
    """Read what a decoder is to read.

    Parameters
    ----------
    target : str, list of str, or list of int
        See `Model.encode`.
    how : Reading
    reader : Reader or None
        None where the model was given without a tokenizer.
    window : DecoderWindow
    name : str
        What the model is called.

    Returns
    -------
    list of str
        The texts, empty ones for ids.
    list of Tokens
        What the decoder is handed: of a text its start token first, which has no characters.

    Raises
    ------
    InputError, TextTooLongError
        As `Reader.read` and `tokenized.read`; or if nothing says what the decoder is handed of a text.
    """
    if isinstance(target, Mapping):
        raise InputError("target was given as a mapping; expected a text, or the ids that the decoder is to read.")
    is_text = isinstance(target, str)
    if not is_text and not (isinstance(target, list | tuple) and any(isinstance(each, str) for each in target)):
        return [""], tokenized.read(target, how, tokenized.Padding(None, False), window)
    if reader is None:
        raise InputError(
            f"The model {name!r} was given without a tokenizer, so it cannot read the target. Pass the ids that the "
            "decoder is to read, its start token first, or build attnxr.Model(hf_model, tokenizer)."
        )
    texts: Sequence[Any] = [target] if is_text else target
    return list(texts), [_shifted(reader.read(text, how), window) for text in texts]


def _shifted(labels: Tokens, window: DecoderWindow) -> Tokens:
    """What the decoder is handed of labels; the last of them, which it is only to predict, is left out."""
    ids = window.shifted(labels.ids)
    spans: dict[str, Any] = {each: [-1, *getattr(labels, each)[:-1]] for each in PLACES}
    return Tokens(ids, **spans, cut=labels.cut)
