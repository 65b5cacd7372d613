"""What becomes of a model when head encodings are replaced is what plain hooks on its modules make of it."""

from __future__ import annotations

import functools
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import xarray as xr
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

import attnxr
from attnxr.errors import InputError
from attnxr.probe.replace import ReplacedText
from attnxr.query.replaced import _kl
from tests.support import models
from tests.support.families import FAMILIES, build
from tests.support.family_options import LATENT, SIZES

TEXT = [11, 40, 23, 40, 57, 8, 33, 62]
N = len(TEXT)
NAMES = ["hidden_change", "hidden_change_anywhere", "kl", "kl_anywhere", "logit_change"]
CAUSAL, WITHOUT_HEAD = ("gpt2", "llama", "gptj", "bloom"), ("bert",)
_BERT = "encoder.layer.{}.attention.output.dense"
# Family, with or without a head for language, W_O of a layer in the base model, options.
MODELS: dict[str, tuple[Any, str, str, dict[str, Any]]] = {
    "bert": (transformers.AutoModel, "bert", _BERT, {}),
    "roberta-mlm": (AutoModelForMaskedLM, "roberta", _BERT, {}),
    "albert": (AutoModelForMaskedLM, "albert", FAMILIES["albert"].output, {"embedding_size": 20}),
    "gpt2": (AutoModelForCausalLM, "gpt2", "h.{}.attn.c_proj", {"n_inner": 48}),
    "llama": (AutoModelForCausalLM, "llama", "layers.{}.self_attn.o_proj", {"num_key_value_heads": 2}),
    # Through the second door, by which a replaced vector goes on as the outcome of the model's own product.
    "mpnet": (AutoModelForMaskedLM, "mpnet", FAMILIES["mpnet"].output, {}),
    "gptj": (AutoModelForCausalLM, "gptj", FAMILIES["gptj"].output, {"rotary_dim": 4}),
    "bloom": (AutoModelForCausalLM, "bloom", FAMILIES["bloom"].output, {"n_layer": 3, "n_head": 4}),
}


@functools.cache
def built(name: str) -> tuple[Any, attnxr.Model]:
    auto, model_type, _, options = MODELS[name]
    hf_model = auto.from_config(AutoConfig.for_model(model_type, **(SIZES | options)))
    hf_model = models.randomise(hf_model, seed=5).double()
    return hf_model, attnxr.Model(hf_model)


def plain(name: str, changes: list[tuple[int, int, int, Any]], token_ids: list[int] = TEXT) -> tuple[Any, Any]:
    """Last hidden state and logits of a pass in which W_O is handed other head encodings, by plain hooks.

    `changes` are (layer, head, position, vector). W_O of ALBERT is one module that runs once a layer: its calls count.
    """
    hf_model, _ = built(name)
    base, calls = hf_model.base_model, [0]
    size = base.config.hidden_size // base.config.num_attention_heads
    shared = MODELS[name][2].format(0) == MODELS[name][2].format(1)
    handles = []

    def replace(layer: int, args: tuple) -> tuple:
        layer = calls[0] if shared else layer
        calls[0] += 1
        given = args[0].clone()
        for of_layer, head, position, vector in changes:
            if of_layer == layer:
                given[0, position, head * size : (head + 1) * size] = torch.as_tensor(vector)
        return (given, *args[1:])

    for layer in range(1 if shared else base.config.num_hidden_layers):
        module = base.get_submodule(MODELS[name][2].format(layer))
        handles.append(module.register_forward_pre_hook(lambda module, args, layer=layer: replace(layer, args)))
    hf_model.set_attn_implementation("eager")
    kept = []
    # OPT's and others' heads call the base model or a part of it; these families call the base model.
    handles.append(base.register_forward_hook(lambda module, args, output: kept.append(output[0][0])))
    with torch.no_grad():
        output = hf_model(input_ids=torch.tensor([token_ids]))
    for handle in handles:
        handle.remove()
    return kept[0].numpy(), output.logits[0].numpy() if hasattr(output, "logits") else None


