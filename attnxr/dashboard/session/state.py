"""All that one visitor's page shows, as parameters; no Panel, no server, no model."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import param
import xarray as xr

from attnxr.dashboard.session.answer import Answer, Aspect, Request
from attnxr.dashboard.session.asking import CONTINUED, READ_WORDS, Asked, Offered
from attnxr.dashboard.session.comparing import CHANGES, Comparison
from attnxr.dashboard.session.opened import Opened
from attnxr.options import HOW_FAR, MEANS, METRIC_MEANS, MOST_SEED, OF, SPACES, Metric, Stack
from attnxr.plots import DIFFERENCES, MEASURES
from attnxr.plots.encoding_map import METHODS
from attnxr.plots.over_layers import QUANTITIES

START_TEXT = "Time flies like an arrow. Fruit flies like a banana."

METRICS: dict[str, Metric] = {
    "Cosine": "cosine",
    "Euclidean": "euclidean",
    "Dot product": "dot",
    "Centred cosine": "centered_cosine",
}

MASKS = {"as the model has it": None, "off": False, "on": True}

QUESTION = ("of", "space", "vocab_layer")
ASKED = (*QUESTION, "metric", "positional")
"""Parameters that say the question of the answer."""
VERSUS = tuple(f"versus_{name}" for name in (*QUESTION, "metric"))
"""Parameters that say the question of the answer that is compared."""
READING = ("read_as", "continued", "seed", "stack")
"""Parameters that say how the text is read, what the model writes behind it, and which of its stacks is asked about."""
REQUEST = ("text", "target", "model", "metric", "positional", "causal", "opened", *QUESTION, "k", *READING)


@dataclass(frozen=True)
class Activity:
    """Work in progress.

    Parameters
    ----------
    message : str
        What is being done.
    fraction : float, optional
        How much of it is done, from 0 to 1, where that is known.
    """

    message: str
    fraction: float | None = None


class State(param.Parameterized):
    """One visitor's inputs, the answer to them, and what is selected in it.

    Data flows one way: widgets and clicks change the inputs and the selection, a worker answers the inputs,
    and the views follow. At every moment `answer` is either the answer to `request` or None, so what a view
    shows is never stale.

    Parameters
    ----------
    models : sequence of str
        Names of the models on offer; the first one is chosen.
    with_other : bool
        Whether there is another State, `other`, for what this one's answer is compared with.
    **params
        Starting values of the parameters.
    """

    text = param.String(default=START_TEXT, doc="The text asked about.")
    model: Any = param.Selector(check_on_set=True, doc="The model that reads the text.")
    metric: Any = param.Selector(
        default="cosine",
        objects=METRICS,
        doc=" ".join([HOW_FAR, *(f"{label}: {METRIC_MEANS[name]}." for label, name in METRICS.items())]),
    )
    positional = param.Boolean(
        default=True,
        doc=MEANS["positional"],
    )
    causal: Any = param.Selector(
        default=None,
        objects=MASKS,
        doc=MEANS["causal"] + " Models that make their mask by themselves have only their own.",
    )

    of: Any = param.Selector(
        default="encoding",
        objects=list(OF),
        check_on_set=True,
        doc=MEANS["of"] + " What heads wrote (their encodings), their queries, keys or values, what they add to the "
        "residual stream (contributions), or that stream itself.",
    )
    space: Any = param.Selector(
        default="value",
        objects=list(SPACES),
        check_on_set=True,
        doc=MEANS["space"] + " What a layer's attention makes of each entry at the same position (its values, keys or "
        "queries), or the model's embeddings or output embeddings.",
    )
    vocab_layer: Any = param.Parameter(
        default="input",
        doc=MEANS["vocab_layer"] + " Layers have bases of their own, so these are different questions.",
    )
    k: Any = param.Integer(default=15, bounds=(1, 1_000), doc=MEANS["k"])

    read_as: Any = param.Selector(
        default="text",
        objects={words: name for name, words in READ_WORDS.items()},
        check_on_set=True,
        doc="What the tokenizer makes of what was typed: a text, with the special tokens that it puts around one; the "
        "text behind the token that begins one (BOS); bare, without any; or what a user says in a chat, by the "
        "tokenizer's template, without or with the header of the answer that comes next.",
    )
    continued: Any = param.Integer(
        default=0,
        bounds=(0, CONTINUED[-1]),
        doc="How many tokens the model writes behind the text, looked at like the others; fewer where it ends the text "
        "or takes no more.",
    )
    seed: Any = param.Integer(
        default=None,
        bounds=(0, MOST_SEED),
        allow_None=True,
        doc="Each token is the likeliest, or drawn with the probability that the model gives it: the same seed draws "
        "the same.",
    )

    stack: Any = param.Selector(
        default=None,
        objects={"encoder": None, "decoder": "decoder"},
        check_on_set=True,
        doc="Which stack of an encoder-decoder: the encoder, or the decoder, whose attention to its own tokens it is. "
        "The decoder reads a target while it reads the text, which the encoder is given; it is compared with what its "
        "own attention makes of its own vocabulary.",
    )
    target = param.String(
        doc="What the decoder reads, as the model's labels: its start token first, the last token, which it is only to "
        "predict, left out."
    )

    opened = param.ClassSelector(class_=Opened, doc="The file that stands in place of the text, where one is opened.")

    layer = param.Integer(default=0, bounds=(0, None), doc="Index of the layer whose heads are shown.")
    head = param.Integer(default=0, bounds=(0, None), doc="Index of the chosen head.")
    position = param.Integer(default=0, bounds=(0, None), doc="Index of the chosen token.")

    measure: Any = param.Selector(
        default="own_rank",
        objects={measure.label: name for name, measure in MEASURES.items()},
        doc="Which number colours the tokens and the maps of layers.",
    )
    quantity: Any = param.Selector(
        default="own_rank",
        objects={words: name for name, words in QUANTITIES.items()},
        doc="Own rank: how many vocabulary tokens are nearer than the token that stands there, plus 1. "
        "Own distance: how far that token is.",
    )
    map_over: Any = param.Selector(
        default="layers",
        objects={"the token, over layers": "layers", "the layer, over tokens": "tokens"},
        doc="The chosen token in the chosen head of every layer, or all tokens in the chosen head of the chosen layer.",
    )
    map_method: Any = param.Selector(
        default="pca",
        objects={name: key for key, name in METHODS.items() if key != "umap" or find_spec("umap")},
        doc="PCA: the plane in which most of the variance lies; distances mean something. t-SNE and UMAP keep who is "
        "whose neighbour; distances between groups, and their sizes, mean nothing.",
    )
    versus: Any = param.Selector(
        default="causal",
        objects={words: name for name, words in CHANGES.items()},
        doc="What the answer that this one is compared with differs in.",
    )
    versus_text = param.String(doc="The text of the answer that this one is compared with.")
    versus_model = param.String(doc="The model of the answer that this one is compared with.")
    versus_of: Any = param.Selector(
        default="encoding", objects=list(OF), check_on_set=True, doc="Which vectors the other question is of."
    )
    versus_space: Any = param.Selector(
        default="value",
        objects=list(SPACES),
        check_on_set=True,
        doc="What of the vocabulary the other question compares them with.",
    )
    versus_vocab_layer: Any = param.Parameter(
        default="same", doc="Which layer makes the vocabulary's values, keys or queries in the other question."
    )
    versus_metric: Any = param.Selector(
        default="cosine", objects=METRICS, doc="How distance is measured in the other question."
    )
    difference: Any = param.Selector(
        default="own_rank",
        objects={words: name for name, words in DIFFERENCES.items()},
        doc="Which difference the map of the comparison shows.",
    )

    controls = param.Boolean(default=True, doc="Whether what the page is asked with is there; a link may leave it out.")
    panel = param.String(default="", doc="Name of the open tab; the first one is open where there is no such tab.")

    answer = param.ClassSelector(class_=Answer, doc="The answer to the request, once there is one.")
    activity = param.ClassSelector(class_=Activity, doc="What is being done about the request.")
    error = param.String(doc="Why there is no answer, where there will be none.")
    cancelled = param.Boolean(default=False, doc="Whether the visitor has called the request off.")

    comparison = param.ClassSelector(class_=Comparison, doc="The answer held against another one.")
    notices = param.List(default=[], item_type=str, doc="What to tell of the page's address.")

    wanted = param.List(default=[], item_type=Aspect, doc="What the views that are shown need of the answer.")
    background = param.ClassSelector(class_=Activity, doc="What is being done about what is wanted.")
    arrived = param.Integer(default=0, doc="Goes up when something that was wanted has arrived, or cannot be had.")

    def __init__(self, models: Sequence[str], *, with_other: bool = True, **params: object) -> None:
        super().__init__(**params)
        self.param["model"].objects = list(models)
        self.model = models[0]
        self.last: Answer | None = None  # not for display: the answer that the selection was made in
        self.has_address = False  # whether it is shown on a page whose address says what is shown
        self._wants: dict[Hashable, Aspect] = {}
        self._stacks: dict[str, tuple[Stack, ...]] = {}  # of each model, as far as they are known by now
        self.other = State(models, with_other=False) if with_other else None  # what this one is compared with
        self._planned: tuple[Request, Mapping[str, int]] | None = None

    @property
    def request(self) -> Request:
        """What is asked at this moment."""
        return self._asking({})

    @property
    def offered(self) -> Offered:
        """What can be asked of the chosen model, as far as it is known by now."""
        for known in (self.answer, self.last):
            if known is not None and (known.request.model, known.request.stack) == (self.model, self.stack):
                return known.offered
        return Offered(stacks=self._stacks.get(self.model, ()))

    def asked(self, other: str = "") -> Asked:
        """Of what is asked, against which space, of which layer; of the other question, given ``versus_``."""
        return tuple(getattr(self, other + name) for name in QUESTION)

    def ask(self, asked: Asked, other: str = "") -> None:
        """Ask another question about the same text.

        Parameters
        ----------
        asked : tuple
            As of `asked`.
        other : str
            ``versus_`` where it is the one that the answer is compared with.
        """
        self.param.update({other + name: value for name, value in zip(QUESTION, asked, strict=True)})

    def open(self, opened: Opened) -> None:
        """Put a file in place of the text, until another text or model is asked about.

        Parameters
        ----------
        opened : Opened
            The file.
        """
        offered = opened.model in self.param["model"].objects
        self.param.update(opened=opened, model=opened.model if offered else self.model, **opened.inputs)

    def select(self, *, layer: int | None = None, head: int | None = None, position: int | None = None) -> None:
        """Move the selection; what is not there to be selected is left as it was.

        A browser may still send a click on something that a newer answer no longer has.

        Parameters
        ----------
        layer, head, position : int, optional
            Where to move it, as indices into the answer; None leaves it as it is.
        """
        if self.answer is None:
            return
        sizes = self.answer.sizes
        wanted = {"layer": layer, "head": head, "position": position}
        self.param.update(
            {name: value for name, value in wanted.items() if value is not None and 0 <= value < sizes[name]}
        )

    def select_column(self, column: int, *, layer: int | None = None) -> None:
        """Choose the head that a column of the answer's vectors is of, and a layer; nothing where there is no such one.

        Parameters
        ----------
        column : int
            Index along ``head`` of `Answer.near`.
        layer : int, optional
            As of `select`.
        """
        if self.answer is not None and 0 <= column < self.answer.n_columns:
            self.select(layer=layer, head=self.answer.head_of(column, self.head))

    def go_to(self, inputs: Mapping[str, Any], selection: Mapping[str, int]) -> None:
        """Change inputs and selection together; the selection is made as soon as there is an answer to select in.

        Parameters
        ----------
        inputs : mapping
            New values of parameters.
        selection : mapping
            ``layer`` (its number in the model), ``head`` and ``position`` to choose; what is left out is as on a new
            page.
        """
        asked = self._asking(inputs)
        self._planned = asked, selection
        if self.answer is not None and asked == self.answer.request:
            self.param.update(**inputs, **self._selection_in(self.answer))
        else:
            self.param.update(**inputs)

    def move(self, *, layer: int = 0, head: int = 0, position: int = 0) -> None:
        """Move the selection by steps, as far as there is something to select.

        Parameters
        ----------
        layer, head, position : int
            How far to move it, and which way.
        """
        if self.answer is not None:
            sizes, steps = self.answer.sizes, {"layer": layer, "head": head, "position": position}
            self.select(**{name: min(max(getattr(self, name) + by, 0), sizes[name] - 1) for name, by in steps.items()})

    def land(self, answer: Answer) -> None:
        """Show an answer, unless another request has been made since.

        Parameters
        ----------
        answer : Answer
            The answer.
        """
        if answer.request != self.request:
            return
        self._know(answer.request.model, answer.stacks)
        self.param.update(
            answer=answer,
            activity=None,
            error="",
            **self._selection_in(answer),
        )
        self.last = answer

    def fail(self, request: Request, message: str, stacks: tuple[Stack, ...] = ()) -> None:
        """Show why a request has no answer, unless another one has been made since.

        Parameters
        ----------
        request : Request
            What was asked.
        message : str
            What to tell the visitor.
        stacks : tuple of str
            What ``Model.stacks`` says, where the model is there: another one can be asked about.
        """
        if request == self.request:
            self._know(request.model, stacks)
            self.param.update(answer=None, activity=None, error=message)

    def cancel(self) -> None:
        """Call the request off, if it is being worked on; the inputs stay as they are."""
        if self.activity is not None:
            self.param.update(answer=None, activity=None, error="", cancelled=True)

    def want(self, view: Hashable, aspect: Aspect | None) -> None:
        """Say what a view that is shown needs of the answer, in place of what it needed before.

        Parameters
        ----------
        view : hashable
            The view's name for this need.
        aspect : Aspect, optional
            What it needs; None where it needs nothing, such as when it is hidden.
        """
        self._wants.pop(view, None)
        if aspect is not None:
            self._wants[view] = aspect
        self.wanted = list(dict.fromkeys(self._wants.values()))

    def aspect(self, aspect: Aspect) -> xr.Dataset | None:
        """What has been computed of the answer that is shown; None where it has not (yet).

        Compare with None: a Dataset without data variables counts as false.
        """
        return None if self.answer is None else self.answer.aspects.get(aspect)

    def refusal(self, aspect: Aspect) -> str:
        """Why an aspect of the answer that is shown cannot be had; empty where nothing speaks against it."""
        return "" if self.answer is None else self.answer.refusals.get(aspect, "")

    def land_aspect(self, answer: Answer, aspect: Aspect, outcome: xr.Dataset | str) -> None:
        """Keep what was computed of an answer, and tell the views if it is the one that is shown.

        Parameters
        ----------
        answer : Answer
            Of which it was computed.
        aspect : Aspect
            What was wanted.
        outcome : xarray.Dataset or str
            What was computed, or why it cannot be had.
        """
        if isinstance(outcome, str):
            answer.refusals[aspect] = outcome
        else:
            answer.aspects[aspect] = outcome
        if answer is self.answer:
            self.arrived += 1

    @param.depends("text", "target", "model", *READING, watch=True)
    def _leave_file(self) -> None:
        opened = self.opened
        if opened is not None:
            offered = opened.model in self.param["model"].objects
            other = any(getattr(self, name) != opened.inputs[name] for name in ("text", "target", *READING))
            if other or (offered and self.model != opened.model):
                self.opened = None

    # A watching dependency runs before ordinary watchers do: before any view hears of a changed input, the
    # answer to the old one is gone.
    @param.depends(*REQUEST, watch=True)
    def _forget(self) -> None:
        self.param.update(answer=None, comparison=None, error="", cancelled=False)

    def _know(self, model: str, stacks: tuple[Stack, ...]) -> None:
        """Remember the stacks of a model; a file, or a model that is not there, says none."""
        if stacks:
            self._stacks[model] = stacks

    def _asking(self, inputs: Mapping[str, Any]) -> Request:
        """What is asked with these inputs, and the others as they are; a target that nothing reads is no part of it."""
        asked = {name: inputs.get(name, getattr(self, name)) for name in REQUEST}
        return Request(**asked | ({} if asked["stack"] else {"target": ""}))

    def _selection_in(self, answer: Answer) -> dict[str, int]:
        """What to select in an answer: what was planned, as far as it is there, else what was selected before."""
        planned, self._planned = self._planned, None
        if planned is None or planned[0] != answer.request:
            return {
                "layer": min(self.layer, answer.n_layers - 1),
                "head": min(self.head, answer.n_heads - 1),
                "position": self._position_in(answer),
            }
        found = {"layer": 0, "head": 0, "position": first_word(answer.encodings)}
        there = {"layer": answer.layers, "head": range(answer.n_heads), "position": range(answer.n_positions)}
        for name, number in planned[1].items():
            numbers = there[name]
            if number in numbers:
                found[name] = numbers.index(number)
            else:
                together = list(numbers) == list(range(len(numbers)))
                listed = f"0 to {len(numbers) - 1}" if together else ", ".join(map(str, numbers))
                self.notices = [
                    *self.notices,
                    f"The address asks for {name} {number}; there are {name}s {listed}.",
                ]
        return found

    def _position_in(self, answer: Answer) -> int:
        """Where the selected token is now: the same place in the same text, else the first word."""
        last = self.last
        if last is None or last.request.own_text != answer.request.own_text:
            return first_word(answer.encodings)
        a, b = last.request, answer.request
        if (a.model, a.read_as, a.stack) == (b.model, b.read_as, b.stack):
            return min(self.position, answer.n_positions - 1)
        if last.encodings.attrs["text"] != answer.encodings.attrs["text"]:
            return first_word(answer.encodings)
        return token_at(answer.encodings, int(last.encodings["char_start"].values[self.position]))


def first_word(encodings: xr.Dataset) -> int:
    """Index of the first token that stands for text, or 0 where none does."""
    ordinary = np.flatnonzero(~encodings["is_special"].values.astype(bool))
    return int(ordinary[0]) if len(ordinary) else 0


def token_at(encodings: xr.Dataset, char: int) -> int:
    """Index of the token that stands for one character of the text, or of the first word where none does."""
    starts, ends = encodings["char_start"].values, encodings["char_end"].values
    found = np.flatnonzero((starts <= char) & (char < ends))
    return int(found[0]) if len(found) else first_word(encodings)
