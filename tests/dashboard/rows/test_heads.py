"""What the page says of a head is what the atlas holds of it, as plain strings and numbers that JSON can hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from attnxr.dashboard.rows import heads as rows
from attnxr.dashboard.session.corpus import Corpus
from attnxr.dashboard.session.heads import Heads


def of_title(lists: list[dict], title: str) -> list[tuple]:
    (found,) = [each["rows"] for each in lists if each["title"] == title]
    return found


def test_the_card_holds_what_the_atlas_does(heads: Heads, atlas: xr.Dataset) -> None:
    index = heads.corpus.index(1, 2)
    assert index is not None
    one = atlas.sel(layer=1, head=2)
    lists = rows.card_lists(heads.corpus, index)
    roles = of_title(lists, "What its attention does")
    assert ("the previous token", one.prev_token_score.item(), f"{one.prev_token_score.item():.1%}", "") in roles
    shares = [number for _, _, number, _ in of_title(lists, "What it writes is nearest to")]
    assert shares == [f"{one[name].item():.1%}" for name in ("own_share", "other_share", "neither_share")]
    written = of_title(lists, "Writes most")
    assert [(row[2], row[3]) for row in written] == [
        (f"{count:,}", f"{lift:.1f}") for count, lift in zip(one.written_count, one.written_lift, strict=True) if count
    ][: len(written)]
    ranks = of_title(lists, "Own rank")
    assert [int(number.replace(",", "")) for _, _, number, _ in ranks] == one.own_rank_count.values.tolist()
    changes = of_title(lists, "Replaced in a text by")
    assert [number for _, _, number, _ in changes] == [f"{each:.4f}" for each in one.change.values]
    assert all(-1 <= length <= 1 for each in lists for _, length, _, _ in each["rows"])


def test_examples_are_those_of_the_atlas_whole_or_around_the_token_that_looks(heads: Heads, atlas: xr.Dataset) -> None:
    index = heads.corpus.index(0, 1)
    assert index is not None
    one = atlas.sel(layer=0, head=1)
    shown = rows.examples(heads.corpus, index)
    assert shown[0]["at"] == 0
    assert shown[0]["group"] == "the strongest"
    for example in shown:
        which = example["at"]
        tokens = heads.corpus.token_ids(int(one.example_text_id[which]))
        places = [place for place, *_ in example["tokens"]]
        assert places == list(range(places[0], places[-1] + 1))
        assert example["cut"] == [places[0] > 0, places[-1] < len(tokens) - 1]
        (query,) = [place for place, _, _, _, marks in example["tokens"] if "query" in marks.split()]
        assert query == int(one.example_query[which]) == example["query"]
        weights = {
            int(place): float(weight)
            for place, weight in zip(one.example_attended[which], one.example_weight[which], strict=True)
        }
        assert [weight for _, _, _, weight, _ in example["tokens"]] == [weights.get(place, 0.0) for place in places]
        written = set(one.written_id.values.tolist())
        for place, _, _, _, marks in example["tokens"]:
            assert ("written" in marks.split()) == (tokens[place] in written)


def test_the_table_says_what_is_chosen(heads: Heads) -> None:
    heads.param.update(x="own_share", y="own_share", color="prev_token_score")
    heads.order("own_share")
    assert [name for name, _ in rows.columns(heads)] == ["layer", "head", "own_share", "prev_token_score"]
    table = rows.table_rows(heads)
    assert [row[0] for row in table] == list(heads.ordered)
    figures = heads.corpus.figures
    for index, cells, _words in table:
        layer, head = heads.corpus.place(index)
        assert cells[:2] == [str(layer), str(head)]
        assert float(cells[2]) == pytest.approx(figures["own_share"].values[index], abs=6e-4)


def test_whatever_numbers_a_file_has_json_holds_what_is_shown(atlas: xr.Dataset) -> None:
    wild = atlas.copy(deep=True)
    for name, variable in wild.data_vars.items():
        if variable.dtype.kind == "f":
            flat = variable.values.reshape(-1)
            flat[: len(flat) // 2 : 3] = np.nan
            flat[1::5] = np.inf
            flat[2::7] = -np.inf
            wild[name] = variable.dims, flat.reshape(variable.shape)
    heads = Heads(Corpus(wild))
    for index in range(heads.corpus.n):
        shown = (
            rows.card_lists(heads.corpus, index),
            rows.examples(heads.corpus, index),
            rows.about(heads.corpus, index),
        )
        json.dumps(shown, allow_nan=False)
    json.dumps(rows.table_rows(heads), allow_nan=False)
