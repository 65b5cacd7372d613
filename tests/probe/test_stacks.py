"""Encoder-decoders: their encoder, their decoder's attention to itself, and that to the encoder's text."""

from __future__ import annotations

import copy
import functools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import xarray as xr

import attnxr
from attnxr import saved
from attnxr.errors import InputError, TextTooLongError, UnsupportedModelError
from tests.support import models, oracles
from tests.support.families import WHISPER, WITH_HEAD, build

SOURCE = [9, 30, 51, 14, 22, 2]
TARGET = [2, 40, 23, 40, 57, 8]  # as many: by their number the keys of the two texts cannot be told
LONGER = [*TARGET, 33, 62]
LAYERS, HEADS, SIZE = 3, 4, 8
DOORS = {"t5": False, "bart": False, "mvp": True}
"""Families, and whether they are seen through the second door."""


@functools.lru_cache(maxsize=4)
def look(model_type: str) -> tuple[Any, attnxr.Model]:
    hf_model = WITH_HEAD[model_type]()
    return hf_model, attnxr.Model(hf_model)


def attentions(hf_model: Any, stack: str) -> list[Any]:
    """The attention modules of a stack, by their names in the two kinds of code that there are."""
    side = hf_model.get_encoder() if stack == "encoder" else hf_model.get_decoder()
    if hf_model.config.model_type == "t5":
        return [
            block.layer[1].EncDecAttention if stack == "cross" else block.layer[0].SelfAttention for block in side.block
        ]
    return [layer.encoder_attn if stack == "cross" else layer.self_attn for layer in side.layers]


def part(module: Any, name: str) -> Any:
    """A linear map of an attention: "q", "k", "v" or "o"."""
    return getattr(module, {"o": "out_proj"}.get(name, f"{name}_proj") if hasattr(module, "q_proj") else name)


def plain(hf_model: Any, stack: str, source: list[int], target: list[int]) -> dict[str, np.ndarray]:
    """What the model itself computes in float64, by plain hooks: (layer, head, position, …)."""
    twin = type(hf_model)(hf_model.config)
    twin.load_state_dict(hf_model.state_dict())
    twin = twin.double().eval()
    twin.set_attn_implementation("eager")
    found: dict[str, list[torch.Tensor]] = {"z": [], "q": [], "k": [], "v": []}
    for module in attentions(twin, stack):
        part(module, "o").register_forward_pre_hook(lambda _m, args: found["z"].append(args[0]))
        for name in ("q", "k", "v"):
            part(module, name).register_forward_hook(lambda _m, _a, out, name=name: found[name].append(out))
    with torch.no_grad():
        out = twin(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([target]), output_attentions=True)
    own = {"encoder": out.encoder_attentions, "decoder": out.decoder_attentions, "cross": out.cross_attentions}[stack]
    by_head = {
        name: torch.stack(each).reshape(LAYERS, -1, HEADS, SIZE).transpose(1, 2).numpy() for name, each in found.items()
    }
    return {**by_head, "weights": torch.stack(own)[:, 0].numpy()}


