"""Models given in odd ways: half precision, compiled, hooked, in training, changed afterwards, or not fit at all."""

from __future__ import annotations

import copy
import functools
import itertools
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import xarray as xr
from torch import nn
from torch.nn.utils import parametrizations
from transformers import AutoConfig, AutoModel

import attnxr
from attnxr.errors import AttnxrError, InputError, UnsupportedModelError
from tests.support import models, oracles
from tests.support.cases import INCLUDED, STREAM_VECTORS
from tests.support.families import FAMILIES
from tests.support.family_options import SIZES

TEXT = [11, 40, 23, 40, 57, 8, 33, 62]
INCLUDE = (*INCLUDED, *STREAM_VECTORS)
TWO = ("roberta", "llama")
THREE = (*TWO, "gpt2")


def answer(model: attnxr.Model, causal: bool | None = None, token_ids: list[int] = TEXT) -> list[xr.Dataset]:
    enc = model.encode(token_ids=token_ids, include=INCLUDE, causal=causal)
    own = model.neighbors(enc, k=5, vocab_layer="same")
    return [enc, own, model.neighbors(enc, k=5, of="contribution", space="embedding")]


@functools.cache
def plain(name: str) -> list[xr.Dataset]:
    return answer(attnxr.Model(FAMILIES[name].build()))


def check_same(found: list[xr.Dataset], expected: list[xr.Dataset]) -> None:
    for one, other in zip(found, expected, strict=True):
        xr.testing.assert_equal(one, other)


def check_plain(hf_model: Any, name: str) -> None:
    """Fail unless a model answers as the plain one of its family, and verifies itself."""
    model = attnxr.Model(hf_model)
    check_same(answer(model), plain(name))
    assert model.verify().attrs["passed"] == 1


def hidden_states(hf_model: Any) -> list[torch.Tensor]:
    """What leaves each block but the last, of which some families give the norm."""
    with torch.no_grad():
        out = hf_model(torch.tensor([TEXT]), use_cache=False, output_hidden_states=True)
    return [state[0] for state in out.hidden_states[1:-1]]


def check_own(hf_model: Any) -> attnxr.Model:
    """Fail unless the answers are those of the model as it runs by itself."""
    true = hidden_states(copy.deepcopy(hf_model).eval())
    model = attnxr.Model(hf_model)
    enc = model.encode(token_ids=TEXT, include=INCLUDE)
    for found, expected in zip(enc.hidden.values, true, strict=False):
        assert oracles.relative_error(found, expected.numpy()) <= 1e-5
    assert (model.neighbors(enc, k=1, of="value").own_rank.isel(layer=0) == 1).all()
    assert model.verify().attrs["passed"] == 1
    return model


def blocks(hf_model: Any) -> Any:
    return {"roberta": lambda: hf_model.encoder.layer, "llama": lambda: hf_model.layers, "gpt2": lambda: hf_model.h}[
        hf_model.config.model_type
    ]()


def part(hf_model: Any, layer: int, which: str) -> tuple[Any, str]:
    """Where a layer's value or output projection is: a module, and what it calls that."""
    block = blocks(hf_model)[layer]
    if hf_model.config.model_type == "roberta":
        return (block.attention.self, "value") if which == "value" else (block.attention.output, "dense")
    return block.self_attn, "v_proj" if which == "value" else "o_proj"


# Precision

PRECISIONS = [torch.bfloat16, torch.float16, torch.float64]
OF_ALL_KINDS = ["roberta", "gpt2", "albert", "llama", "gemma3", "gpt_oss", "esm-rotary", "modernbert"]
# transformers' grouped products of experts know no float64
IN_PRECISIONS = [each for each in itertools.product(OF_ALL_KINDS, PRECISIONS) if each != ("gpt_oss", torch.float64)]


