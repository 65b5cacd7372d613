"""Loading a model, what it says of itself, and what it makes of a text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import xarray as xr

import attnxr
from attnxr.errors import AttnxrError, ModelNotFoundError, UnsupportedModelError
from tests.support import models
from tests.support.cases import Case

TEXTS = ["The dog saw a fox.", models.SENTENCE, "Fruit!"]


def test_a_model_tells_its_sizes(roberta: Case, bert: Case, minilm: Case) -> None:
    def sizes(model: Any) -> tuple[int, ...]:
        return model.n_layers, model.n_heads, model.n_kv_heads, model.head_size, model.vocab_size

    assert sizes(roberta.model) == (3, 4, 4, 8, 400)
    assert sizes(bert.model) == (3, 4, 4, 8, len(models.wordpiece_tokenizer()))
    assert sizes(minilm.model) == (6, 12, 12, 32, 30522)
    assert [case.model.max_tokens for case in (roberta, bert, minilm)] == [38, 40, 512]


def test_the_name_is_what_was_asked_for(minilm: Case, roberta: Case, roberta_folder: Path) -> None:
    assert minilm.model.name == "minilm"
    assert roberta.model.name == str(roberta_folder)
    assert attnxr.Model(models.tiny_bert(), name="mine").name == "mine"
    assert attnxr.Model(models.tiny_bert()).name


def test_what_it_was_built_from_is_there_and_cannot_be_replaced() -> None:
    hf_model, tokenizer = models.tiny_bert(), models.wordpiece_tokenizer()
    model = attnxr.Model(hf_model, tokenizer)
    assert (model.hf_model, model.tokenizer, model.config) == (hf_model, tokenizer, hf_model.config)
    assert attnxr.Model(hf_model).tokenizer is None
    for name in ("hf_model", "tokenizer", "config"):
        with pytest.raises(AttributeError, match=name):
            setattr(model, name, None)


def test_the_fingerprint_follows_the_weights_and_nothing_else(roberta: Case) -> None:
    tokenizer = models.byte_level_tokenizer()
    again = attnxr.Model(models.tiny_roberta(), tokenizer, name="again")
    assert again.fingerprint == roberta.model.fingerprint
    assert attnxr.Model(models.tiny_roberta(seed=5), tokenizer).fingerprint != again.fingerprint
    hf_model = models.tiny_roberta()
    with torch.no_grad():
        hf_model.encoder.layer[2].output.dense.bias[3] += 1e-3
    assert attnxr.Model(hf_model, tokenizer).fingerprint != again.fingerprint


def test_a_folder_and_the_model_in_memory_give_the_same(roberta: Case) -> None:
    model = attnxr.Model(models.tiny_roberta(), models.byte_level_tokenizer(), name=roberta.model.name)
    xr.testing.assert_identical(model.encode(roberta.text), roberta.model.encode(roberta.text))


def test_a_checkpoint_without_a_pooler_is_the_same_model_each_time(tmp_path: Path) -> None:
    """As roberta-base: saved as a masked language model, which has none, so that transformers makes up one."""
    hf_model = models.tiny_roberta(transformers.RobertaForMaskedLM)
    models.save(tmp_path, hf_model, models.byte_level_tokenizer())
    one, other = (attnxr.load_model(str(tmp_path)) for _ in range(2))
    enc = one.encode("Fruit flies")
    xr.testing.assert_identical(one.neighbors(enc), other.neighbors(enc))


@pytest.fixture
def cached(roberta_folder: Path) -> Any:
    """A model in the local cache, laid out as huggingface_hub does."""
    from huggingface_hub.constants import HF_HUB_CACHE

    commit = "0" * 40
    entry = Path(HF_HUB_CACHE) / "models--attnxr-tests--tiny-roberta"
    shutil.copytree(roberta_folder, entry / "snapshots" / commit)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(commit)
    yield "attnxr-tests/tiny-roberta"
    shutil.rmtree(entry)


def test_a_cached_model_loads_by_its_hub_id_without_network(cached: str, roberta: Case) -> None:
    model = attnxr.load_model(cached)
    assert model.name == cached
    np.testing.assert_array_equal(model.encode(roberta.text)["head_encoding"], roberta.enc["head_encoding"])


def test_a_model_neither_cached_nor_reachable_says_what_is_cached_and_how_to_get_it(cached: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        attnxr.load_model("nobody/no-such-model")
    message = str(caught.value)
    assert "nobody/no-such-model" in message
    assert cached in message
    assert "minilm" in message
    assert "download" in message


@pytest.mark.parametrize("name", ["", "  ", "no such model", "a/b/c", "../..", "/nowhere/at/all", "minilm "])
def test_a_name_that_cannot_be_one_is_an_error(name: str) -> None:
    with pytest.raises(AttnxrError):
        attnxr.load_model(name)


def test_a_folder_without_a_tokenizer_is_an_error(tmp_path: Path) -> None:
    models.save(tmp_path, models.tiny_roberta())
    with pytest.raises(ModelNotFoundError, match="tokenizer"):
        attnxr.load_model(str(tmp_path))


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    models.byte_level_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelNotFoundError, match=str(tmp_path)):
        attnxr.load_model(str(tmp_path))


def test_a_damaged_file_is_an_error(tmp_path: Path, roberta_folder: Path) -> None:
    folder = shutil.copytree(roberta_folder, tmp_path / "damaged")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(AttnxrError, match="damaged"):
        attnxr.load_model(str(folder))


def test_weights_that_lack_a_parameter_are_an_error_not_random_numbers(tmp_path: Path, roberta_folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(roberta_folder, tmp_path / "incomplete")
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.attention.self.value.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(AttnxrError, match=r"encoder\.layer\.1\.attention\.self\.value\.weight"):
        attnxr.load_model(str(folder))


@pytest.fixture
def pickled(tmp_path: Path, roberta_folder: Path) -> Path:
    """A folder whose only weights are a pickle."""
    folder = shutil.copytree(roberta_folder, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save(models.tiny_roberta().state_dict(), folder / "pytorch_model.bin")
    return folder


def test_pickled_weights_are_refused_unless_asked_for_by_name(pickled: Path, roberta: Case) -> None:
    with pytest.raises(AttnxrError, match="pickle"):
        attnxr.load_model(str(pickled))
    model = attnxr.load_model(str(pickled), weights="pickle")
    np.testing.assert_array_equal(model.encode(roberta.text)["head_encoding"], roberta.enc["head_encoding"])


class Malice:
    """Unpickling it makes a file."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> Any:
        return Path.touch, (self.sign,)


