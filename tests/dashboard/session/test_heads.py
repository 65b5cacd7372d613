"""The heads of a corpus: its atlas is checked, its figures are the atlas', and filters and order keep to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr.dashboard.session.corpus import Corpus
from attnxr.dashboard.session.heads import Heads
from attnxr.errors import InputError
from tests.support import corpus as corpora


def test_figures_are_those_of_the_atlas(atlas: xr.Dataset) -> None:
    found = Corpus(atlas)
    assert found.n == atlas.sizes["layer"] * atlas.sizes["head"]
    for index in range(found.n):
        layer, head = found.place(index)
        assert found.index(layer, head) == index
        one = atlas.sel(layer=layer, head=head)
        for name in ("prev_token_score", "own_share", "nearer_share", "activation_mean"):
            assert found.figures[name].values[index] == pytest.approx(one[name].item(), nan_ok=True)
        assert found.figures["layer"].values[index] == layer
        assert found.figures["change-mean"].values[index] == one.change.sel(replacement="mean").item()
        assert found.figures["top_share"].values[index] == one.written_share.values[0]
        ranks = np.repeat(one.rank_high.values, one.own_rank_count.values)  # of each token the end of its bin
        assert found.figures["median_own_rank"].values[index] == np.sort(ranks)[(len(ranks) - 1) // 2]
    assert "recovered-mean" not in found.figures  # which is 0 by definition


def test_what_was_not_measured_is_not_offered(shelf: dict[str, attnxr.Model], sentences: list[list[int]]) -> None:
    few = Heads(Corpus(attnxr.atlas(corpora.tree(shelf["bert"], sentences, ["roles"]))))
    assert set(few.param["x"].objects) <= {"layer", "head", *attnxr.schema.ROLES}
    assert not few.corpus.has_words
    assert few.x in few.corpus.figures
    assert few.y in few.corpus.figures


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda it: it.drop_vars("layer"), "no layers"),
        (lambda it: it.assign_coords(head=[0] * it.sizes["head"]), "each once"),
        (lambda it: it.assign_coords(layer=it["layer"].values - 1), "each once"),
        (lambda it: it.drop_vars("written_count"), "no 'written_count'"),
        (lambda it: it.drop_vars("quoted_token"), "no 'quoted_token'"),
        (lambda it: it.assign(example_text_id=it.example_text_id + 1000), "texts that it does not have"),
        (lambda it: it.assign(quoted_size=it.quoted_size + 1), "do not add up"),
        (lambda it: it.assign(example_query=it.example_query + 1000), "beyond their text"),
        (lambda it: it.assign(own_share=it.own_share.astype(str)), "dtype"),
        (lambda it: it.assign(own_share=it.own_share.T), "dimensions"),
        (lambda it: it.assign_attrs(model=7), "'model'"),
    ],
)
def test_an_atlas_that_cannot_be_one_is_refused(atlas: xr.Dataset, change: Callable[..., Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Corpus(change(atlas))


def test_a_store_that_is_none_is_refused(tmp_path: Path, corpus_tree: xr.DataTree) -> None:
    with pytest.raises(InputError, match="no corpus at"):
        Corpus.read(tmp_path / "none.zarr")
    broken = corpus_tree["tokens"].to_dataset().drop_vars("vocab_token")
    tree = xr.DataTree.from_dict({"tokens": broken, "atlas": corpus_tree["atlas"].to_dataset()})
    tree.to_zarr(tmp_path / "broken.zarr", consolidated=False)
    with pytest.raises(InputError, match="It is broken: KeyError"):
        Corpus.read(tmp_path / "broken.zarr")
    corpus_tree.to_zarr(tmp_path / "good.zarr", consolidated=False)
    assert Corpus.read(tmp_path / "good.zarr").n == Corpus(attnxr.atlas(corpus_tree)).n


def test_filters_keep_the_heads_that_write_such_words(heads: Heads, atlas: xr.Dataset) -> None:
    written = [*atlas.written_text.values[1, 2], *atlas.distinctive_text.values[1, 2]]
    word = max((each.strip() for each in written), key=len)
    heads.search(f"  {word[:-1].upper()} ")
    lists = np.concatenate([atlas.written_text.values, atlas.distinctive_text.values], axis=-1)
    lists = lists.reshape(heads.corpus.n, -1)
    expected = [any(each.strip().lower().startswith(word[:-1]) for each in row) for row in lists]
    assert heads.kept.tolist() == expected
    assert expected[heads.corpus.index(1, 2) or 0]
    heads.of_layer = 0
    assert set(heads.ordered) == {i for i, kept in enumerate(expected) if kept and i < atlas.sizes["head"]}
    heads.search("no such word anywhere")
    assert not len(heads.ordered)


def test_the_order_is_that_of_the_figure_and_what_has_none_comes_last(heads: Heads) -> None:
    values = heads.corpus.figures["own_share"].values
    values[3] = np.nan
    heads.order("own_share")
    assert heads.descending
    assert heads.ordered[-1] == 3
    assert list(values[heads.ordered[:-1]]) == sorted(np.delete(values, 3), reverse=True)
    heads.order("own_share")
    assert not heads.descending
    assert heads.ordered[-1] == 3
    assert list(values[heads.ordered[:-1]]) == sorted(np.delete(values, 3))
    heads.order("nothing")
    assert heads.sort == "own_share"


def test_only_what_is_there_can_be_chosen(heads: Heads) -> None:
    last = heads.corpus.n - 1
    heads.select(last)
    for beyond in (-1, last + 1):
        heads.select(beyond)
        assert heads.chosen == last
    heads.pin(last + 1)
    assert heads.pinned == -1
    heads.pin(2)
    assert heads.pinned == 2
    heads.pin(-1)
    assert heads.pinned == -1
    heads.move(layer=10, head=10)
    assert heads.chosen == last
    heads.move(layer=-1, head=-1)
    assert heads.corpus.place(heads.chosen) == (heads.corpus.layers[-2], heads.corpus.heads[-2])
