"""What one visitor sees of a corpus' heads, as parameters; no Panel, no server, no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import param
from numpy.typing import NDArray

from attnxr.dashboard.session.corpus import Corpus

MOST_SEARCHED = 100
"""Characters of what is searched among the words."""
_AXES = {
    "x": ("pattern_entropy", "neither_share", "activation_mean", "head"),
    "y": (
        "own_nearer_share",
        "own_share",
        "prev_token_score",
        "self_attention_score",
        "change-mean",
        "top_share",
        "layer",
    ),
    "color": ("layer",),
}
_NONE = -1


class Heads(param.Parameterized):
    """One visitor's choice of axes, colour, filter and heads.

    Heads are called by their index in the corpus: see `Corpus.place`.

    Parameters
    ----------
    corpus : Corpus
        Whose heads they are.
    **params
        Starting values of the parameters.
    """

    x: Any = param.Selector(check_on_set=True, doc="Which number of a head the figure shows from left to right.")
    y: Any = param.Selector(check_on_set=True, doc="Which number of a head the figure shows from below to above.")
    color: Any = param.Selector(check_on_set=True, doc="Which number of a head colours its point.")
    words = param.String(
        doc="What words of a head begin with that is kept, of those it writes most or more than others."
    )
    of_layer: Any = param.Selector(default=None, check_on_set=True, doc="The layer whose heads are kept.")
    sort: Any = param.Selector(check_on_set=True, doc="By which number the table is ordered.")
    descending = param.Boolean(default=False, doc="Whether the largest one comes first in the table.")
    chosen = param.Integer(default=0, bounds=(0, None), doc="The chosen head.")
    pinned = param.Integer(default=_NONE, bounds=(_NONE, None), doc="The head that stays beside it; −1 for none.")
    open = param.Boolean(default=False, doc="Whether the heads are shown, and not the text.")
    opening = param.String(doc="What is being done to open a text.")
    notices = param.List(default=[], item_type=str, doc="What to tell of the address, or of a text that was asked for.")

    def __init__(self, corpus: Corpus, **params: Any) -> None:
        super().__init__(**params)
        self.corpus = corpus
        names = {figure.label: name for name, figure in corpus.figures.items()}
        for axis, wanted in _AXES.items():
            self.param[axis].objects = names
            first = next((name for name in wanted if name in corpus.figures), "layer")
            self.param[axis].default = first
            setattr(self, axis, first)
        self.param["sort"].objects = names
        self.param["sort"].default = self.sort = "layer"
        self.param["of_layer"].objects = {"all": None} | {str(layer): layer for layer in corpus.layers}

    def select(self, index: int) -> None:
        """Choose a head; one that is not there leaves the choice as it was."""
        if 0 <= index < self.corpus.n:
            self.chosen = index

    def pin(self, index: int) -> None:
        """Have a head stay while others are chosen; none with −1."""
        if index == _NONE or 0 <= index < self.corpus.n:
            self.pinned = index

    def move(self, *, layer: int = 0, head: int = 0, position: int = 0) -> None:
        """Choose another head by steps, as far as there are any.

        Parameters
        ----------
        layer, head : int
            How far, and which way.
        position : int
            As `head`: there are no tokens to move through.
        """
        heads = len(self.corpus.heads)
        at = divmod(self.chosen, heads)
        steps = layer, head + position
        ends = len(self.corpus.layers) - 1, heads - 1
        there = [min(max(here + step, 0), end) for here, step, end in zip(at, steps, ends, strict=True)]
        self.select(there[0] * heads + there[1])

    def search(self, words: str) -> None:
        """Keep the heads that write words which begin so; several, with spaces between them, have all to be there."""
        self.words = " ".join(words[:MOST_SEARCHED].split())

    def order(self, name: str) -> None:
        """Order the table by a number; by the same one again, the other way round."""
        if name in self.corpus.figures:
            again = name == self.sort
            # Where and which a head is reads from the first; of what was measured the largest is looked for.
            first = name not in ("layer", "head")
            self.param.update(sort=name, descending=not self.descending if again else first)

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which heads the filters keep."""
        kept = np.ones(self.corpus.n, bool)
        for word in self.words.lower().split():
            kept &= np.array([f"\n{word}" in words for words in self.corpus.words])
        if self.of_layer is not None:
            kept &= self.corpus.figures["layer"].values == self.of_layer
        return kept

    @property
    def ordered(self) -> Sequence[int]:
        """The heads that are kept, in the order of the table; those without a number come last."""
        there = np.flatnonzero(self.kept)
        values = self.corpus.figures[self.sort].values[there]
        by = np.argsort(-values if self.descending else values, kind="stable")  # not-a-number is last both ways
        return there[by].tolist()
