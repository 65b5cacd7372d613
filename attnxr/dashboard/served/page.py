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
from attnxr.dashboard.compute.opening import Opening
from attnxr.dashboard.compute.worker import Worker
from attnxr.dashboard.parts import Keys
from attnxr.dashboard.patch import in_one_patch
from attnxr.dashboard.served.corpora import CORPORA, asked_for
from attnxr.dashboard.served.first import first, template
from attnxr.dashboard.served.guard import be_discreet
from attnxr.dashboard.served.shelf import SHELF
from attnxr.dashboard.session.heads import Heads
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.dashboard import Dashboard
from attnxr.dashboard.views.heads import HeadsPage
from attnxr.dashboard.views.pages import Pages
from attnxr.errors import InputError

_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")

_TITLE = "attnxr"
_TAGLINE = "What did each attention head write, and which words of the vocabulary is that nearest to?"
# Bokeh (3.9) cannot reconnect to a page that was sent arrays; a reload can, by what the address says.
_LOST = "The connection to the server is lost. Reload the page: its address holds what it shows."
_HINTS = {
    False: Keys.hint,
    True: "Arrow keys move through heads (← →) and layers (↑ ↓), in the table through its rows.",
}
_NO_HEADS = (
    "For a tab of all heads over many texts: attnxr corpus demo, and start this server again; of your own corpus: "
    "attnxr serve --corpus out.zarr."
)
_THEME = {
    "palette": {"primary": {"main": "#2a5ca8"}},
    "shape": {"borderRadius": 6},
    # Fonts of the visitor's own: those of Panel Material UI are twenty files, of which the last has the letters.
    "typography": {
        "fontSize": 12.5,
        "fontFamily": "-apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif",
    },
}
_ROOM = {"xs": "none", "sm": "block"}  # on a phone it would make the bar so high that it lies over the page
_BAR = {
    ".MuiToolbar-root": {"minHeight": "46px !important", "gap": "18px"},
    # It has no name for screen readers; the page says itself what it is doing. (No "busy_indicator" is no option: None
    # does not reach the browser.)
    ".MuiLinearProgress-root": {"display": "none"},
    ".title": {"fontSize": "1.3rem", "fontWeight": 600},
}
_NO_BAR = {".MuiAppBar-root": {"display": "none"}, ".MuiToolbar-root": {"display": "none"}}


def open_page(arguments: Sequence[str]) -> pmui.Page:
    """Make the page of a visitor who has just come; called in the visitor's own session.

    Parameters
    ----------
    arguments : sequence of str
        What the server was started with: names of models, or nothing, and ``--corpus`` with a corpus.

    Returns
    -------
    panel_material_ui.Page
        The page; it cleans up behind itself when the session ends.
    """
    be_discreet()
    pn.extension(raw_css=[_STYLE], notifications=True, disconnect_notification=_LOST)
    return _Session(*asked_for(arguments)).page


def _is_embedded(query: str) -> bool:
    """Whether the address says that the page stands in another one, ``embed=1``, so that it needs no bar."""
    return "embed=1" in query.removeprefix("?").split("&")


def _heads_of(place: str | None) -> Heads | None:
    """The heads of a corpus; none where there is none, or it cannot be read, which the server's log says."""
    if place is None:
        return None
    try:
        return Heads(CORPORA(place))
    except InputError:
        return None


def _keys(state: State, heads: Heads | None) -> Keys:
    def move(steps: dict[str, int]) -> None:
        if heads is not None and heads.open:
            heads.move(**steps)
        else:
            state.move(**steps)

    if heads is None:
        return Keys(move, hint=f"{Keys.hint} {_NO_HEADS}")
    keys = Keys(move, hint=_HINTS[heads.open])
    heads.param.watch(lambda event: keys.param.update(hint=_HINTS[event.new]), "open")
    return keys


class _Session:
    """One visitor's page.

    Parameters
    ----------
    models : sequence of str
        Names of the models on offer.
    place : str or None
        Where the corpus is whose heads are shown, if any are.
    """

    def __init__(self, models: Sequence[str], place: str | None = None) -> None:
        state = self._state = State(models)
        heads = self._heads = _heads_of(place)
        # Before there is a worker: nothing is computed yet, so that nothing is computed in vain.
        query = pn.state.location.search if pn.state.location else ""
        history = History(state, query, heads)
        self._worker = Worker(state, SHELF)
        self._begin()
        # Tables are read first, and are there at once: figures cost the browser five times as much, so they follow.
        text = Dashboard(state, shown=False)
        self._dashboard: Dashboard | Pages = text
        if heads is not None:
            self._opening = Opening(heads, state, SHELF, SHELF.loaded)
            page = HeadsPage(heads, self._opening, self._opening.refusal, shown=False)
            self._dashboard = Pages(heads, text, page, shown=False)
        # "?theme=dark" in the address is known here at once; the page itself tells of later changes.
        self._dashboard.dark = pn.config.theme == "dark"
        bar = not _is_embedded(query)
        main = [self._dashboard, history.part, _keys(state, heads)]
        self.page = pmui.Page(
            title=_TITLE,
            header=[
                pmui.Typography(_TAGLINE, sx={"fontSize": "0.9rem", "color": "white", "opacity": 0.9, "display": _ROOM})
            ],
            main=main,
            sx=_BAR | ({} if bar else _NO_BAR),
            theme_config=_THEME,
            template=template(),
        )
        if pn.state.curdoc is not None:
            variables = first(_TITLE, _TAGLINE, self.page.main, bar=bar, dark=self._dashboard.dark)
            pn.state.curdoc.template_variables.update(variables)
        # A Page links its busy flag to the whole process, so that every visitor's clicks walk every visitor's
        # page, and keep it in memory. This one follows its own visitor.
        with edit_readonly(self.page):
            self.page.busy = param.bind(bool, state.param.activity)
        self.page.param.watch(self._follow_theme, "dark_theme")
        self._notifications = pn.state.notifications
        pn.state.on_session_destroyed(self._close)

    def _begin(self) -> None:
        """Show in the page's first words what is known already; ask for what is not when it can show progress."""
        state = self._state
        model = SHELF.loaded(state.model)
        # Another stack is looked into first, which may take long.
        known = model and state.stack is None and ANSWERS.find(state.request, model)
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
        if self._heads is not None:
            self._opening.close()
        # A Page does not clean up the plots inside it.
        self._dashboard.cleanup()
        _forget(self._notifications)


def _forget(view: object) -> None:
    """Have Panel let go of a view: its own list (1.9) keeps the notifications of every page, and a page with them."""
    views = getattr(pn.state, "_views", {})
    for ref in [ref for ref, (root, *_) in views.items() if root is view]:
        del views[ref]