@pytest.mark.parametrize(("name", "dtype"), IN_PRECISIONS)
def test_any_precision_is_right_within_its_own_rounding(name: str, dtype: torch.dtype) -> None:
    hf_model = FAMILIES[name].build().to(dtype)
    model = attnxr.Model(hf_model)
    enc = model.encode(token_ids=TEXT, include=INCLUDE)
    assert {array.dtype for array in enc.values()} == {np.dtype(np.float32)}
    rounded = attnxr.Model(copy.deepcopy(hf_model).float()).encode(token_ids=TEXT, include=INCLUDE)
    # Relative to the largest vector of a layer: a small one is the difference of large ones, and rounded as these.
    allowed = {torch.bfloat16: 3e-2, torch.float16: 4e-3, torch.float64: 1e-5}[dtype]
    for of in ("head_encoding", *INCLUDE):
        for layer, (found, true) in enumerate(zip(enc[of].values, rounded[of].values, strict=True)):
            sizes = np.linalg.norm(true, axis=-1)
            limit = allowed * (2 if layer else 1)  # later layers have what the earlier ones rounded
            assert np.linalg.norm(found - true, axis=-1).max() <= limit * sizes.max(), of
    assert model.verification.error <= model.verification.tolerance <= allowed * 1.1
    assert (model.neighbors(enc, k=1, of="value").own_rank.isel(layer=0) == 1).all()
    near, dist = model.neighbors(enc, k=5), model.distances(enc).distance.values
    tolerance = np.full(dist.shape, 1e-6)
    oracles.check_neighbors(near.neighbor_id.values, near.distance.values, dist, tolerance)
    assert model.verify().attrs["passed"] == 1


# torch.compile


@pytest.mark.parametrize("how", ["wrapped", "in place", "parts", "forward"])
@pytest.mark.parametrize("name", TWO)
def test_a_compiled_model_answers_as_the_plain_one_and_stays_compiled(name: str, how: str) -> None:
    compiled: list[int] = []
    runs: list[int] = []

    def backend(graph: Any, example: Any) -> Callable:
        compiled.append(1)

        def run(*args: Any) -> Any:
            runs.append(1)
            return graph.forward(*args)

        return run

    hf_model = FAMILIES[name].build()
    given = hf_model
    if how == "wrapped":
        given = torch.compile(hf_model, backend=backend)
    elif how == "in place":
        hf_model.compile(backend=backend)
    elif how == "parts":
        for child in hf_model.children():
            child.compile(backend=backend)
    else:
        hf_model.forward = torch.compile(hf_model.forward, backend=backend)

    def outputs() -> torch.Tensor:
        runs.clear()
        with torch.no_grad():
            out = given(torch.tensor([TEXT])).last_hidden_state
        assert runs, "not compiled"
        return out

    before = outputs()
    n_graphs = len(compiled)
    check_plain(given, name)
    assert torch.equal(outputs(), before)
    assert len(compiled) == n_graphs


# The caller's hooks


def hooks(hf_model: Any) -> list[Any]:
    return [
        (name, list(module._forward_hooks.items()), list(module._forward_pre_hooks.items()))
        for name, module in hf_model.named_modules()
    ]


class Steering:
    """A forward hook with a state: adds a vector to the stream that leaves a block, and keeps what it was handed."""

    def __init__(self, size: float = 1.0) -> None:
        self.vector = size * torch.randn(32, generator=torch.Generator().manual_seed(3))
        self.seen: list[torch.Tensor] = []

    def __call__(self, module: Any, args: Any, output: Any) -> Any:
        return (output[0] + self.vector, *output[1:]) if isinstance(output, tuple) else output + self.vector

    def bound(self, module: Any, args: Any, output: Any) -> Any:
        return self(module, args, output)

    def record(self, module: Any, args: Any) -> None:
        self.seen.append(args[0])


