"""One view of the tabbed card is open, and only it is shown; each is made when it is first opened."""

from __future__ import annotations

import panel as pn
import pytest

from attnxr.dashboard.parts import Heading, Tabs
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.figure import View
from attnxr.dashboard.views.tabs import Panels


class Plain(View):
    def __init__(self, state: State, **params: object) -> None:
        super().__init__(**params)
        self.state = state
        self.left = False

    def cleanup(self) -> None:
        self.left = True

    def __panel__(self) -> Heading:
        return Heading(title="plain")


@pytest.fixture
def panels(state: State) -> Panels:
    return Panels(state, {"One": Plain, "Two": Plain, "Three": Plain})


def shown(panels: Panels) -> list[str]:
    return [name for name, view in panels.views.items() if view.shown]


def test_the_first_is_open_unless_the_state_names_another(panels: Panels, state: State) -> None:
    assert shown(panels) == ["One"]
    state.panel = "Two"
    assert shown(panels) == ["Two"]
    assert shown(Panels(state, {"One": Plain, "Two": Plain})) == ["Two"]
    state.panel = "no such tab"
    assert shown(panels) == ["One"]


def test_a_click_opens_one_and_what_is_not_there_opens_nothing(panels: Panels, state: State) -> None:
    (tabs,) = pn.panel(panels).select(Tabs)
    tabs._handle_msg({"name": "Three"})
    assert (state.panel, tabs.open, shown(panels)) == ("Three", "Three", ["Three"])
    tabs._handle_msg({"name": "made up"})
    assert (state.panel, tabs.open) == ("Three", "Three")


def test_a_view_is_made_when_it_is_first_opened_and_then_kept(panels: Panels, state: State) -> None:
    assert list(panels.views) == ["One"]
    first = panels.views["One"]
    (tabs,) = pn.panel(panels).select(Tabs)
    assert [len(place) for place in tabs.views] == [1, 0, 0]
    panels.dark = True
    state.panel = "Two"
    state.panel = "One"
    state.panel = "Two"
    assert list(panels.views) == ["One", "Two"]
    assert panels.views["One"] is first
    assert panels.views["Two"].dark
    assert [len(place) for place in tabs.views] == [1, 1, 0]


def test_theme_visibility_and_leaving_reach_every_view(panels: Panels, state: State) -> None:
    for state.panel in ("Two", "Three", "One"):
        pass
    panels.dark = True
    assert all(view.dark for view in panels.views.values())
    panels.shown = False
    assert shown(panels) == []
    panels.shown = True
    assert shown(panels) == ["One"]
    panels.cleanup()
    assert all(view.left for view in panels.views.values())
