"""The views: each follows a State and draws what the rows and plots say of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import panel as pn
import param
import xarray as xr
from panel.viewable import Viewer

from attnxr.dashboard.compute.answering import N_NEIGHBORS, N_SEQUENCE
from attnxr.dashboard.files.exports import table_csv
from attnxr.dashboard.files.save import save
from attnxr.dashboard.parts import Chips, Heading, RankTable
from attnxr.dashboard.rows.measured import FOLLOWED, token_paint
from attnxr.dashboard.rows.neighbors import chips_help, neighbor_table, sequence_table, token_chips
from attnxr.dashboard.rows.reading import generated, read_as
from attnxr.dashboard.session.answer import Answer
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.question import follow_question
from attnxr.dashboard.views.view import View
from attnxr.plots.grids import token_label

_NEIGHBOR_LEGEND = [
    ["own", "flies", "the token itself"],
    ["text", "arrow", "another token of the text"],
    ["column", "7", "the chosen head; click a column to choose another"],
]


class TokenStrip(View):
    """The text's tokens, coloured by the chosen measure at the chosen layer and head; a click chooses one.

    Parameters
    ----------
    given : State or xarray.Dataset
        What to follow, and where a click goes; or what ``model.encode`` or ``model.neighbors`` returned.
    **params
        Starting values of the parameters.
    """

    needs = ()

    def __init__(self, given: State | xr.Dataset, **params: Any) -> None:
        super().__init__(**params)
        state = self._state = self._take(given)
        self._heading = Heading(
            title="Tokens",
            help=chips_help([]),
            live=True,
        )
        self._chips = Chips(lambda data: state.select(position=data["index"]), caption="Tokens of the text")
        state.param.watch(self._draw, "answer")
        state.param.watch(self._paint, ["answer", "layer", "head", *FOLLOWED])
        state.param.watch(self._choose, ["answer", "layer", "head", "position"])
        self._draw()
        self._paint()
        self._choose()

    def _draw(self, *_events: object) -> None:
        answer = self._state.answer
        items = [] if answer is None else token_chips(answer.encodings)
        self._chips.items = items
        if items:
            self._heading.help = chips_help(items)

    @param.depends("dark", watch=True)
    def _paint(self, *_events: object) -> None:
        key, paint = token_paint(self._state, self.dark)
        self._chips.param.update(key=key, paint=paint)

    def _choose(self, *_events: object) -> None:
        answer, position = self._state.answer, self._state.position
        if answer is None:
            self._heading.detail = ""
        else:
            attrs = answer.encodings.attrs
            said = [
                f"{answer.n_positions:,} tokens{' of the target' if attrs.get('stack') == 'decoder' else ''}",
                generated(attrs),
                f"read as {words}" if (words := read_as(attrs)) else "",
                f"chosen: {_chosen(answer, position)}, {answer.where(self._state.layer, self._state.head)}",
            ]
            self._heading.detail = " · ".join(filter(None, said))
            self._chips.chosen = position

    def __panel__(self) -> pn.Column:
        return pn.Column(self._heading, self._chips, sizing_mode="stretch_width")


class _Table(View):
    """A table of ranks by heads for the chosen layer and token; a click chooses a head."""

    def __init__(
        self,
        given: State | xr.Dataset,
        rows: Callable[[Answer, int, int], dict[str, Any]],
        heading: Heading,
        cell: str,
        under_heading: Viewer | None = None,
        **table: Any,
    ) -> None:
        super().__init__()
        state = self._state = self._take(given)
        self._rows = rows
        self._cell = cell
        self._top = [heading] if under_heading is None else [heading, under_heading]
        self._heading = heading
        self._table = RankTable(self._select, **table)
        state.param.watch(self._draw, ["answer", "layer", "position"])
        state.param.watch(self._choose, ["answer", "head"])
        self._draw()
        self._choose()

    def _draw(self, *_events: object) -> None:
        answer, layer, position = self._state.answer, self._state.layer, self._state.position
        if answer is None:
            self._heading.detail = ""
            self._table.table = {}
        else:
            self._heading.detail = f"layer {answer.layers[layer]} · {_chosen(answer, position)}"
            self._table.table = self._rows(answer, layer, position)

    def _choose(self, *_events: object) -> None:
        self._table.head = -1 if self._state.answer is None else self._column(self._state.answer)

    def _column(self, answer: Answer) -> int:
        """Which column is the chosen head's."""
        return self._state.head

    def _select(self, data: dict[str, int]) -> None:
        self._state.select(head=data["head"])

    def save(self, file: str | Path) -> None:
        """Write the table that is shown, of the chosen layer and token, to a file: a row a rank, two columns a head.

        What Panel would save of a view is a page; this is the table. A token that begins like a spreadsheet's formula
        has an apostrophe in front.

        Parameters
        ----------
        file : str or pathlib.Path
            Ends with ``.csv``. A file that is there is replaced.

        Raises
        ------
        InputError
            If the name has another ending, or there is no answer yet.

        Examples
        --------
        >>> import attnxr
        >>> from attnxr.dashboard import NeighborTable
        >>> model = attnxr.load_model("minilm")
        >>> table = NeighborTable(model.neighbors(model.encode("Time flies like an arrow.")))
        >>> table.state.select(layer=3, position=2)
        >>> table.save("layer-3.csv")
        """
        layer, position = self._state.layer, self._state.position
        save(file, self._state, {".csv": lambda answer: table_csv(self._rows(answer, layer, position), self._cell)})

    def __panel__(self) -> pn.Column:
        return pn.Column(*self._top, self._table, sizing_mode="stretch_width")


class NeighborTable(_Table):
    """The vocabulary's nearest tokens to what each head wrote, and where the own token stands among them.

    Parameters
    ----------
    given : State or xarray.Dataset
        What to follow, and where a click goes; or what ``model.neighbors`` returned.
    under_heading : Viewer, optional
        What stands between the heading and the table.
    """

    def __init__(self, given: State | xr.Dataset, under_heading: Viewer | None = None) -> None:
        heading = Heading(title="Nearest vocabulary tokens")
        super().__init__(
            given,
            neighbor_table,
            heading,
            "neighbour",
            under_heading,
            caption="Nearest vocabulary tokens by rank and head",
            expected_rows=N_NEIGHBORS,
            has_own=True,
            legend=_NEIGHBOR_LEGEND,
        )
        follow_question(
            self._state,
            heading,
            "{question} Each with its distance. Own rank: how many vocabulary tokens are nearer than the token that "
            "stands there, plus 1.{advice}",
        )

    def _column(self, answer: Answer) -> int:
        return answer.column(self._state.head)

    def _select(self, data: dict[str, int]) -> None:
        self._state.select_column(data["head"])


class SequenceTable(_Table):
    """The text's other tokens, by how near a head wrote to what it wrote at the chosen one.

    Parameters
    ----------
    given : State or xarray.Dataset
        What to follow, and where a click goes; or what ``model.encode`` returned.
    """

    needs = ("encodings", "sequence")

    def __init__(self, given: State | xr.Dataset) -> None:
        heading = Heading(
            title="Nearest tokens of the text",
            help="For each head, the positions of this text at which it wrote something most like what it wrote "
            "at the chosen token. The small number is the position; marks are those of the table of vocabulary tokens.",
        )
        super().__init__(
            given,
            sequence_table,
            heading,
            "token",
            caption="Nearest tokens of the text by rank and head",
            expected_rows=N_SEQUENCE,
        )


def _chosen(answer: Answer, position: int) -> str:
    return f"“{token_label(answer.encodings, position)}” at position {position}"