@pytest.mark.parametrize("target", [TARGET, LONGER], ids=["as long", "longer"])
@pytest.mark.parametrize("stack", ["encoder", "decoder", "cross"])
@pytest.mark.parametrize("family", DOORS)
def test_each_stack_is_what_the_model_computes(family: str, stack: Any, target: list[int]) -> None:
    hf_model, model = look(family)
    assert model.stacks == ("encoder", "decoder", "cross")
    assert model._look("decoder").window.by_functions == DOORS[family]
    true = plain(hf_model, stack, SOURCE, target)
    include = ["query_vector", "key_vector", "value_vector"]
    if stack == "encoder":
        enc = model.encode(token_ids=SOURCE, include=include)
    else:
        enc = model.encode(token_ids=SOURCE, target=target, stack=stack, include=include)
    keys = "encoder_" if stack == "cross" else ""
    assert enc.attrs["stack"] == stack
    assert enc.attrs["causal"] == (stack != "encoder")
    np.testing.assert_allclose(enc["attention"], true["weights"], atol=1e-5)
    for name, variable in (("z", "head_encoding"), ("k", f"{keys}key_vector"), ("v", f"{keys}value_vector")):
        assert oracles.relative_error(enc[variable].values, true[name]) <= 1e-5, name
    cosine = (enc["query_vector"].values * true["q"]).sum(-1)  # some scale queries before the product
    lengths = np.linalg.norm(enc["query_vector"], axis=-1) * np.linalg.norm(true["q"], axis=-1)
    np.testing.assert_allclose(cosine, lengths, rtol=1e-5)
    if stack == "cross":
        assert enc["attention"].dims == ("layer", "head", "position", "key_position")
        assert enc["key_token_id"].values.tolist() == SOURCE
        assert enc["token_id"].values.tolist() == target


@pytest.mark.parametrize("family", ["t5", "mvp"])
def test_a_decoder_without_its_mask_reads_the_same_text(family: str) -> None:
    _, model = look(family)
    own, off, on = (model.encode(token_ids=SOURCE, target=TARGET, causal=causal) for causal in (None, False, True))
    assert not np.triu(own["attention"].values.max(axis=(0, 1)), 1).any()
    assert (off["attention"].values.max(axis=1) > 0).all()
    xr.testing.assert_identical(own, on)


@pytest.mark.parametrize("family", ["t5", "mvp"])
def test_no_stack_runs_more_than_it_needs(family: str) -> None:
    hf_model = WITH_HEAD[family]()
    ran = {"encoder": 0, "decoder": 0}

    def count(name: str) -> Any:
        def hook(*_: Any) -> None:
            ran[name] += 1

        return hook

    model = attnxr.Model(hf_model)
    hf_model.get_encoder().register_forward_hook(count("encoder"))
    hf_model.get_decoder().register_forward_hook(count("decoder"))
    enc = model.encode(token_ids=SOURCE)
    model.neighbors(enc, k=2)
    assert ran["decoder"] == 0
    dec = model.encode(token_ids=SOURCE, target=TARGET)
    ran["encoder"] = 0
    model.neighbors(dec, k=2, vocab_layer="same")
    assert ran["encoder"] == 0


@pytest.mark.parametrize("family", ["t5", "bart", "mbart", "m2m_100"])
def test_a_target_is_shifted_as_the_model_shifts_labels(family: str) -> None:
    """M2M100 has no method for it: its forward does it."""
    hf_model = WITH_HEAD[family]()
    tokenizer = models.byte_level_tokenizer()
    hf_model.resize_token_embeddings(len(tokenizer))
    handed: list[torch.Tensor] = []
    model = attnxr.Model(hf_model, tokenizer)
    text, target = "Time flies.", "Die Zeit fliegt."
    enc = model.encode(text, target=target)
    hook = hf_model.get_decoder().register_forward_pre_hook(
        lambda _m, _a, kwargs: handed.append(kwargs["input_ids"]), with_kwargs=True
    )
    labels = tokenizer(target, return_tensors="pt").input_ids
    with torch.no_grad():
        hf_model(**tokenizer(text, return_tensors="pt"), labels=labels)
    hook.remove()
    assert enc["token_id"].values.tolist() == handed[0][0].tolist()
    assert enc.attrs["text"] == target
    assert enc.attrs["encoder_text"] == text
    assert enc.attrs["encoder_token_ids"].tolist() == tokenizer(text).input_ids
    assert enc["char_start"].values[0] == enc["word"].values[0] == -1
    inside = enc.isel(position=enc["char_start"].values >= 0)
    found = [target[a:b] for a, b in zip(inside["char_start"].values, inside["char_end"].values, strict=True)]
    assert "".join(found) == target.replace(" ", "") or "".join(found) == target
    ids = enc["token_id"].values.tolist()
    np.testing.assert_array_equal(model.encode(text, target=ids)["head_encoding"], enc["head_encoding"])


