"""What is loaded from the files of a model: head, precision, shards, GGUF, adapters, and files that are wrong."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import struct
from pathlib import Path
from typing import Any

import gguf
import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from attnxr.errors import AttnxrError, ModelNotFoundError, UnsupportedModelError
from attnxr.loading.by_name import is_cached, load
from tests.support import models

IDS = torch.tensor([[0, 57, 171, 12, 300, 2]])


def tiny_llama(**options: Any) -> Any:
    """A random Llama with fewer key than query heads, and a rotary base that is not the default."""
    sizes = models._sizes(models.VOCABULARY_SIZE) | {"num_key_value_heads": 2} | options
    config = transformers.LlamaConfig(
        **sizes, rope_parameters={"rope_type": "default", "rope_theta": 5000.0}, bos_token_id=0, eos_token_id=2
    )
    return models.randomise(transformers.LlamaForCausalLM(config), 3)


def tiny_gpt2(cls: Any = transformers.GPT2LMHeadModel) -> Any:
    sizes = {"vocab_size": models.VOCABULARY_SIZE, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
    return models.randomise(cls(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=2)), 4)


@pytest.fixture
def llama_folder(tmp_path: Path) -> Path:
    return models.save(tmp_path / "tiny-llama", tiny_llama(), models.byte_level_tokenizer())


def change(file: Path, **values: Any) -> None:
    """Change a JSON file; what is None is left out of it."""
    told = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))


def without(folder: Path, *keys: str) -> None:
    """Take parameters out of a checkpoint."""
    weights = load_file(folder / "model.safetensors")
    kept = {key: value for key, value in weights.items() if not key.startswith(keys)}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def assert_same_weights(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    assert not found.training
    for (key, mine), (_, theirs) in zip(found.state_dict().items(), expected.state_dict().items(), strict=True):
        assert mine.dtype == theirs.dtype, key
        assert torch.equal(mine, theirs), key


@torch.no_grad()
def assert_same(found: Any, expected: Any) -> None:
    """The same class with the same parameters, that answers the same."""
    assert_same_weights(found, expected)
    assert torch.equal(found(IDS)[0], expected(IDS)[0])


HEADED = {
    "masked": lambda: models.tiny_roberta(transformers.RobertaForMaskedLM),
    "causal, tied": tiny_gpt2,
    "causal, not tied": tiny_llama,
    "masked, BERT": lambda: models.tiny_bert(transformers.BertForMaskedLM),
}
BARE = {
    "encoder": models.tiny_roberta,
    "decoder": lambda: tiny_gpt2(transformers.GPT2Model),
}


@pytest.mark.parametrize("kind", [*HEADED, *BARE])
def test_a_model_has_the_head_it_was_saved_with(tmp_path: Path, kind: str) -> None:
    hf_model = (HEADED | BARE)[kind]()
    found, _ = load(str(models.save(tmp_path, hf_model, models.byte_level_tokenizer())))
    assert_same(found, hf_model)
    assert (found.get_output_embeddings() is not None) == (kind in HEADED)


def test_a_class_that_is_no_language_model_loads_without_its_head(tmp_path: Path) -> None:
    hf_model = models.tiny_roberta(transformers.RobertaForTokenClassification)
    found, _ = load(str(models.save(tmp_path, hf_model, models.byte_level_tokenizer())))
    assert type(found) is transformers.RobertaModel
    assert torch.equal(found(IDS)[0], hf_model.roberta(IDS)[0])


@pytest.mark.parametrize("architectures", [None, [], ["NoSuchClass"], ["BertForMaskedLM"]])
def test_a_class_that_is_not_one_of_its_family_is_not_followed(llama_folder: Path, architectures: Any) -> None:
    change(llama_folder / "config.json", architectures=architectures)
    assert type(load(str(llama_folder))[0]) is transformers.LlamaModel


@pytest.mark.parametrize(("kind", "head"), [("causal, not tied", "lm_head."), ("masked", "lm_head.")])
def test_a_head_that_the_weights_lack_is_left_out_and_not_made_up(tmp_path: Path, kind: str, head: str) -> None:
    hf_model = HEADED[kind]()
    folder = models.save(tmp_path, hf_model, models.byte_level_tokenizer())
    without(folder, head)
    found, _ = load(str(folder))
    assert type(found) is type(hf_model.base_model)
    assert found.get_output_embeddings() is None
    assert torch.equal(found(IDS)[0], hf_model.base_model(IDS)[0])


@pytest.mark.parametrize("head", ["LlamaForCausalLM", "LlamaModel"])
def test_what_is_said_of_lacking_parameters_is_the_same_with_and_without_a_head(llama_folder: Path, head: str) -> None:
    change(llama_folder / "config.json", architectures=[head])
    without(llama_folder, "model.layers.1.self_attn.q_proj")
    with pytest.raises(ModelNotFoundError, match=r"lack 1 of .*\(layers\.1\.self_attn\.q_proj\.weight"):
        load(str(llama_folder))


def test_weights_of_another_shape_are_an_error_that_names_them(llama_folder: Path) -> None:
    change(llama_folder / "config.json", intermediate_size=40)
    with pytest.raises(ModelNotFoundError, match=r"layers\.0\.mlp\.down_proj\.weight"):
        load(str(llama_folder))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("told", [True, False])
def test_the_stored_precision_is_kept(llama_folder: Path, dtype: torch.dtype, told: bool) -> None:
    hf_model = tiny_llama().to(dtype)
    hf_model.save_pretrained(llama_folder)
    if not told:
        change(llama_folder / "config.json", dtype=None)
    assert_same_weights(load(str(llama_folder))[0], hf_model)


@pytest.fixture
def sharded(llama_folder: Path) -> Path:
    (llama_folder / "model.safetensors").unlink()
    tiny_llama().save_pretrained(llama_folder, max_shard_size="20KB")
    assert len(list(llama_folder.glob("model-*.safetensors"))) > 2
    return llama_folder


def test_a_model_in_shards_loads(sharded: Path) -> None:
    assert_same(load(str(sharded))[0], tiny_llama())


def test_a_shard_that_is_not_there_is_an_error(sharded: Path) -> None:
    shard = sorted(sharded.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ModelNotFoundError) as caught:
        load(str(sharded))
    assert str(sharded) in str(caught.value)
    assert shard.name in str(caught.value)


def test_a_damaged_shard_is_an_error(sharded: Path) -> None:
    shard = sorted(sharded.glob("model-*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(ModelNotFoundError, match=str(sharded)):
        load(str(sharded))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client believes it may ask, and each attempt to is an error."""

    def refuse(*_: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def cached(sharded: Path) -> Any:
    """A snapshot of a model in shards in the local cache, and the id it has there."""
    commit = "1" * 40
    entry = Path(huggingface_hub.constants.HF_HUB_CACHE) / "models--attnxr-tests--sharded"
    snapshot = shutil.copytree(sharded, entry / "snapshots" / commit)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(commit)
    yield "attnxr-tests/sharded", snapshot
    shutil.rmtree(entry)


@pytest.mark.usefixtures("no_network")
def test_a_cached_model_in_shards_loads_without_network(cached: Any) -> None:
    name, _ = cached
    assert is_cached(name)
    assert_same(load(name)[0], tiny_llama())


def test_a_cached_model_that_lacks_a_shard_is_not_ready(cached: Any) -> None:
    name, snapshot = cached
    sorted(snapshot.glob("model-*.safetensors"))[0].unlink()
    assert not is_cached(name)


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"weight_map": 3}'])
def test_a_cached_model_with_a_damaged_index_is_not_ready(cached: Any, index: str) -> None:
    name, snapshot = cached
    (snapshot / "model.safetensors.index.json").write_text(index)
    assert not is_cached(name)


