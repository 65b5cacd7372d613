"""A view of a model that shows its insides and changes nothing.

The caller's model is never touched. A `Window` runs a *view* of it: a copy of the module tree, its configuration
and its flags, over the very same weight tensors. So nothing has to be put back, and several threads can look
through one window at once: who watches is a context variable, not a property of the model.
"""

import copy
import inspect
import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import FunctionType, MappingProxyType
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel

from attnxr.errors import AttnxrError, UnsupportedModelError
from attnxr.loading.wrapped import unwrapped
from attnxr.options import Stack
from attnxr.probe import trial
from attnxr.probe.finite import entry, refuse_rows
from attnxr.probe.interface import Watcher, after, before, make_bypassable, select, watching
from attnxr.probe.layout import Layout, NothingSeenError
from attnxr.probe.linear import matrix, shape
from attnxr.probe.norms import tolerance
from attnxr.probe.seen import Seeing
from attnxr.probe.settings import Settings, places_that_differ, snapshot
from attnxr.probe.stored import is_plain, parts

_SHORT = 8  # tokens of the text that a model with code of its user is tried on each time
_SAID = 256  # numbers of what it makes of that in its fingerprint
_SMALL = 64


class ChangesItselfError(UnsupportedModelError):
    """A model computes in another way for short texts than for long ones."""