def test_several_texts_are_read_side_by_side() -> None:
    hf_model = WITH_HEAD["bart"]()
    tokenizer = models.byte_level_tokenizer()
    hf_model.resize_token_embeddings(len(tokenizer))
    model = attnxr.Model(hf_model, tokenizer)
    texts, targets = ["Time flies.", "Fruit flies like a banana."], ["Die Zeit.", "Obst fliegt."]
    both = model.encode(texts, target=targets)
    assert both["source"].values.tolist() == targets
    assert both["encoder_source"].values.tolist() == texts
    for i, (text, target) in enumerate(zip(texts, targets, strict=True)):
        here = both.isel(position=both["text_id"].values == i)
        alone = model.encode(text, target=target)
        np.testing.assert_array_equal(here["head_encoding"], alone["head_encoding"])
        near, of_alone = model.neighbors(here, k=3), model.neighbors(alone, k=3)
        np.testing.assert_array_equal(near["neighbor_id"], of_alone["neighbor_id"])
    change = model.replace(both, 0 * both["head_encoding"], together=["position"])
    alone = model.encode(texts[1], target=targets[1])
    expected = model.replace(alone, 0 * alone["head_encoding"], together=["position"])
    np.testing.assert_allclose(change["kl_anywhere"].isel(source_id=1), expected["kl_anywhere"], rtol=1e-4)
    with pytest.raises(InputError, match="2 texts were given for the encoder, and 1"):
        model.encode(texts, target="Die Zeit.")
    with pytest.raises(InputError, match="one text"):
        model.encode(texts, target=targets, stack="cross")
    with pytest.raises(TextTooLongError):
        model.encode("Time flies.", target="Zeit " * 100)
    cut = model.encode("Time flies. " * 30, target="Zeit " * 100, truncate=True)
    assert cut.sizes["position"] == len(cut.attrs["encoder_token_ids"]) == model.max_tokens
    whole = sum(len(tokenizer(each).input_ids) for each in ("Time flies. " * 30, "Zeit " * 100))
    assert cut.attrs["truncated"] == whole - 2 * model.max_tokens


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_cross_attention_is_near_to_tokens_of_the_encoders_text(metric: Any) -> None:
    hf_model, model = look("bart")
    enc = model.encode(token_ids=SOURCE, target=LONGER, stack="cross", include=["value_vector"])
    near = attnxr.encoder_neighbors(enc, k=3, metric=metric)
    true = plain(hf_model, "cross", SOURCE, LONGER)
    for layer in range(LAYERS):
        for head in range(HEADS):
            z, values = true["z"][layer, head], true["v"][layer, head]
            expected = oracles.distances(metric, z, values)
            here = near.isel(layer=layer, head=head)
            picked = np.take_along_axis(expected, here["neighbor_position"].values, axis=-1)
            np.testing.assert_allclose(here["distance"], picked, atol=1e-4)
            np.testing.assert_allclose(picked, np.sort(expected, axis=-1)[:, :3], atol=1e-4)
    ids = np.array(SOURCE)[near["neighbor_position"].values]
    assert (near["neighbor"].values == model.vocabulary.token[ids]).all()
    with pytest.raises(InputError, match="value_vector"):
        attnxr.encoder_neighbors(enc.drop_vars("encoder_value_vector"))
    with pytest.raises(InputError, match="1 to 6"):
        attnxr.encoder_neighbors(enc, k=7)


