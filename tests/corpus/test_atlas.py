"""The atlas holds everything of a head, words and texts included, and goes to files and to HeadVis' front end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr import plots
from attnxr.corpus.declared import ATLAS
from attnxr.corpus.headvis import export_headvis
from attnxr.corpus.measures import DEFAULT
from attnxr.errors import InputError
from tests.support import corpus, headvis
from tests.support.families import FAMILIES
from tests.test_schema import every_format
from tests.test_schema_names import DIMENSIONS, OF_XARRAY

SENTENCES = [
    "Time flies like an arrow.",
    "Fruit flies like a banana.",
    "The quick brown fox jumps over the lazy dog, and the dog dreams of foxes.",
    "A dog! The dog flies <like> a dog & more.",
    "Nobody knows before looking.",
    "",
]


class Made:
    def __init__(self, model: attnxr.Model, texts: list[list[int]]):
        self.model, self.texts = model, texts
        self.tree = corpus.tree(model, texts, DEFAULT)
        self.atlas = attnxr.atlas(self.tree)


@pytest.fixture(scope="module")
def encoder(bert: Any) -> Made:
    ids = [bert.model.encode(text).token_id.values.tolist() for text in SENTENCES[:-1]]
    return Made(bert.model, [*ids, [ids[0][0], ids[0][-1]]])  # and a text without content


@pytest.fixture(scope="module")
def decoder() -> Made:
    rng = np.random.default_rng(0)
    model = attnxr.Model(FAMILIES["llama"].build())
    return Made(model, [rng.integers(5, 60, size=n).tolist() for n in (7, 12, 7, 1, 19, 7)])


@pytest.fixture(scope="module", params=["encoder", "decoder"])
def made(request: pytest.FixtureRequest) -> Made:
    return request.getfixturevalue(request.param)


def test_every_variable_is_declared_and_says_what_it_is(made: Made) -> None:
    coords = {"layer", "head", "measure"}
    assert set(made.atlas.variables) <= {*ATLAS, *coords}
    assert set(ATLAS) - set(made.atlas.variables) <= {"kl_change", "kl_recovered"}
    for name, variable in made.atlas.variables.items():
        assert variable.attrs["long_name"]
        assert name in coords or variable.attrs["description"]
        if name in ATLAS:
            assert variable.attrs == ATLAS[str(name)].attrs
    for name, variable in made.atlas.data_vars.items():
        if {"layer", "head"} & set(variable.dims):
            assert variable.dims[:2] == ("layer", "head"), name
    assert not (set(ATLAS) | set(made.atlas.dims)) & OF_XARRAY - DIMENSIONS


def test_words_are_those_of_the_ids(made: Made) -> None:
    entries = made.model.vocabulary
    for kind in ("key", "query", "written", "distinctive"):
        ids = made.atlas[f"{kind}_id"].values
        assert (ids >= 0).any()
        for name, table in (("token", entries.token), ("text", entries.text)):
            named = made.atlas[f"{kind}_{name}"].values
            assert (named[ids >= 0] == table[ids[ids >= 0]]).all()
            assert (named[ids < 0] == "").all()


def test_the_texts_of_the_examples_are_there(made: Made) -> None:
    one = made.atlas.sel(layer=1, head=2)
    ends = np.cumsum(one.quoted_size.values)
    for text, size, end in zip(one.quoted_id.values, one.quoted_size.values, ends, strict=True):
        ids = made.texts[text]
        assert one.quoted_token_id.values[end - size : end].tolist() == ids
        assert one.quoted_token.values[end - size : end].tolist() == made.model.vocabulary.token[ids].tolist()
    numbers = made.atlas.example_text_id.values
    assert set(one.quoted_id.values.tolist()) == set(numbers[numbers >= 0].tolist())


@every_format
def test_it_comes_back_from_a_file_as_it_was(made: Made, tmp_path: Path, round_trip: Any) -> None:
    xr.testing.assert_identical(round_trip(made.atlas, tmp_path), made.atlas)
    (tmp_path / "one").mkdir()
    one = made.atlas.sel(layer=0, head=1)
    xr.testing.assert_identical(round_trip(one, tmp_path / "one"), one)


def test_a_store_gives_the_same(made: Made, bert: Any, tmp_path: Path) -> None:
    made.tree.to_zarr(tmp_path / "it.zarr", consolidated=False)
    with xr.open_datatree(tmp_path / "it.zarr", engine="zarr", consolidated=False) as again:
        xr.testing.assert_identical(attnxr.atlas(again), made.atlas)
    opened = attnxr.build_corpus(SENTENCES, tmp_path / "built.zarr", bert.model, measures=["roles", "examples"])
    for where in (tmp_path / "built.zarr", str(tmp_path / "built.zarr"), f"file://{tmp_path / 'built.zarr'}"):
        xr.testing.assert_identical(attnxr.atlas(where), attnxr.atlas(opened))


def test_what_was_not_measured_is_not_there(encoder: Made) -> None:
    few = attnxr.atlas(corpus.tree(encoder.model, encoder.texts, ["roles"]))
    assert "quoted_id" not in few
    assert set(few.data_vars) == set(attnxr.schema.ROLES)
    card = plots.head_card(few, 0, 1)
    assert [each.opts.get("plot").kwargs["title"] for each in card] == ["What its attention does"]
    for lacking in (few, encoder.atlas.drop_vars("key_token"), encoder.atlas.drop_vars("quoted_token")):
        with pytest.raises(InputError, match=r"with the measure '(looking|examples)'"):
            export_headvis(lacking, "nowhere", encoder.model)


def test_what_is_no_finished_corpus_is_refused(encoder: Made, tmp_path: Path) -> None:
    for node in ("atlas", "tokens"):
        part = xr.DataTree.from_dict({"/": xr.Dataset(), node: encoder.tree[node].to_dataset()})
        with pytest.raises(InputError, match=r"attnxr\.build_corpus"):
            attnxr.atlas(part)
    with pytest.raises(InputError, match="no corpus at"):
        attnxr.atlas(tmp_path / "nothing.zarr")
    wrong: Any = encoder.atlas
    with pytest.raises(InputError, match=r"attnxr\.open_corpus"):
        attnxr.atlas(wrong)


def test_the_front_end_can_read_it(made: Made, tmp_path: Path) -> None:
    export_headvis(made.atlas, tmp_path / "headvis", made.model)
    found = headvis.check(tmp_path / "headvis")
    encoded = [made.model.encode(token_ids=ids) for ids in made.texts]
    roles = attnxr.roles(encoded)
    special = made.model.vocabulary.special
    for row in found["scatter"]:
        for name in ("self_attention_score", "prev_token_score", "induction_score", "pattern_entropy", "qk_distance"):
            assert row[name] == pytest.approx(roles[name].sel(layer=row["layer"], head=row["head"]).item(), rel=1e-9)
    for (layer, head), file in found["heads"].items():
        assert file["sequences"]
        for one in file["sequences"]:
            ids = made.texts[one["sequence_id"]]
            attention = encoded[one["sequence_id"]].attention.sel(layer=layer, head=head).values
            content = [i for i in range(1, len(ids)) if not special[ids[i]]]
            assert one["max_activation"] == attention[np.ix_(content, content)].max()
            assert one["seq_len"] == len(ids)
            dense = np.zeros(len(ids) ** 2, np.float32)
            dense[one["attention_indices"]] = one["attention_values"]
            for row, kept in zip(attention, dense.reshape(attention.shape), strict=True):
                least = max(np.sort(row)[::-1][:8].min(), 0.005)
                assert (kept[row > least] == row[row > least]).all()
                assert (kept[row < least] == 0).all()
        distances = file["qk_distance_histogram"]
        middle = [(a + b - 1) / 2 for a, b in zip(distances["bin_edges"][:-1], distances["bin_edges"][1:], strict=True)]
        assert sum(distances["bin_values"]) == pytest.approx(1)
        mean = roles.qk_distance.sel(layer=layer, head=head).item()
        assert np.dot(middle, distances["bin_values"]) == pytest.approx(mean, abs=1)
        assert sum(file["histogram"]["bin_values"]) == file["statistics"]["n_samples"] == made.atlas.n_active
    assert found["config"]["pipeline_config"]["fingerprint"] == made.model.fingerprint


def test_the_attention_it_writes_is_of_the_corpus_own_mask(bert: Any, tmp_path: Path) -> None:
    corpus = attnxr.build_corpus(
        SENTENCES, tmp_path / "c.zarr", bert.model, measures=["roles", "looking", "examples"], causal=True
    )
    export_headvis(attnxr.atlas(corpus), tmp_path / "headvis", bert.model)
    for (layer, head), file in headvis.check(tmp_path / "headvis")["heads"].items():
        for one in file["sequences"]:
            read = bert.model.encode(SENTENCES[one["sequence_id"]], causal=True).attention.sel(layer=layer, head=head)
            query, key = np.divmod(one["attention_indices"], one["seq_len"])
            assert (key <= query).all()
            np.testing.assert_allclose(one["attention_values"], read.values[query, key], rtol=1e-5, atol=1e-7)


def test_one_head_of_the_model_itself_can_be_written(made: Made, encoder: Made, decoder: Made, tmp_path: Path) -> None:
    export_headvis(made.atlas.sel(layer=1, head=[2, 0]), tmp_path, made.model)
    assert headvis.check(tmp_path)["config"]["heads"] == [[1, 2], [1, 0]]
    other = decoder if made is encoder else encoder
    with pytest.raises(InputError, match="that the corpus was made with"):
        export_headvis(made.atlas, tmp_path, other.model)


def test_the_card_shows_what_the_atlas_has(made: Made) -> None:
    one = made.atlas.sel(layer=1, head=2)
    card = plots.head_card(made.atlas, 1, 2)
    drawn = {
        each.opts.get("plot").kwargs["title"]: hv.renderer("bokeh").get_plot(each).handles["source"].data
        for each in card
        if isinstance(each, hv.Bars)
    }
    assert len(drawn) == 9
    assert hv.renderer("bokeh").get_plot(card).state.children
    assert drawn["What its attention does"]["value"][::-1][0] == one.self_attention_score
    there = one.written_id.values[:12] >= 0
    np.testing.assert_array_equal(drawn["Writes most"]["value"][::-1], one.written_count.values[:12][there])
    np.testing.assert_array_equal(drawn["Own rank"]["value"][::-1], one.own_rank_count.values)
    assert f"{int(one.written_count[0])} times, lift {one.written_lift.values[0]:.1f}" in drawn["Writes most"]["about"]
    pages = "".join(each.data for each in card if isinstance(each, hv.Div))
    assert pages.count("outline") >= 4
    assert f"<b>{one.example_activation.values[0]:.2f}</b>" in pages
    assert f"text {one.example_text_id.values[0]}" in pages


def test_the_card_lets_no_text_be_markup(encoder: Made) -> None:
    pages = "".join(
        each.data
        for layer, head in np.ndindex(3, 4)
        for each in plots.head_card(encoder.atlas, layer, head)
        if isinstance(each, hv.Div)
    )
    assert "&lt;" in pages
    assert "<like" not in pages.replace(" ", "")
    assert "A dog" in re.sub("<[^>]*>", "", pages) or "a dog" in re.sub("<[^>]*>", "", pages)  # with its space


@pytest.mark.parametrize(("layer", "head", "named"), [(3, 0, "layer=3"), (0, -1, "head=-1")])
def test_no_card_of_a_head_that_is_not_there(encoder: Made, layer: int, head: int, named: str) -> None:
    with pytest.raises(InputError, match=named):
        plots.head_card(encoder.atlas, layer, head)
    with pytest.raises(InputError, match=r"attnxr\.atlas"):
        plots.head_card(encoder.atlas.sel(layer=0), 0, 0)