@pytest.mark.parametrize("name", TWO)
def test_hooks_that_a_model_has_are_part_of_it_and_stay(name: str) -> None:
    hf_model = FAMILIES[name].build()
    recorder, recorded = Steering(), []
    blocks(hf_model)[1].register_forward_hook(Steering())
    blocks(hf_model)[0].register_forward_hook(lambda module, args, output: recorded.append(output))
    blocks(hf_model)[2].register_forward_pre_hook(recorder.record)
    true = hidden_states(hf_model)
    assert (len(recorded), len(recorder.seen)) == (1, 1)
    before = hooks(hf_model)
    model = check_own(hf_model)
    assert model.verify().attrs["passed"] == 1
    assert hooks(hf_model) == before
    recorded.clear()
    recorder.seen.clear()
    again = hidden_states(hf_model)
    assert all(torch.equal(*pair) for pair in zip(again, true, strict=True))
    assert (len(recorded), len(recorder.seen)) == (1, 1)
    assert torch.equal(recorder.seen[0][0], true[1])
    unsteered = np.stack([plain(name)[0].hidden.values[0], plain(name)[0].hidden.values[1]])
    steered = model.encode(token_ids=TEXT, include=["hidden"]).hidden.values[:2]
    assert oracles.relative_error(steered[0], unsteered[0]) == 0
    assert oracles.relative_error(steered[1], unsteered[1]) > 0.1


@pytest.mark.parametrize("name", TWO)
def test_a_hook_on_the_embeddings_is_in_the_vocabulary(name: str) -> None:
    hf_model = FAMILIES[name].build()
    hf_model.get_input_embeddings().register_forward_hook(lambda module, args, output: 1.3 * output + 0.2)
    check_own(hf_model)


@pytest.mark.parametrize("how", ["added", "removed"])
@pytest.mark.parametrize("name", TWO)
def test_hooks_added_or_removed_later_are_seen(name: str, how: str) -> None:
    hf_model = FAMILIES[name].build()
    embeddings = hf_model.get_input_embeddings()
    handle = embeddings.register_forward_hook(lambda module, args, output: 2 * output) if how == "removed" else None
    model = attnxr.Model(hf_model)
    answer(model)
    if handle is None:
        embeddings.register_forward_hook(lambda module, args, output: 2 * output)
    else:
        handle.remove()
    check_same(answer(model), answer(attnxr.Model(hf_model)))


def test_a_hooks_own_object_is_the_callers() -> None:
    """A copy would steer by what the object held when the model was given."""
    hf_model, steering = FAMILIES["llama"].build(), Steering(0.0)
    blocks(hf_model)[0].register_forward_hook(steering.bound)
    model = attnxr.Model(hf_model)
    steering.vector = Steering().vector
    true = hidden_states(hf_model)
    found = model.encode(token_ids=TEXT, include=["hidden"]).hidden.values
    assert oracles.relative_error(found[0], true[0].numpy()) <= 1e-5


@pytest.mark.parametrize("where", ["object", "module"])
def test_activations_that_a_hook_has_kept_with_their_gradients_do_no_harm(where: str) -> None:
    hf_model, recorder = FAMILIES["llama"].build(), Steering()
    if where == "object":
        blocks(hf_model)[1].register_forward_pre_hook(recorder.record)
    else:
        blocks(hf_model)[1].register_forward_hook(lambda module, args, output: setattr(module, "last", output))
    hf_model(torch.tensor([TEXT]))
    check_plain(hf_model, "llama")


def test_a_forward_that_was_replaced_by_a_method_runs() -> None:
    hf_model = FAMILIES["llama"].build()
    block = blocks(hf_model)[1]
    block.forward = functools.partial(type(block).forward, block)
    check_plain(hf_model, "llama")


def test_a_forward_that_was_replaced_by_a_function_is_refused_not_left_out() -> None:
    """It runs the caller's own block, whose attention nobody sees."""
    hf_model = FAMILIES["llama"].build()
    block = blocks(hf_model)[1]
    forward = block.forward
    block.forward = lambda *args, **kwargs: forward(*args, **kwargs)
    with pytest.raises(UnsupportedModelError, match="forward"):
        attnxr.Model(hf_model)


