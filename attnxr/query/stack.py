"""The stacks of a model: what is known of each, and what the encoder of an encoder-decoder makes of a text."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import xarray as xr
from torch import Tensor

from attnxr import checking, texts
from attnxr.errors import InputError, UnsupportedModelError
from attnxr.inputs import given
from attnxr.inputs.reading import Reader, Reading
from attnxr.inputs.tokenized import types_for
from attnxr.options import STACKS, Stack
from attnxr.probe.stacks import TEXT, DecoderWindow, stacks_of
from attnxr.probe.window import Window
from attnxr.query.snapshot import Snapshot, cross, take
from attnxr.tokens import VocabularyTokens


class Snapshots:
    """A snapshot of a model or, of an encoder-decoder, of each of its stacks: taken when it is first asked for.

    Parameters
    ----------
    hf_model : transformers.PreTrainedModel
    tokenizer : transformers tokenizer or None
    memory : int
        See `attnxr.Model`.
    layers : list of int, optional
        See `attnxr.Model`.

    Attributes
    ----------
    stacks : tuple of str
        None where the model is no encoder-decoder.
    first : str or None
        The first of them that can be looked into.

    Raises
    ------
    InputError
        If layers of an encoder-decoder are chosen.
    UnsupportedModelError
        If the model, or both the encoder and the decoder of one, cannot be looked into.
    """

    def __init__(self, hf_model: Any, tokenizer: Any, memory: int, layers: Sequence[int] | None = None):
        self._arguments = hf_model, tokenizer, memory, layers
        self._lock = threading.RLock()
        self._taken: dict[Stack | None, Snapshot] = {}
        self.stacks = stacks_of(hf_model)
        if self.stacks and layers is not None:
            raise InputError(
                f"layers={[*layers]} was given for a {type(hf_model).__name__}, whose encoder and decoder have "
                "layers of the same numbers. Leave it out, or give its encoder alone, hf_model.get_encoder()."
            )
        self.first: Stack | None = self.stacks[0] if self.stacks else None
        try:
            self.of(self.first)
        except UnsupportedModelError as refusal:
            if not self.stacks:
                raise
            try:
                self.of("decoder")
            except UnsupportedModelError as of_decoder:
                raise UnsupportedModelError(f"{refusal} And of its decoder: {of_decoder}") from None
            self.first = "decoder"

    def of(self, stack: Stack | None) -> Snapshot:
        """What is known of a stack as it is now: all anew where weights were changed, replaced or moved."""
        with self._lock:
            if stack == "cross":
                of_decoder = self.of("decoder")
                if stack not in self._taken or self._taken[stack].state is not of_decoder.state:
                    self._taken[stack] = cross(of_decoder)
            elif stack not in self._taken or not self._taken[stack].is_current():
                self._taken[stack] = take(*self._arguments, stack)
            return self._taken[stack]

    def last(self, stack: Stack | None) -> Snapshot:
        """The last snapshot of a stack that has been looked into, whatever became of the model since."""
        return self._taken[stack]

    def asked_for(self, stack: object, target: object) -> Stack | None:
        """The stack that `Model.encode` is asked about.

        Raises
        ------
        InputError
            If there is no such stack, or a target where none is read, or none where one is.
        """
        if not self.stacks:
            if stack is not None or target is not None:
                raise InputError(
                    "stack or target was given to a model that is no encoder-decoder. Leave them out: it has one stack."
                )
            return None
        if stack is None:
            return "encoder" if target is None else "decoder"
        asked: Stack = checking.choice("stack", cast(Stack, stack), STACKS)
        if (asked == "encoder") != (target is None):
            raise InputError(
                f"stack={asked!r} was given {'without' if target is None else 'with'} a target; expected "
                + ("target, which the decoder reads." if target is None else "none: the decoder does not run.")
            )
        return asked

    def encoder(self) -> Snapshot | None:
        """What is known of the encoder; None where it cannot be looked into, though it can be run."""
        try:
            return self.of("encoder")
        except UnsupportedModelError:
            return None


@dataclass(frozen=True, eq=False)
class Source:
    """What an encoder was given, and what it has made of it, for a decoder to read.

    Attributes
    ----------
    text : str
        Empty where there is none.
    ids : list of int, length m
        Empty where something else than tokens was given.
    states : tensor (1, m, D)
        The encoder's last hidden state.
    names : VocabularyTokens
        Of the encoder's vocabulary.
    cut : int
        How many tokens did not fit and were left out.
    """

    text: str
    ids: list[int]
    states: Tensor
    names: VocabularyTokens
    cut: int = 0


def read_sources(
    snapshots: Snapshots,
    window: DecoderWindow,
    text: Any,
    pair: Any,
    token_ids: Any,
    how: Reading,
    reader: Reader | None,
    name: str,
) -> list[Source]:
    """Read what an encoder is given, and run it.

    Parameters
    ----------
    snapshots : Snapshots
    window : DecoderWindow
    text, pair, token_ids
        See `Model.encode`.
    how : Reading
        But for ``max_tokens``, which is the encoder's own.
    reader : Reader or None
    name : str
        What the model is called.

    Raises
    ------
    InputError, TextTooLongError
        As `attnxr.inputs.given.read`; or if the encoder does not run on what it is given.
    """
    if isinstance(text, Mapping) and "input_ids" not in text:
        if pair is not None or token_ids is not None:
            raise InputError(f"{', '.join(map(str, text))} was given with pair or token_ids. Leave these out.")
        return [Source("", [], window.handed(text), VocabularyTokens(None, 0))]
    if window.encoder_reads != TEXT:
        raise InputError(
            f"A text was given to {window.family}, whose encoder reads {window.encoder_reads}. Expected that by its "
            f"name, {{{window.encoder_reads!r}: …}}, or what the encoder has put out: {{'encoder_outputs': …}}."
        )
    encoder = snapshots.encoder()
    if encoder is None and isinstance(text, Mapping):
        raise InputError(
            f"What a tokenizer returns was given to {window.family}, whose encoder cannot be looked into, so that "
            "nobody sees where its text stands. Expected a text, or token_ids=[…]."
        )
    most = window.encoder_limit if encoder is None else encoder.window.layout.max_tokens
    among: Window = window if encoder is None else encoder.window
    read, tokens = given.read(text, pair, token_ids, replace(how, max_tokens=most), reader, among, name)
    size = window.encoder_entries if encoder is None else encoder.vocabulary.size
    names = VocabularyTokens(None if reader is None else reader.tokenizer, size) if encoder is None else encoder.tokens
    found = []
    for one, of_tokens in zip(read, tokens, strict=True):
        checking.vocabulary_ids(of_tokens.ids, size, name)
        types = types_for(among, of_tokens.types, size)
        found.append(Source(one, of_tokens.ids, window.encoded(of_tokens.ids, types), names, of_tokens.cut))
    return found


def check_pairs(stack: Stack, sources: Sequence[Source], targets: int, causal: bool | None, include: tuple) -> None:
    """Fail where sources and targets are not as many, or something is asked of cross-attention that it has not.

    Raises
    ------
    InputError
    """
    if len(sources) != targets:
        raise InputError(
            f"{len(sources)} texts were given for the encoder, and {targets} in target for the decoder; expected as "
            "many of both."
        )
    if stack != "cross":
        return
    of_stream = [name for name in include if name in ("residual", "hidden")]
    if of_stream or causal is not None or targets > 1:
        wrong = (
            f"include={of_stream}" if of_stream else f"causal={causal}" if causal is not None else f"{targets} texts"
        )
        raise InputError(
            f"stack='cross' was given with {wrong}. Expected one text, with include of query_vector, key_vector and "
            "value_vector: keys are positions of another text, so that there is no mask, and the stream is that of "
            "stack='decoder'."
        )


def attrs_of_sources(sources: Sequence[Source]) -> dict[str, Any]:
    """What attrs say of what an encoder was given: nothing where there is none."""
    if not sources or not sources[0].ids:
        return {}
    text = {} if len(sources) > 1 else {"encoder_text": sources[0].text.replace("\0", "␀")}
    return text | texts.attrs_of_encoder([source.ids for source in sources])


def windows_of(seen: Snapshot, encodings_attrs: Mapping[str, Any], count: int) -> list[Window]:
    """The window through which each text of encodings is run again: of a decoder, reading what it read before.

    Parameters
    ----------
    seen : Snapshot
    encodings_attrs : mapping
        Of the Dataset.
    count : int
        How many texts it has.

    Raises
    ------
    InputError
        If it does not say what a decoder read.
    """
    if not isinstance(seen.window, DecoderWindow):
        return [seen.window] * count
    ids = texts.encoder_ids(xr.Dataset(attrs=dict(encodings_attrs)))
    if len(ids) != count:
        raise InputError(
            f"The Dataset does not say what the encoder read of each of its {count} texts, as where the encoder's "
            "output was given as numbers. Expected encodings of a text that the encoder reads, with their attrs."
        )
    return [seen.window.reading(seen.window.encoded(each)) for each in ids]