@pytest.mark.parametrize("stack", ["decoder", "cross"])
@pytest.mark.parametrize("family", DOORS)
def test_what_is_replaced_is_replaced_in_that_attention(family: str, stack: Any) -> None:
    """By a hook that puts zeros into what W_O reads, in the model as it was given."""
    hf_model, model = look(family)
    enc = model.encode(token_ids=SOURCE, target=TARGET, stack=stack).isel(layer=[0, 2], head=[1])
    change = model.replace(enc, 0 * enc["head_encoding"])
    given = {"input_ids": torch.tensor([SOURCE]), "decoder_input_ids": torch.tensor([TARGET])}

    def log_p(layer: int | None, position: int = 0) -> torch.Tensor:
        def silence(_m: Any, args: tuple) -> tuple:
            z = args[0].clone()
            z.view(1, len(TARGET), HEADS, SIZE)[:, position, 1] = 0
            return (z,)

        hook = None
        if layer is not None:
            hook = part(attentions(hf_model, stack)[layer], "o").register_forward_pre_hook(silence)
        with torch.no_grad():
            found = hf_model(**given).logits[0].double().log_softmax(-1)
        if hook is not None:
            hook.remove()
        return found

    own = log_p(None)
    for layer in (0, 2):
        for position in (0, 3, 5):
            other = log_p(layer, position)
            kl = (own.exp() * (own - other)).sum(-1)[position].item()
            found = change["kl"].sel(layer=layer, head=1, position=position).item()
            assert found == pytest.approx(kl, rel=2e-3, abs=1e-7)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_what_a_head_of_cross_attention_contributes_lies_in_the_decoders_stream(family: str) -> None:
    hf_model, model = look(family)
    enc = model.encode(token_ids=SOURCE, target=TARGET, stack="cross")
    near = model.neighbors(enc, k=3, of="contribution", space="unembedding", metric="dot")
    weight = part(attentions(hf_model, "cross")[1], "o").weight.detach().double().numpy()
    z = enc["head_encoding"].sel(layer=1, head=2).values.astype(np.float64)
    scores = z @ weight[:, 2 * SIZE : 3 * SIZE].T @ hf_model.get_output_embeddings().weight.detach().double().numpy().T
    expected = np.argsort(-scores, axis=-1)[:, :3]
    assert (near["neighbor_id"].sel(layer=1, head=2).values == expected).mean() > 0.9
    assert model.neighbors(enc, k=2, of="contribution", space="embedding").sizes["position"] == len(TARGET)


def test_each_stack_verifies_itself_and_is_told_from_the_others() -> None:
    _, model = look("t5")
    assert len({model.verify(stack=stack).attrs["fingerprint"] for stack in model.stacks}) == 3
    for stack in model.stacks:
        checked = model.verify(stack=stack)
        assert checked.attrs["passed"] == 1
        assert checked.sizes["layer"] == LAYERS
    enc, dec = model.encode(token_ids=SOURCE), model.encode(token_ids=SOURCE, target=TARGET)
    for given in (enc.assign_attrs(stack="decoder"), dec.assign_attrs(stack="encoder")):
        with pytest.raises(InputError, match="fingerprint"):
            model.neighbors(given, k=2)
    alone = attnxr.Model(look("t5")[0].get_encoder())
    np.testing.assert_array_equal(alone.encode(token_ids=SOURCE)["head_encoding"], enc["head_encoding"])
    with pytest.raises(InputError, match="fingerprint"):
        alone.neighbors(dec, k=2)
    near = attnxr.sequence_neighbors(dec, k=2)
    assert near["neighbor_position"].shape == (LAYERS, HEADS, len(TARGET), 2)


