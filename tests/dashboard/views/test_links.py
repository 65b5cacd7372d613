"""What is cited says the question, the model and the versions; a link without the controls differs in nothing else."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from urllib.parse import parse_qs

import panel as pn

from attnxr.asked import sentence
from attnxr.dashboard.address.history import History
from attnxr.dashboard.parts import Links
from attnxr.dashboard.session.answer import Answer, Request
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.take_away import TakeAway


def links(view: TakeAway) -> Links:
    (found,) = pn.panel(view).select(Links)
    return found


def test_the_view_is_cited_and_presented(state: State, solve: Callable[[Request], Answer]) -> None:
    History(state, "?of=query&space=key")
    view = TakeAway(state)
    assert [each["words"] for each in links(view).links] == ["", ""]
    state.land(solve(state.request))
    state.select(head=2)
    cited, bare = links(view).links
    attrs = state.answer.encodings.attrs
    for part in (sentence(state.request.question), attrs["fingerprint"], f"torch {version('torch')}", "model bert"):
        assert part in cited["words"]
    assert cited["words"].count("{address}") == 1
    assert parse_qs(cited["query"])["head"] == ["2"]
    assert parse_qs(bare["query"]) == parse_qs(cited["query"]) | {"controls": ["off"]}

    visitor = State(["bert", "roberta"])
    History(visitor, "?" + bare["query"])
    assert (visitor.controls, visitor.of, visitor.space) == (False, "query", "key")


def test_where_no_address_says_what_is_shown_there_is_none_to_copy(answered: State) -> None:
    view = TakeAway(answered)
    assert not links(view).visible
    assert links(view).links == []
