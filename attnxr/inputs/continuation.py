"""A text with what a model wrote behind it: its tokens are those that were generated, whatever its characters say."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import xarray as xr

from attnxr import texts
from attnxr.errors import InputError, TextTooLongError, UnsupportedModelError
from attnxr.inputs.reading import Reader, Reading
from attnxr.probe.generating import generated, refusal
from attnxr.probe.window import Window
from attnxr.tokens import Tokens

SAID = ("read_as", "messages", "own_text", "generated", "seed")
"""Attrs that say how a text was read, and what a model wrote behind it."""


@dataclass(frozen=True)
class Continuation:
    """A text and what a model wrote behind it: what `Model.generate` returns, and `Model.encode` takes as a text.

    Attributes
    ----------
    text : str
        The whole, as a person reads it; empty where token ids were given. The tokenizer can make other tokens of it
        than those that were generated, so it is never read again: `token_ids` are what `Model.encode` looks at.
    own_text : str
        What was given.
    token_ids : list of int
        Of all tokens.
    n_own : int
        How many of them, from the first, are the given text's own.
    tokens : Tokens
        The same, with what is known of where each stands in the text.

    Examples
    --------
    >>> import attnxr, transformers
    >>> config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None)
    >>> model = attnxr.Model(transformers.GPT2LMHeadModel(config).eval())
    >>> continued = model.generate(token_ids=[3, 1, 4], n=5, seed=0)
    >>> continued.n_own, len(continued.token_ids)
    (3, 8)
    >>> enc = model.encode(continued)
    >>> enc.sizes["position"], enc.attrs["generated"]
    (8, 5)
    """

    text: str
    own_text: str
    n_own: int
    tokens: Tokens = field(repr=False)

    @classmethod
    def of(cls, encodings: xr.Dataset) -> "Continuation":
        """What encodings or neighbours of one are of, whole, token by token.

        Parameters
        ----------
        encodings : xr.Dataset
            With all positions of the text, and ``generated`` in its attrs.

        Raises
        ------
        InputError
            If it says of no continuation, or positions were selected.
        """
        attrs, (ids, *others) = encodings.attrs, texts.token_ids(encodings)
        if others or "generated" not in attrs or encodings.sizes.get("position") != len(ids):
            raise InputError(
                "A Dataset was given that is not the whole of a continued text. Expected all positions of what "
                "Model.encode returns of a Continuation, with its attrs."
            )
        said = {name: attrs[name] for name in SAID if name in attrs}
        places: dict[str, Any] = {name: encodings[name].values.tolist() for name in texts.PLACES}
        tokens = Tokens(ids, **places, cut=int(attrs["truncated"]), said=said)
        own = attrs.get("own_text", "")
        return cls(str(attrs["text"]), str(own), len(ids) - int(attrs["generated"]), tokens)

    @property
    def token_ids(self) -> list[int]:
        """Of all tokens."""
        return list(self.tokens.ids)


def continued(
    text: str,
    tokens: Tokens,
    n: int,
    seed: int | None,
    how: Reading,
    reader: Reader | None,
    window: Window,
    size: int,
    progress: Callable[[float], object],
) -> Continuation:
    """Put behind a text what a model makes of it.

    Parameters
    ----------
    text : str
        As it was read; empty for ids.
    tokens : Tokens
        Of it.
    n : int
        How many tokens at most.
    seed : int or None
        See `attnxr.probe.generating.generated`.
    how : Reading
        How the text was read. Where it says so, n is cut to what the model takes.
    reader : Reader or None
    window : Window
    size : int
        Number of vocabulary entries, V.
    progress : callable
        Told the fraction done.

    Raises
    ------
    TextTooLongError
        If the model does not take so many.
    UnsupportedModelError
        If the model generates no text, or is given token types.
    """
    if refused := refusal(window, size):
        raise UnsupportedModelError(refused)
    if any(tokens.types):
        raise UnsupportedModelError(
            f"{window.family} is given token types, and which those of a continuation are is not known. Expected a "
            "decoder whose tokenizer makes none."
        )
    if "messages" in tokens.said:  # a template writes special tokens itself
        how = replace(how, add_special_tokens=False)
    own = tokens if tokens.cut else _open_ended(text, tokens, how, reader)
    room = n if how.max_tokens is None else 0 if own.cut else how.max_tokens - len(own.ids)
    if n > room and not how.truncate:
        advice = f"Pass n={room} or less, or shorten the text." if room else "Shorten the text."
        raise TextTooLongError(
            f"The text has {len(own.ids)} tokens, and n={n} was given; the model takes at most {how.max_tokens} "
            f"together. {advice} With truncate=True as many are generated as there is room for."
        )
    n = min(n, room)
    behind = generated(window, own.ids, n, size, seed, progress) if n > 0 else []
    ids = own.ids + behind
    whole = text + _written(reader, own.ids, behind) if text else ""
    places = _places(whole, ids, own, how, reader)
    said: dict[str, Any] = {"own_text": text, "generated": len(behind)} | ({} if seed is None else {"seed": seed})
    return Continuation(whole, text, len(own.ids), replace(own, ids=ids, **places, types=[], said=own.said | said))


def _open_ended(text: str, tokens: Tokens, how: Reading, reader: Reader | None) -> Tokens:
    """A text without what the tokenizer put behind it, as to end it: it goes on."""
    if reader is None or not text or not how.add_special_tokens:
        return tokens  # of ids that were given as such nobody knows who put them there
    ids = tokens.ids
    bare = reader.read(text, replace(how, max_tokens=None, add_special_tokens=False)).ids
    stops = (stop for stop in range(len(ids), len(bare) - 1, -1) if ids[stop - len(bare) : stop] == bare)
    stop = next(stops, len(ids))
    kept: dict[str, Any] = {name: getattr(tokens, name)[:stop] for name in ("ids", *texts.PLACES)}
    return replace(tokens, **kept)


def _written(reader: Reader | None, own: list[int], behind: list[int]) -> str:
    """What a person reads of the tokens behind a text."""
    if reader is None or not behind:
        return ""
    before, whole, alone = (
        str(reader.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        for ids in (own, own + behind, behind)
    )
    # Tokenizers treat the first token of a text apart, so it is read behind the text.
    return whole.removeprefix(before) if whole.startswith(before) else alone


def _places(whole: str, ids: list[int], own: Tokens, how: Reading, reader: Reader | None) -> dict[str, Any]:
    """Where all tokens stand in the whole text, and of which word they are.

    Of those behind it is known only where the tokenizer makes these very tokens of the whole.
    """
    if reader is not None and whole and len(ids) > len(own.ids):
        try:
            again = reader.read(whole, replace(how, max_tokens=None))
        except InputError:
            again = Tokens([])
        if again.ids[: len(ids)] == ids:
            return {name: getattr(again, name)[: len(ids)] for name in texts.PLACES}
    unknown = [-1] * (len(ids) - len(own.ids))
    return {name: getattr(own, name) + unknown for name in texts.PLACES}
