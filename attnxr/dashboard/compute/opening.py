"""From an example of a head to the page of one text: the text is found again, and asked about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attnxr.dashboard.compute.again import text_again
from attnxr.dashboard.compute.jobs import OPEN, Job
from attnxr.dashboard.session.corpus import Corpus
from attnxr.dashboard.session.heads import Heads
from attnxr.dashboard.session.state import READING, State
from attnxr.errors import InputError
from attnxr.model import Model


@dataclass(frozen=True)
class _Found:
    text: str
    causal: bool | None


class Opening:
    """Opens texts of a corpus on the page of one text, where the model that the corpus is of is served.

    Parameters
    ----------
    heads : Heads
        What the examples are of.
    state : State
        Which is to ask about the text; its models are those that are served.
    load : callable
        Gives the model of a name.
    loaded : callable
        Gives it where it is loaded already, else None.
    """

    def __init__(
        self, heads: Heads, state: State, load: Callable[[str], Model], loaded: Callable[[str], Model | None]
    ) -> None:
        self._heads, self._state, self._load = heads, state, load
        self._model = _served(heads.corpus, state.param["model"].objects, loaded)
        self._job: Job[_Found] | None = None

    @property
    def refusal(self) -> str:
        """Why no text can be opened; empty where one can."""
        if self._model:
            return ""
        corpus = self._heads.corpus
        return (
            f"These texts cannot be opened here: the corpus is of the model {corpus.model} (fingerprint "
            f"{corpus.fingerprint}), which this server does not offer. Start it with that model too: attnxr serve "
            f"{corpus.model} --corpus …"
        )

    def close(self) -> None:
        """Leave what is being opened."""
        if self._job is not None:
            self._job.overtake()

    def __call__(self, head: int, example: int, position: int) -> None:
        """Open an example's text at a token; what is not there, a browser may ask for it, is not.

        Parameters
        ----------
        head, example, position : int
            Which head of the corpus, which of its examples, and which token of the text.
        """
        corpus, model = self._heads.corpus, self._model
        text = corpus.example_text(head, example)
        if text is None or not model or not 0 <= position < len(corpus.token_ids(text)):
            return
        self.close()
        layer, number = corpus.place(head)
        selection = {"layer": layer, "head": number, "position": position}
        self._heads.opening = "Reading the text"
        self._job = Job(
            OPEN,
            lambda _report: self._find(model, text),
            subject=text,
            done=lambda found: self._show(model, found, selection),
            failed=self._fail,
        )
        self._job.start()

    def _find(self, name: str, text: int) -> _Found:
        corpus, model = self._heads.corpus, self._load(name)
        if model.fingerprint != corpus.fingerprint:
            raise InputError(
                f"The text cannot be opened: this server's {name} has other weights (fingerprint {model.fingerprint}) "
                f"than the corpus' (fingerprint {corpus.fingerprint})."
            )
        causal = bool(corpus.attrs.get("causal", 0))
        own = model.batches().causal
        return _Found(text_again(model, corpus.token_ids(text)), None if causal == own else causal)

    def _show(self, model: str, found: _Found, selection: dict[str, int]) -> None:
        asked: dict[str, Any] = {"text": found.text, "model": model, "causal": found.causal, "opened": None}
        asked |= {name: self._state.param[name].default for name in ("target", *READING)}
        attrs = self._heads.corpus.attrs
        # As the corpus was measured: what heads wrote, against values.
        asked |= {"of": "encoding", "space": "value", "vocab_layer": attrs.get("vocab_layer", "input")}
        if attrs.get("metric") in self._state.param["metric"].objects:
            asked["metric"] = attrs["metric"]
        if "positional" in attrs:
            asked["positional"] = bool(attrs["positional"])
        self._state.go_to(asked, selection)
        self._heads.param.update(opening="", notices=[], open=False)

    def _fail(self, said: str) -> None:
        self._heads.param.update(opening="", notices=[said])


def _served(corpus: Corpus, models: list[str], loaded: Callable[[str], Model | None]) -> str:
    """The served model that the corpus is of: the one of its name, or one with its weights; empty where none is."""
    if corpus.model in models:
        return corpus.model
    there = ((name, loaded(name)) for name in models)
    return next((name for name, model in there if model and model.fingerprint == corpus.fingerprint), "")