# Training, gradients and torch's global modes


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", THREE)
def test_a_model_in_training_gives_the_answers_of_evaluation_and_keeps_its_gradients(
    name: str, checkpointing: bool
) -> None:
    hf_model: Any = FAMILIES[name].build().train()
    for module in hf_model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.5
    if checkpointing:
        # transformers 5 renames this one, and warns of the old name.
        enable = getattr(hf_model, "activation_checkpointing_enable", None) or hf_model.gradient_checkpointing_enable
        enable()
    hf_model(torch.tensor([TEXT]), use_cache=False).last_hidden_state.sum().backward()

    def state() -> list[Any]:
        flags = [(module.training, getattr(module, "gradient_checkpointing", None)) for module in hf_model.modules()]
        return [flags, [None if p.grad is None else p.grad.tolist() for p in hf_model.parameters()]]

    before = state()
    check_plain(hf_model, name)
    assert state() == before
    hf_model(torch.tensor([TEXT]), use_cache=False).last_hidden_state.sum().backward()
    assert state() != before


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize("name", TWO)
def test_gradient_modes_around_it_change_nothing(name: str, mode: Any) -> None:
    hf_model = FAMILIES[name].build()
    model = attnxr.Model(hf_model)
    with mode():
        check_same(answer(model), plain(name))
        check_plain(FAMILIES[name].build(), name)
        inside = attnxr.Model(hf_model)
        assert inside.verify().attrs["passed"] == 1
    check_same(answer(model), plain(name))
    check_same(answer(inside), plain(name))


@pytest.mark.parametrize("name", TWO)
def test_a_model_made_in_inference_mode_is_watched_like_any_other(name: str) -> None:
    """Its tensors count no versions."""
    with torch.inference_mode():
        hf_model = FAMILIES[name].build()
    assert next(hf_model.parameters()).is_inference()
    check_plain(hf_model, name)
    model = attnxr.Model(hf_model)
    old, fingerprint = answer(model)[0], model.fingerprint
    with torch.inference_mode():
        scaled(hf_model)
    check_changed(model, hf_model, old, fingerprint)


@pytest.fixture
def default_dtype() -> Iterator[Callable]:
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", THREE)
def test_the_default_dtype_changes_nothing(name: str, dtype: torch.dtype, default_dtype: Callable) -> None:
    hf_model, expected = FAMILIES[name].build(), plain(name)
    model = attnxr.Model(hf_model)
    default_dtype(dtype)
    check_same(answer(model), expected)
    check_plain(hf_model, name)


@pytest.mark.parametrize("name", THREE)
def test_the_default_device_changes_nothing(name: str) -> None:
    """No numbers are on the meta device: it stands for a GPU, from which NumPy can take none."""
    hf_model, expected = FAMILIES[name].build(), plain(name)
    model = attnxr.Model(hf_model)
    with torch.device("meta"):
        check_same(answer(model), expected)
        check_plain(hf_model, name)
        dist = model.distances(expected[0]).distance.isel(layer=0, head=0, position=0)
        assert np.isfinite(dist.values).all()
    check_same(answer(model), expected)


# Weights that are changed afterwards


def scaled(hf_model: Any) -> None:
    with torch.no_grad():
        for parameter in hf_model.parameters():
            parameter.mul_(1.1)


def scaled_behind_autograds_back(hf_model: Any) -> None:
    for parameter in hf_model.parameters():
        parameter.data.mul_(1.1)


def scaled_copies(hf_model: Any) -> None:
    for parameter in hf_model.parameters():
        parameter.data = parameter.data * 1.1


def one_word(hf_model: Any) -> None:
    with torch.no_grad():
        hf_model.get_input_embeddings().weight[40] += 0.5


def one_matrix(hf_model: Any) -> None:
    block, name = part(hf_model, 0, "value")
    getattr(block, name).weight.data.mul_(1.2)


def trained(hf_model: Any, **options: Any) -> None:
    optimizer = torch.optim.AdamW(hf_model.parameters(), 0.05, **options)
    hf_model(torch.tensor([TEXT])).last_hidden_state.square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def trained_as_by_the_trainer(hf_model: Any) -> None:
    trained(hf_model, fused=True)


def loaded(hf_model: Any, **options: Any) -> None:
    state = {name: 1.1 * x if x.is_floating_point() else x for name, x in hf_model.state_dict().items()}
    hf_model.load_state_dict(state, **options)


