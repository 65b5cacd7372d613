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


def _witness(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any) -> Any:
    eager = sys.modules[type(module).__module__].eager_attention_forward
    output, weights = eager(module, query, key, value, attention_mask, **kwargs)
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
        if event == "return" and frame.f_code.co_name == function and variables <= frame.f_locals.keys():
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
        self._kept: dict[tuple[tuple[int, ...], int, int], dict[str, Array]] = {}
        # RoBERTa and its like count positions from here, and give padding none.
        padding = getattr(getattr(self.hf_model, "embeddings", None), "padding_idx", None)
        learned = family.positions == "learned"
        self.first_position = padding + 1 if learned and padding and family.model_type not in BERT_LIKE else None

    def trace(self, token_ids: Array, hf_model: Any = None) -> dict[str, Array]:
        """Query, key, value, attention (layer, text, head, …), and the stream (layer + 1, text, position, channel)."""
        SEEN.clear()
        ids = torch.as_tensor(token_ids)
        options = {}
        if self.first_position is not None:
            options["position_ids"] = (torch.arange(ids.shape[1]) + self.first_position).expand(ids.shape)
        reading = _reading(self.family) if self.family.seen else nullcontext()
        with torch.no_grad(), reading:
            mask = torch.ones_like(ids)
            out = (hf_model or self.hf_model)(
                ids, attention_mask=mask, use_cache=False, output_hidden_states=True, **options
            )
        found = {name: torch.stack([_by_head(each[name], len(ids)) for each in SEEN]).numpy() for name in SEEN[0]}
        return found | {"stream": torch.stack(out.hidden_states).numpy()}

    def encoding(self, traced: dict[str, Array]) -> Array:
        """Head encodings (layer, text, head, position, d): weights times the values of the head's group."""
        groups = traced["attention"].shape[2] // traced["value"].shape[2]
        n = traced["value"].shape[3]
        return traced["attention"][..., :n] @ np.repeat(traced["value"], groups, axis=2)

    def vocabulary(self, space: str, text: Array, position: int, layer: int = 0) -> Array:
        """Encodings (head, V, d) of all vocabulary entries at a position of a text."""
        traced = self._of_all_entries(tuple(text), position, layer)
        if space == "embedding":
            return traced["stream"][0][None, :, position]
        return np.swapaxes(traced[space][0][:, :, position], 0, 1)

    def _of_all_entries(self, text: tuple[int, ...], position: int, layer: int) -> dict[str, Array]:
        """What is computed of a text with each entry at the position; kept, as every space asks for the same."""
        asked = text, position, layer
        if asked not in self._kept:
            entries = np.arange(self.hf_model.config.vocab_size)
            texts = np.repeat(np.asarray(text)[None], len(entries), axis=0)
            texts[:, position] = entries
            self._kept[asked] = self.trace(texts, self.with_first(layer) if layer else None)
        return self._kept[asked]

    def with_first(self, layer: int) -> Any:
        """A copy of the model in which a layer stands first."""
        hf_model = copy.deepcopy(self.hf_model)
        if "{}" in self.family.output:  # else the layers are one
            blocks = hf_model.get_submodule(self.family.output.split(".{}")[0])
            blocks[0] = blocks[layer]
        types = getattr(hf_model.config, "layer_types", None)
        if types:
            hf_model.config.layer_types = [types[layer], *types[1:]]
        return hf_model

    def projections(self, hf_model: Any) -> list[Any]:
        """The output projection of each layer of a model."""
        return [hf_model.get_submodule(self.family.output.format(i)) for i in range(hf_model.config.num_hidden_layers)]


def _by_head(tensor: torch.Tensor, texts: int) -> torch.Tensor:
    """Some families have one dimension for texts and heads."""
    return tensor.unflatten(0, (texts, -1)) if tensor.ndim == 3 else tensor


BERT_LIKE = {"bert", "ernie", "electra", "albert", "splinter", "bert-generation", "distilbert"}
