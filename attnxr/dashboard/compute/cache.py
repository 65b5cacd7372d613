"""Answers that have been given, kept for all visitors of the process while there is room for them."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from weakref import WeakValueDictionary

from attnxr.dashboard.compute.answering import answer_request
from attnxr.dashboard.session.answer import Answer, Report, Request
from attnxr.dashboard.session.limits import LIMITS
from attnxr.model import Model
from attnxr.tokens import VocabularyTokens

_POLL_SECONDS = 0.1  # between two looks at whether the visitor still wants it

# A model has another vocabulary object as soon as its weights have been changed, replaced or moved, so that what it
# said with other weights is not found. The reference keeps no model in memory.
_Key = tuple["weakref.ref[VocabularyTokens]", Request]


@dataclass
class _Entry:
    answer: Answer
    nbytes: int  # of all but the encodings, which answers with another metric share


class Answers:
    """Gives the answer to a request: one that was given before, if there is one, else a new one.

    Kept are those used last, as many as have room. Counted are the arrays of their Datasets and aspects; encodings that
    several answers share, once. A larger one than there is room for is given, and not kept. Threads may share it.

    Parameters
    ----------
    bound : int
        Bytes that the kept answers may take together.
    """

    def __init__(self, bound: int = LIMITS.kept_mib << 20) -> None:
        self._bound = bound
        self._kept: OrderedDict[_Key, _Entry] = OrderedDict()
        self._lock = Lock()
        self._turns: WeakValueDictionary[_Key, Lock] = WeakValueDictionary()  # of requests that are being answered

    @property
    def nbytes(self) -> int:
        """Bytes that the kept answers take."""
        with self._lock:
            return self._nbytes()

    def __len__(self) -> int:
        return len(self._kept)

    def __call__(
        self, request: Request, load: Callable[[str], Model], report: Report, previous: Answer | None = None
    ) -> Answer:
        """Give the answer to a request, as `attnxr.dashboard.compute.answering.answer_request` does.

        A visitor who asks what is being computed for another one waits for that answer. If it fails, the visitor's own
        request is computed.
        """
        if request.opened is not None:  # what a stranger's file says is for him alone
            return answer_request(request, load, report)
        report(f"Loading {request.model}", None)
        model = request.of_stack(load(request.model))
        key = weakref.ref(model.vocabulary), request
        with self._lock:
            turn = self._turns.setdefault(key, Lock())
        while not turn.acquire(timeout=_POLL_SECONDS):
            report("Waiting for the same answer, which another visitor has asked for", None)
        try:
            return self.find(request, model) or self._new(key, model, load, report, previous)
        finally:
            turn.release()

    def _new(
        self, key: _Key, model: Model, load: Callable[[str], Model], report: Report, previous: Answer | None
    ) -> Answer:
        with self._lock:
            previous = self._alike(key) or previous
        given = answer_request(key[1], load, report, previous)
        if key[0]() is model.vocabulary:
            with self._lock:
                self._kept[key] = _Entry(given, _own_nbytes(given))
                self._kept.move_to_end(key)
                self._make_room()
        return given

    def find(self, request: Request, model: Model) -> Answer | None:
        """Give the answer to a request where it was given before and is kept; None otherwise.

        Parameters
        ----------
        request : Request
            What is asked.
        model : Model
            The model of the name in the request, with the stack that is asked about as the one that is meant.

        Returns
        -------
        Answer or None
            The answer; what it once refused may be tried again.
        """
        key = weakref.ref(model.vocabulary), request
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
        found.answer.refusals.clear()  # to ask again is to try again
        return found.answer

    def grown(self, answer: Answer) -> None:
        """Count anew what an answer takes, which has been given another aspect."""
        with self._lock:
            for entry in self._kept.values():
                if entry.answer is answer:
                    entry.nbytes = _own_nbytes(answer)
            self._make_room()

    def _alike(self, key: _Key) -> Answer | None:
        """An answer whose encodings are those of another request."""
        model, request = key
        for (other_model, other), entry in self._kept.items():
            if other.run == request.run and other_model == model:
                return entry.answer
        return None

    def _make_room(self) -> None:
        for key in [key for key in self._kept if key[0]() is None]:
            del self._kept[key]  # the model is gone, or is what it was no more
        while self._nbytes() > self._bound:
            self._kept.popitem(last=False)

    def _nbytes(self) -> int:
        entries = self._kept.values()
        encodings = {id(entry.answer.encodings): entry.answer.encodings for entry in entries}
        return sum(entry.nbytes for entry in entries) + sum(each.nbytes for each in encodings.values())


def _own_nbytes(answer: Answer) -> int:
    aspects = list(answer.aspects.values())  # at once: another thread may add one
    return sum(dataset.nbytes for dataset in (answer.neighbors, answer.sequence, answer.checks, *aspects))


ANSWERS = Answers()
