"""The nearest vocabulary entries of a question's vectors, named."""

import xarray as xr

from attnxr.checking import whole_number
from attnxr.query.question import Question
from attnxr.search.nearest import Progress


def answer(question: Question, k: int, progress: Progress, model: str) -> xr.Dataset:
    """The k nearest of each vector, and its own token's rank; see `Model.neighbors`.

    Parameters
    ----------
    question : Question
    k : int
    progress : callable
    model : str
        What the model is called.

    Raises
    ------
    InputError
        If the vocabulary has not so many entries.
    """
    k = whole_number("k", k, 1, question.names.size, f"the size of the vocabulary of {model!r}")
    found = question.nearest(k, progress)
    in_sequence = question.in_sequence(found.ids)
    return question.frame.neighbors(found, question.names, in_sequence, metric=question.options.metric)
