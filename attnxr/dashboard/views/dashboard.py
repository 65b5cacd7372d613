"""All views over one State, side by side where there is room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import panel as pn
import param
from panel.viewable import Viewer

from attnxr.dashboard.compute.cache import ANSWERS
from attnxr.dashboard.compute.worker import Worker
from attnxr.dashboard.files.save import save
from attnxr.dashboard.session.answer import Answer
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.attention import AttentionMatrix
from attnxr.dashboard.views.compare import Compare
from attnxr.dashboard.views.controls import Controls, Progress
from attnxr.dashboard.views.doing import WhatItDoes
from attnxr.dashboard.views.encoding_map import EncodingMap
from attnxr.dashboard.views.findings import SignalAndEffect
from attnxr.dashboard.views.maps import Maps
from attnxr.dashboard.views.open_file import OpenFile
from attnxr.dashboard.views.over_layers import OverLayers
from attnxr.dashboard.views.signal import SignalOrNoise
from attnxr.dashboard.views.tables import NeighborTable, SequenceTable, TokenStrip
from attnxr.dashboard.views.tabs import Panels
from attnxr.dashboard.views.take_away import FILES, TakeAway, selection
from attnxr.dashboard.views.view import CARD, View
from attnxr.errors import InputError
from attnxr.model import Model, load_model

# The tabs, in order. Each view takes the State first, and ``dark`` and ``shown`` by name.
PANELS: dict[str, Callable[..., View]] = {
    "Attention": AttentionMatrix,
    "Over layers": OverLayers,
    "Map": EncodingMap,
    "Signal or noise": SignalOrNoise,
    "What it does": WhatItDoes,
    "Compare": Compare,
    "Take away": TakeAway,
}

# What is asked of a chosen head stands beside the map it is chosen in, from about 1,000 pixels; from about 1,900 the
# tabs beside both. Each column ends about where the others do.
_GRID = """
:host { display: grid !important; gap: 10px 12px; align-items: start; grid-template-columns: minmax(0, 1fr); }
:host > * { min-width: 0; width: auto !important; }
@media (min-width: 1000px) {
  :host { grid-template-columns: minmax(330px, 10fr) minmax(0, 28fr); grid-template-rows: auto 1fr; }
  .maps { grid-area: 1 / 1 / 3 / 2; }
  .near { grid-area: 1 / 2; }
  .sequence { grid-area: 2 / 2; }
  .panels { grid-area: 3 / 1 / 4 / 3; }
}
@media (min-width: 1000px) and (max-width: 1399px) {
  .maps { grid-area: 1 / 1; }
  .panels { grid-area: 2 / 1 / 3 / 3; }
  .sequence { grid-area: 3 / 1 / 4 / 3; }
}
@media (min-width: 1900px) {
  :host { grid-template-columns: minmax(330px, 10fr) minmax(0, 26fr) minmax(0, 18fr); }
  .panels { grid-area: 1 / 3 / 3 / 4; }
}
"""


class Dashboard(View):
    """The instrument: one State, and every view of it. Until it is shown, its figures are not drawn.

    Parameters
    ----------
    state : State
        What the views follow.
    **params
        Starting values of the parameters.
    """

    def __init__(self, state: State, **params: Any) -> None:
        super().__init__(**params)
        self.state = state
        self._top = [Controls(state, OpenFile(state)), Progress(state)]
        self._strip = TokenStrip(state, dark=self.dark)
        self._maps = [Maps(state, dark=self.dark, shown=self.shown)]
        self._panels = Panels(state, PANELS, dark=self.dark, shown=self.shown)
        self._findings = SignalAndEffect(state, self._panels.reveal, dark=self.dark, shown=self.shown)
        self._tables = [NeighborTable(state, self._findings), SequenceTable(state)]

    def save(self, file: str | Path) -> None:
        """Write what the page shows to a file, by its ending, as the buttons of *Take away* do.

        What Panel would save of the page is not it: that file's clicks and tables need a server.

        Parameters
        ----------
        file : str or pathlib.Path
            A file that is there is replaced. It ends with

            - ``.html`` for the page as one file that opens in any browser without a network, at the chosen layer, head,
              token and measure, in which others can be chosen;
            - ``.csv`` for all neighbours of all layers, heads and tokens, one a row;
            - ``.nc`` for the Datasets, which `attnxr.saved.read` and ``xarray.open_dataset(file, group="neighbors")``
              read.

        Raises
        ------
        InputError
            If the name has another ending, or there is no answer yet.

        Examples
        --------
        >>> import attnxr
        >>> attnxr.explore("Time flies like an arrow.", model="minilm").save("arrow.html")
        """
        chosen = selection(self.state)

        def way(name: str) -> Callable[[Answer], bytes]:
            return lambda answer: FILES[name].make(answer, chosen, self.dark)

        save(file, self.state, {".html": way("page"), ".csv": way("all"), ".nc": way("netcdf")})

    def cleanup(self) -> None:
        """Clean up every view."""
        for view in (*self._maps, self._panels):
            view.cleanup()

    @param.depends("dark", watch=True)
    def _recolor(self) -> None:
        for view in (self._strip, *self._maps, self._panels):
            view.dark = self.dark

    @param.depends("shown", watch=True)
    def _show(self) -> None:
        for view in (*self._maps, self._findings, self._panels):
            view.shown = self.shown

    def __panel__(self) -> pn.Column:
        near, sequence = self._tables
        cards = {"maps": self._maps[0], "near": near, "panels": self._panels, "sequence": sequence}
        return pn.Column(
            _card(*self._top),
            _card(self._strip),
            pn.Column(
                *(_card(view, margin=0, css_classes=[name]) for name, view in cards.items()),
                stylesheets=[_GRID],
                sizing_mode="stretch_width",
            ),
            margin=(8, 14),
            sizing_mode="stretch_width",
            # Else a page makes it as low as the window, and what comes below lies over it.
            styles={"flex": "none", "max-height": "none"},
        )


def _card(*views: Viewer, margin: Any = (0, 0, 10, 0), **params: Any) -> pn.Column:
    return pn.Column(*views, styles=CARD, margin=margin, sizing_mode="stretch_width", **params)


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
        If the model is neither a name nor an `attnxr.Model`, cannot be had, or the text is not fit for it.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> shown = attnxr.explore("Time flies like an arrow.", model=model)
    >>> shown.state.select(layer=1, head=3)
    >>> shown.state.head
    3
    """
    if not isinstance(model, str | Model):
        raise InputError(
            f"model was given as a {type(model).__name__}; expected a name such as 'minilm', or an attnxr.Model: build "
            "one with attnxr.Model(hf_model, tokenizer)."
        )
    loaded = load_model(model) if isinstance(model, str) else model
    state = State([loaded.name], text=text)
    state.land(ANSWERS(state.request, lambda _name: loaded, report=lambda _message, _fraction: None))
    Worker(state, lambda _name: loaded)
    return Dashboard(state)
