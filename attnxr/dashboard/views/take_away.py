"""What can be taken away from the page: files, made beside the event loop and saved by the browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import panel as pn
import param

from attnxr.dashboard.address.codec import write
from attnxr.dashboard.address.history import SHOWN
from attnxr.dashboard.compute.jobs import MAKE, Job
from attnxr.dashboard.files import exports
from attnxr.dashboard.files.standalone import Selection, page
from attnxr.dashboard.parts import Heading, Links, TakeAwayFiles
from attnxr.dashboard.rows.neighbors import neighbor_table, sequence_table
from attnxr.dashboard.session.answer import Answer
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.view import View

_PIECE = 4 << 20
_CSV, _NETCDF, _HTML = "text/csv", "application/x-netcdf", "text/html"


@dataclass(frozen=True)
class File:
    """A kind of file.

    Parameters
    ----------
    label : str
        What it is, on its button.
    format, type : str
        What it is called, and its media type.
    suffix : str
        How its name ends.
    note : str
        What is in it.
    about : callable
        What its name says of the selection.
    make : callable
        Its bytes.
    """

    label: str
    format: str
    type: str
    suffix: str
    note: str
    about: Callable[[Answer, Selection], tuple[object, ...]]
    make: Callable[[Answer, Selection, bool], bytes]


def _at(what: str) -> Callable[[Answer, Selection], tuple[object, ...]]:
    return lambda answer, chosen: (what, f"layer {answer.layers[chosen.layer]}", f"position {chosen.position}")


FILES = {
    "neighbors": File(
        "Nearest vocabulary tokens",
        "CSV",
        _CSV,
        "csv",
        "The table on screen: a row for each rank, the token and its distance for each head.",
        _at("neighbours"),
        lambda answer, at, _dark: exports.table_csv(neighbor_table(answer, at.layer, at.position), "neighbour"),
    ),
    "sequence": File(
        "Nearest tokens of the text",
        "CSV",
        _CSV,
        "csv",
        "The table on screen: the token with its position in brackets, and its distance, for each head.",
        _at("text tokens"),
        lambda answer, at, _dark: exports.table_csv(sequence_table(answer, at.layer, at.position), "token"),
    ),
    "all": File(
        "All neighbours",
        "CSV",
        _CSV,
        "csv",
        "One neighbour a row, of all layers, heads and tokens. In every CSV a token that begins like a formula has an "
        "apostrophe in front, so that a spreadsheet shows it and does not run it; ids stand beside the tokens.",
        lambda _answer, _chosen: ("all neighbours",),
        lambda answer, _at, _dark: exports.neighbors_csv(answer),
    ),
    "netcdf": File(
        "The Datasets",
        "NetCDF",
        _NETCDF,
        "nc",
        "Encodings, attention and neighbours, for Python: attnxr.saved.read(file).encodings and .neighbors. "
        "It can also be opened on this page again, above.",
        lambda _answer, _chosen: (),
        lambda answer, _at, _dark: exports.netcdf(answer),
    ),
    "page": File(
        "This page",
        "HTML",
        _HTML,
        "html",
        "One file that opens in any browser without a network, with the tables, the map and the attention; tokens, "
        "layers and heads can be chosen in it.",
        lambda _answer, _chosen: (),
        lambda answer, at, dark: page(answer, at, dark=dark),
    ),
}


class TakeAway(View):
    """Buttons for files of what is on the page.

    Parameters
    ----------
    state : State
        What to follow.
    **params
        Starting values of the parameters.
    """

    def __init__(self, state: State, **params: Any) -> None:
        super().__init__(**params)
        self._state = state = self._take(state)
        self._job: Job[bytes] | None = None
        self._heading = Heading(
            title="Take away",
            help="Files of what is on this page, saved by your browser. Every figure has its own picture files: "
            "the buttons PNG and SVG below it.",
        )
        self._files = TakeAwayFiles(
            self._ask,
            files=[
                {"name": name, "label": file.label, "format": file.format, "note": file.note}
                for name, file in FILES.items()
            ],
        )
        self._links = Links(visible=state.has_address)
        state.param.watch(self._follow, "answer")
        state.param.watch(self._say_links, ["answer", *SHOWN])
        self._follow()
        self._say_links()

    def cleanup(self) -> None:
        """Leave the file that is being made."""
        if self._job is not None:
            self._job.overtake()

    def _follow(self, *_events: object) -> None:
        self._files.param.update(ready=self._state.answer is not None, said="")

    @param.depends("shown", watch=True)
    def _say_links(self, *_events: object) -> None:
        state = self._state
        if not (self.shown and state.has_address):
            return
        query = write(state)[0] if state.answer is not None else ""
        bare = "&".join(filter(None, [query, "controls=off" if state.controls else ""]))
        self._links.links = [
            {
                "label": "Cite this view",
                "note": "The question, the model by its fingerprint, the versions, and the address that shows it.",
                "words": "" if state.answer is None else exports.citation(state.answer),
                "query": query,
            },
            {
                "label": "Link without the controls",
                "note": "For a talk or a class: the same page without the text box and the lists. The rest can be "
                "clicked.",
                "words": "" if state.answer is None else "{address}",
                "query": bare,
            },
        ]

    def _ask(self, data: dict[str, str]) -> None:
        answer, name = self._state.answer, data["name"]
        if answer is None or name not in FILES or self._files.making:
            return
        file, chosen, dark = FILES[name], selection(self._state), self.dark
        self._say(name, f"Making the {file.format} file …")
        saved = exports.file_name(answer, *file.about(answer, chosen), suffix=file.suffix)
        self._job = Job(
            MAKE,
            lambda _report: file.make(answer, chosen, dark),
            subject=(name, answer.request),
            done=partial(self._send, saved, file.type),
            failed=partial(self._say, ""),
        )
        self._job.start()

    def _send(self, name: str, kind: str, made: bytes) -> None:
        pieces = [made[i : i + _PIECE] for i in range(0, len(made), _PIECE)]
        for i, piece in enumerate(pieces):
            self._files.send({"file": name, "type": kind, "data": piece, "left": len(pieces) - i - 1})
        self._say("", f"Sent: {name}, {_size(len(made))}")

    def _say(self, making: str, said: str) -> None:
        self._files.param.update(making=making, said=said)

    def __panel__(self) -> pn.Column:
        return pn.Column(self._heading, self._files, self._links, sizing_mode="stretch_width")


def selection(state: State) -> Selection:
    """What is chosen in a state, as a page of its own is told it."""
    return Selection(state.layer, state.head, state.position, state.measure)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{max(1, round(count / 1e3)):,} kB"