def test_files_keep_the_stack_and_what_the_encoder_read(tmp_path: Path) -> None:
    _, model = look("bart")
    dec = model.encode(token_ids=SOURCE, target=TARGET)
    near = model.neighbors(dec, k=3)
    (tmp_path / "both.nc").write_bytes(saved.write(dec, near))
    again = saved.read(tmp_path / "both.nc")
    xr.testing.assert_identical(again.encodings, dec)
    xr.testing.assert_identical(again.neighbors, near)
    assert (model.neighbors(again.encodings, k=3)["neighbor_id"] == near["neighbor_id"]).all()
    cross = model.encode(token_ids=SOURCE, target=LONGER, stack="cross", include=["value_vector"])
    cross.to_netcdf(tmp_path / "cross.nc", engine="h5netcdf")
    of_cross = saved.read(tmp_path / "cross.nc").encodings
    assert of_cross is not None
    xr.testing.assert_identical(of_cross, cross)
    assert attnxr.encoder_neighbors(of_cross, k=2).identical(attnxr.encoder_neighbors(cross, k=2))
    for changed in (cross.isel(key_position=slice(3)), cross):  # more keys than the encoder's text has tokens
        other = changed.assign_attrs(encoder_token_ids=cross.attrs["encoder_token_ids"][:2])
        other.to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
        with pytest.raises(InputError, match="attention to"):
            saved.read(tmp_path / "other.nc")


def test_what_has_no_meaning_is_refused() -> None:
    _, model = look("bart")
    cross = model.encode(token_ids=SOURCE, target=TARGET, stack="cross")
    for space in ("value", "key", "query"):
        with pytest.raises(InputError, match="encoder_neighbors"):
            model.neighbors(cross, k=2, space=space)
    with pytest.raises(InputError, match="another text"):
        attnxr.roles(cross)
    dec = model.encode(token_ids=SOURCE, target=TARGET)
    for asked in (attnxr.attribute, attnxr.promoted):
        with pytest.raises(UnsupportedModelError, match="decoder"):
            asked(model, dec)
    with pytest.raises(InputError, match="another text"):
        attnxr.significance(model, dec, null="shuffled")
    wrong: dict[str, dict[str, Any]] = {
        "without a target": {"stack": "decoder"},
        "with a target": {"stack": "encoder", "target": TARGET},
        "one of 'encoder'": {"stack": "both"},
        "residual": {"stack": "cross", "target": TARGET, "include": ["residual"]},
        "causal": {"stack": "cross", "target": TARGET, "causal": True},
        "tokenizer": {"target": "Die Zeit"},
        "out of range": {"target": [2, 9999]},
        "mapping": {"target": {"input_ids": TARGET}},
        "whole number": {"target": [[1, 2], [3, 4]]},
    }
    for said, options in wrong.items():
        with pytest.raises(InputError, match=said):
            model.encode(token_ids=SOURCE, **options)
    gpt2 = attnxr.Model(build("gpt2", {}))
    for options in ({"target": TARGET}, {"stack": "decoder"}):
        with pytest.raises(InputError, match="no encoder-decoder"):
            gpt2.encode(token_ids=SOURCE, **options)
    with pytest.raises(InputError, match="stack"):
        gpt2.verify(stack="decoder")


def test_a_model_without_its_head_does_not_shift_a_text() -> None:
    hf_model: Any = WITH_HEAD["bart"]().base_model
    hf_model.resize_token_embeddings(400)
    model = attnxr.Model(hf_model, models.byte_level_tokenizer())
    with pytest.raises(InputError, match="head for language"):
        model.encode("Time flies.", target="Die Zeit.")
    assert model.encode("Time flies.", target=[2, 5]).sizes["position"] == 2


@pytest.mark.parametrize(("family", "reason"), [("led", "no attention layers"), ("bigbird_pegasus", "block_sparse")])
def test_a_sparse_encoder_is_refused_and_its_decoder_is_not(family: str, reason: str) -> None:
    hf_model = WITH_HEAD[family]()
    if family == "bigbird_pegasus":
        hf_model.get_encoder().set_attention_type("block_sparse")
    model = attnxr.Model(hf_model)
    with pytest.raises(UnsupportedModelError, match=reason):
        model.encode(token_ids=SOURCE)
    enc = model.encode(token_ids=SOURCE, target=TARGET)
    true = plain(hf_model, "decoder", SOURCE, TARGET)
    assert oracles.relative_error(enc["head_encoding"].values, true["z"]) <= 1e-5