class Window:
    """A view of a Hugging Face model that shows its insides, sharing the weights and changing nothing.

    Parameters
    ----------
    hf_model : transformers.PreTrainedModel
        Any model with or without a head on top; the base model under it is looked into. Hooks it has of its own are
        part of it, and run here too.
    tokenizer : transformers tokenizer, optional
        To call vocabulary entries by their tokens in messages.
    layers : list of int, optional
        Which layers to look into, by their numbers in the model; by default all that have attention.

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
    settings : Settings
        What the given model computes with besides its tensors.
    takes : frozenset of str
        Names of what it can be given.
    by_functions : bool
        Whether its attention is seen through the second door, see `attnxr.probe.seen`.
    stack : {"decoder", "cross"} or None
        Which attention of an encoder-decoder's decoder is looked into, see `attnxr.probe.stacks`.
    core : str
        Name in the view of the module that puts out the last hidden state; "" is the view itself.

    Raises
    ------
    InputError
        If there is no such layer.
    UnsupportedModelError
        If the model's attention can be seen through neither door, or cannot be looked into, or a vocabulary entry has
        an embedding that is infinite or NaN.
    """

    stack: Stack | None = None
    core = ""

    def __init__(self, hf_model: PreTrainedModel, tokenizer: Any = None, layers: Sequence[int] | None = None):
        if not isinstance(hf_model, PreTrainedModel):
            held = _held_model(hf_model)
            where = f" This one holds such a model: give {held}, and its tokenizer." if held else ""
            raise UnsupportedModelError(
                f"A {type(hf_model).__name__} was given; expected a model of transformers (a PreTrainedModel).{where} "
                "Load one with transformers.AutoModel.from_pretrained(name) or attnxr.load_model(name); merge an "
                "adapter into its model first, with merge_and_unload()."
            )
        self.by_functions = False
        self._writing: list[nn.Module] = []
        self._lock, self._tokenizer, self._chosen = threading.RLock(), tokenizer, layers
        self._gathered: tuple[list, list[list[Tensor]], list[Tensor]] | None = None
        self.family = f"{type(hf_model).__name__} (model_type {hf_model.config.model_type!r})"
        self._given = base_of(hf_model)
        self._check()
        self.embeddings = self._embeddings(hf_model)
        self.config = self._text_config(hf_model)
        self._top = hf_model
        self.model = self.view()
        self.check_embeddings()
        self.takes = self._taken()
        try:
            self._try()
            if self._writing:  # to copies of its own from now on
                self.model = self.view()
            for module in self.model.modules():
                module.register_forward_pre_hook(before, with_kwargs=True)
                module.register_forward_hook(after, with_kwargs=True)
            notes = self._enter()
        except AttnxrError:
            raise
        except Exception as error:  # what a family needs besides token ids shows in as many ways as there are families
            method = getattr(hf_model, "quantization_method", None)
            advice = "attnxr looks into encoders and decoders of text."
            if inside := self._text_model_inside(hf_model):
                advice += f" Its {inside} reads text alone: try attnxr.Model(hf_model.{inside}, tokenizer)."
            if method is not None:
                advice = (
                    f"Its weights are quantised ({getattr(method, 'value', method)}), and what unpacks them did not "
                    "run, as where the model as a whole does that first. Run the whole model once on any text, or "
                    "load it without quantisation, with dequantize=True in its quantization_config where that is known."
                )
            raise UnsupportedModelError(
                f"{self.family} does not run on two token ids alone ({type(error).__name__}: {error}). {advice}"
            ) from error
        self.settings = Settings(self._given, notes)
        for module, outputs in self.layout.blocks.items():
            make_bypassable(module, outputs)

    def _enter(self) -> set:
        """Find out where things are, through the first door, or the second one where nothing comes through that.

        What is returned is what the pass left as other settings than it found.
        """
        if self._given._can_set_attn_implementation():
            for as_eager in (True, False):  # an eager attention can be one that the interface does not see
                select(self.model, as_eager)
                try:
                    return self._lay_out()
                except NothingSeenError:
                    continue
                except ChangesItselfError:  # and would not do it again
                    raise
                except UnsupportedModelError:
                    if not as_eager:
                        raise
        self.by_functions = True
        return self._lay_out()

    def _lay_out(self) -> set:
        before_it_ran, nothing = snapshot(self.model), None
        try:
            self._find_layout()
        except NothingSeenError as error:  # the same model is tried again, changed by what it did to itself
            nothing = error
        after_it_ran = snapshot(self.model)
        notes = places_that_differ(before_it_ran, after_it_ran)
        for place in notes:
            was, is_now = before_it_ran.get(place), after_it_ran.get(place)
            if isinstance(was, str) and isinstance(is_now, str):
                raise ChangesItselfError(
                    f"{self.family} changed its {place[1]} from {was!r} to {is_now!r} as it ran on two tokens: it "
                    "computes in another way for short texts than for long ones, so that what is found out on short "
                    f"ones would not be right. Load the model with {place[1]}={is_now!r}, if that is what is wanted."
                )
        if nothing is not None:
            raise nothing
        return notes

    def _find_layout(self) -> None:
        self.layout = Layout(self.model, self.config, self.family, self.n_embeddings, self._run, self._chosen)

    def _try(self) -> None:
        """Find out which modules write to their own tensors, which are the caller's, and refuse what mixes tokens."""
        in_base = set(self._given.modules())
        # The head on top is not run here: what it has of other libraries is taken to write.
        on_top = [module for module in trial.to_try(self._top) if module not in in_base]
        modules = trial.to_try(self._given)
        if modules:
            copied = trial.copies(modules)
            before = trial.places(copied)
            model = self.view(copied)
            ids = torch.full((1, 2), self.n_embeddings // 2, device=model.device)
            with torch.no_grad():
                with trial.mixing(model) as found:
                    first = model(**self.inputs(ids))[0]
                second = model(**self.inputs(ids))[0]
            if found:
                raise UnsupportedModelError(
                    f"{self.family} has {len(found)} layers that make another vector of a token where other tokens "
                    f"are handed to them beside it ({found[0]}), as quantised layers do that round all of them "
                    "together. So a token has no encoding of its own. Expected layers that take each token alone: "
                    "weights alone rounded (4 bits of bitsandbytes; its 8 bits with llm_int8_threshold=0.0), or no "
                    "quantisation."
                )
            self._writing = trial.written_to(modules, copied, before)
            if self._writing and not float((second - first).norm()) <= tolerance(first.dtype) * float(first.norm()):
                name = next(name for name, each in self._given.named_modules() if each is self._writing[0])
                raise UnsupportedModelError(
                    f"{self.family} has {len(self._writing)} modules that write to their own weights each time that "
                    f"they run ({name or 'the model itself'}, a {type(self._writing[0]).__name__}), so that it never "
                    "computes the same again. Expected layers that only read, or that pack their weights once."
                )
        self._writing += on_top

    def _check(self) -> None:
        given = self._given
        unloaded = [name for name, tensor in given.named_parameters() if tensor.is_meta or is_lazy(tensor)]
        if unloaded:
            raise UnsupportedModelError(
                f"{self.family} has {len(unloaded)} parameters on the meta device or uninitialised ({unloaded[0]}, …), "
                "which hold no numbers, as where accelerate keeps them elsewhere until they are needed (offload to the "
                "CPU or a disk). Expected weights in memory. Load the model without device_map, or with one that "
                "offloads nothing, such as device_map={'': 'cpu'}, and without init_empty_weights."
            )

    def _text_config(self, hf_model: PreTrainedModel) -> PreTrainedConfig:
        return hf_model.config.get_text_config()

    def _taken(self) -> frozenset[str]:
        return frozenset(inspect.signature(self.model.forward).parameters)

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

    def _text_model_inside(self, hf_model: PreTrainedModel) -> str:
        """The path of the outermost model within the one that is given that has its token embeddings, or ""."""
        names = {module: name for name, module in hf_model.named_modules()}
        inside = (
            each for each in self._given.modules() if isinstance(each, PreTrainedModel) and each is not self._given
        )
        return next((names[each] for each in inside if any(part is self.embeddings for part in each.modules())), "")

    def check_embeddings(self) -> None:
        """Fail where a vocabulary entry has an embedding that is infinite or NaN."""
        if is_plain(self.embeddings.weight):  # what is packed has no numbers to look at
            self.refuse_rows(self.embeddings.weight, "word embeddings")

    def refuse_rows(self, table: Any, what: str) -> None:
        """Fail where rows of a table (…, V, features) are infinite or NaN; see `attnxr.probe.finite.refuse_rows`."""
        refuse_rows(table, what, self.family, self._tokenizer, self.model.dtype)

    def entry(self, token_id: int) -> str:
        """A vocabulary entry in words, for a message."""
        return entry(self._tokenizer, token_id)

    def view(self, instead: Mapping[int, Tensor] = MappingProxyType({})) -> PreTrainedModel:
        """Copy the module tree over the same tensors: a model in evaluation mode, with the caller's attention.

        Parameters
        ----------
        instead : mapping of int to Tensor
            What to have in place of some tensors, by the id of the tensor.
        """
        return self._view_of(self._given, instead)

    def view_with_head(self, instead: Mapping[str, nn.Module] = MappingProxyType({})) -> PreTrainedModel:
        """Copy the whole model that was given in the same way, with the head on top.

        Parameters
        ----------
        instead : mapping of str to nn.Module
            What to have in place of some modules of the base model, by their names there; "" is the base model.
        """
        return self._view_of(self._top, {id(self._given.get_submodule(name)): each for name, each in instead.items()})

    def _view_of(self, top: PreTrainedModel, instead: Mapping[int, Any]) -> PreTrainedModel:
        shared: dict[int, Any] = {id(tensor): tensor for tensor in self._tensors(top.modules())}
        inside = set(top.modules())
        for module in inside:  # what torch.compile has made of a module belongs to that module
            shared[id(module._compiled_call_impl)] = None
            # Hooks are the caller's, with all they hold; one that is a method of a module here goes with its module.
            for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
                owner = getattr(hook, "__self__", None)
                if not (isinstance(owner, nn.Module) and owner in inside):
                    shared[id(hook)] = hook
            shared |= {id(value): value for value in vars(module).values() if isinstance(value, Tensor)}
        shared.pop(id(None))
        shared |= trial.copies(self._writing)
        shared |= instead
        try:
            for module in reversed(list(top.modules())):  # a compiled part, the inner ones first
                if (within := unwrapped(module)) is not module:
                    shared[id(module)] = copy.deepcopy(within, shared)
            model = copy.deepcopy(top, shared).eval()
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
    def is_fused(self) -> bool:
        """Whether the model was loaded with torch's fused attention, which transformers takes by default."""
        return self._given.config._attn_implementation == "sdpa"

    @property
    def is_coarse(self) -> bool:
        """Whether the model rounds more than float32 does: in half precision, or where it is quantised."""
        is_quantised = getattr(self._top, "quantization_method", None) is not None or bool(self._writing)
        return self.model.dtype.itemsize < 4 or is_quantised

    @property
    def n_embeddings(self) -> int:
        """Rows of the input embedding matrix."""
        return entries(self.embeddings)

    @property
    def unembedding(self) -> nn.Module | None:
        """The output embeddings of the head on top, if there is one."""
        output = self._top.get_output_embeddings()
        return None if shape(output) is None else output

    @property
    def unembedding_rows(self) -> int:
        """How many output embeddings there are."""
        found = shape(self._top.get_output_embeddings())
        return found[0] if found else 0

    def output_matrix(self) -> Tensor:
        """The output embeddings (rows, D) on the CPU, as the head on top applies them; see `attnxr.probe.linear`."""
        output = self.view_with_head().get_output_embeddings()
        like = torch.empty(0, device=self.model.device, dtype=self.model.dtype)
        found = shape(output)
        assert found is not None, "there is no head on top"
        return matrix(output, found[1], like, f"What makes the logits of {self.family}")[0]

    @property
    def generates(self) -> bool:
        """Whether the given model is of a class that transformers' ``generate`` runs."""
        return isinstance(self._top, GenerationMixin)

    def told(self, state: tuple) -> str:
        """The settings in words that another process would use, too, and what code of its user makes of a text.

        Parameters
        ----------
        state : tuple
            What `state` was.
        """
        said = np.frombuffer(state[-1])[:_SAID]
        largest = abs(said).max(initial=0.0)
        coarse = (said / largest).round(2) + 0.0 if 0 < largest < np.inf else said[:0]  # the same on other machines
        return f"{self.settings.told()}{coarse.tolist() or ''}"

    def state(self) -> tuple:
        """Something that differs after weights were moved, replaced or changed, or a setting or hook was.

        Fused optimizers and ``.data`` count no versions, and inference tensors have none: so one number of each row and
        each column is part of it.
        """
        modules = list(self._given.modules())
        output = self.unembedding
        tensors = [*self._tensors(modules), *(() if output is None else output.parameters())]
        versions = [0 if t.is_inference() else t._version for t in tensors]
        return self._samples(tensors), versions, self.settings.now(modules), self._said(modules)

    def _said(self, modules: list[nn.Module]) -> bytes:
        """What the model makes of a short text, where code of its user runs along: that can look at anything."""
        if not self.settings.runs_foreign_code(modules):
            return b""
        n = min(_SHORT, self.layout.max_tokens or _SHORT)
        try:
            made = self.run(torch.linspace(1, self.n_embeddings - 1, n).round().long()[None], Watcher())[0]
        except Exception:  # as the code of its user pleases
            return b""
        return _numbers(made)

    def _samples(self, tensors: list[Tensor]) -> tuple:
        """What and where tensors are, and some numbers of each; those that lie as one are gathered in few calls."""
        tensors = [part for tensor in tensors for part in parts(tensor)]
        marks = [(id(t), t.data_ptr(), t.dtype, t.device, t.shape, t.stride()) for t in tensors]
        if self._gathered is None or self._gathered[0] != marks:
            views: dict[tuple, list[Tensor]] = {}
            others = []
            for tensor in tensors:
                if type(tensor) in (Tensor, nn.Parameter) and tensor.is_contiguous() and not tensor.is_meta:
                    views.setdefault((tensor.dtype, tensor.device), []).append(spaced(tensor))
                else:
                    others.append(tensor)
            self._gathered = marks, list(views.values()), others
        _, gathered, others = self._gathered
        return marks, [_bits(torch.cat(views)) for views in gathered], [sample(tensor) for tensor in others]

    def _tensors(self, modules: Iterable[nn.Module]) -> Iterator[Tensor]:
        """Parameters, and the buffers that are saved with them: others are notes that a model makes as it runs."""
        for module in modules:
            yield from (tensor for _, tensor in _own_tensors(module))

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The same of the view by name, in the order of a ``state_dict``: some quantised layers unpack for that."""
        for prefix, module in self.model.named_modules(remove_duplicate=False):
            for name, tensor in _own_tensors(module):
                yield f"{prefix}.{name}" if prefix else name, tensor

    def run(
        self, token_ids: Tensor, watcher: Watcher, *, position_id: int | None = None, inputs: Mapping[str, Tensor] = {}
    ) -> Any:
        """Run the model on a batch of token ids while `watcher` looks on.

        Parameters
        ----------
        token_ids : int64 tensor (batch, tokens)
            On any device; all of them are attended to, none is padding, unless `inputs` say so.
        watcher : Watcher
            What is to see this pass, and nobody else's; of attention, that of the layers that are looked into.
        position_id : int, optional
            Where all tokens stand, for families that can be told; by default they stand one after the other.
        inputs : dict of int64 tensors (batch, tokens)
            What else the model is given, by the names of its arguments.

        Returns
        -------
        transformers.utils.ModelOutput or None
            None where the watcher ended the pass.
        """
        return self._run(token_ids, self.layout.show(watcher), position_id, inputs)

    def _run(
        self, token_ids: Tensor, watcher: Watcher, position_id: int | None = None, inputs: Mapping[str, Tensor] = {}
    ) -> Any:
        token_ids = token_ids.to(self.model.device)
        others = {name: values.to(token_ids.device) for name, values in inputs.items()}
        if position_id is not None and "position_ids" in self.takes:
            others = {"position_ids": torch.full_like(token_ids, position_id), **others}
        options = self.inputs(token_ids, others)
        door: AbstractContextManager = nullcontext()
        if self.by_functions:
            door = Seeing(watcher, len(token_ids), token_ids.shape[1], self._keys(token_ids))
        # One at a time: a rotary embedding that depends on the length of the text keeps it in a buffer.
        with self._lock, watching(watcher), torch.no_grad(), door:
            return self.model(**options)

    def run_alone(self, token_ids: Tensor, model: PreTrainedModel | None = None) -> Tensor:
        """The last hidden states (batch, tokens, D) that the model makes with no one looking on.

        Parameters
        ----------
        token_ids : int64 tensor (batch, tokens)
        model : transformers.PreTrainedModel, optional
            The view to run; by default one with the attention that the model was loaded with.
        """
        model = self.view() if model is None else model
        outputs: list[Any] = []
        model.get_submodule(self.core).register_forward_hook(lambda _module, _args, output: outputs.append(output))
        with torch.no_grad():
            model(**self.inputs(token_ids.to(model.device)))
        return cast(Tensor, outputs[0][0])

    def inputs(self, token_ids: Tensor, others: Mapping[str, Tensor] = MappingProxyType({})) -> dict[str, Any]:
        """What the model, or one with its head on top, is called with to run on token ids (batch, tokens).

        Parameters
        ----------
        token_ids : int64 tensor (batch, tokens)
        others : mapping of str to tensor
            See `run`.
        """
        return {"input_ids": token_ids, "attention_mask": torch.ones_like(token_ids), "use_cache": False, **others}

    def _keys(self, token_ids: Tensor) -> set[int]:
        """How many keys an attention may have."""
        return {token_ids.shape[1]}


def base_of(hf_model: PreTrainedModel) -> PreTrainedModel:
    """The model under the head on top, also where its class says that it has a name which it does not have."""
    base = cast(PreTrainedModel, hf_model.base_model)
    output = hf_model.get_output_embeddings()
    if base is not hf_model or output is None or hf_model.config.is_encoder_decoder:
        return base
    embeddings = hf_model.get_input_embeddings()
    held = ((each, [*each.modules()]) for each in hf_model.modules() if isinstance(each, PreTrainedModel))
    return next((each for each, inside in held if embeddings in inside and output not in inside), base)


def typed(types: Sequence[int] | NDArray[np.int64] | None) -> dict[str, Tensor]:
    """The `inputs` of `Window.run` for a text, or texts (t, n), whose tokens have these types; none without any."""
    given = np.atleast_2d(np.array(() if types is None else types, np.int64))
    return {"token_type_ids": torch.from_numpy(given)} if given.size else {}


def _held_model(given: Any) -> str:
    """Where a pipeline, a SentenceTransformer or the like holds a model of transformers, in words; or nothing."""
    if isinstance(getattr(given, "model", None), PreTrainedModel):
        return "its attribute .model"
    if isinstance(given, nn.Module):
        for name, module in given.named_modules():
            if isinstance(module, PreTrainedModel):
                return f"its module get_submodule({name!r})"
    return ""


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in (*module._parameters.items(), *module._buffers.items()):
        if tensor is not None and name not in module._non_persistent_buffers_set:
            yield name, tensor


def sample(tensor: Tensor) -> bytes:
    """Numbers of a tensor, see `spaced`."""
    return b"".join(_numbers(spaced(part)) for part in parts(tensor) if not part.is_meta)


def entries(embeddings: nn.Module) -> int:
    """How many vocabulary entries a module has embeddings of: packed ones have other rows."""
    weight, said = embeddings.weight, getattr(embeddings, "num_embeddings", None)
    assert isinstance(weight, Tensor)
    return said if isinstance(said, int) and not is_plain(weight) else weight.shape[0]


def spaced(tensor: Tensor) -> Tensor:
    """One number or more of each row and of each column of a tensor, which of a contiguous one is a view.

    A head's part of a matrix is some rows or columns of it. Of one that is small it is all, and so of a vector.
    """
    flat = tensor.detach().reshape(-1)
    columns = tensor.shape[-1] if tensor.ndim else 1
    step = min(columns, len(flat) // max(columns, 1)) - 1
    while math.gcd(step, columns) > 1:  # or it would meet the same columns again
        step -= 1
    return flat[:: max(1, step)] if len(flat) > _SMALL else flat


def _bits(tensor: Tensor) -> bytes:
    return tensor.view(torch.uint8).cpu().numpy().tobytes()


def _numbers(tensor: Tensor) -> bytes:
    return tensor.to("cpu", torch.float64).numpy().tobytes()