def assigned(hf_model: Any) -> None:
    loaded(hf_model, assign=True)


def replaced(hf_model: Any) -> None:
    embeddings = hf_model.get_input_embeddings()
    embeddings.weight = nn.Parameter(1.2 * embeddings.weight.detach())


def extended(hf_model: Any) -> None:
    hf_model.resize_token_embeddings(80, mean_resizing=False)


def cast(hf_model: Any, dtype: torch.dtype) -> None:
    hf_model.to(dtype)


CHANGES: list[Callable] = [
    scaled,
    scaled_behind_autograds_back,
    scaled_copies,
    one_word,
    one_matrix,
    trained,
    trained_as_by_the_trainer,
    loaded,
    assigned,
    replaced,
    extended,
    functools.partial(cast, dtype=torch.bfloat16),
    functools.partial(cast, dtype=torch.float16),
    functools.partial(cast, dtype=torch.float64),
]


def check_changed(model: attnxr.Model, hf_model: Any, old: xr.Dataset, fingerprint: str) -> None:
    """Fail unless a model answers for the weights that it has now, and refuses the encodings of the old ones."""
    check_same(answer(model), answer(attnxr.Model(hf_model)))
    assert model.fingerprint != fingerprint
    with pytest.raises(InputError, match="fingerprint"):
        model.neighbors(old)
    with pytest.raises(InputError, match="fingerprint"):
        model.distances(old)


def name_of(change: Any) -> str:
    """Without the address of a function: two processes have to give one test one name."""
    return getattr(change, "__name__", "") or f"cast to {change.keywords['dtype']}"


@pytest.mark.parametrize("change", CHANGES, ids=name_of)
@pytest.mark.parametrize("name", TWO)
def test_weights_changed_later_are_seen(name: str, change: Callable) -> None:
    hf_model = FAMILIES[name].build()
    model = attnxr.Model(hf_model)
    old, verification, fingerprint = answer(model)[0], model.verification, model.fingerprint
    lazy = model.distances(old).distance
    lazy.isel(layer=0, head=0, position=0).values  # noqa: B018 - computed, and what it takes kept
    change(hf_model)
    with pytest.raises(InputError, match="changed"):
        lazy.isel(layer=0, head=0, position=1).values  # noqa: B018
    check_changed(model, hf_model, old, fingerprint)
    assert model.verification is not verification


def test_a_model_that_was_moved_where_there_are_no_numbers_says_so() -> None:
    hf_model = FAMILIES["llama"].build()
    model = attnxr.Model(hf_model)
    enc = model.encode(token_ids=TEXT)
    dist = model.distances(enc).distance
    hf_model.to("meta")
    for ask in (lambda: model.encode(token_ids=TEXT), lambda: model.neighbors(enc), model.verify):
        with pytest.raises(UnsupportedModelError, match="meta"):
            ask()
    with pytest.raises(InputError, match="moved"):
        dist.isel(layer=0, head=0, position=1).values  # noqa: B018
    assert "llama" in repr(model)


def test_a_model_on_the_meta_device_is_refused() -> None:
    config = FAMILIES["llama"].build().config
    with torch.device("meta"):
        hf_model = transformers.LlamaModel(config)
    with pytest.raises(UnsupportedModelError, match="meta"):
        attnxr.Model(hf_model)


# Vocabularies that do not fit


def test_rows_beyond_the_tokenizer_are_nobodys_neighbours() -> None:
    """They are copies of a word of the text: by distance each would be the nearest."""
    hf_model, tokenizer = models.tiny_bert(), models.wordpiece_tokenizer()
    size = len(tokenizer)
    word = tokenizer(models.SENTENCE)["input_ids"][1]
    weight = hf_model.get_input_embeddings().weight
    assert len(weight) == 400 > size
    with torch.no_grad():
        weight[size:] = weight[word]
    model = attnxr.Model(hf_model, tokenizer)
    assert model.vocab_size == size
    enc = model.encode(models.SENTENCE, include=["value_vector"])
    near = model.neighbors(enc, k=size, of="value")
    assert near.neighbor_id.max() < size
    assert near.own_rank.max() <= size
    assert (near.own_rank.isel(layer=0) == 1).all()
    assert model.distances(enc).sizes["vocab"] == size
    everything = attnxr.Model(hf_model).neighbors(attnxr.Model(hf_model).encode(token_ids=enc.token_id.values.tolist()))
    assert everything.neighbor_id.max() >= size
    with pytest.raises(InputError, match="out of range"):
        model.encode(token_ids=[size])