def test_a_decoder_of_speech_reads_what_it_is_handed() -> None:
    hf_model: Any = build("whisper", WHISPER, transformers.AutoModelForSpeechSeq2Seq)
    model = attnxr.Model(hf_model)
    features = torch.randn(1, WHISPER["num_mel_bins"], 16, generator=torch.Generator().manual_seed(0))
    by_features = model.encode({"input_features": features}, target=TARGET)
    with torch.no_grad():
        states = hf_model.get_encoder()(features).last_hidden_state
        own = hf_model(input_features=features, decoder_input_ids=torch.tensor([TARGET]), output_hidden_states=True)
    by_states = model.encode({"encoder_outputs": states}, target=TARGET, include=["hidden"])
    np.testing.assert_array_equal(by_features["head_encoding"], by_states["head_encoding"])
    np.testing.assert_allclose(by_states["hidden"][0], own.decoder_hidden_states[1][0], atol=1e-5)
    near = model.neighbors(by_states.isel(layer=[0]), k=2)
    assert near.sizes["rank"] == 2
    cross = model.encode({"encoder_outputs": states}, target=TARGET, stack="cross")
    assert cross.sizes["key_position"] == states.shape[1]
    assert "key_token" not in cross
    assert model.verify(stack="cross").attrs["passed"] == 1
    with pytest.raises(UnsupportedModelError, match="input_features"):
        model.encode(token_ids=SOURCE)
    for stack in ("decoder", "cross"):
        with pytest.raises(InputError, match=r"A text was given .* reads input_features"):
            model.encode(token_ids=SOURCE, target=TARGET, stack=stack)
    with pytest.raises(InputError, match="encoder_outputs"):
        model.encode({"encoder_outputs": states[0]}, target=TARGET)
    with pytest.raises(InputError, match="does not say what the encoder read"):
        model.replace(by_states, 0 * by_states["head_encoding"])


@pytest.mark.parametrize("kind", ["BartForConditionalGeneration", "T5EncoderModel"])
def test_a_folder_is_loaded_with_the_head_it_was_saved_with(tmp_path: Path, kind: str) -> None:
    tokenizer = models.byte_level_tokenizer()
    hf_model = WITH_HEAD["bart"]()
    if kind == "T5EncoderModel":
        hf_model = transformers.T5EncoderModel(WITH_HEAD["t5"]().config)
    hf_model.resize_token_embeddings(len(tokenizer))
    model = attnxr.load_model(str(models.save(tmp_path, hf_model, tokenizer)))
    assert type(model.hf_model).__name__ == kind
    assert model.encode("Time flies.").attrs["causal"] == 0
    if kind != "T5EncoderModel":
        found = model.encode("Time flies.", target="Die Zeit.")
        near = model.neighbors(found.isel(layer=[2]), k=2)
        assert near.attrs["stack"] == "decoder"
        assert "kl" in model.replace(
            found.isel(layer=[2], head=[0]), 0 * found["head_encoding"].isel(layer=[2], head=[0])
        )


def of_two_sizes() -> Any:
    """A T5 whose stacks differ in their number of layers, as published ones may."""
    sizes = {"vocab_size": 60, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4, "decoder_start_token_id": 0}
    config = transformers.T5Config(**sizes, num_layers=2, num_decoder_layers=3)
    return models.randomise(transformers.T5ForConditionalGeneration(config), seed=3)


def test_a_stack_is_meant_where_it_was_told() -> None:
    model = attnxr.Model(of_two_sizes())
    decoder = model.of_stack("decoder")
    decoded = model.encode(token_ids=SOURCE, target=TARGET)
    assert (model.n_layers, decoder.n_layers, decoder.of_stack("encoder").n_layers) == (2, 3, 2)
    assert decoder.fingerprint == decoded.attrs["fingerprint"] != model.fingerprint
    assert decoder.verify().identical(model.verify(stack="decoder"))
    assert decoder.encode(token_ids=SOURCE, target=TARGET).identical(decoded)
    assert decoder.encode(token_ids=SOURCE).attrs["stack"] == "encoder"
    for twin in (pickle.loads(pickle.dumps(decoder)), copy.deepcopy(decoder)):
        assert (twin.n_layers, twin.fingerprint) == (3, decoder.fingerprint)
    # What the encoder makes of a text is part of what the decoder reads.
    before = decoder.vocabulary
    with torch.no_grad():
        next(model.hf_model.get_encoder().block.parameters()).mul_(2)
    assert decoder.vocabulary is not before