def measures(name: str, changes: list[tuple[int, int, int, Any]], token_ids: list[int] = TEXT) -> dict[str, Any]:
    """By position where that matters, from the definitions."""
    h, logits = plain(name, [], token_ids)
    h_new, logits_new = plain(name, changes, token_ids)
    size = np.linalg.norm(h_new - h, axis=1)
    found = {
        "hidden_change": size / np.linalg.norm(h, axis=1),
        "hidden_change_anywhere": np.linalg.norm(size) / np.linalg.norm(h),
    }
    if logits is not None:
        log_p, log_q = (each - np.logaddexp.reduce(each, axis=1, keepdims=True) for each in (logits, logits_new))
        found["kl"] = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
        found["kl_anywhere"] = found["kl"].mean()
        difference = logits_new - logits
        n = len(token_ids)
        if name in CAUSAL:
            found["logit_change"] = np.append(difference[np.arange(n - 1), token_ids[1:]], np.nan)
        else:
            found["logit_change"] = difference[np.arange(n), token_ids]
    return found


def random_like(array: xr.DataArray, seed: int = 0) -> xr.DataArray:
    return array.copy(data=np.random.default_rng(seed).normal(size=array.shape))


def check(name: str, found: xr.Dataset, changes: list[Any], token_ids: list[int] = TEXT) -> None:
    """Fail unless the measures of one replacement are those of plain hooks, at the first change's position."""
    expected = measures(name, changes, token_ids)
    assert set(found.data_vars) <= set(expected)
    for variable, each in found.data_vars.items():
        true = expected[str(variable)]
        true = true[changes[0][2]] if np.ndim(true) else true
        assert float(each) == pytest.approx(true, rel=1e-5, abs=1e-9, nan_ok=True), variable
        assert np.isnan(true) or abs(true) > 1e-6, variable


@pytest.mark.parametrize("name", MODELS)
def test_each_replacement_is_that_of_plain_hooks(name: str) -> None:
    _, model = built(name)
    enc = model.encode(token_ids=TEXT)
    by = random_like(enc.head_encoding)
    found = model.replace(enc, by)
    assert list(found.data_vars) == NAMES[: 2 if name in WITHOUT_HEAD else 5]
    for layer, head, position in [(0, 0, 0), (0, 3, 5), (1, 2, 7), (2, 1, 3), (2, 0, 0)]:
        at = {"layer": layer, "head": head, "position": position}
        check(name, found.isel(at), [(layer, head, position, by.values[layer, head, position])])


@pytest.mark.parametrize("name", MODELS)
def test_several_at_once_are_those_of_plain_hooks(name: str) -> None:
    _, model = built(name)
    enc = model.encode(token_ids=TEXT)
    by = random_like(enc.head_encoding, seed=1)
    everything = list(np.ndindex(*by.shape[:3]))

    def changes(**at: int) -> list[Any]:
        dims = ("layer", "head", "position")
        return [
            (*cell, by.values[cell])
            for cell in everything
            if all(cell[dims.index(dim)] == where for dim, where in at.items())
        ]

    of_head = model.replace(enc, by, together=["position"])
    assert of_head.hidden_change_anywhere.dims == ("layer", "head")
    assert "hidden_change" not in of_head
    check(name, of_head.isel(layer=1, head=2), changes(layer=1, head=2))
    of_layer = model.replace(enc, by, together=["head", "position"])
    check(name, of_layer.isel(layer=0), changes(layer=0))
    of_position = model.replace(enc, by, together=["head"])
    check(name, of_position.isel(layer=1, position=3), changes(layer=1, position=3))
    through = model.replace(enc, by, together=["layer"])
    check(name, through.isel(head=1, position=2), changes(head=1, position=2))
    chosen = xr.zeros_like(by.isel(feature=0), dtype=bool)
    picked = [(0, 1, 4), (1, 3, 4), (1, 0, 6), (2, 2, 1)]
    for cell in picked:
        chosen[cell] = True
    check(name, model.replace(enc, by, together=chosen), [(*cell, by.values[cell]) for cell in picked])
    heads = chosen.any("position")
    whole = [cell for cell in everything if heads.values[cell[:2]]]
    check(name, model.replace(enc, by, together=heads), [(*cell, by.values[cell]) for cell in whole])


