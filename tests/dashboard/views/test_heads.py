"""The page of heads: what is pressed is chosen, the figure and the table show the same, and the cards follow."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import pytest
from bokeh.models import GlyphRenderer

from attnxr.dashboard.files.exports import heads_csv
from attnxr.dashboard.session.heads import Heads
from attnxr.dashboard.views.heads import HeadsPage


@pytest.fixture
def opened() -> list[tuple[int, int, int]]:
    return []


@pytest.fixture
def page(heads: Heads, opened: list[tuple[int, int, int]]) -> Any:
    heads.open = True
    page = HeadsPage(heads, lambda *asked: opened.append(asked))
    yield page
    page.cleanup()


def test_a_row_a_point_and_an_arrow_choose_a_head(page: Any, heads: Heads) -> None:
    page._table._handle_msg({"do": "choose", "at": 4, "words": ""})
    assert (heads.chosen, page._table.head) == (4, 4)
    figures = heads.corpus.figures
    distances = [figures[name].values for name in (heads.x, heads.y)]
    target = int(np.nanargmax(distances[1]))
    page._scatter._tap(*(each[target] for each in distances))
    assert [each[heads.chosen] for each in distances] == [each[target] for each in distances]
    page._scatter._tap(1e9, 1e9)  # far from any
    assert distances[1][heads.chosen] == distances[1][target]


@pytest.mark.parametrize(
    "message",
    [
        {"do": "choose", "at": 10**6, "words": ""},
        {"do": "choose", "at": -1, "words": ""},
        {"do": "order", "at": 99, "words": ""},
        {"do": "order", "at": -1, "words": ""},
        {"do": "choose", "at": True, "words": ""},
        {"do": "nothing", "at": 0, "words": ""},
        {"do": "choose", "at": 1},
        {"do": "search", "at": 0, "words": "w" * 10**6},
        ["choose", 1],
    ],
)
def test_what_cannot_be_asked_changes_nothing(page: Any, heads: Heads, message: Any) -> None:
    before = heads.param.values()
    page._table._handle_msg(message)
    assert heads.param.values() == before


def test_a_filter_makes_the_other_heads_faint_and_leaves_them_out_of_the_table(page: Any, heads: Heads) -> None:
    word = heads.corpus.words[5].split("\n")[1]
    page._table._handle_msg({"do": "search", "at": -1, "words": word})
    rows = [row[0] for row in page._table.table["rows"]]
    assert 5 in rows
    assert set(rows) == set(np.flatnonzero(heads.kept))
    alpha = page._scatter._sources()["Points.Heads"]["alpha"]
    assert set(np.flatnonzero(alpha > 0.5)) == set(rows)
    assert page._table.said == f"{len(rows)} of {heads.corpus.n} heads" or len(rows) == heads.corpus.n


def test_points_that_were_drawn_before_there_was_a_filter_become_faint(page: Any, heads: Heads) -> None:
    root = page._scatter._pane.get_root()
    points = next(one for one in root.select({"type": GlyphRenderer}) if "alpha" in one.data_source.data)
    assert len(set(points.data_source.data["alpha"])) == 1
    heads.of_layer = 1
    assert np.array_equal(points.data_source.data["alpha"] > 0.5, heads.kept)
    assert not heads.kept.all()
    assert points.glyph.fill_alpha == points.glyph.line_alpha == "alpha"


def test_two_heads_stand_side_by_side(page: Any, heads: Heads) -> None:
    assert not page._places["pinned"].visible
    heads.select(3)
    page._cards["chosen"]._press({"name": "pin"})
    heads.select(7)
    assert page._places["pinned"].visible
    titles = {which: card._title.title for which, card in page._cards.items()}
    assert titles["pinned"].startswith(heads.corpus.name(3).capitalize())
    assert titles["chosen"] == heads.corpus.name(7).capitalize()
    assert page._cards["pinned"]._lists.lists != page._cards["chosen"]._lists.lists
    page._cards["pinned"]._press({"name": "unpin"})
    assert heads.pinned == -1
    assert not page._places["pinned"].visible


def test_an_example_opens_its_text(page: Any, heads: Heads, opened: list[tuple[int, int, int]]) -> None:
    heads.select(2)
    page._cards["chosen"]._examples._handle_msg({"example": 1, "position": 3})
    assert opened == [(2, 1, 3)]


def test_the_figure_is_drawn_again_for_other_axes_only(page: Any, heads: Heads) -> None:
    drawn = page._scatter._pane.object
    heads.select(6)
    heads.search("a")
    assert page._scatter._pane.object is drawn
    heads.x = "prev_token_score"
    assert page._scatter._pane.object is not drawn


def test_nothing_is_made_before_the_page_is_open(heads: Heads) -> None:
    page = HeadsPage(heads, lambda *_asked: None, shown=False)
    assert page._table.table["rows"] == []
    assert page._scatter._pane.object is None
    heads.open = True
    assert len(page._table.table["rows"]) == heads.corpus.n
    page.cleanup()


def test_the_file_has_what_the_filters_keep_in_order_and_no_formula(heads: Heads) -> None:
    heads.corpus.arrays["written_text"][..., 0] = "=1+1"
    heads.of_layer = 1
    heads.order("own_share")
    rows = list(csv.DictReader(io.StringIO(heads_csv(heads).decode("utf-8-sig"))))
    figures = heads.corpus.figures
    assert [heads.corpus.index(int(row["layer"]), int(row["head"])) for row in rows] == list(heads.ordered)
    for row, index in zip(rows, heads.ordered, strict=True):
        assert float(row["prev_token_score"]) == pytest.approx(figures["prev_token_score"].values[index], rel=1e-6)
        assert row["written_text"].startswith("'=1+1")
