"""The text of which a model makes given tokens: a corpus keeps tokens, and the page of one text asks about a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attnxr.errors import InputError
from attnxr.inputs.reading import Reader, Reading
from attnxr.model import Model


def text_again(model: Model, token_ids: Sequence[int]) -> str:
    """Find a text of which a model's tokenizer makes these tokens, and no others.

    Parameters
    ----------
    model : Model
        Whose tokenizer is to read the text.
    token_ids : sequence of int
        Tokens of a whole text, special ones included.

    Returns
    -------
    str
        The text, but for what a tokenizer does not tell, such as capital letters where it has none.

    Raises
    ------
    InputError
        If the tokenizer's own way from tokens to a text and back does not lead to the same tokens.
    """
    tokenizer, wanted = model.tokenizer, list(token_ids)
    size = model.vocab_size  # each time the model is looked at anew
    if tokenizer is None or not all(0 <= each < size for each in wanted):
        raise InputError("The text cannot be opened: its tokens are not of this model's tokenizer.")
    reader, how = Reader(tokenizer), Reading(model.max_tokens)
    for text in dict.fromkeys(_texts(tokenizer, wanted)):
        try:
            if reader.read(text, how).ids == wanted:
                return text
        except InputError:
            continue
    raise InputError(
        "The text cannot be opened: a corpus keeps its tokens alone, and no text was found of which the tokenizer "
        "makes the same ones, as it is where a text was cut."
    )


def _texts(tokenizer: Any, token_ids: list[int]) -> Iterator[str]:
    """Texts that may be it, the likeliest first."""
    special = set(getattr(tokenizer, "all_special_ids", ()))
    ends = [i for i, each in enumerate(token_ids) if each not in special]
    if not ends:
        return
    # Special tokens around a text are the tokenizer's; those inside it were typed.
    inner = token_ids[ends[0] : ends[-1] + 1]
    for tidy in (True, False):
        text = tokenizer.decode(inner, clean_up_tokenization_spaces=tidy)
        yield text
        yield text.removeprefix(" ")
        yield f" {text}"
