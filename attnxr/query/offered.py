"""Which questions a model answers: every combination, tried as `Model.neighbors` would, on a text of one token."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import xarray as xr

from attnxr import schema
from attnxr.errors import InputError, UnsupportedModelError
from attnxr.options import NAMED_LAYERS, OF, SPACES, VARIABLE, Include, Of
from attnxr.probe.stacks import DecoderWindow
from attnxr.query.encoded import encoded
from attnxr.query.question import Question
from attnxr.query.request import Options, Request
from attnxr.query.snapshot import Snapshot
from attnxr.query.stack import Source, check_pairs
from attnxr.tokens import Tokens, VocabularyTokens

_COMBINED = {"of": OF, "space": SPACES, "vocab_layer": NAMED_LAYERS}
_TOGETHER: tuple[tuple[Include, ...], ...] = (
    (),
    ("query_vector", "key_vector", "value_vector"),
    ("residual",),
    ("hidden",),
)
"""What is collected in one pass, where a model may not let all be collected."""


def answer(seen: Snapshot, name: str) -> xr.Dataset:
    """Why each combination is refused; see `Model.questions`.

    Parameters
    ----------
    seen : Snapshot
    name : str
        What the model is called.
    """
    passes = {include: _encodings(seen, name, include) for include in _TOGETHER}
    given = {of: next(passes[each] for each in reversed(_TOGETHER) if not each or VARIABLE[of] in each) for of in OF}
    said = np.array(list(_refusals(seen, name, given)), object)
    result = xr.Dataset(
        {"refusal": (tuple(_COMBINED), said.reshape([len(each) for each in _COMBINED.values()]))},
        {each: np.array(words, object) for each, words in _COMBINED.items()},
        {"model": name, "fingerprint": seen.fingerprint},
    )
    return schema.describe(result, schema.QUESTIONS)


def _encodings(seen: Snapshot, name: str, include: tuple[Include, ...]) -> xr.Dataset | str:
    """The first layer of a text of one token with the vectors that are asked about, or why the model has none."""
    token = Tokens([seen.vocabulary.size // 2], [-1], [-1], [-1])
    sources = []
    if isinstance(seen.window, DecoderWindow):  # which questions there are depends on nothing that its encoder read
        sources = [Source("", [], seen.window.states, VocabularyTokens(None, 0))]
    try:
        if seen.window.stack is not None:
            check_pairs(seen.window.stack, sources, 1, None, include)
        return encoded(seen, name, [""], [token], include, None, sources=sources).isel(layer=[0])
    except (InputError, UnsupportedModelError) as error:
        return str(error)


def _refusals(seen: Snapshot, name: str, given: dict[Of, xr.Dataset | str]) -> Iterator[str]:
    for of, space, vocab_layer in product(OF, SPACES, NAMED_LAYERS):
        options, encodings = Options(of, space, vocab_layer, True), given[of]
        try:
            options.check()
            if isinstance(encodings, str):
                yield encodings
                continue
            Question(seen, Request.of(seen, name, encodings, options)).check_space()
        except (InputError, UnsupportedModelError) as error:
            yield str(error)
        else:
            yield ""