def cut(file: Path) -> None:
    """Leave of a file what a download leaves that ends early."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    "damaged", ["config.json", "tokenizer.json", "tokenizer_config.json", "model-00002-of-*.safetensors"]
)
def test_a_damaged_cache_is_an_error_that_says_what_to_delete(cached: Any, damaged: str) -> None:
    name, snapshot = cached
    (file,) = snapshot.glob(damaged)
    cut(file)
    with pytest.raises(
        ModelNotFoundError, match=r"are damaged .* Delete the folder models--attnxr-tests--sharded"
    ) as told:
        load(name)
    assert str(snapshot.parents[2]) not in str(told.value)  # a served page shows it


def test_of_a_download_that_was_cut_off_is_said_that_the_next_one_goes_on(cached: Any) -> None:
    name, snapshot = cached
    (shard,) = snapshot.glob("model-00002-of-*.safetensors")
    blobs = snapshot.parents[1] / "blobs"
    blobs.mkdir()
    cut(shard)
    shard.rename(blobs / "abcdef.incomplete")
    with pytest.raises(ModelNotFoundError, match=r"not whole .* A download of it was cut off; the next one goes on"):
        load(name)


def add_adapter(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    told = {"base_model_name_or_path": "somebody/the-base", "peft_type": "LORA", "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    save_file({"base_model.model.q_proj.lora_A.weight": torch.ones(2, 32)}, folder / "adapter_model.safetensors")


def test_an_adapter_without_its_base_is_an_error_that_says_how_to_merge_it(tmp_path: Path) -> None:
    add_adapter(tmp_path)
    with pytest.raises(ModelNotFoundError, match="adapter without its base") as caught:
        load(str(tmp_path))
    for part in (str(tmp_path), "somebody/the-base", "merge_and_unload()", "save_pretrained"):
        assert part in str(caught.value)


def test_a_model_with_an_adapter_beside_it_is_refused(llama_folder: Path) -> None:
    add_adapter(llama_folder)
    with pytest.raises(ModelNotFoundError, match="a model and, beside it, an adapter") as caught:
        load(str(llama_folder))
    for part in (str(llama_folder), "somebody/the-base", "merge_and_unload()", "move the adapter away"):
        assert part in str(caught.value)


@pytest.mark.parametrize("told", ["", "[]", "{}"])
def test_a_damaged_adapter_is_an_error(tmp_path: Path, told: str) -> None:
    add_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text(told)
    with pytest.raises(ModelNotFoundError, match="adapter_config"):
        load(str(tmp_path))


@pytest.mark.parametrize("heads", [0, -4, 3, "four", 4.0])
def test_a_number_of_heads_that_cannot_be_is_an_error_that_says_it(llama_folder: Path, heads: Any) -> None:
    change(llama_folder / "config.json", num_attention_heads=heads)
    with pytest.raises(UnsupportedModelError, match=f"'num_attention_heads': {heads!r}"):
        load(str(llama_folder))


@pytest.mark.parametrize("heads", [0, 3, "four"])
def test_a_number_of_heads_that_cannot_be_is_an_error_of_gpt2_too(tmp_path: Path, heads: Any) -> None:
    models.save(tmp_path, tiny_gpt2(), models.byte_level_tokenizer())
    change(tmp_path / "config.json", n_head=heads)
    with pytest.raises(UnsupportedModelError, match=f"'n_head': {heads!r}"):
        load(str(tmp_path))


@pytest.mark.parametrize("family", [tiny_llama, tiny_gpt2, models.tiny_roberta])
def test_a_number_of_heads_that_is_not_given_is_an_error(tmp_path: Path, family: Any) -> None:
    """Each family has a default, which does not fit these sizes."""
    models.save(tmp_path, family(), models.byte_level_tokenizer())
    change(tmp_path / "config.json", num_attention_heads=None, n_head=None)
    with pytest.raises(AttnxrError, match=r"config\.json"):
        load(str(tmp_path))


@pytest.mark.parametrize("text", ['{"model_type": "lla', "", "[]", "7", "null", "\udcff"])
def test_a_configuration_that_is_no_json_object_is_an_error(llama_folder: Path, text: str) -> None:
    (llama_folder / "config.json").write_text(text, errors="surrogateescape")
    with pytest.raises(ModelNotFoundError, match=str(llama_folder)):
        load(str(llama_folder))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 3}'])
def test_a_damaged_tokenizer_is_an_error(llama_folder: Path, text: str) -> None:
    (llama_folder / "tokenizer.json").write_text(text)
    with pytest.raises(ModelNotFoundError, match="no tokenizer"):
        load(str(llama_folder))


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """The rows of each head of a query or key weight in the order that llama.cpp's rotation wants them."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