def test_tokens_beyond_the_rows_are_an_error_and_nothing_is_lost() -> None:
    tokenizer = models.byte_level_tokenizer()
    tokenizer.add_tokens(["<new>"])
    model = attnxr.Model(models.tiny_roberta(), tokenizer)
    assert model.vocab_size == 400
    before = model.encode("Fruit flies")
    with pytest.raises(InputError, match="400 is out of range"):
        model.encode("Fruit <new> flies")
    xr.testing.assert_identical(model.encode("Fruit flies"), before)
    assert model.neighbors(before, k=400).neighbor_id.max() == 399


# Wrapped, replaced and reparametrised modules


class Wrapper(nn.Module):
    """As PEFT's: a module around a model, with its configuration."""

    def __init__(self, hf_model: Any) -> None:
        super().__init__()
        self.base_model, self.config = hf_model, hf_model.config

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.base_model(*args, **kwargs)


@pytest.mark.parametrize("wrap", [Wrapper, nn.DataParallel])
def test_a_wrapper_is_refused_with_the_way_out(wrap: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=f"{wrap.__name__} was given.*merge"):
        attnxr.Model(wrap(FAMILIES["llama"].build()))


@pytest.mark.parametrize("how", [parametrizations.weight_norm, parametrizations.orthogonal])
@pytest.mark.parametrize("name", TWO)
def test_parametrised_projections_are_what_they_compute(name: str, how: Callable) -> None:
    hf_model = FAMILIES[name].build()
    for layer, which in ((0, "value"), (1, "output")):
        parent, attribute = part(hf_model, layer, which)
        how(getattr(parent, attribute))
    check_own(hf_model)


class Adapter(nn.Module):
    """A LoRA by hand, around a linear map."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.base_layer, self.dropout = inner, nn.Dropout(0.5)
        self.down = nn.Parameter(0.2 * torch.randn(4, 32, generator=torch.Generator().manual_seed(0)))
        self.up = nn.Parameter(0.2 * torch.randn(len(inner.weight), 4, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + self.dropout(x) @ self.down.T @ self.up.T


class PeftAdapter(Adapter):
    """One that shows the weight of the map inside, as PEFT's."""

    @property
    def weight(self) -> torch.Tensor:
        return self.base_layer.weight


@pytest.mark.parametrize("adapter", [Adapter, PeftAdapter])
@pytest.mark.parametrize("which", ["value", "output"])
@pytest.mark.parametrize("name", TWO)
def test_an_adapter_in_a_projections_place_is_part_of_it(name: str, which: str, adapter: Any) -> None:
    hf_model = FAMILIES[name].build()
    for layer in range(3):
        parent, attribute = part(hf_model, layer, which)
        setattr(parent, attribute, adapter(getattr(parent, attribute)))
    model = check_own(hf_model.train())
    # The same weights, merged.
    merged = FAMILIES[name].build()
    for layer in range(3):
        (parent, attribute), (found, _) = part(merged, layer, which), part(hf_model, layer, which)
        with torch.no_grad():
            getattr(parent, attribute).weight += getattr(found, attribute).up @ getattr(found, attribute).down
    enc, expected = answer(model)[0], answer(attnxr.Model(merged))[0]
    for of in ("head_encoding", *INCLUDE):
        assert oracles.relative_error(enc[of].values, expected[of].values) <= 1e-5, of
    found, true = (
        each.distances(each.encode(token_ids=TEXT), metric="euclidean", of="contribution", space="embedding").distance
        for each in (model, attnxr.Model(merged))
    )
    np.testing.assert_allclose(found, true, rtol=1e-4)


