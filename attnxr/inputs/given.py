"""The one place that reads whatever `Model.encode` was given: texts, chats, pairs, token ids, a tokenizer's output."""

from collections.abc import Mapping
from typing import Any

from attnxr.errors import InputError, TextTooLongError
from attnxr.inputs import tokenized
from attnxr.inputs.continuation import Continuation
from attnxr.inputs.reading import Reader, Reading
from attnxr.probe.window import Window
from attnxr.tokens import Tokens


def read(
    text: Any, pair: Any, token_ids: Any, how: Reading, reader: Reader | None, window: Window, name: str
) -> tuple[list[str], list[Tokens]]:
    """Read a text or ids.

    Parameters
    ----------
    text, pair, token_ids
        See `Model.encode`.
    how : Reading
    reader : Reader or None
        None where the model was given without a tokenizer.
    window : Window
        Of the model.
    name : str
        What the model is called.

    Returns
    -------
    list of str
        The texts as they were read, of ids empty ones.
    list of Tokens
        Of each text.

    Raises
    ------
    InputError, TextTooLongError
        As `Reader.read_all` and `tokenized.read`; or if both or neither are given, or an option does not go with them.
    """
    if (text is None) == (token_ids is None):
        given = "both a text and token_ids were" if text is not None else "neither a text nor token_ids was"
        raise InputError(f"In Model.encode {given} given; expected one of them.")
    if token_ids is not None or isinstance(text, Mapping | Continuation):
        if pair is not None or how.add_special_tokens is not True or how.add_generation_prompt:
            raise InputError(
                "pair, add_special_tokens or add_generation_prompt was given with token ids; expected it with a "
                "text, which they say how to read. Leave it out."
            )
        if isinstance(text, Continuation):
            return [text.text], [_fitting(text, how)]
        padding = tokenized.padding_of(None if reader is None else reader.tokenizer)
        tokens = tokenized.read(text if token_ids is None else token_ids, how, padding, window)
        return [""] * len(tokens), tokens
    if reader is None:
        raise InputError(
            f"The model {name!r} was given without a tokenizer, so it cannot read a text. Pass token_ids=[…], or build "
            "attnxr.Model(hf_model, tokenizer)."
        )
    return reader.read_all(text, pair, how)


def _fitting(continuation: Continuation, how: Reading) -> Tokens:
    tokens, most = continuation.tokens, how.max_tokens
    if most is not None and len(tokens.ids) > most:
        raise TextTooLongError(
            f"The continued text has {len(tokens.ids)} tokens; the model takes at most {most}. Generate fewer, or give "
            f"the start of it: token_ids=continued.token_ids[:{most}]."
        )
    return tokens
