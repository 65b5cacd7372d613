"""What a model of any family computes, as told by a witness that shares nothing with attnxr but the model.

A second attention function, registered with transformers under its own name, keeps what a copy of the model in
float64 hands it. Vocabulary encodings are read off whole texts in which one token is replaced by each vocabulary
entry in turn; those of another layer off a copy in which that layer stands first. Of families that compute attention
themselves, the variables of the function that does are read as it returns.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from tests.support.families import Family
from tests.support.oracles import Array

SEEN: list[dict[str, torch.Tensor]] = []
ASKED: set[Any] = set()  # the attentions of a stack; of other models all are kept


def _witness(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any) -> Any:
    eager = sys.modules[type(module).__module__].eager_attention_forward
    output, weights = eager(module, query, key, value, attention_mask, **kwargs)
    if not ASKED or module in ASKED:
        SEEN.append({"query": query, "key": key, "value": value, "attention": weights})
    return output, weights


AttentionInterface.register("attnxr-tests", _witness)
AttentionMaskInterface.register("attnxr-tests", eager_mask)


@contextmanager
def _reading(family: Family) -> Iterator[None]:
    """Keep the variables of a family's own attention function each time that it returns."""
    function, *names = family.seen
    variables = {re.split(r"\W", name)[0] for name in names}

    def keep(frame: Any, event: str, given: Any) -> None:
        is_asked = not ASKED or any(frame.f_locals.get("self") is each for each in ASKED)
        if event == "return" and frame.f_code.co_name == function and is_asked and variables <= frame.f_locals.keys():
            found = [eval(name, {}, dict(frame.f_locals)) for name in names]
            SEEN.append(dict(zip(("query", "key", "value", "attention"), found, strict=True)))

    sys.setprofile(keep)
    torch.set_default_dtype(torch.float64)  # XGLM makes a number of it
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        sys.setprofile(None)


