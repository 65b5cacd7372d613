"""All views over one State, side by side where there is room."""

from __future__ import annotations

import panel as pn
from panel.viewable import Viewer

from attnxr.dashboard.answer import answer
from attnxr.dashboard.controls import Controls, Progress
from attnxr.dashboard.rank_view import RankMap
from attnxr.dashboard.state import State
from attnxr.dashboard.view import Shown
from attnxr.dashboard.views import NeighborTable, SequenceTable, TokenStrip
from attnxr.dashboard.worker import Worker
from attnxr.model import Model, load_model

_CARD = {
    "border": "1px solid color-mix(in srgb, currentColor 16%, transparent)",
    "border-radius": "10px",
    "padding": "12px 16px",
}


class Dashboard(Shown):
    """The instrument: one State, and every view of it.

    Parameters
    ----------
    state : State
        What the views follow.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state
        self.rank_map = RankMap(state)
        self._top = [Controls(state), Progress(state)]
        self._strip = TokenStrip(state)
        self._tables = [NeighborTable(state), SequenceTable(state)]

    def __panel__(self) -> pn.Column:
        tables = pn.Column(*(_card(table) for table in self._tables), styles={"flex": "8 1 640px", "min-width": "0"})
        ranks = pn.Column(_card(self.rank_map), styles={"flex": "1 1 350px", "min-width": "0"})
        return pn.Column(
            _card(*self._top),
            _card(self._strip),
            pn.FlexBox(ranks, tables, align_items="flex-start", gap="0 12px", sizing_mode="stretch_width"),
            margin=(14, 20),
            sizing_mode="stretch_width",
        )


def _card(*views: Viewer) -> pn.Column:
    return pn.Column(*views, styles=_CARD, margin=(0, 0, 12, 0), sizing_mode="stretch_width")


def explore(text: str, model: str | Model = "minilm") -> Dashboard:
    """Open the dashboard on a text, in a notebook or as a page of its own (``.servable()``).

    Parameters
    ----------
    text : str
        The text to start with; it can be changed on the page.
    model : str or Model
        A name that `attnxr.load_model` takes, or a model that is loaded already.

    Returns
    -------
    Dashboard
        Displays itself as the last line of a notebook cell; ``.state`` holds what it shows.

    Raises
    ------
    AttnxrError
        If the model cannot be had or the text is not fit for it.
    """
    loaded = load_model(model) if isinstance(model, str) else model
    state = State([loaded.name], text=text)
    state.land(answer(state.request, lambda _name: loaded, report=lambda _message, _fraction: None))
    Worker(state, lambda _name: loaded)
    return Dashboard(state)