@pytest.mark.parametrize("name", MODELS)
def test_packed_is_unpacked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = built(name)
    enc = model.encode(token_ids=TEXT)
    by = random_like(enc.head_encoding)
    packed = model.replace(enc, by)
    tried = []

    def whole_only(text: ReplacedText, layers: list[int]) -> list[int]:
        tried.extend(layers)
        return []

    with monkeypatch.context() as patch:
        patch.setattr(ReplacedText, "can_begin_at", whole_only)
        unpacked = model.replace(enc, by)
    assert tried == [0, 1, 2]
    rtol, atol = (1e-4, 1e-6) if name == "gptj" else (1e-9, 1e-11)  # GPT-J's scores are of float32 in any model
    xr.testing.assert_allclose(packed, unpacked, rtol=rtol, atol=atol)


def test_few_replacements_run_whole_as_trying_would_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = built("bert")
    enc = model.encode(token_ids=TEXT)
    by = random_like(enc.head_encoding)
    tried = []
    can_begin_at = ReplacedText.can_begin_at
    monkeypatch.setattr(
        ReplacedText, "can_begin_at", lambda text, layers: tried.append([*layers]) or can_begin_at(text, layers)
    )
    few = model.replace(enc.isel(layer=[1], head=[2], position=slice(6)), by)
    assert tried == []
    more = model.replace(enc.isel(layer=[1], head=[2], position=slice(7)), by)
    assert tried == [[1]]
    xr.testing.assert_allclose(few, more.isel(position=slice(6)), rtol=1e-9)


