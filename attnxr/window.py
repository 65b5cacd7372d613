"""A view of a model that shows its insides and changes nothing, and the map of where things are in it.

The caller's model is never touched. A `Window` runs a *view* of it: a copy of the module tree, its configuration
and its flags, over the very same weight tensors. So nothing has to be put back, and several threads can look
through one window at once: who watches is a context variable, not a property of the model.
"""

import copy
import inspect
import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attnxr.errors import AttnxrError, UnsupportedModelError
from attnxr.interface import Watcher, after, before, make_bypassable, select, stream, supported_types, watching


class Window:
    """A view of a Hugging Face model that shows its insides, sharing the weights and changing nothing.

    Parameters
    ----------
    hf_model : transformers.PreTrainedModel
        Any model with or without a head on top; the base model under it is looked into. Hooks it has of its own are
        part of it, and run here too.

    Attributes
    ----------
    model : transformers.PreTrainedModel
        The view.
    embeddings : nn.Embedding
        The input embeddings.
    config : transformers.PreTrainedConfig
        Of the text model.
    family : str
        What to call the model in a message.
    layout : Layout

    Raises
    ------
    UnsupportedModelError
        If the model's attention does not go through transformers' attention interface, or cannot be looked into.
    """

    def __init__(self, hf_model: PreTrainedModel):
        hf_model = getattr(hf_model, "_orig_mod", hf_model)  # what torch.compile wraps
        if not isinstance(hf_model, PreTrainedModel):
            raise UnsupportedModelError(
                f"A {type(hf_model).__name__} was given; expected a model of transformers (a PreTrainedModel). "
                "Load one with transformers.AutoModel.from_pretrained(name) or attnxr.load_model(name); merge an "
                "adapter into its model first, with merge_and_unload()."
            )
        self._lock = threading.RLock()
        self.family = f"{type(hf_model).__name__} (model_type {hf_model.config.model_type!r})"
        self._given = cast(PreTrainedModel, hf_model.base_model)
        self._check()
        self.embeddings = self._embeddings(hf_model)
        self.config = hf_model.config.get_text_config()
        self._top = hf_model
        self.model = self.view()
        self._takes_positions = "position_ids" in inspect.signature(self.model.forward).parameters
        for module in self.model.modules():
            module.register_forward_pre_hook(before, with_kwargs=True)
            module.register_forward_hook(after, with_kwargs=True)
        try:
            try:
                select(self.model, as_eager=True)
                self.layout = Layout(self)
            except UnsupportedModelError:  # an eager attention can be one that the interface does not see
                select(self.model, as_eager=False)
                self.layout = Layout(self)
        except AttnxrError:
            raise
        except Exception as error:  # what a family needs besides token ids shows in as many ways as there are families
            raise UnsupportedModelError(
                f"{self.family} does not run on two token ids alone ({type(error).__name__}: {error}). attnxr looks "
                "into encoders and decoders of text."
            ) from error
        for module, outputs in self.layout.blocks.items():
            make_bypassable(module, outputs)

    def _check(self) -> None:
        given = self._given
        if "decoder_input_ids" in inspect.signature(given.forward).parameters:
            raise UnsupportedModelError(
                f"{self.family} is an encoder-decoder; attnxr looks into encoders (BERT, RoBERTa, …) and decoders "
                "(GPT-2, Llama, …). Load one of those instead."
            )
        if not given._can_set_attn_implementation():
            raise UnsupportedModelError(
                f"{self.family} computes its attention without transformers' attention interface, so its head "
                "encodings cannot be read without guessing. Choose a model of a family that uses it, such as RoBERTa: "
                f"in this version of transformers the model types {', '.join(supported_types())}."
            )
        unloaded = [name for name, tensor in given.named_parameters() if tensor.is_meta]
        if unloaded:
            raise UnsupportedModelError(
                f"{self.family} has {len(unloaded)} parameters on the meta device ({unloaded[0]}, …), which hold no "
                "numbers; expected weights in memory. Load the model without device_map or init_empty_weights."
            )

    def _embeddings(self, hf_model: PreTrainedModel) -> nn.Embedding:
        try:
            found = hf_model.get_input_embeddings()
        except NotImplementedError:  # what transformers raises for models of images and sounds
            found = None
        if not isinstance(getattr(found, "weight", None), Tensor):
            raise UnsupportedModelError(
                f"{self.family} has no table of token embeddings, so it has no vocabulary to look into. attnxr looks "
                "into encoders and decoders of text."
            )
        return cast(nn.Embedding, found)

    def view(self) -> PreTrainedModel:
        """Copy the module tree over the same tensors: a model in evaluation mode, with the caller's attention."""
        shared: dict[int, Any] = {id(tensor): tensor for tensor in self._tensors()}
        for module in self._given.modules():  # what torch.compile has made of a module belongs to that module
            shared[id(module._compiled_call_impl)] = None
            # Hooks are the caller's, with all they hold; one that is a method of a module goes with its module.
            for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
                if not isinstance(getattr(hook, "__self__", None), nn.Module):
                    shared[id(hook)] = hook
            shared |= {id(value): value for value in vars(module).values() if isinstance(value, Tensor)}
        shared.pop(id(None))
        try:
            model = copy.deepcopy(self._given, shared).eval()
        except Exception as error:  # anything can be kept in a module
            raise UnsupportedModelError(
                f"{self.family} has a module that keeps what cannot be copied ({type(error).__name__}: {error}). "
                "Remove it from the module, such as activations that were kept there."
            ) from error
        for name, module in model.named_modules():
            forward = vars(module).get("forward")
            compiled = getattr(forward, "_torchdynamo_orig_callable", None)
            if getattr(compiled, "__func__", None) is type(module).forward:
                del module.forward
            elif isinstance(forward, FunctionType) and any(True for _ in module.children()):
                raise UnsupportedModelError(
                    f"{self.family} has a function in place of the forward of {name or 'the model itself'}. It runs "
                    "modules that cannot be looked into. Expected the forward of its class: a forward hook can change "
                    "what a module computes."
                )
        return cast(PreTrainedModel, model)

    @property
    def n_embeddings(self) -> int:
        """Rows of the input embedding matrix."""
        return self.embeddings.weight.shape[0]

    @property
    def unembedding(self) -> nn.Module | None:
        """The output embeddings of the head on top, if there is one."""
        output = self._top.get_output_embeddings()
        return output if isinstance(getattr(output, "weight", None), Tensor) else None

    def state(self) -> tuple:
        """Something that differs after weights were moved, replaced or changed, or hooks put on or taken off.

        Fused optimizers and ``.data`` count no versions, and inference tensors have none: so of each tensor some 64
        numbers are part of it, evenly spaced. That costs about 10 µs a tensor.
        """
        hooks = [(*module._forward_pre_hooks, *module._forward_hooks) for module in self._given.modules()]
        output = self.unembedding
        tensors = itertools.chain(self._tensors(), () if output is None else output.parameters())
        seen = [(id(t), t.data_ptr(), 0 if t.is_inference() else t._version, sample(t, 64)) for t in tensors]
        return *seen, *hooks

    def _tensors(self) -> Iterator[Tensor]:
        """Parameters, and the buffers that are saved with them: others are notes that a model makes as it runs."""
        for module in self._given.modules():
            yield from (each for each in module._parameters.values() if each is not None)
            for name, buffer in module._buffers.items():
                if buffer is not None and name not in module._non_persistent_buffers_set:
                    yield buffer

    def run(
        self,
        token_ids: Tensor,
        watcher: Watcher,
        *,
        position_id: int | None = None,
        padding: Tensor | None = None,
    ) -> Any:
        """Run the model on a batch of token ids while `watcher` looks on.

        Parameters
        ----------
        token_ids : int64 tensor (batch, tokens)
            On any device.
        watcher : Watcher
            What is to see this pass, and nobody else's.
        position_id : int, optional
            Where all tokens stand, for families that can be told; by default they stand one after the other.
        padding : bool tensor (batch, tokens), optional
            Which tokens are padding; by default none.

        Returns
        -------
        transformers.utils.ModelOutput or None
            None where the watcher ended the pass.
        """
        token_ids = token_ids.to(self.model.device)
        options: dict[str, Any] = {"attention_mask": torch.ones_like(token_ids), "use_cache": False}
        if padding is not None:
            options["attention_mask"] = (~padding).to(token_ids)
        if position_id is not None and self._takes_positions:
            options["position_ids"] = torch.full_like(token_ids, position_id)
        # One at a time: a rotary embedding that depends on the length of the text keeps it in a buffer.
        with self._lock, watching(watcher), torch.no_grad():
            return self.model(input_ids=token_ids, **options)