# Threads


@pytest.mark.parametrize("name", TWO)
def test_eight_threads_with_masks_of_their_own_do_not_mix(name: str) -> None:
    model = attnxr.Model(FAMILIES[name].build())
    jobs = [(causal, TEXT[start:]) for causal in (None, True, False) for start in (0, 1, 3)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda job: answer(model, *job), jobs * 2))  # nothing is known yet of any layer
    fresh = attnxr.Model(FAMILIES[name].build())
    alone = [answer(fresh, *job) for job in jobs]
    for i, found in enumerate(together):
        check_same(found, alone[i % len(jobs)])
    assert not alone[0][0].equals(alone[3 if name == "roberta" else 6][0])


# Models that cannot be looked into

GROUPED = {"num_key_value_heads": 2}
REFUSED: dict[str, dict[str, Any]] = {
    "convbert": {},
    "longformer": {"attention_window": 4},
    "mobilebert": {"embedding_size": 32},
    "diffllama": GROUPED,
    "mamba": {},
    "fnet": {},
}


def build(model_type: str, options: dict[str, Any]) -> Any:
    return AutoModel.from_config(AutoConfig.for_model(model_type, **(SIZES | {"num_hidden_layers": 2} | options)))


@pytest.mark.parametrize("model_type", REFUSED)
def test_a_model_that_cannot_be_looked_into_is_refused_by_name(model_type: str) -> None:
    hf_model = build(model_type, REFUSED[model_type])
    with torch.no_grad():
        hf_model(torch.tensor([TEXT]))  # it does run: that is not the reason
    with pytest.raises(UnsupportedModelError, match=type(hf_model).__name__) as caught:
        attnxr.Model(hf_model)
    assert "does not run" not in str(caught.value)


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("gpt2", {"num_attention_heads": -4}),
        ("roberta", {"num_attention_heads": -4}),
        ("bert", {"num_attention_heads": -1}),
        ("bert", {"type_vocab_size": 0}),
        ("llama", {"num_key_value_heads": 3}),
        ("gpt2", {"num_hidden_layers": 0}),
        ("roberta", {"num_hidden_layers": 0}),
        ("llama", {"num_hidden_layers": 0}),
        ("llama", {"num_hidden_layers": -1}),
        ("mamba", {"num_hidden_layers": 0}),
        ("gpt2", {"max_position_embeddings": 1}),
    ],
)
def test_a_configuration_that_makes_no_sense_is_an_error_that_says_so(model_type: str, options: dict) -> None:
    with pytest.raises(AttnxrError, match=model_type):
        attnxr.Model(build(model_type, options))


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("gpt2", {"num_attention_heads": 1}),
        ("gpt2", {"max_position_embeddings": 2}),
        ("roberta", {"max_position_embeddings": 4}),
        ("llama", {"max_position_embeddings": 1}),
        ("llama", {"vocab_size": 3}),
        ("llama", {"vocab_size": 2}),
    ],
)
def test_a_very_small_model_is_a_model(model_type: str, options: dict) -> None:
    model = attnxr.Model(build(model_type, options))
    enc = model.encode(token_ids=[0, 1][: model.max_tokens], include=["value_vector"])
    assert (model.neighbors(enc, k=2, of="value").own_rank.isel(layer=0) == 1).all()
    assert model.verify().attrs["passed"] == 1


def put(tensor: torch.Tensor, row: int, value: float) -> None:
    with torch.no_grad():
        tensor[row, 5] = value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["bert", "roberta", "llama", "gpt2", "opt"])  # on all three paths
