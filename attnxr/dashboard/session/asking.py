"""Which questions can be asked: what the library has a meaning for, and what it answers of a model. No list of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import xarray as xr

from attnxr.asked import OF_WORDS, SPACE_WORDS
from attnxr.errors import InputError
from attnxr.options import NAMED_LAYERS, OF, SPACES, NamedLayer, Of, ReadAs, Space, Stack, VocabLayer
from attnxr.query.request import Options

Asked = tuple[Of, Space, VocabLayer]
"""Of what, against which space, of which layer."""
PRESETS: dict[str, Asked] = {
    "as the demo": ("encoding", "value", "input"),
    "in its own layer": ("encoding", "value", "same"),
    "queries against keys": ("query", "key", "same"),
    "what it promotes": ("contribution", "unembedding", "input"),
    "the stream, as input": ("hidden", "embedding", "input"),
    "the stream, as output": ("hidden", "unembedding", "input"),
}
"""Questions that people ask, in their words."""
K = (5, 10, 15, 30)
"""How many neighbours can be chosen."""
CONTINUED = (0, 5, 10, 20, 50, 100)
"""How many tokens a model can be asked to write behind a text."""
SEEDS = (None, 1, 2, 3, 4, 5)
"""By which seeds they can be drawn: None takes the likeliest."""
READ_WORDS: dict[ReadAs, str] = {
    "text": "a text",
    "bos": "a text behind BOS",
    "bare": "a bare text",
    "chat": "a chat message",
    "prompt": "a chat, answer next",
}
"""What each way to read what was typed is called."""

NO_CONTINUATION = (
    "It has no head for language that says which token comes next. Start the server with a decoder that has one: "
    "attnxr serve gpt2"
)
"""Why a model writes nothing behind a text."""

NO_CROSS = (
    "What it reads are values of the encoder's last hidden state, which no vocabulary entry has by itself: this page "
    "has nothing to compare it with. In Python model.encode(text, target=…, stack='cross') gives its weights, and "
    "attnxr.encoder_neighbors the tokens of the text that are nearest."
)
"""Why the page asks nothing of cross-attention."""


@dataclass(frozen=True)
class Choice:
    """One of the values that a part of the question can have.

    Parameters
    ----------
    value : object
        The option's word, or the number of a layer.
    words : str
        What it is called.
    refusal : str
        Why it cannot be chosen; empty where it can.
    """

    value: object
    words: str
    refusal: str = ""


class Offered:
    """The questions that can be asked of a model.

    Parameters
    ----------
    questions : xarray.Dataset, optional
        What ``Model.questions`` returned. Without it, all that have a meaning are offered.
    layers : sequence of int
        Numbers of the model's layers, as far as they are known.
    readings : tuple of str
        What ``Model.readings`` says, as far as it is known.
    can_generate : bool
        What ``Model.can_generate`` says.
    stacks : tuple of str
        What ``Model.stacks`` says, as far as it is known.
    """

    def __init__(
        self,
        questions: xr.Dataset | None = None,
        layers: tuple[int, ...] = (),
        readings: tuple[ReadAs, ...] = (),
        can_generate: bool = False,
        stacks: tuple[Stack, ...] = (),
    ) -> None:
        self._refusals = _meanings() if questions is None else _refusals(questions)
        self.layers = layers
        self._readings, self._can_generate, self._stacks = readings, can_generate, stacks

    def refusal(self, of: Of, space: Space, vocab_layer: VocabLayer) -> str:
        """Why a question cannot be asked; empty where it can."""
        if isinstance(vocab_layer, str):
            return self._refusals[of, space, vocab_layer]
        if self.layers and vocab_layer not in self.layers:
            return f"There is no layer {vocab_layer}; the layers are {', '.join(map(str, self.layers))}."
        return self._refusals[of, space, "same"]

    def changed(self, asked: Asked, **change: object) -> Asked:
        """The question after a part of it was chosen anew: the other parts stay as far as they go with it."""
        whole: dict[str, Any] = {"of": asked[0], "space": asked[1], "vocab_layer": asked[2]} | change
        spaces = [whole["space"]] if "space" in change else [whole["space"], *SPACES]
        layers = [whole["vocab_layer"]] if "vocab_layer" in change else [whole["vocab_layer"], *NAMED_LAYERS]
        for space, layer in product(spaces, layers):
            if not self.refusal(whole["of"], space, layer):
                return whole["of"], space, layer
        return asked

    def readings(self, chosen: ReadAs) -> Iterator[Choice]:
        """How what is typed can be read; as by default always."""
        for read_as, words in READ_WORDS.items():
            if read_as in ("text", chosen, *self._readings):
                yield Choice(read_as, words)

    def continuations(self, chosen: int) -> Iterator[Choice]:
        """How many tokens the model can write behind the text; nothing to choose from where it writes none."""
        if not (self._can_generate or chosen):
            return
        refusal = "" if self._can_generate else NO_CONTINUATION
        for n in sorted({*CONTINUED, chosen}):
            yield Choice(n, f"{n} tokens" if n else "nothing", refusal if n else "")

    def stacks(self, chosen: Stack | None) -> Iterator[Choice]:
        """Which stack of an encoder-decoder; nothing to choose from where there is one."""
        if self._stacks or chosen:
            yield Choice(None, "encoder")
            yield Choice("decoder", "decoder")
            yield Choice("cross", "cross-attention", NO_CROSS)

    def presets(self) -> Iterator[Choice]:
        """Questions in people's words, each as its value."""
        for words, asked in PRESETS.items():
            yield Choice(words, words, self.refusal(*asked))

    def vectors(self) -> Iterator[Choice]:
        """Of what can be asked."""
        for of in OF:
            refusals = [self.refusal(of, space, layer) for space, layer in _meaning_of(of)]
            yield Choice(of, OF_WORDS[of], "" if "" in refusals else refusals[0])

    def spaces(self, of: Of) -> Iterator[Choice]:
        """Against what these vectors can be compared."""
        for space in dict.fromkeys(space for space, _layer in _meaning_of(of)):
            refusals = [self.refusal(of, space, layer) for each, layer in _meaning_of(of) if each == space]
            yield Choice(space, SPACE_WORDS[space], "" if "" in refusals else refusals[0])

    def vocab_layers(self, of: Of, space: Space, chosen: VocabLayer) -> Iterator[Choice]:
        """Of which layer that can be."""
        meant = [layer for each, layer in _meaning_of(of) if each == space]
        if meant == ["input"]:
            yield Choice("input", "of no layer", self.refusal(of, space, "input"))
            return
        words: dict[VocabLayer, str] = {"input": "the first", "same": "its own"}
        words |= {number: str(number) for number in self.layers}
        words.setdefault(chosen, str(chosen))
        for layer, name in words.items():
            yield Choice(layer, name, self.refusal(of, space, layer))


def preset(asked: Asked) -> str:
    """The words of a question that people ask; empty for another one."""
    return next((words for words, each in PRESETS.items() if each == asked), "")


def no_meaning(of: Of, space: Space, vocab_layer: VocabLayer) -> str:
    """Why a combination has no meaning, whatever the model; empty where it has one."""
    try:
        Options(of, space, vocab_layer, True).check()
    except InputError as error:
        return str(error)
    return ""


@cache
def _meanings() -> Mapping[tuple[str, str, str], str]:
    return {each: no_meaning(*each) for each in product(OF, SPACES, NAMED_LAYERS)}


@cache
def _meaning_of(of: Of) -> list[tuple[Space, NamedLayer]]:
    return [rest for rest in product(SPACES, NAMED_LAYERS) if not no_meaning(of, *rest)]


def _refusals(questions: xr.Dataset) -> Mapping[tuple[str, str, str], str]:
    refusal = questions["refusal"].transpose("of", "space", "vocab_layer")
    labels = product(*(refusal[dim].values.tolist() for dim in refusal.dims))
    return dict(zip(labels, refusal.values.ravel().tolist(), strict=True))
