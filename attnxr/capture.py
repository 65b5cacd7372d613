"""One window into any model: a registered attention function, and forward passes that show what it sees.

``transformers`` hands query, key and value of every layer of every model that uses its attention interface to one
function, chosen by name. attnxr registers such a function once. It computes nothing of its own: it calls the
family's own eager attention, and shows what went in and came out to the `Watcher` of the call that is running.

The caller's model is never touched. A `Window` runs a *view* of it: a copy of the module tree, its configuration
and its flags, over the very same weight tensors. So nothing has to be put back, and several threads can look
through one window at once: who watches is a context variable, not a property of the model.
"""

import copy
import itertools
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from attnxr.errors import UnsupportedModelError

_NAME = "attnxr"


class Watcher:
    """What a forward pass shows to the call that started it. Subclasses override what they want to see."""

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """See a module's inputs before it runs."""

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        """See a module's output; what is returned, if anything, takes its place."""

    def attending(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> None:
        """See what an attention layer is about to work on (batch, heads, tokens, features)."""

    def attended(self, output: Tensor, weights: Tensor) -> None:
        """See its output (batch, tokens, heads, features) and weights (batch, heads, tokens, tokens)."""


class Stop(Exception):  # noqa: N818 - not an error
    """Raised by a watcher that has seen enough, to end the forward pass there."""


_watcher: ContextVar[Watcher | None] = ContextVar("attnxr_watcher", default=None)


def _own_attention(module: nn.Module) -> Callable:
    """The eager attention function of the module's own family."""
    for cls in type(module).__mro__:
        function = getattr(sys.modules.get(cls.__module__), "eager_attention_forward", None)
        if function is not None:
            return function
    raise UnsupportedModelError(
        f"{type(module).__name__} has no eager attention function beside it, so there is no reference for what it "
        "should compute. Expected a family of transformers whose file defines `eager_attention_forward`."
    )


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    watcher = _watcher.get() or Watcher()
    watcher.attending(module, query, key, value)
    output, weights = _own_attention(module)(module, query, key, value, attention_mask, **kwargs)
    watcher.attended(output, weights)
    return output, weights


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, eager_mask)


def _before(module: nn.Module, args: tuple, kwargs: dict) -> None:
    if watcher := _watcher.get():
        watcher.before(module, args, kwargs)


