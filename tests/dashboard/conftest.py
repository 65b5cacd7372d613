from __future__ import annotations

from collections.abc import Callable, Iterator

import panel as pn
import pytest
import xarray as xr

import attnxr
from attnxr.corpus.measures import DEFAULT
from attnxr.dashboard.compute.answering import answer_request
from attnxr.dashboard.session.answer import Answer, Request
from attnxr.dashboard.session.corpus import Corpus
from attnxr.dashboard.session.heads import Heads
from attnxr.dashboard.session.state import State
from tests.support import corpus, models


@pytest.fixture(autouse=True)
def no_session() -> Iterator[None]:
    yield
    pn.state.reset()


@pytest.fixture(scope="session")
def shelf() -> dict[str, attnxr.Model]:
    """Two tiny models of different shapes, whose tokenizers split a text differently."""
    return {
        "bert": attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer(), name="bert"),
        "roberta": attnxr.Model(
            models.tiny_roberta(num_hidden_layers=2, num_attention_heads=2),
            models.byte_level_tokenizer(),
            name="roberta",
        ),
    }


@pytest.fixture(scope="session")
def solve(shelf: dict[str, attnxr.Model]) -> Callable[[Request], Answer]:
    def solve(request: Request) -> Answer:
        return answer_request(request, shelf.__getitem__, lambda _message, _fraction: None)

    return solve


@pytest.fixture
def state() -> State:
    return State(["bert", "roberta"], text=models.SENTENCE)


@pytest.fixture
def answered(state: State, solve: Callable[[Request], Answer]) -> State:
    state.land(solve(state.request))
    return state


@pytest.fixture(scope="session")
def sentences(shelf: dict[str, attnxr.Model]) -> list[list[int]]:
    """Texts of a corpus, as tokens."""
    texts = [
        models.SENTENCE,
        "time flies like an arrow",
        "a dog! the dog flies <b>like</b> a dog & more",
        "flies flies time time flies flies",
    ]
    return [shelf["bert"].encode(text).token_id.values.tolist() for text in texts]


@pytest.fixture(scope="session")
def corpus_tree(shelf: dict[str, attnxr.Model], sentences: list[list[int]]) -> xr.DataTree:
    return corpus.tree(shelf["bert"], sentences, DEFAULT)


@pytest.fixture
def atlas(corpus_tree: xr.DataTree) -> xr.Dataset:
    return attnxr.atlas(corpus_tree).copy(deep=True)


@pytest.fixture
def heads(atlas: xr.Dataset) -> Heads:
    return Heads(Corpus(atlas))