def test_blocks_that_mix_positions_after_attention_are_found_out() -> None:
    """What is packed would be wrong here, so the text is run whole for each replacement; the numbers are right."""
    hf_model = models.randomise(transformers.BertModel(transformers.BertConfig(**SIZES)), seed=7).double()
    # A hook that mixes the positions after attention, in one of the blocks.
    hf_model.encoder.layer[1].intermediate.register_forward_hook(
        lambda module, args, output: output + 0.1 * output.roll(1, dims=1)
    )
    model = attnxr.Model(hf_model)
    text = ReplacedText.of(model._look().window, TEXT, (), None)
    assert text.can_begin_at([0, 1, 2]) == [0, 2]
    enc = model.encode(token_ids=TEXT)
    by = random_like(enc.head_encoding)
    found = model.replace(enc, by)
    module = hf_model.encoder.layer[1].attention.output.dense

    def put(module: Any, args: tuple) -> tuple:
        given = args[0].clone()
        given[0, 3, :8] = torch.as_tensor(by.values[1, 0, 3])
        return (given,)

    with torch.no_grad():
        h = hf_model(input_ids=torch.tensor([TEXT])).last_hidden_state[0]
        module.register_forward_pre_hook(put)
        change = (hf_model(input_ids=torch.tensor([TEXT])).last_hidden_state[0] - h).norm(dim=1)
    assert float(found.hidden_change[1, 0, 3]) == pytest.approx(float(change[3] / h[3].norm()), rel=1e-5)
    assert float(found.hidden_change_anywhere[1, 0, 3]) == pytest.approx(float(change.norm() / h.norm()), rel=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_replacing_by_itself_changes_nothing(name: str) -> None:
    _, model = built(name)
    enc = model.encode(token_ids=TEXT)
    for together in ([], ["position"], ["layer", "head", "position"]):
        found = model.replace(enc, enc.head_encoding, together=together)
        for variable, each in found.data_vars.items():
            last = [N - 1] if variable == "logit_change" and name in CAUSAL else []
            kept = each.drop_isel(position=last) if last else each
            assert (kept == 0).all(), variable
            assert each.isel(position=last).isnull().all() if last else True
    # Where only one differs among several that are replaced together, the others still change nothing.
    by = enc.head_encoding.copy()
    by[1, 2, 3] = 0.5
    found = model.replace(enc, by, together=["head", "position"])
    assert (found.hidden_change_anywhere == 0).values.tolist() == [True, False, True]
    check(name, found.isel(layer=1), [(1, 2, 3, by.values[1, 2, 3])])


def test_what_comes_before_does_not_change_in_a_causal_model() -> None:
    hf_model, _ = built("gpt2")
    single = attnxr.Model(hf_model, dtype="float32")
    enc = single.encode(token_ids=TEXT)
    found = single.replace(enc, 0 * enc.head_encoding)
    # Of the last position all that changes is the last position itself.
    h = plain("gpt2", [])[0]
    share = np.linalg.norm(h[-1]) / np.linalg.norm(h)
    last = found.isel(position=-1)
    np.testing.assert_allclose(last.hidden_change_anywhere, share * last.hidden_change, rtol=1e-5)
    np.testing.assert_allclose(last.kl_anywhere, last.kl / N, rtol=1e-9)


def test_no_attention_left_is_what_the_bias_leaves() -> None:
    """Every head of a layer at 0: W_O gives its bias alone."""
    hf_model, model = built("bert")
    enc = model.encode(token_ids=TEXT)
    found = model.replace(enc, 0 * enc.head_encoding, together=["head", "position"])
    for layer in range(3):
        module = hf_model.encoder.layer[layer].attention.output.dense
        with torch.no_grad():
            h = hf_model(input_ids=torch.tensor([TEXT])).last_hidden_state
            hook = module.register_forward_hook(lambda module, args, output: module.bias.expand_as(output))
            change = hf_model(input_ids=torch.tensor([TEXT])).last_hidden_state - h
            hook.remove()
        assert float(found.hidden_change_anywhere[layer]) == pytest.approx(float(change.norm() / h.norm()), rel=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_the_mask_is_that_of_the_encodings(causal: bool) -> None:
    """Replacing by itself is nothing only where the pass has the mask that the text was encoded with."""
    _, model = built("llama" if not causal else "roberta-mlm")
    enc = model.encode(token_ids=TEXT, causal=causal)
    assert (model.replace(enc, enc.head_encoding).hidden_change_anywhere == 0).all()
    found = model.replace(enc, random_like(enc.head_encoding))
    assert (found.hidden_change_anywhere > 0).all()
    assert found.logit_change.isel(position=-1).isnull().all() == causal
    other = model.encode(token_ids=TEXT)
    assert (model.replace(other, enc.head_encoding).hidden_change_anywhere > 0).any()


def test_selections_are_the_same_numbers() -> None:
    _, model = built("gpt2")
    enc = model.encode(token_ids=TEXT)
    by = random_like(enc.head_encoding)
    whole = model.replace(enc, by)
    part = {"layer": [2, 0], "head": [3], "position": [6, 1]}
    selected = model.replace(enc.isel(part), by)
    xr.testing.assert_allclose(selected, whole.isel(part), rtol=1e-9)
    one = model.replace(enc.isel(layer=1, head=2, position=4), by.isel(layer=1, head=2, position=4))
    xr.testing.assert_allclose(one, whole.isel(layer=1, head=2, position=4), rtol=1e-9)
    assert one.hidden_change.dims == ()


def test_texts_end_to_end() -> None:
    model = attnxr.Model(models.tiny_bert(transformers.BertForMaskedLM), models.wordpiece_tokenizer())
    texts = ["Time flies like an arrow.", "A dog!"]
    several, alone = model.encode(texts), [model.encode(text) for text in texts]
    by = random_like(several.head_encoding)
    found = model.replace(several, by)
    lengths = [each.sizes["position"] for each in alone]
    parts = [slice(0, lengths[0]), slice(lengths[0], None)]
    of_texts = model.replace(several, by, together=["position"])
    assert of_texts.kl_anywhere.dims == ("layer", "head", "source_id")
    assert of_texts["source"].values.tolist() == texts
    for i, (enc, here) in enumerate(zip(alone, parts, strict=True)):
        own = by.isel(position=here).drop_vars("position")
        expected = model.replace(enc, own)
        for name in expected.data_vars:
            np.testing.assert_allclose(found[name].isel(position=here), expected[name], rtol=1e-4, atol=1e-6)
        expected = model.replace(enc, own, together=["position"])
        np.testing.assert_allclose(of_texts.kl_anywhere[..., i], expected.kl_anywhere, rtol=1e-4, atol=1e-9)


def test_token_types_are_given_again() -> None:
    model = attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer())
    enc = model.encode("Time flies.", pair="A dog!")
    assert 1 in enc.attrs["token_type_ids"]
    assert (model.replace(enc, enc.head_encoding).hidden_change_anywhere == 0).all()


def test_other_dimensions_are_replacements_one_after_the_other() -> None:
    _, model = built("bert")
    enc = model.encode(token_ids=TEXT)
    both = xr.concat([random_like(enc.head_encoding, seed) for seed in (0, 1)], "try").assign_coords(
        try_=("try", [7, 9])
    )
    found = model.replace(enc, both)
    assert found.hidden_change.dims == ("layer", "head", "position", "try")
    assert found["try_"].values.tolist() == [7, 9]
    for i in range(2):
        alone = model.replace(enc, both.isel({"try": i}))
        np.testing.assert_allclose(found.hidden_change.isel({"try": i}), alone.hidden_change, rtol=1e-9)
    same = model.replace(enc, both.isel({"try": 0}).isel(layer=0, position=0, drop=True))
    everywhere = both.isel({"try": 0}).isel(layer=0, position=0, drop=True).broadcast_like(enc.head_encoding)
    xr.testing.assert_allclose(same, model.replace(enc, everywhere))


def test_progress_is_told_and_what_it_raises_ends_it() -> None:
    _, model = built("bert")
    enc = model.encode(token_ids=TEXT)
    told: list[float] = []
    model.replace(enc, 0 * enc.head_encoding, progress=told.append)
    assert told == sorted(told)
    assert 0 < told[0] < told[-1] == 1.0

    def cancel(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.replace(enc, 0 * enc.head_encoding, progress=cancel)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda by: by.values, "DataArray"),
        (lambda by: by.isel(feature=slice(3)), "of 3 features"),
        (lambda by: by.where(by.position != 2), "infinite or NaN"),
        (lambda by: by.isel(position=slice(4)), "position 4"),
        (lambda by: by.isel(position=slice(4)).drop_vars("position"), "4 of position"),
        (lambda by: by.sel(layer=1), "of layer 1 alone"),
        (lambda by: by.rename(head="kv_head"), "kv_head"),
        (lambda by: by.rename(feature="x"), "feature"),
    ],
)
def test_what_cannot_be_put_there_is_refused(damage: Any, message: str) -> None:
    _, model = built("bert")
    enc = model.encode(token_ids=TEXT)
    with pytest.raises(InputError, match=message):
        model.replace(enc, damage(random_like(enc.head_encoding)))


