"""The shell around the dashboard, and what happens when a visitor comes and goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import panel as pn
import panel_material_ui as pmui
import param
from panel.util import edit_readonly

from attnxr.dashboard.address.history import History
from attnxr.dashboard.compute.cache import ANSWERS
from attnxr.dashboard.compute.worker import Worker
from attnxr.dashboard.parts import Keys
from attnxr.dashboard.patch import in_one_patch
from attnxr.dashboard.served.guard import be_discreet
from attnxr.dashboard.served.shelf import SHELF, offered
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.dashboard import Dashboard

_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")

_TAGLINE = "What did each attention head write, and which words of the vocabulary is that nearest to?"
_THEME = {
    "palette": {"primary": {"main": "#2a5ca8"}},
    "shape": {"borderRadius": 6},
    "typography": {"fontSize": 12.5},
}
_BAR = {
    ".MuiToolbar-root": {"minHeight": "46px !important", "gap": "18px"},
    # It has no name for screen readers; the page says itself what it is doing. (No "busy_indicator" is no option: None
    # does not reach the browser.)
    ".MuiLinearProgress-root": {"display": "none"},
    ".title": {"fontSize": "1.3rem", "fontWeight": 600},
}


def open_page(arguments: Sequence[str]) -> pmui.Page:
    """Make the page of a visitor who has just come; called in the visitor's own session.

    Parameters
    ----------
    arguments : sequence of str
        What the server was started with: names of models, or nothing.

    Returns
    -------
    panel_material_ui.Page
        The page; it cleans up behind itself when the session ends.
    """
    be_discreet()
    pn.extension(raw_css=[_STYLE])
    return _Session(offered(arguments)).page


class _Session:
    """One visitor's page.

    Parameters
    ----------
    models : sequence of str
        Names of the models on offer.
    """

    def __init__(self, models: Sequence[str]) -> None:
        state = self._state = State(models)
        # Before there is a worker: nothing is computed yet, so that nothing is computed in vain.
        history = History(state, pn.state.location.search if pn.state.location else "")
        self._worker = Worker(state, SHELF)
        self._begin()
        # Tables are read first, and are there at once: figures cost the browser five times as much, so they follow.
        self._dashboard = Dashboard(state, shown=False)
        # "?theme=dark" in the address is known here at once; the page itself tells of later changes.
        self._dashboard.dark = pn.config.theme == "dark"
        self.page = pmui.Page(
            title="attnxr",
            header=[pmui.Typography(_TAGLINE, sx={"fontSize": "0.9rem", "color": "white", "opacity": 0.9})],
            main=[self._dashboard, history.part, Keys(lambda steps: state.move(**steps))],
            sx=_BAR,
            theme_config=_THEME,
        )
        # A Page links its busy flag to the whole process, so that every visitor's clicks walk every visitor's
        # page, and keep it in memory. This one follows its own visitor.
        with edit_readonly(self.page):
            self.page.busy = param.bind(bool, state.param.activity)
        self.page.param.watch(self._follow_theme, "dark_theme")
        pn.state.on_session_destroyed(self._close)

    def _begin(self) -> None:
        """Show in the page's first words what is known already; ask for what is not when it can show progress."""
        state = self._state
        model = SHELF.loaded(state.model)
        known = model and ANSWERS.find(state.request, model)
        if known:
            state.land(known)
        pn.state.onload(lambda: in_one_patch(self._loaded))

    def _loaded(self) -> None:
        """The browser has drawn the page."""
        self._dashboard.shown = True
        if self._state.answer is None:
            self._state.param.trigger("text")

    def _follow_theme(self, event: param.parameterized.Event) -> None:
        in_one_patch(lambda: setattr(self._dashboard, "dark", event.new))

    def _close(self, _context: object) -> None:
        self._worker.close()
        # A Page does not clean up the plots inside it.
        self._dashboard.cleanup()