def test_an_entry_whose_embedding_is_no_number_is_refused_by_its_id(name: str, value: float) -> None:
    hf_model = FAMILIES[name].build()
    model = attnxr.Model(hf_model)
    enc = model.encode(token_ids=TEXT)
    put(hf_model.get_input_embeddings().weight, 17, value)
    calls: list[Callable] = [
        lambda: attnxr.Model(hf_model),
        model.verify,
        lambda: model.encode(token_ids=TEXT),
        lambda: model.neighbors(enc, k=3, metric="centered_cosine"),
        lambda: model.moments(enc),
        lambda: attnxr.significance(model, enc),
    ]
    for call in calls:
        with pytest.raises(UnsupportedModelError, match=r"the id 17\b") as caught:
            call()
        assert "float32" not in str(caught.value)


@pytest.mark.parametrize("row", [0, 17])
def test_an_entry_that_is_no_number_is_refused_by_its_token(row: int) -> None:
    hf_model, tokenizer = models.tiny_bert(), models.wordpiece_tokenizer()
    put(hf_model.get_input_embeddings().weight, row, float("nan"))
    with pytest.raises(UnsupportedModelError, match=rf"the id {row}\b") as caught:
        attnxr.Model(hf_model, tokenizer)
    assert repr(tokenizer.convert_ids_to_tokens(row)) in str(caught.value)


def test_rows_of_no_number_beyond_the_tokenizer_are_nobodys() -> None:
    hf_model, tokenizer = models.tiny_bert(), models.wordpiece_tokenizer()
    clean = attnxr.Model(models.tiny_bert(), tokenizer)
    put(hf_model.get_input_embeddings().weight, -1, float("nan"))
    model = attnxr.Model(hf_model, tokenizer)
    found, expected = (each.neighbors(each.encode("Time flies."), k=5) for each in (model, clean))
    xr.testing.assert_equal(found, expected)


def every_value(hf_model: Any) -> xr.Dataset:
    model = attnxr.Model(hf_model)
    return model.neighbors(model.encode(token_ids=TEXT), k=3)


@pytest.mark.parametrize("name", ["bert", "llama", "opt"])
def test_an_entry_whose_vectors_overflow_is_refused_by_its_id(name: str) -> None:
    """Its embedding is finite; what a layer makes of it is not, in half precision or in float32."""
    hf_model = FAMILIES[name].build().eval()
    with torch.no_grad():
        hf_model.get_input_embeddings().weight[17] = torch.linspace(-3e38, 3e38, hf_model.config.hidden_size)
    with pytest.raises(UnsupportedModelError, match=r"the id 17\b") as caught:
        every_value(hf_model)
    assert "Load it in float32" not in str(caught.value)


def test_an_output_embedding_that_is_no_number_is_refused_by_its_id() -> None:
    hf_model = models.randomise(transformers.LlamaForCausalLM(FAMILIES["llama"].build().config), 3)
    hf_model.lm_head.weight = nn.Parameter(hf_model.lm_head.weight.detach().clone())
    put(hf_model.lm_head.weight, 17, float("nan"))
    model = attnxr.Model(hf_model)
    enc = model.encode(token_ids=TEXT, include=["hidden"])
    with pytest.raises(UnsupportedModelError, match=r"output embeddings.*the id 17\b"):
        model.neighbors(enc, k=3, of="hidden", space="unembedding")


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2"])
def test_weights_of_no_number_are_not_said_to_depend_on_other_tokens(name: str) -> None:
    hf_model = FAMILIES[name].build()
    value = next(
        each for key, each in hf_model.named_parameters() if re.search("value.weight|v_proj|c_attn.weight", key)
    )
    put(value, 3, float("nan"))
    with pytest.raises(UnsupportedModelError, match=r"NaN|undefined") as caught:
        attnxr.Model(hf_model)
    assert "other tokens" not in str(caught.value)
    assert "Load it in float32" not in str(caught.value)


def test_a_mask_token_that_esm_scales_has_numbers_on_the_factored_path() -> None:
    build = FAMILIES["esm"].build()
    config = copy.deepcopy(build.config)
    config.token_dropout, config.mask_token_id = True, 3
    model = attnxr.Model(models.randomise(type(build)(config), 2))
    near = model.neighbors(model.encode(token_ids=TEXT), k=model.vocab_size)
    assert model.verification.path == "factored"
    assert np.isfinite(near["distance"].values).all()