def sample(tensor: Tensor, count: int) -> bytes:
    """Up to twice `count` numbers of a tensor, evenly spaced."""
    flat = tensor.detach().reshape(-1)
    return b"" if flat.is_meta else flat[:: max(1, len(flat) // count)].to("cpu", torch.float64).numpy().tobytes()


@dataclass(eq=False)
class _Call:
    """One call of a module that is an element of a ModuleList."""

    module: nn.Module
    inputs: tuple[tuple, dict]
    left: Any = None  # the stream that it put out
    attentions: int = 0
    outputs: int | None = None


class Layout(Watcher):
    """Where things are in a model, found by running it once on the same token twice and looking.

    Attributes
    ----------
    positions : nn.Module or None
        The module whose output is the positional term that is added to the word embedding.
    projections : list of nn.Module
        For each layer, the linear map that reads the concatenated head encodings (W_O).
    n_heads, n_kv_heads : int
    head_size, key_size : int
        Features of a head's values (and encodings), and of its keys and queries.
    layers : list of int
        For each layer with attention, which of the model's blocks it is, 0-based.
    order : list of int
        How many blocks run before that one.
    blocks : dict of nn.Module to (int or None)
        All modules that are a block of the model, with the length of the tuple that they return (None: a tensor).
        Empty where the layers are not one block each, on one stream.
    causal : bool
        Whether a token cannot attend to the one after it.
    max_tokens : int or None
        The longest text the positional table (or else the configuration) allows.
    """

    def __init__(self, window: Window):
        self.positions: nn.Module | None = None
        self.projections: list[nn.Module] = []
        self.causal = False
        self._sizes: set[tuple[int, int, int, int]] = set()
        self._first_term: Tensor | None = None
        self._first_index = 0
        self._seen = 0
        self._written: Tensor | None = None
        self._calls: list[_Call] = []
        self._running: list[_Call] = []
        self._attended_in: list[list[_Call]] = []
        self._lists = [module for module in window.model.modules() if isinstance(module, nn.ModuleList)]
        self._elements = {id(element) for elements in self._lists for element in elements}
        # The same token twice: whatever differs between the two columns comes from the position.
        token = window.n_embeddings // 2
        if token == window.config.pad_token_id:  # some families give padding a position of its own
            token = (token + 1) % window.n_embeddings
        window.run(torch.tensor([[token, token]]), self)
        self._check(window.family)
        self.n_heads, self.n_kv_heads, self.head_size, self.key_size = self._sizes.pop()
        self.blocks: dict[nn.Module, int | None] = {}
        self.layers = self.order = list(range(self._seen))
        self._find_blocks()
        limits = [getattr(window.config, "max_position_embeddings", None)]
        if isinstance(self.positions, nn.Embedding):
            rows = (self.positions.weight == self._first_term).all(dim=1).nonzero()
            # A row that is none of the table was changed on the way; what the table was asked for is then its number.
            limits.append(self.positions.num_embeddings - int(rows[0, 0] if len(rows) else self._first_index))
        self.max_tokens: int | None = min((limit for limit in limits if limit), default=None)
        self._written = self._first_term = None
        self._calls, self._attended_in = [], []

    @property
    def n_layers(self) -> int:
        """Layers with attention."""
        return self._seen

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if id(module) in self._elements:
            self._running.append(_Call(module, (args, kwargs)))
            self._calls.append(self._running[-1])

    def attending(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> None:
        self._sizes.add((query.shape[1], value.shape[1], value.shape[3], key.shape[3]))
        self._seen += 1
        self._attended_in.append(self._running.copy())
        for call in self._running:
            call.attentions += 1

    def attended(self, output: Tensor, weights: Tensor) -> None:
        if not output.isfinite().all():
            raise UnsupportedModelError(
                "The model makes infinite or undefined numbers of a text of two tokens, to which no distance can be "
                f"given. Its numbers are {output.dtype}; did they overflow? Load it in float32."
            )
        self._written = output.flatten(2)
        if self._seen == 1:
            self.causal = not bool(weights[:, :, 0, 1].any())

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if id(module) in self._elements:
            call = self._running.pop()
            is_tuple = isinstance(output, tuple)
            call.outputs, call.left = (len(output), output[0]) if is_tuple else (None, output)
        if self._written is not None:
            if len(self.projections) < self._seen and _reads(module, args, self._written):
                self.projections.append(module)
            elif len(self.projections) == self._seen and _wraps(module, args, kwargs, self):
                self.projections[-1] = module
        elif isinstance(output, Tensor) and self.positions is None and not self._seen:
            inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            from_indices = not any(tensor.is_floating_point() for tensor in inputs)
            if from_indices and output.ndim > 1 and _columns_differ(output):
                self.positions, self._first_term = module, output.reshape(2, -1)[0]
                self._first_index = int(inputs[0].flatten()[0]) if inputs else 0

    def _check(self, family: str) -> None:
        if not self._seen:
            raise UnsupportedModelError(
                f"{family} handed nothing to transformers' attention interface: it has no attention layers, or ones of "
                "a kind of their own. Expected a model with at least one attention layer."
            )
        if len(self._sizes) > 1:
            listed = "; ".join(
                "{} query and {} value heads of {} features".format(*size) for size in sorted(self._sizes)
            )
            raise UnsupportedModelError(
                f"{family} has layers of different shapes ({listed}), which do not fit one array. Expected the same "
                "number and size of heads in every layer."
            )
        if len(self.projections) != self._seen:
            raise UnsupportedModelError(
                f"{family} calls attention {self._seen} times, and has {len(self.projections)} linear maps that read "
                "the concatenated head encodings as they are (its W_O); expected one for each call. It does something "
                "else with what the heads wrote first, such as gating or norming it, so no number would be right."
            )

    def _find_blocks(self) -> None:
        """A layer's block is the outermost element of a list of modules that holds its attention and no other's.

        And one that stands in a chain: what leaves a block enters the next, two tokens in one stream.
        """
        own = [next((call for call in calls if call.attentions == 1), None) for calls in self._attended_in]
        found = [call for call in own if call is not None]
        modules = {id(call.module) for call in found}
        lists = [elements for elements in self._lists if {*map(id, elements)} & modules]
        siblings = {id(each) for elements in lists for each in elements}
        calls = [call for call in self._calls if id(call.module) in siblings]
        entered = [stream(*call.inputs) for call in calls]
        chained = all(
            isinstance(call.left, Tensor) and torch.equal(call.left, after)
            for call, after in zip(calls, entered[1:], strict=False)
        )
        if len(found) == len(own) and chained and all(each.shape[:-1] == (1, 2) for each in entered):
            self.blocks = {call.module: call.outputs for call in calls}
            self.order = [calls.index(call) for call in found]
            self.layers = self.order
            if len(lists) == 1 and len(self.blocks) == len(calls):  # a block that does not run has its number too
                self.layers = [list(lists[0]).index(call.module) for call in found]


def _columns_differ(output: Tensor) -> bool:
    """Whether a module gave each of the two tokens a row of its own, and not a row for each pair (T5's biases)."""
    rows = output.shape[-2] == 2 and output.numel() == 2 * output.shape[-1]
    return rows and not torch.equal(output[..., 0, :], output[..., 1, :])


def _reads(module: nn.Module, args: tuple, written: Tensor) -> bool:
    """Whether a module is a linear map whose input is the concatenation of all head encodings."""
    weight = getattr(module, "weight", None)
    if not (isinstance(weight, Tensor) and weight.ndim == 2 and args and isinstance(args[0], Tensor)):
        return False
    return args[0].shape[-1] == written.shape[-1] and torch.equal(args[0].reshape(written.shape), written)


def _wraps(module: nn.Module, args: tuple, kwargs: dict, layout: Layout) -> bool:
    """Whether a module hands its one input on to W_O, as an adapter (LoRA) around it does, and is linear as a whole."""
    inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    written, inner = layout._written, layout.projections[-1]
    if written is None or module is inner or len(inputs) != 1 or inputs[0].numel() != written.numel():
        return False
    return torch.equal(inputs[0].reshape(written.shape), written) and any(each is inner for each in module.modules())