@pytest.mark.parametrize("stack", ["decoder", "cross"])
def test_questions_of_a_stack_are_those_that_are_answered(stack: Any) -> None:
    model = attnxr.Model(of_two_sizes())
    refusal = model.of_stack(stack).questions()["refusal"]
    include = ["query_vector"] if stack == "cross" else ["query_vector", "residual"]
    encodings = model.encode(token_ids=SOURCE, target=TARGET, stack=stack, include=include)
    for of, space in (("encoding", "value"), ("query", "key"), ("contribution", "unembedding"), ("residual", "value")):
        said, asked = refusal.sel(of=of, space=space, vocab_layer="input").item(), {"of": of, "space": space}
        if said and (stack, of) != ("cross", "residual"):
            with pytest.raises((InputError, UnsupportedModelError)) as refused:
                model.neighbors(encodings, k=1, **asked)  # type: ignore[arg-type]
            assert said == str(refused.value)
        elif not said:
            model.neighbors(encodings, k=1, **asked)  # type: ignore[arg-type]
    answered = {"decoder": ["encoding", "query", "contribution"], "cross": ["contribution"]}[stack]
    assert (refusal == "").any(["space", "vocab_layer"]).to_series().loc[answered].all()
    if stack == "cross":
        with pytest.raises(InputError) as refused:
            model.encode(token_ids=SOURCE, target=TARGET, stack=stack, include=["residual"])
        assert refusal.sel(of="residual", space="unembedding", vocab_layer="input").item() == str(refused.value)


def test_a_stack_that_is_not_there_or_reads_two_texts_is_refused() -> None:
    model = attnxr.Model(of_two_sizes())
    with pytest.raises(InputError, match="stack='both' was given"):
        model.of_stack("both")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is no encoder-decoder"):
        attnxr.Model(models.tiny_gpt2()).of_stack("decoder")
    with pytest.raises(UnsupportedModelError, match="Many texts were to be looked at in the decoder of"):
        model.of_stack("decoder").batches()


def test_analyses_are_of_the_vocabulary_and_the_heads_of_the_stack() -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "max_position_embeddings": 40}
    encoder = transformers.BertConfig(vocab_size=60, num_attention_heads=2, **sizes)
    decoder = transformers.BertConfig(
        vocab_size=90, num_attention_heads=4, is_decoder=True, add_cross_attention=True, **sizes
    )
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id = config.pad_token_id = 0
    model = attnxr.Model(models.randomise(transformers.EncoderDecoderModel(config), seed=3))
    enc = model.encode(token_ids=SOURCE, target=[2, 40, 80, 85])
    near = model.neighbors(enc, k=90)
    assert (near["own_rank"].values <= 90).all()

    drawn = attnxr.significance(model, enc, draws=9)
    np.testing.assert_allclose(drawn["own_p"], near["own_rank"] / 90)
    of_heads = attnxr.significance(model, enc, null="heads")
    assert of_heads.sizes["head"] == 4
    assert attnxr.csls_neighbors(model, enc, k=90).sizes["rank"] == 90
    drawn_by = attnxr.effects(model, enc.isel(layer=[0], position=[1]), by=["neighbor"], k=90)
    farthest = near["neighbor"].isel(layer=0, position=1, rank=89).values.tolist()
    assert drawn_by.sizes["replacement"] == 90
    found = attnxr.encoding_map(model, enc, near.isel(layer=0, head=1))
    assert set(farthest) | {"<id 89>"} <= set(found["token"].values.tolist())
