"""A corpus has the numbers of its texts one by one, says what failed, and is what was written."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import xarray as xr

import attnxr
from attnxr.corpus import unit
from attnxr.corpus.finish import finish
from attnxr.corpus.measure import Batch
from attnxr.corpus.measures import MEASURES
from attnxr.corpus.opened import info, verify
from attnxr.corpus.plan import LOCK, Plan
from attnxr.corpus.storage import at
from attnxr.errors import InputError, UnsupportedModelError
from attnxr.query.batches import Batches
from tests.corpus.nursery import texts, tree
from tests.support import measures, models

KEPT = ("head_encoding", "neighbor_id", "distance", "in_sequence", "own_rank", "own_distance")
ALL = tuple(measures.ALL)
BROKEN: list[bool] = []


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, measure in measures.ALL.items():
        monkeypatch.setitem(MEASURES, name, measure)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bert() -> attnxr.Model:
    return attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer())


def tiny_gpt2() -> Any:
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
    config = transformers.GPT2Config(vocab_size=models.VOCABULARY_SIZE, **sizes)
    return models.randomise(transformers.GPT2Model(config), 3)


def tiny_llama() -> Any:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(
        vocab_size=models.VOCABULARY_SIZE, intermediate_size=48, max_position_embeddings=40, **sizes
    )
    return models.randomise(transformers.LlamaModel(config), 4)


def build(given: Any, store: Path, model: attnxr.Model, **options: Any) -> xr.DataTree:
    defaults: dict[str, Any] = {"measures": ALL, "keep": KEPT, "k": 5, "unit_tokens": 64, "sample": 4}
    return attnxr.build_corpus(given, store, model, **defaults | options)


def check_one_by_one(corpus: xr.DataTree, given: list[str], model: attnxr.Model, **options: Any) -> int:
    """Fail unless results are those of each text alone; how many ranks and ids differ, all of them at ties."""
    tokens, results = corpus["tokens"].to_dataset().load(), corpus["results"].to_dataset().load()
    layers, heads = results["layer"].values, results["head"].values
    end, ties = 0, 0
    for text, size in zip(given, tokens.row_size.values, strict=True):
        start, end = end, end + int(size)
        if not size:
            continue
        enc = model.encode(text, truncate=True, causal=options.get("causal")).sel(layer=layers, head=heads)
        near = model.neighbors(enc, k=5, metric=options.get("metric", "cosine"))
        here = results.isel(position=slice(start, end))
        np.testing.assert_array_equal(tokens.token_id[start:end], enc.token_id)
        np.testing.assert_array_equal(tokens.text_position[start:end], enc.position)
        np.testing.assert_allclose(here.head_encoding, enc.head_encoding, rtol=1e-5, atol=1e-5)
        for name in ("distance", "own_distance"):
            np.testing.assert_allclose(here[name], near[name], rtol=1e-5, atol=1e-5)
        others = here.neighbor_id.values != near.neighbor_id.values
        # Where another entry stands at a rank, it is as far as the one that stands there in the text alone.
        np.testing.assert_allclose(here.distance.values[others], near.distance.values[others], atol=1e-6)
        same = ~others
        np.testing.assert_array_equal(here.in_sequence.values[same], near.in_sequence.values[same])
        ranks = np.abs(here.own_rank.values - near.own_rank.values)
        assert ranks.max() <= 1
        ties += int(others.sum()) + int((ranks > 0).sum())
    return ties


@pytest.mark.parametrize("family", ["roberta", "bert", "gpt2", "llama"])
def test_numbers_are_those_of_each_text_alone(tmp_path: Path, family: str) -> None:
    made: dict[str, Any] = {
        "roberta": (models.tiny_roberta, models.byte_level_tokenizer),
        "bert": (models.tiny_bert, models.wordpiece_tokenizer),
        "gpt2": (tiny_gpt2, models.byte_level_tokenizer),
        "llama": (tiny_llama, models.byte_level_tokenizer),
    }
    of_model, of_tokenizer = made[family]
    model = attnxr.Model(of_model(), of_tokenizer())
    # Equal lengths, so that texts go through the model together; one is longer than a unit.
    given = ["Time flies like an arrow.", "Fruit flies like a banana.", "", *texts(14), "Time flies like an arrow."]
    corpus = build(given, tmp_path / "c.zarr", model, unit_tokens=30, truncate=False)
    compared = [text if size else "" for text, size in zip(given, corpus["tokens"].row_size.values, strict=True)]
    ties = check_one_by_one(corpus, compared, model)
    cells = corpus["results"].own_rank.size * 6
    assert ties <= 1e-3 * cells, f"{ties} of {cells} ids and ranks differ, at ties"


def test_options_reach_the_model_and_the_search(tmp_path: Path) -> None:
    model = attnxr.Model(tiny_llama(), models.byte_level_tokenizer())
    options: dict[str, Any] = {"metric": "euclidean", "causal": False}
    corpus = build(texts(6), tmp_path / "c.zarr", model, layers=[1], heads=[1, 2], **options)
    assert corpus["atlas"]["head"].values.tolist() == [1, 2]
    assert check_one_by_one(corpus, texts(6), model, **options) < 10


def test_the_atlas_is_what_texts_give_one_by_one(tmp_path: Path, bert: attnxr.Model) -> None:
    given = texts(12)
    corpus = build(given, tmp_path / "c.zarr", bert, keep=(), batch_bytes=40_000)
    ranks, distances, written = [], [], []
    sample = info(tmp_path / "c.zarr")["sample"]
    assert len(sample) == 4
    for number, text in enumerate(given):
        if not text:
            continue
        enc = bert.encode(text)
        place = np.arange(enc.sizes["position"])
        apart = np.abs(place[:, None] - place)
        distances.append((enc.attention.values.astype(float) * apart).sum(axis=-1))
        ranks.append(bert.neighbors(enc, k=1).own_rank.values)
        if number in sample:
            written.append(np.linalg.norm(enc.head_encoding.values.astype(float), axis=-1))
    atlas = corpus["atlas"].to_dataset().load()
    for name, parts in (("attended_distance", distances), ("written_length", written), ("mean_own_rank", ranks)):
        expected = np.concatenate(parts, axis=2).mean(axis=2)
        np.testing.assert_allclose(atlas[name], expected, rtol=1e-3 if name == "mean_own_rank" else 1e-5)


def test_some_layers_and_heads_are_kept(tmp_path: Path, bert: attnxr.Model) -> None:
    whole = build(texts(8), tmp_path / "whole.zarr", bert)
    some = build(texts(8), tmp_path / "some.zarr", bert, keep_layers=[2], keep_heads=[3, 1])
    xr.testing.assert_identical(
        some["results"].to_dataset().load(), whole["results"].to_dataset().sel(layer=[2], head=[1, 3]).load()
    )
    xr.testing.assert_identical(some["atlas"].to_dataset().load(), whole["atlas"].to_dataset().load())


def test_units_in_any_order_give_the_same_bytes(tmp_path: Path, bert: attnxr.Model) -> None:
    given = texts(20)
    build(given, tmp_path / "a.zarr", bert)

    def stop(_fraction: float) -> None:
        if len(unit.waiting(str(tmp_path / "b.zarr"))) < len(Plan.read(str(tmp_path / "b.zarr")).units):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(given, tmp_path / "b.zarr", bert, progress=stop)
    store = str(tmp_path / "b.zarr")
    waiting = unit.waiting(store)
    assert waiting == list(Plan.read(store).units)[1:]
    half_way = attnxr.open_corpus(store)
    assert (half_way.attrs["finished"], half_way.attrs["units_done"]) == (0, 1)
    assert "atlas" not in half_way
    with pytest.raises(InputError, match=r"Unit 1 .* not done"):
        finish(store)
    before = torch.get_num_threads()
    for number in reversed(waiting):
        marker = unit.run(store, number, bert)
        assert unit.run(store, number, bert) == marker
    assert torch.get_num_threads() == before
    finish(store)
    assert tree(tmp_path / "b.zarr") == tree(tmp_path / "a.zarr")
    finished = attnxr.open_corpus(store)
    for name in ("tokens", "results", "atlas"):
        found = xr.open_datatree(store, engine="zarr")[name].to_dataset().load()
        xr.testing.assert_identical(found, finished[name].to_dataset().load())


def test_progress_is_told_of_texts_and_then_within_units(tmp_path: Path, bert: attnxr.Model) -> None:
    given, store = texts(20), tmp_path / "c.zarr"
    read: list[int] = []
    told: list[tuple[float, int]] = []

    def note(fraction: float) -> None:
        assert len(read) == len(given)  # nothing runs before all of them are read
        told.append((fraction, len(unit.waiting(str(store)))))

    build(given, store, bert, batch_bytes=1, progress=note, reading=read.append)
    assert read == list(range(1, len(given) + 1))
    plan = Plan.read(str(store))
    assert told[0] == (0, len(plan.units))
    assert told[-1] == (1, 0)
    assert [fraction for fraction, _ in told] == sorted({fraction for fraction, _ in told})
    # What a unit tells lies between what was stored before it and after; a token of the sample counts for 40 more.
    lengths = attnxr.open_corpus(store)["tokens"].row_size.values
    work = [0] * len(plan.units)
    for text, length in enumerate(lengths.tolist()):
        begins = int(lengths[:text].sum())
        if length:
            work[begins // plan.options.unit_tokens] += length * (41 if text in plan.sample else 1)
    done = np.cumsum([0, *work]) / sum(work)
    within = [(fraction, len(plan.units) - waiting) for fraction, waiting in told]
    assert all(done[unit] <= fraction for fraction, unit in within)
    assert all(fraction < done[unit + 1] for fraction, unit in within[:-1])
    # Texts run alone, so that each is told of, and each of the sample once more; the last of a unit once it is stored.
    ran = np.count_nonzero(lengths) + len(plan.sample)
    assert len(told) >= 1 + ran
    read.clear()
    told.clear()
    build(given, store, bert, batch_bytes=1, progress=note, reading=read.append)
    assert (len(read), told) == (len(given), [])


def test_what_is_raised_while_texts_are_read_ends_the_call(tmp_path: Path, bert: attnxr.Model) -> None:
    def stop(count: int) -> None:
        if count == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(texts(6), tmp_path / "c.zarr", bert, reading=stop)
    with pytest.raises(InputError, match="its texts were not all read"):
        attnxr.open_corpus(tmp_path / "c.zarr")
    build(texts(6), tmp_path / "c.zarr", bert)


def test_texts_that_fail_are_recorded_and_the_rest_goes_on(tmp_path: Path) -> None:
    hf_model = models.tiny_bert()
    tokenizer = models.wordpiece_tokenizer()
    banana = tokenizer.get_vocab()["banana"]

    def refuse(module: Any, args: Any, kwargs: Any) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids.shape[1] > 2 and (ids == banana).any():
            raise ValueError("no bananas")

    hf_model.embeddings.register_forward_pre_hook(refuse, with_kwargs=True)
    model = attnxr.Model(hf_model, tokenizer)
    good = ["Time flies like an arrow.", "Fruit flies like an arrow."]
    given = [good[0], "Fruit flies like a banana.", " ", good[1], "time " * 60]
    corpus = build(given, tmp_path / "c.zarr", model, truncate=False, keep=("own_rank", "distance"))
    errors = corpus["tokens"].error.values.tolist()
    assert errors[0] == errors[3] == ""
    assert errors[1] == "ValueError: no bananas"
    assert "blank" in errors[2]
    assert "at most 40" in errors[4]
    assert info(tmp_path / "c.zarr")["failed"] == {i: errors[i] for i in (1, 2, 4)}
    results = corpus["results"].to_dataset().load()
    of_text = corpus["tokens"].text_id.values
    assert (results.own_rank.values[..., of_text == 1] == 0).all()
    assert (results.own_rank.values[..., of_text != 1] > 0).all()
    assert np.isnan(results.distance.values[:, :, of_text == 1]).all()
    alone = build(good, tmp_path / "good.zarr", model, keep=())
    np.testing.assert_allclose(corpus["atlas"].attended_distance, alone["atlas"].attended_distance, rtol=1e-6)


def test_a_text_that_fails_in_the_search_is_recorded_and_the_rest_goes_on(tmp_path: Path) -> None:
    hf_model, tokenizer = models.tiny_bert(), models.wordpiece_tokenizer()
    banana = tokenizer.get_vocab()["banana"]

    def scale(module: Any, args: Any, kwargs: Any, output: torch.Tensor) -> torch.Tensor:
        ids = kwargs.get("input_ids", args[0] if args else None)
        twice = (ids[:, 1:] == banana) & (ids[:, :-1] == banana)
        return output * torch.where(twice.any(dim=1), 1.5, 1.0)[:, None, None]

    # Its tokens are then others than the vocabulary's, which only the search looks at.
    hf_model.embeddings.register_forward_hook(scale, with_kwargs=True)
    model = attnxr.Model(hf_model, tokenizer)
    good = ["Time flies like an arrow.", "Fruit flies.", "Time flies."]
    given = [*good[:2], "Fruit flies like banana banana.", good[2]]
    corpus = build(given, tmp_path / "c.zarr", model, keep=("own_rank",))
    errors = corpus["tokens"].error.values.tolist()
    assert "differ from the vocabulary's" in errors[2]
    assert [errors[i] for i in (0, 1, 3)] == ["", "", ""]
    alone = build(good, tmp_path / "good.zarr", model, keep=("own_rank",))
    of_text = corpus["tokens"].text_id.values
    np.testing.assert_array_equal(
        corpus["results"].own_rank.values[..., of_text != 2], alone["results"].own_rank.values
    )
    assert (corpus["results"].own_rank.values[..., of_text == 2] == 0).all()


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("batch_bytes", [60_000, 1 << 28])
def test_batches_are_searched_together_and_answered_as_alone(
    tmp_path: Path, bert: attnxr.Model, monkeypatch: pytest.MonkeyPatch, family: str, batch_bytes: int
) -> None:
    own = {"gpt2": tiny_gpt2, "llama": tiny_llama}
    model = bert if family == "bert" else attnxr.Model(own[family](), models.byte_level_tokenizer())
    search, calls = Batches.nearest, []

    def together(self: Batches, written: Any, progress: Any = None) -> Any:
        found = search(self, written, progress)
        calls.append([each.vectors.shape[2] * each.vectors.shape[3] for each in written])
        for each, (near, in_sequence) in zip(written, found, strict=True):
            ((alone, there),) = search(self, [each])
            for one, other in zip((*near.arrays, in_sequence), (*alone.arrays, there), strict=True):
                np.testing.assert_array_equal(one, other)
        return found

    monkeypatch.setattr(Batches, "nearest", together)
    store = tmp_path / "c.zarr"
    build(texts(12), store, model, unit_tokens=4096, batch_bytes=batch_bytes)
    plan = Plan.read(str(store))
    searched = calls[1:]  # the first is of two tokens, to see whether there is a search
    assert sum(map(sum, searched)) == plan.n_tokens
    assert all(len(each) == 1 or sum(each) <= plan.tokens_together for each in searched)
    assert len(searched[0]) > 1
    assert (len(searched) == 1) == (batch_bytes == 1 << 28)


def test_a_model_that_fails_on_every_text_is_no_fault_of_the_texts(tmp_path: Path) -> None:
    hf_model = models.tiny_bert()

    def fail(module: Any, args: Any) -> None:
        if BROKEN:
            raise RuntimeError("out of order")

    hf_model.encoder.layer[1].register_forward_pre_hook(fail)
    model = attnxr.Model(hf_model, models.wordpiece_tokenizer())
    with pytest.raises(ZeroDivisionError):
        build(texts(3), tmp_path / "c.zarr", model, progress=lambda fraction: 1 / 0, unit_tokens=8)
    BROKEN.append(True)
    waiting = unit.waiting(str(tmp_path / "c.zarr"))
    assert waiting
    try:
        with pytest.raises(
            UnsupportedModelError, match="out of order"
        ):  # looked at anew, as its hook reads another list
            unit.run(str(tmp_path / "c.zarr"), waiting[0], model)
    finally:
        BROKEN.clear()
    unit.run(str(tmp_path / "c.zarr"), waiting[0], model)


def test_long_texts_are_cut_and_it_is_said(tmp_path: Path, bert: attnxr.Model) -> None:
    corpus = build(["time " * 60, "Time flies."], tmp_path / "c.zarr", bert)
    assert corpus["tokens"].cut.values.tolist() == [22, 0]
    assert corpus["tokens"].row_size.values.tolist() == [40, 5]
    assert info(tmp_path / "c.zarr")["texts_cut"] == 1


def test_another_corpus_is_refused_and_the_difference_named(tmp_path: Path, bert: attnxr.Model) -> None:
    store, given = tmp_path / "c.zarr", texts(6)
    build(given, store, bert)
    before = tree(store)
    other = attnxr.Model(models.tiny_bert(seed=9), models.wordpiece_tokenizer())
    with pytest.raises(InputError, match=f"model.fingerprint is '{bert.fingerprint}' there and '{other.fingerprint}'"):
        build(given, store, other)
    with pytest.raises(InputError, match=r"options\.k is 5 there and 6 here"):
        build(given, store, bert, k=6)
    with pytest.raises(InputError, match=r"options\.measures is"):
        build(given, store, bert, measures=ALL[:1])
    with pytest.raises(InputError, match=r"texts\.count is 6 there and 7 here"):
        build([*given, "more"], store, bert)
    with pytest.raises(InputError, match=r"texts\.sha256"):
        build([*given[:-1], "others"], store, bert)
    with pytest.raises(InputError, match="fingerprint"):
        unit.check_model(Plan.read(str(store)), other)
    build(given, store, bert)
    assert tree(store) == before


def test_one_builder_at_a_time(tmp_path: Path, bert: attnxr.Model) -> None:
    store = tmp_path / "c.zarr"
    with at(store).lock(LOCK), pytest.raises(InputError, match="is being built by process"):
        build(texts(3), store, bert)
    build(texts(3), store, bert)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path, bert: attnxr.Model) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(InputError, match=r"holds other files, such as 'thesis.txt'"):
        build(texts(3), tmp_path, bert)
    assert tree(tmp_path).keys() == {"thesis.txt"}


def test_where_there_is_no_corpus_it_is_said(tmp_path: Path) -> None:
    for use in (attnxr.open_corpus, info, verify):
        with pytest.raises(InputError, match="no corpus at"):
            use(tmp_path / "nothing.zarr")


def test_a_file_where_the_store_should_be_and_a_damaged_plan_are_refused(tmp_path: Path, bert: attnxr.Model) -> None:
    (tmp_path / "file").write_text("")
    for store in (tmp_path / "file", tmp_path / "file" / "c.zarr"):
        for call in (lambda store=store: build(texts(3), store, bert), lambda store=store: attnxr.open_corpus(store)):
            with pytest.raises(InputError, match=r"file' is a file\. Expected a folder"):
                call()
    store = tmp_path / "c.zarr"
    build(texts(3), store, bert)
    for content in ("{", "{}", "[]"):
        (store / "attnxr/plan.json").write_text(content)
        with pytest.raises(InputError, match=r"attnxr/plan\.json, is damaged"):
            attnxr.open_corpus(store)


def test_what_was_changed_on_the_disk_is_found_and_done_again(tmp_path: Path, bert: attnxr.Model) -> None:
    store = tmp_path / "c.zarr"
    build(texts(8), store, bert)
    before = tree(store)
    changed = store / "results/own_rank/c/0/0/1"
    data = bytearray(changed.read_bytes())
    data[5] ^= 1
    changed.write_bytes(bytes(data))
    (store / "tokens/cut/c/0").unlink()
    said = verify(store)
    assert not said["passed"]
    assert said["changed"] == ["results/own_rank/c/0/0/1"]
    assert said["missing"] == ["tokens/cut/c/0"]
    (store / "attnxr/units/00000001.json").unlink()
    (store / "attnxr/finished.json").unlink()
    build(texts(8), store, bert)
    assert tree(store) == {name: digest for name, digest in before.items() if name != "tokens/cut/c/0"}


def test_nothing_that_could_be_a_corpus_is_refused_with_the_reason(tmp_path: Path, bert: attnxr.Model) -> None:
    store = tmp_path / "c.zarr"
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("measures='nothing'", {"measures": "nothing"}),
        ("keep='attention'", {"keep": "attention"}),
        ("Nothing is to be measured or kept", {"measures": (), "keep": ()}),
        ("unit_tokens=0", {"unit_tokens": 0}),
        ("threads=True", {"threads": True}),
        ("layers=", {"layers": [3]}),
        ("layers=2 was given; expected a list", {"layers": 2}),
        ("the layers 0, 1, 2", {"layers": [[0]]}),
        (r"keep_layers=\[1\] was given; the corpus has the layers 0", {"layers": [0], "keep_layers": [1]}),
        ("nothing to keep", {"keep": (), "keep_heads": [1]}),
        ("metric=", {"metric": "manhattan"}),
        ("k=0", {"k": 0}),
        ("truncate=1", {"truncate": 1}),
        ("vocab_layer=", {"vocab_layer": 7}),
    ]
    for message, options in wrong:
        with pytest.raises(InputError, match=message):
            build(texts(3), store, bert, **options)
    with pytest.raises(InputError, match=r"expected an attnxr\.Model"):
        build(texts(3), store, models.tiny_bert())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="none could be read"):
        build(["", " "], store, bert)
    build(texts(3), store, bert)


def test_attention_of_one_layer_is_held_at_a_time(
    tmp_path: Path, bert: attnxr.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, together = [], []

    class Held(measures.AttendedDistance):
        name = "held"

        def see_attention(self, state: Any, batch: Batch, layer: int, attention: torch.Tensor) -> None:
            texts, n = batch.token_id.shape
            same = [
                each
                for each in gc.get_objects()
                if issubclass(type(each), torch.Tensor) and each.shape == (texts, 4, n, n) and each.is_floating_point()
            ]
            held.append(len({each.untyped_storage().data_ptr() for each in same}))
            together.append(texts * n * n)

    monkeypatch.setitem(MEASURES, "held", Held)  # type: ignore[arg-type]
    given = ["Time flies like."] * 60  # 6 tokens: no other tensors have the shape of attention
    build(given, tmp_path / "c.zarr", bert, measures="held", keep=(), unit_tokens=4096, batch_bytes=80_000)
    assert max(held) <= 2  # the weights, and the mask or the scores they are made of
    plan = Plan.read(str(tmp_path / "c.zarr"))
    assert max(together) == plan.texts_together(6) * 36
    assert 1 < plan.texts_together(6) < 60
    assert max(together) * 4 * 4 < 80_000


def test_an_atlas_that_was_saved_opens_again(tmp_path: Path, bert: attnxr.Model) -> None:
    built = build(texts(3), tmp_path / "out.zarr", bert)
    parts = {name: built[name].to_dataset() for name in ("/", "tokens", "atlas")}
    xr.DataTree.from_dict(parts).to_zarr(tmp_path / "again.zarr", consolidated=False)
    again = attnxr.open_corpus(tmp_path / "again.zarr")
    assert again.attrs == built.attrs
    assert set(again.children) == {"tokens", "atlas"}
    assert attnxr.atlas(tmp_path / "again.zarr").identical(attnxr.atlas(tmp_path / "out.zarr"))
    xr.DataTree.from_dict({"tokens": parts["tokens"]}).to_zarr(tmp_path / "half.zarr", consolidated=False)
    with pytest.raises(InputError, match="There is no corpus at"):
        attnxr.open_corpus(tmp_path / "half.zarr")