FLOAT32 = gguf.GGMLQuantizationType.F32


def write_gguf(
    path: Path, hf_model: Any, *, architecture: str = "llama", stored: Any = FLOAT32, with_tokenizer: bool = True
) -> Path:
    """Write a Llama and its byte-level tokenizer as llama.cpp's convert_hf_to_gguf.py does."""
    config, tokenizer = hf_model.config, models.byte_level_tokenizer()
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    if with_tokenizer:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        special = set(tokenizer.all_special_tokens)
        writer.add_token_list(tokens)
        writer.add_token_types(
            [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
        )
        writer.add_token_merges([" ".join(merge) for merge in merges])
        writer.add_bos_token_id(tokenizer.bos_token_id)
        writer.add_eos_token_id(tokenizer.eos_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    tied = config.tie_word_embeddings
    for key, tensor in hf_model.state_dict().items():
        if tied and key == "lm_head.weight":
            continue
        weight = tensor.numpy()
        if "q_proj" in key:
            weight = permuted(weight, config.num_attention_heads)
        if "k_proj" in key:
            weight = permuted(weight, config.num_key_value_heads)
        kind = stored if weight.ndim > 1 else FLOAT32
        gguf_name = names.get_name(key, try_suffixes=(".weight",))
        writer.add_tensor(gguf_name, gguf.quants.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("tied", [True, False])
def test_a_gguf_file_loads_as_the_model_it_was_written_from(tmp_path: Path, tied: bool) -> None:
    hf_model = tiny_llama(tie_word_embeddings=tied)
    found, tokenizer = load(str(write_gguf(tmp_path / "tiny.gguf", hf_model)))
    assert_same(found, hf_model)
    expected = models.byte_level_tokenizer()
    # transformers adds <|endoftext|> behind a byte-level vocabulary that lacks it.
    ids = range(len(expected))
    assert tokenizer.convert_ids_to_tokens(ids) == expected.convert_ids_to_tokens(ids)
    plain = {"add_special_tokens": False}
    assert tokenizer(models.SENTENCE, **plain)["input_ids"] == expected(models.SENTENCE, **plain)["input_ids"]


@pytest.mark.parametrize("stored", ["F16", "BF16", "Q8_0"])
def test_what_a_gguf_file_packs_is_unpacked_to_single_precision(tmp_path: Path, stored: str) -> None:
    kind = gguf.GGMLQuantizationType[stored]
    hf_model = tiny_llama(intermediate_size=64)  # Q8_0 packs rows by 32
    found, _ = load(str(write_gguf(tmp_path / "tiny.gguf", hf_model, stored=kind)))
    assert {parameter.dtype for parameter in found.parameters()} == {torch.float32}
    for key, parameter in found.named_parameters():
        weight = hf_model.state_dict()[key].numpy()
        if weight.ndim > 1:
            weight = gguf.quants.dequantize(gguf.quants.quantize(weight, kind), kind)
        np.testing.assert_array_equal(parameter.detach().numpy(), weight, err_msg=key)


@pytest.mark.parametrize("length", [0, 3, 30, 4000, 0.5, 0.99])
def test_a_gguf_file_that_is_cut_off_is_an_error(tmp_path: Path, length: float) -> None:
    path = write_gguf(tmp_path / "cut.gguf", tiny_llama())
    whole = path.read_bytes()
    path.write_bytes(whole[: length if isinstance(length, int) else int(len(whole) * length)])
    with pytest.raises(ModelNotFoundError, match=r"cut\.gguf.*GGUF"):
        load(str(path))


def test_a_file_that_is_no_gguf_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(ModelNotFoundError, match=r"other\.gguf.*GGUF"):
        load(str(path))


def test_a_gguf_file_without_parameters_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    with pytest.raises(ModelNotFoundError, match=r"empty\.gguf.*GGUF"):
        load(str(path))


def test_a_gguf_file_of_an_unknown_family_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "strange.gguf", tiny_llama(), architecture="unheard-of")
    with pytest.raises(UnsupportedModelError, match="unheard-of"):
        load(str(path))


@pytest.mark.parametrize("name", ["nowhere.gguf", "/no/such/folder/model.gguf"])
def test_a_gguf_file_that_is_not_there_is_an_error(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match=f"no file '{name}'"):
        load(name)


def test_a_gguf_file_without_a_tokenizer_is_an_error(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "mute.gguf", tiny_llama(), with_tokenizer=False)
    with pytest.raises(ModelNotFoundError, match=r"mute\.gguf.*no tokenizer.*into it"):
        load(str(path))


def test_a_gguf_file_beside_another_tokenizer_is_refused(tmp_path: Path) -> None:
    """transformers would take the class and the special tokens from there, and the vocabulary from the file."""
    path = write_gguf(tmp_path / "tiny.gguf", tiny_llama())
    models.wordpiece_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"tokenizer_config\.json.*move it"):
        load(str(path))


def test_an_adapter_beside_a_gguf_file_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tiny_llama())
    add_adapter(tmp_path)
    with pytest.raises(ModelNotFoundError, match="a model and, beside it, an adapter"):
        load(str(path))


def test_the_folder_of_a_gguf_file_says_to_name_the_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", tiny_llama())
    with pytest.raises(ModelNotFoundError, match="name the file"):
        load(str(tmp_path))


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_a_gguf_file_without_the_extra_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tiny_llama())
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(ModelNotFoundError, match=rf"needs {package}, .*pip install '{package}'"):
        load(str(path))