def test_what_is_not_replaced_together_is_refused() -> None:
    _, model = built("bert")
    enc = model.encode(token_ids=TEXT)
    by = 0 * enc.head_encoding
    wrong: list[tuple[Any, str]] = [
        (["feature"], "feature"),
        (by.isel(feature=0), "float"),
        (by > 1, "feature"),
        ((by > 1).any("feature"), "false everywhere"),
        ((by < 1).any("feature").isel(head=[0, 1]), "head 2"),
    ]
    for together, message in wrong:
        with pytest.raises(InputError, match=message):
            model.replace(enc, by, together=together)
    for twice in ({"position": [3, 1, 3]}, {"layer": [1, 1]}):
        with pytest.raises(InputError, match="more than once"):
            model.replace(enc.isel(twice), by)
    with pytest.raises(InputError, match="fingerprint"):
        built("gpt2")[1].replace(enc, by)


def test_layers_that_are_not_one_block_each_run_whole() -> None:
    options = LATENT | {"num_layers": 2, "qk_rope_head_dim": 4, "head_dim": 4, "expert_ffn_hidden_size": 24}
    options |= {"ffn_hidden_size": 48, "n_routed_experts": 4, "zero_expert_num": 2, "moe_topk": 2}
    hf_model: Any = build("longcat_flash", options).double()
    hf_model.set_attn_implementation("eager")
    model = attnxr.Model(hf_model)
    assert not model._look().window.layout.blocks
    enc = model.encode(token_ids=TEXT)
    by = random_like(enc.head_encoding)
    found = model.replace(enc, by)
    together = model.replace(enc, by, together=["layer", "position"])
    assert (model.replace(enc, enc.head_encoding).hidden_change_anywhere == 0).all()
    projections = [attention.o_proj for layer in hf_model.layers for attention in layer.self_attn]
    size = model.head_size

    def change(cells: list[tuple[int, int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        def put(layer: int, args: tuple) -> tuple:
            given = args[0].clone()
            for of_layer, head, position in cells:
                if of_layer == layer:
                    given[0, position, head * size : (head + 1) * size] = torch.as_tensor(
                        by.values[layer, head, position]
                    )
            return (given,)

        ids = torch.tensor([TEXT])
        with torch.no_grad():
            h = hf_model(input_ids=ids).last_hidden_state[0]
            hooks = [
                each.register_forward_pre_hook(lambda module, args, layer=layer: put(layer, args))
                for layer, each in enumerate(projections)
            ]
            changed = hf_model(input_ids=ids).last_hidden_state[0] - h
        for hook in hooks:
            hook.remove()
        return changed.norm(dim=1) / h.norm(dim=1), changed.norm() / h.norm()

    for cell in [(0, 1, 2), (1, 0, 7), (1, 3, 4)]:
        at_position, anywhere = change([cell])
        assert float(found.hidden_change[cell]) == pytest.approx(float(at_position[cell[2]]), rel=1e-5)
        assert float(found.hidden_change_anywhere[cell]) == pytest.approx(float(anywhere), rel=1e-5)
    _, anywhere = change([(layer, 2, position) for layer in range(2) for position in range(N)])
    assert float(together.hidden_change_anywhere[2]) == pytest.approx(float(anywhere), rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_precisions_pack_too(dtype: Any) -> None:
    model = attnxr.Model(built("roberta-mlm")[0], dtype=dtype)
    text = ReplacedText.of(model._look().window, TEXT, (), None)
    assert text.can_begin_at([0, 1, 2]) == [0, 1, 2]
    enc = model.encode(token_ids=TEXT)
    assert (model.replace(enc, enc.head_encoding).kl_anywhere == 0).all()
    by = random_like(enc.head_encoding).isel(layer=[0])
    found, true = (
        each.replace(each.encode(token_ids=TEXT).isel(layer=[0]), by) for each in (model, built("roberta-mlm")[1])
    )
    tolerance = 0.1 if dtype == "bfloat16" else 1e-4
    np.testing.assert_allclose(found.hidden_change, true.hidden_change, rtol=tolerance, atol=tolerance / 10)
    np.testing.assert_allclose(found.kl, true.kl, rtol=3 * tolerance, atol=tolerance / 10)


def test_divergences_are_right_and_never_negative_however_small_or_large() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=50)
    with localcontext() as context:
        context.prec = 60
        for scale in (0.0, 1e-9, 1e-5, 1e-3, 1.0, 30.0, 3000.0):
            change = scale * generator.normal(size=50) + 5
            found = float(_kl(torch.from_numpy(logits)[None].log_softmax(1), torch.from_numpy(change)[None]))
            p = [Decimal(a).exp() for a in logits.tolist()]
            q = [(Decimal(a) + Decimal(b)).exp() for a, b in zip(logits.tolist(), change.tolist(), strict=True)]
            p, q = ([each / sum(of) for each in of] for of in (p, q))
            true = sum(a * (a / b).ln() for a, b in zip(p, q, strict=True))
            assert found >= 0
            assert found == pytest.approx(float(true), rel=1e-6, abs=1e-24)
