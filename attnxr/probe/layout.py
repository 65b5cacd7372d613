"""Where things are in a model, found by running it once on the same token twice and looking."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from attnxr.checking import some_of
from attnxr.errors import UnsupportedModelError
from attnxr.probe import readers
from attnxr.probe.chosen import Chosen
from attnxr.probe.finite import remedy
from attnxr.probe.interface import Watcher, stream, tensors
from attnxr.probe.linear import shape
from attnxr.probe.stored import is_plain


class NothingSeenError(UnsupportedModelError):
    """No attention went through the door that was watched."""


class UnevenLayersError(UnsupportedModelError):
    """The layers that were asked for are of different shapes.

    Attributes
    ----------
    groups : list of list of int
        Layers of one shape each, by their numbers in the model.
    """

    def __init__(self, message: str, groups: list[list[int]]):
        super().__init__(message)
        self.groups = groups


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

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A view whose attention and modules show what they see.
    config : transformers.PreTrainedConfig
        Of the text model.
    family : str
        What to call the model in a message.
    n_embeddings : int
        Rows of the input embedding matrix.
    run : callable
        ``run(token_ids, watcher)`` runs the view on a batch of token ids.
    chosen : list of int, optional
        Which of the layers with attention to look into, by their numbers in the model; by default all.

    Attributes
    ----------
    calls : list of int
        Which of all calls of attention are those of the layers that are looked into, ascending. All that follows is
        of these.
    positions : nn.Module or None
        The module whose output is the positional term that is added to the word embedding.
    projections : list of nn.Module
        For each layer, the linear map that reads the concatenated head encodings (W_O).
    gated : bool
        Whether W_O reads them multiplied by something in any layer, see `attnxr.probe.readers`.
    n_heads, n_kv_heads : int
    head_size, key_size : int
        Features of a head's values (and encodings), and of its keys and queries.
    layers : list of int
        For each layer with attention, which of the model's blocks it is, 0-based.
    order : list of int
        How many blocks run before that one.
    blocks : dict of nn.Module to (int or None)
        All modules that are a block of the model, with the length of the tuple or list that they return (None where
        it is a tensor).
        Empty where the layers are not one block each, on one stream.
    causal : bool
        Whether a token cannot attend to the one after it.
    max_tokens : int or None
        The longest text the positional table (or else the configuration) allows.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: PreTrainedConfig,
        family: str,
        n_embeddings: int,
        run: Callable[[Tensor, Watcher], Any],
        chosen: Sequence[int] | None = None,
    ):
        self.positions: nn.Module | None = None
        self.causal = False
        self._shapes: list[tuple[int, int, int, int]] = []
        self._readers: list[nn.Module | None] = []  # of each call of attention: what reads what it wrote as it is
        self._first_term: Tensor | None = None
        self._first_index = 0
        self._seen = 0
        self._written: Tensor | None = None
        self._calls: list[_Call] = []
        self._running: list[_Call] = []
        self._attended_in: list[list[_Call]] = []
        self._lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
        self._elements = {id(element) for elements in self._lists for element in elements}
        # The same token twice: whatever differs between the two columns comes from the position.
        token = n_embeddings // 2
        if token == getattr(config, "pad_token_id", None):  # some families give padding a position of its own
            token = (token + 1) % n_embeddings
        run(torch.tensor([[token, token]]), self)
        self._check_seen(family)
        self.blocks: dict[nn.Module, int | None] = {}
        self.layers = self.order = list(range(self._seen))
        self._find_blocks()
        self.calls = self._choose(chosen, family)
        (shape,) = {self._shapes[call] for call in self.calls}
        self.n_heads, self.n_kv_heads, self.head_size, self.key_size = shape
        self.gated = False
        if None in self._of_chosen(self._readers):
            tried = readers.find(run, token)
            for call, found in enumerate(tried):
                if self._readers[call] is None and found is not None:
                    self._readers[call], self.gated = found, self.gated or call in self.calls
        self._check_readers(family)
        self.projections: list[nn.Module] = [each for each in self._of_chosen(self._readers) if each is not None]
        self.layers, self.order = self._of_chosen(self.layers), self._of_chosen(self.order)
        limits = [getattr(config, "max_position_embeddings", None)]
        if isinstance(self.positions, nn.Embedding):
            table = self.positions.weight
            rows = (table == self._first_term).all(dim=1).nonzero() if is_plain(table) else ()
            # A row that is none of the table was changed on the way; what the table was asked for is then its number.
            limits.append(self.positions.num_embeddings - int(rows[0, 0] if len(rows) else self._first_index))
        self.max_tokens: int | None = min((limit for limit in limits if limit), default=None)
        self._written = self._first_term = None
        self._calls, self._attended_in = [], []

    @property
    def n_layers(self) -> int:
        """Layers that are looked into."""
        return len(self.calls)

    def show(self, watcher: Watcher) -> Watcher:
        """What shows a watcher the layers that are looked into, and the attention of no other."""
        if len(self.calls) == self._seen:
            return watcher
        return Chosen(watcher, self.blocks, {*(self.order if self.blocks else self.calls)})

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if id(module) in self._elements:
            self._running.append(_Call(module, (args, kwargs)))
            self._calls.append(self._running[-1])

    def attending(self, module: nn.Module | None, query: Tensor, key: Tensor, value: Tensor) -> None:
        if not self._seen and torch.equal(value[..., 0, :], value[..., 1, :]):
            self.positions = None  # nothing was added: what differs between positions is an angle, or a bias of scores
        self._shapes.append((query.shape[1], value.shape[1], value.shape[3], key.shape[3]))
        self._readers.append(None)
        self._seen += 1
        self._attended_in.append(self._running.copy())
        for call in self._running:
            call.attentions += 1

    def attended(self, output: Tensor, weights: Tensor) -> None:
        if not output.isfinite().all():
            raise UnsupportedModelError(
                "The model makes infinite or undefined numbers of a text of two tokens, to which no distance can be "
                f"given. {remedy(output.dtype)}"
            )
        self._written = output.flatten(2)
        if self._seen == 1:
            self.causal = not bool(weights[:, :, 0, 1].any())

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if id(module) in self._elements:
            call = self._running.pop()
            has_parts = isinstance(output, (tuple, list)) and len(output) > 0
            call.outputs, call.left = (len(output), output[0]) if has_parts else (None, output)
        inputs = tensors(args, kwargs)
        if self._written is not None:
            reader = self._readers[-1]
            if _reads(module, args, self._written) if reader is None else _wraps(module, reader, inputs, self._written):
                self._readers[-1] = module
        elif isinstance(output, Tensor) and self.positions is None and not self._seen:
            # BART hands over one feature of the embeddings, for its shape, and M2M100 all of them beside the ids.
            from_indices = not inputs or not inputs[0].is_floating_point() or inputs[0].numel() == 2
            if from_indices and output.ndim > 1 and _columns_differ(output):
                self.positions, self._first_term = module, output.reshape(2, -1)[0]
                self._first_index = int(inputs[0].flatten()[0]) if inputs else 0

    def _of_chosen(self, each: list) -> list:
        """What is known of each call of attention, of those that are looked into."""
        return [each[call] for call in self.calls]

    def _check_seen(self, family: str) -> None:
        if not self._seen:
            raise NothingSeenError(
                f"{family} hands nothing to transformers' attention interface, and multiplies no values by a softmax "
                "of products of queries and keys: it has no attention layers, or ones of a kind of their own, such as "
                "linear attention, attention that is sparse by blocks, or a fused kernel. Expected a model with at "
                "least one attention layer that does one of the two; attn_implementation='eager', given to "
                "from_pretrained, keeps some from calling fused kernels."
            )

    def _choose(self, chosen: Sequence[int] | None, family: str) -> list[int]:
        """Calls of attention of one shape: those that were chosen, or all of them."""
        asked = some_of("layers", chosen, self.layers, family)
        calls = [call for call, layer in enumerate(self.layers) if layer in asked]
        if len({self._shapes[call] for call in calls}) > 1:
            groups: dict[tuple[int, int, int, int], list[int]] = {}
            for call in calls:
                groups.setdefault(self._shapes[call], []).append(self.layers[call])
            listed = "; ".join(
                f"layers={layers}: {heads} query and {kv_heads} value heads of {size} features"
                + (f", keys of {key_size}" if key_size != size else "")
                for (heads, kv_heads, size, key_size), layers in groups.items()
            )
            raise UnevenLayersError(
                f"{family} has layers of different shapes, which do not fit one array. Expected layers of one shape "
                f"each: choose a group of them, as in attnxr.Model(hf_model, layers={next(iter(groups.values()))}). "
                f"The groups are {listed}.",
                list(groups.values()),
            )
        return calls

    def _check_readers(self, family: str) -> None:
        missing = [self.layers[call] for call in self.calls if self._readers[call] is None]
        if missing:
            raise UnsupportedModelError(
                f"{family} has no linear map in layer {missing[0]} that reads the concatenated head encodings (its "
                "W_O) as they are, or each number of them times a gate, or behind a norm that keeps heads apart. It "
                "does something else with what the heads wrote first, such as mixing it with other numbers, or its W_O "
                "is no linear layer, but a bare parameter or a convolution; so no number could be checked."
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
    return shape(module) is not None and _is_handed(args, written)


def _is_handed(args: tuple, written: Tensor) -> bool:
    if not args or not isinstance(args[0], Tensor) or args[0].numel() != written.numel():
        return False
    return args[0].shape[-1] == written.shape[-1] and torch.equal(args[0].reshape(written.shape), written)


def _wraps(module: nn.Module, inner: nn.Module, inputs: list[Tensor], written: Tensor) -> bool:
    """Whether a module hands its one input on to W_O, as an adapter (LoRA) around it does."""
    if module is inner or len(inputs) != 1 or inputs[0].numel() != written.numel():
        return False
    return torch.equal(inputs[0].reshape(written.shape), written) and any(each is inner for each in module.modules())