@pytest.mark.parametrize("weights", ["safetensors", "pickle"])
def test_no_code_in_a_pickle_runs(pickled: Path, tmp_path: Path, weights: Any) -> None:
    torch.save({"x": Malice(tmp_path / "sign")}, pickled / "pytorch_model.bin")
    with pytest.raises(AttnxrError):
        attnxr.load_model(str(pickled), weights=weights)
    assert not (tmp_path / "sign").exists()


@pytest.mark.parametrize("model_type", ["roberta", "unheard-of"])
def test_code_that_comes_with_a_model_never_runs(
    tmp_path: Path, roberta_folder: Path, roberta: Case, model_type: str
) -> None:
    folder = shutil.copytree(roberta_folder, tmp_path / "remote")
    sign = tmp_path / "sign"
    (folder / "evil.py").write_text(f"import pathlib; pathlib.Path({str(sign)!r}).touch()\n")
    classes = dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer"), "evil.Evil")
    for name in ("config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text())
        auto_map = classes if name == "config.json" else {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
        settings |= {"auto_map": auto_map}
        if name == "config.json":
            settings["model_type"] = model_type
        (folder / name).write_text(json.dumps(settings))
    if model_type == "roberta":
        enc = attnxr.load_model(str(folder)).encode(roberta.text)
        np.testing.assert_array_equal(enc["head_encoding"], roberta.enc["head_encoding"])
    else:
        with pytest.raises(AttnxrError, match="code"):
            attnxr.load_model(str(folder))
    assert not sign.exists()


UNSUPPORTED = {"fnet": "no attention layers"}


@pytest.mark.parametrize("family", UNSUPPORTED)
def test_a_family_that_cannot_be_looked_into_is_refused(family: str) -> None:
    with pytest.raises(UnsupportedModelError, match=UNSUPPORTED[family]) as caught:
        attnxr.Model(models.tiny_unsupported(family))
    assert family in str(caught.value).lower()


def test_an_unsupported_family_is_refused_on_loading(tmp_path: Path) -> None:
    models.save(tmp_path, models.tiny_unsupported("fnet"), models.byte_level_tokenizer())
    with pytest.raises(UnsupportedModelError, match="no attention layers"):
        attnxr.load_model(str(tmp_path))


@pytest.mark.parametrize("thing", [None, "roberta-base", torch.nn.Linear(2, 2), 3])
def test_something_else_than_a_model_is_refused(thing: Any) -> None:
    with pytest.raises(AttnxrError):
        attnxr.Model(thing)


def test_a_tokenizer_of_another_model_is_refused_where_its_ids_are_out_of_range() -> None:
    with pytest.raises(AttnxrError):
        attnxr.Model(models.tiny_bert(vocab_size=50), models.byte_level_tokenizer()).encode("banana")


def test_without_a_tokenizer_token_ids_do(roberta: Case) -> None:
    model = attnxr.Model(models.tiny_roberta())
    enc = model.encode(token_ids=roberta.token_ids.tolist())
    np.testing.assert_array_equal(enc["head_encoding"], roberta.enc["head_encoding"])
    near = model.neighbors(enc, k=3)
    np.testing.assert_array_equal(near.neighbor_id, roberta.model.neighbors(roberta.enc, k=3).neighbor_id)
    assert len(set(model.vocabulary.token)) == 400
    dist = model.distances(enc).distance
    name = str(model.vocabulary.token[57])
    assert dist.sel(vocab_token=name).vocab.item() == 57


def test_without_a_tokenizer_a_text_is_an_error() -> None:
    with pytest.raises(AttnxrError, match="token_ids"):
        attnxr.Model(models.tiny_bert()).encode("banana")


def test_token_ids_are_taken_as_they_are(tiny: Case) -> None:
    enc = tiny.model.encode(token_ids=[171, 57])
    true = tiny.oracle.trace(np.array([171, 57]))
    np.testing.assert_allclose(enc["head_encoding"], true.encoding, atol=1e-5)
    assert enc.token.values.tolist() == tiny.model.vocabulary.token[[171, 57]].tolist()


@pytest.mark.parametrize("kind", [np.array, torch.tensor, tuple, list])
def test_token_ids_may_be_any_sequence_of_integers(tiny: Case, kind: Any) -> None:
    xr.testing.assert_identical(tiny.model.encode(token_ids=kind([5, 6])), tiny.model.encode(token_ids=[5, 6]))


def test_tokens_are_those_of_the_tokenizer(case: Case) -> None:
    text = "Nobody knows: unbelievable transformers!"
    tokenizer = (
        models.wordpiece_tokenizer()
        if case.hf_model.config.model_type == "bert" and case.model.n_layers == 3
        else transformers.AutoTokenizer.from_pretrained(case.hf_model.config._name_or_path)
    )
    expected = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    enc = case.model.encode(text)
    ids = expected["input_ids"]
    assert enc.token_id.values.tolist() == ids
    assert enc.token.values.tolist() == tokenizer.convert_ids_to_tokens(ids)
    assert enc.is_special.values.tolist() == [bool(x) for x in expected["special_tokens_mask"]]
    ordinary = ~enc.is_special.values
    offsets = np.array(expected["offset_mapping"])[ordinary]
    offsets[offsets[:, 0] == offsets[:, 1]] = -1
    assert np.stack([enc.char_start, enc.char_end], axis=1)[ordinary].tolist() == offsets.tolist()
    words = [-1 if word is None else word for word in expected.word_ids()]
    assert enc.word.values.tolist() == words
    assert enc.position.values.tolist() == list(range(len(ids)))
    assert enc.layer.values.tolist() == list(range(case.model.n_layers))
    assert enc["head"].values.tolist() == list(range(case.model.n_heads))


def test_only_what_is_asked_for_is_included(tiny: Case) -> None:
    assert set(tiny.model.encode(tiny.text)) == {"head_encoding", "attention"}
    assert set(tiny.model.encode(tiny.text, include=["value_vector"])) == {"head_encoding", "attention", "value_vector"}


def test_attrs_say_where_the_numbers_come_from(case: Case) -> None:
    attrs = case.enc.attrs
    assert attrs["model"] == case.model.name
    assert attrs["fingerprint"] == case.model.fingerprint
    assert attrs["text"] == case.text
    assert attrs["token_ids"].tolist() == case.token_ids.tolist()
    assert attrs["truncated"] == 0
    assert attrs["causal"] == 0
    values = {str(value) for value in attrs.values()}
    assert {torch.__version__, transformers.__version__} <= values
    assert all(isinstance(value, str | int) for name, value in attrs.items() if name != "token_ids")


def test_several_texts_give_each_texts_own_answer(tiny: Case) -> None:
    include = ("value_vector", "hidden")
    together = tiny.model.encode(TEXTS, include=include)
    assert "attention" not in together
    assert (np.diff(together.text_id) >= 0).all()
    for i, text in enumerate(TEXTS):
        alone = tiny.model.encode(text, include=include)
        part = together.isel(position=together.text_id.values == i)
        assert part.text_position.values.tolist() == alone.position.values.tolist()
        for name in ("head_encoding", *include, "token", "text", "char_start", "char_end", "word", "is_special"):
            np.testing.assert_array_equal(part[name].values, alone[name].values)
        for found, expected in (
            (tiny.model.neighbors(together, k=4), tiny.model.neighbors(alone, k=4)),
            (tiny.model.distances(together), tiny.model.distances(alone)),
        ):
            mine = found.isel(position=together.text_id.values == i, layer=[0])
            np.testing.assert_array_equal(mine.distance, expected.distance.isel(layer=[0]))


def test_several_texts_have_positions_of_their_own(tiny: Case) -> None:
    together = tiny.model.encode(TEXTS)
    assert together.position.values.tolist() == list(range(together.sizes["position"]))
    dist = attnxr.sequence_distances(together).distance
    first = np.flatnonzero(together.text_id == 0)
    alone = attnxr.sequence_distances(tiny.model.encode(TEXTS[0])).distance
    np.testing.assert_allclose(dist.isel(position=first, other_position=first), alone, atol=1e-6)


def test_in_sequence_looks_at_the_neighbours_own_text(tiny: Case) -> None:
    together = tiny.model.encode(TEXTS)
    near = tiny.model.neighbors(together, k=30)
    for i, text in enumerate(TEXTS):
        alone = tiny.model.neighbors(tiny.model.encode(text), k=30)
        part = near.isel(position=together.text_id.values == i)
        np.testing.assert_array_equal(part.in_sequence, alone.in_sequence)


def test_a_slice_of_several_texts_keeps_its_positions(roberta: Case) -> None:
    """The second text's third token stands at position 2 of its text, wherever it lies."""
    together = roberta.model.encode(TEXTS)
    at = int(np.flatnonzero((together.text_id == 1) & (together.text_position == 2))[0])
    part = roberta.model.neighbors(together.isel(position=[at]), k=5)
    xr.testing.assert_identical(part, roberta.model.neighbors(together, k=5).isel(position=[at]))


def test_a_text_too_long_is_cut_only_on_request(tiny: Case) -> None:
    text = "flies " * 100
    full = len(tiny.model.encode("flies " * 5).position) - 2  # without the two special tokens
    assert full >= 5
    with pytest.raises(attnxr.errors.TextTooLongError, match=str(tiny.model.max_tokens)) as caught:
        tiny.model.encode(text)
    assert "truncate=True" in str(caught.value)
    enc = tiny.model.encode(text, truncate=True)
    assert enc.sizes["position"] == tiny.model.max_tokens
    assert enc.attrs["truncated"] > 0
    assert enc.is_special.values[[0, -1]].all()
    assert not enc.is_special.values[1:-1].any()
    np.testing.assert_allclose(enc["head_encoding"], tiny.oracle.trace(enc.token_id.values).encoding, atol=1e-5)


def test_the_number_of_tokens_cut_is_the_number_that_is_missing(tiny: Case) -> None:
    one = tiny.model.encode("banana").sizes["position"] - 2
    per_word = tiny.model.encode("banana banana").sizes["position"] - 2 - one
    enc = tiny.model.encode("banana" + " banana" * 60, truncate=True)
    assert enc.attrs["truncated"] == 2 + one + 60 * per_word - tiny.model.max_tokens


def test_a_text_of_just_the_longest_length_is_taken_whole(tiny: Case) -> None:
    longest = [57] * tiny.model.max_tokens
    enc = tiny.model.encode(token_ids=longest)
    assert enc.sizes["position"] == len(longest)
    with pytest.raises(attnxr.errors.TextTooLongError):
        tiny.model.encode(token_ids=[*longest, 57])


def test_encode_is_deterministic(case: Case) -> None:
    xr.testing.assert_identical(case.model.encode(TEXTS[0]), case.model.encode(TEXTS[0]))