class Witness:
    """One model of a family and what it computes, in float64."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.hf_model: Any = family.build().double()
        if family.seen:
            self.hf_model.config._attn_implementation = "eager"
        else:
            self.hf_model.set_attn_implementation("attnxr-tests")
        if self.hf_model._can_set_experts_implementation():
            self.hf_model.set_experts_implementation("eager")  # the others know no float64
        self.config: Any = self.hf_model.config.get_text_config()
        self.layers = family.layers or tuple(range(self.config.num_hidden_layers))
        self._kept: dict[tuple[tuple[int, ...], int, int], dict[str, Array]] = {}
        for module in self.hf_model.modules():  # M2M100's count positions so too, and cannot be told
            if hasattr(module, "create_position_ids_from_input_ids") and family.stack:
                module.create_position_ids_from_input_ids = lambda ids, padding, _past: (
                    torch.arange(ids.shape[1]).expand(ids.shape) + padding + 1
                )
        # RoBERTa and its like count positions from here, and give padding none.
        padding = getattr(getattr(self.hf_model, "embeddings", None), "padding_idx", None)
        learned = family.positions == "learned"
        self.first_position = padding + 1 if learned and padding and family.model_type not in BERT_LIKE else None

    def trace(self, token_ids: Array) -> dict[str, Array]:
        """Query, key, value, attention (layer, text, head, …), the stream (layer + 1, text, position, channel), read.

        The last is what the output projections are handed, (layer, text, position, head · d).
        """
        read: list[torch.Tensor] = []
        hooks = [
            module.register_forward_pre_hook(lambda _m, given: read.append(given[0]))
            for module in dict.fromkeys(self.projections(self.hf_model))
        ]
        seen, stream = self._run(token_ids, self.hf_model)
        for hook in hooks:
            hook.remove()
        if len(seen) > len(self.layers):  # layers of another shape have attention too
            seen = [seen[layer] for layer in self.layers]
        found = self._stacked(seen, len(token_ids))
        shape = np.shape(token_ids)
        return found | {"stream": stream, "read": torch.stack([each.reshape(*shape, -1) for each in read]).numpy()}

    def _stacked(self, seen: list[dict[str, torch.Tensor]], texts: int) -> dict[str, Array]:
        return {name: torch.stack([_by_head(each[name], texts) for each in seen]).numpy() for name in seen[0]}

    def _run(self, token_ids: Array, hf_model: Any) -> tuple[list[dict[str, torch.Tensor]], Array]:
        """What the attention of each layer that has one was handed and made, and the stream."""
        SEEN.clear()
        ASKED.clear()
        if self.family.stack:
            names = [self.family.output.format(i).rpartition(".")[0] for i in self.layers]
            ASKED.update(hf_model.get_submodule(name) for name in names)
        ids = torch.as_tensor(token_ids)
        options = {}
        if self.first_position is not None:
            options["position_ids"] = (torch.arange(ids.shape[1]) + self.first_position).expand(ids.shape)
        reading = _reading(self.family) if self.family.seen else nullcontext()
        with torch.no_grad(), reading:
            out = self.family.run(hf_model, ids, output_hidden_states=True, **options)
        stream = out.decoder_hidden_states if self.family.stack == "decoder" else out.hidden_states
        return SEEN.copy(), torch.stack(stream).numpy()

    def encoding(self, traced: dict[str, Array]) -> Array:
        """Head encodings (layer, text, head, position, d): weights times the values of the head's group."""
        groups = traced["attention"].shape[2] // traced["value"].shape[2]
        n = traced["value"].shape[3]
        return traced["attention"][..., :n] @ np.repeat(traced["value"], groups, axis=2)

    def vocabulary(self, space: str, text: Array, position: int, layer: int = 0) -> Array:
        """Encodings (head, V, d) of all vocabulary entries at a position of a text, of one of `layers`."""
        traced = self._of_all_entries(tuple(text), position, layer)
        if space == "embedding":
            return traced["stream"][0][None, :, position]
        return np.swapaxes(traced[space][0][:, :, position], 0, 1)

    def _of_all_entries(self, text: tuple[int, ...], position: int, layer: int) -> dict[str, Array]:
        """What is computed of a text with each entry at the position; kept, as every space asks for the same."""
        asked = text, position, layer
        if asked not in self._kept:
            entries = np.arange(len(self.hf_model.get_input_embeddings().weight))
            texts = np.repeat(np.asarray(text)[None], len(entries), axis=0)
            texts[:, position] = entries
            number = self.layers[layer]
            seen, stream = self._run(texts, self.with_first(number) if number else self.hf_model)
            self._kept[asked] = self._stacked(seen[:1], len(texts)) | {"stream": stream}
        return self._kept[asked]

    def with_first(self, layer: int) -> Any:
        """A copy of the model in which a layer stands first."""
        hf_model = copy.deepcopy(self.hf_model)
        if "{}" in self.family.output:  # else the layers are one
            blocks = hf_model.get_submodule(self.family.output.split(".{}")[0])
            blocks[0] = blocks[layer]
            if self.family.layers:  # those that follow change nothing, and some are slow
                del blocks[1:]
        config = hf_model.config.get_text_config()
        types = getattr(config, "layer_types", None)
        if types and "layer_types" in vars(config):  # Jamba's are not there to be set
            config.layer_types = [types[layer], *types[1:]]
        return hf_model

    def projections(self, hf_model: Any) -> list[Any]:
        """The output projection of each of the layers of a model."""
        return [hf_model.get_submodule(self.family.output.format(i)) for i in self.layers]


def _by_head(tensor: torch.Tensor, texts: int) -> torch.Tensor:
    """Some families have one dimension for texts and heads."""
    return tensor.unflatten(0, (texts, -1)) if tensor.ndim == 3 else tensor


BERT_LIKE = {"bert", "ernie", "electra", "albert", "splinter", "bert-generation", "distilbert"}