def _after(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
    watcher = _watcher.get()
    return watcher.after(module, args, kwargs, output) if watcher else None


class Window:
    """A view of a Hugging Face model that shows its insides, sharing the weights and changing nothing.

    Parameters
    ----------
    hf_model : transformers.PreTrainedModel
        Any model with or without a head on top; the base model under it is looked into.

    Raises
    ------
    UnsupportedModelError
        If the model's attention does not go through transformers' attention interface.
    """

    def __init__(self, hf_model: PreTrainedModel):
        hf_model = getattr(hf_model, "_orig_mod", hf_model)  # what torch.compile wraps
        if not isinstance(hf_model, PreTrainedModel):
            raise UnsupportedModelError(
                f"A {type(hf_model).__name__} was given; expected a model of transformers (a PreTrainedModel). "
                "Load one with transformers.AutoModel.from_pretrained(name) or attnxr.load_model(name)."
            )
        base = cast(PreTrainedModel, hf_model.base_model)
        family = f"{type(hf_model).__name__} (model_type {hf_model.config.model_type!r})"
        if hf_model.config.is_encoder_decoder:
            raise UnsupportedModelError(
                f"{family} is an encoder-decoder; attnxr looks into encoders (BERT, RoBERTa, …) and decoders "
                "(GPT-2, Llama, …). Load one of those instead."
            )
        if not base._can_set_attn_implementation():
            raise UnsupportedModelError(
                f"{family} computes its attention without transformers' attention interface, so its head encodings "
                "cannot be read without guessing. Families that use it include BERT, RoBERTa, DistilBERT, ELECTRA, "
                "GPT-2, OPT, Llama, Mistral and Qwen: choose a model of one of those."
            )
        weights = {id(tensor): tensor for tensor in itertools.chain(base.parameters(), base.buffers())}
        self.model = cast(PreTrainedModel, copy.deepcopy(base, dict(weights)).eval())
        self.model.set_attn_implementation(_NAME)
        for module in self.model.modules():
            module.register_forward_pre_hook(_before, with_kwargs=True)
            module.register_forward_hook(_after, with_kwargs=True)
        self.layout = _Layout(self, family)

    @property
    def n_embeddings(self) -> int:
        """Rows of the input embedding matrix."""
        return cast(nn.Embedding, self.model.get_input_embeddings()).weight.shape[0]

    def run(self, token_ids: Tensor, watcher: Watcher) -> None:
        """Run the model on a batch of token ids while `watcher` looks on.

        Parameters
        ----------
        token_ids : int64 tensor (batch, tokens)
            On any device; all of them are attended to, none is padding.
        watcher : Watcher
            What is to see this pass, and nobody else's.
        """
        token_ids = token_ids.to(self.model.device)
        token = _watcher.set(watcher)
        try:
            with torch.no_grad():
                self.model(input_ids=token_ids, attention_mask=torch.ones_like(token_ids), use_cache=False)
        except Stop:
            pass
        finally:
            _watcher.reset(token)


class _Layout(Watcher):
    """Where things are in a model, found by running it once on the same token twice and looking.

    Attributes
    ----------
    positions : nn.Module or None
        The module whose output is the positional term that is added to the word embedding.
    norm : nn.LayerNorm or None
        The last LayerNorm before layer 0's attention.
    projections : list of nn.Module
        For each layer, the linear map that reads the concatenated head encodings (W_O).
    n_heads, n_kv_heads, head_size : int
    n_layers : int
    causal : bool
        Whether a token cannot attend to the one after it.
    max_tokens : int or None
        The longest text the positional table (or else the configuration) allows.
    """

    def __init__(self, window: Window, family: str):
        self.positions: nn.Module | None = None
        self.norm: nn.LayerNorm | None = None
        self.projections: list[nn.Module] = []
        self.n_layers = self.n_heads = self.n_kv_heads = self.head_size = 0
        self.causal = False
        self._first_row = 0
        self._value: Tensor | None = None
        # The same token twice: whatever differs between the two columns comes from the position.
        token = window.n_embeddings // 2
        token += token == window.model.config.pad_token_id  # some families give padding a position of its own
        window.run(torch.tensor([[token, token]]), self)
        if self._value is None or len(self.projections) != self.n_layers:
            raise UnsupportedModelError(
                f"{family} showed {self.n_layers} attention layers and {len(self.projections)} output projections; "
                "expected at least one, and one projection each. attnxr cannot look into this model."
            )
        if self.positions is None and not torch.allclose(*self._value.unbind(2), rtol=1e-3, atol=1e-5):
            raise UnsupportedModelError(
                f"{family} adds positions to its embeddings in a way that cannot be told from the words, so "
                "vocabulary encodings for a position cannot be computed. attnxr cannot look into this model."
            )
        limits = [getattr(window.model.config, "max_position_embeddings", None)]
        if isinstance(self.positions, nn.Embedding):
            limits.append(self.positions.num_embeddings - self._first_row)
        self.max_tokens: int | None = min((limit for limit in limits if limit), default=None)
        self._value = None

    def attending(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> None:
        if self._value is None:
            self._value = value
            self.n_heads, self.n_kv_heads, self.head_size = query.shape[1], value.shape[1], value.shape[3]
        self.n_layers += 1

    def attended(self, output: Tensor, weights: Tensor) -> None:
        if self.n_layers == 1:
            self.causal = not bool(weights[:, :, 0, 1].any())

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        if self._value is None:
            inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            from_indices = not any(tensor.is_floating_point() for tensor in inputs)
            if self.positions is None and from_indices and output.ndim > 1 and _columns_differ(output):
                self.positions = module
                if inputs:
                    self._first_row = int(inputs[0].flatten()[0])
            if isinstance(module, nn.LayerNorm):
                self.norm = module
        elif len(self.projections) < self.n_layers and reads_heads(module, args, self.n_heads * self.head_size):
            self.projections.append(module)


def _columns_differ(output: Tensor) -> bool:
    return output.shape[-2] == 2 and not torch.equal(output[..., 0, :], output[..., 1, :])


def reads_heads(module: nn.Module, args: tuple, width: int) -> bool:
    """Whether a module is a linear map whose input is the concatenation of all head encodings."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2 and bool(args) and args[0].shape[-1] == width


class _Encodings(Watcher):
    """Collects, layer by layer, what the encodings Dataset is made of."""

    def __init__(self, blocks: type[nn.Module] | None, width: int):
        self.encoding: list[Tensor] = []
        self.attention: list[Tensor] = []
        self.query: list[Tensor] = []
        self.key: list[Tensor] = []
        self.value: list[Tensor] = []
        self.residual: list[Tensor] = []
        self.hidden: list[Tensor] = []
        self._blocks = blocks
        self._width = width
        self._block_input: Tensor | None = None

    def attending(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> None:
        self.query.append(query[0])
        self.key.append(key[0])
        self.value.append(value[0])

    def attended(self, output: Tensor, weights: Tensor) -> None:
        self.encoding.append(output[0].transpose(0, 1))
        self.attention.append(weights[0])

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if self._blocks is not None and isinstance(module, self._blocks):
            self._block_input = args[0] if args else kwargs["hidden_states"]

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if self._block_input is None:
            return
        if len(self.residual) < len(self.encoding) and reads_heads(module, args, self._width):
            self.residual.append((self._block_input + output)[0])
        if self._blocks is not None and isinstance(module, self._blocks):
            self.hidden.append((output[0] if isinstance(output, tuple) else output)[0])
            self._block_input = None


def encode(window: Window, token_ids: list[int], include: tuple[str, ...]) -> dict[str, Tensor]:
    """Run one text through the model and collect what every head of every layer wrote.

    Parameters
    ----------
    window : Window
    token_ids : list of int, length n
    include : tuple of str
        What to collect besides ``encoding`` and ``attention``: any of ``query``, ``key``, ``value``, ``residual``
        and ``hidden``.

    Returns
    -------
    dict of float32 CPU tensors
        ``encoding`` (L, H, n, d), ``attention`` (L, H, n, n), ``query`` (L, H, n, d), ``key`` and ``value``
        (L, kv heads, n, d), ``residual`` and ``hidden`` (L, n, D).

    Raises
    ------
    UnsupportedModelError
        If ``residual`` or ``hidden`` is asked of a family that does not say what its blocks are.
    """
    recordable = getattr(window.model, "_can_record_outputs", None) or {}
    blocks = recordable.get("hidden_states")
    blocks = blocks if isinstance(blocks, type) else getattr(blocks, "target_class", None)
    wanted = {"residual", "hidden"} & set(include)
    if wanted and blocks is None:
        raise UnsupportedModelError(
            f"include={sorted(wanted)} was asked of {type(window.model).__name__}, which does not tell transformers "
            "which of its modules are blocks. Leave these names out; the head encodings are not affected."
        )
    layout = window.layout
    seen = _Encodings(blocks if wanted else None, layout.n_heads * layout.head_size)
    window.run(torch.tensor([token_ids]), seen)
    return {
        name: torch.stack(getattr(seen, name)).to("cpu", torch.float32) for name in ("encoding", "attention", *include)
    }
