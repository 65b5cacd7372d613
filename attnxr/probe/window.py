"""A view of a model that shows its insides and changes nothing.

The caller's model is never touched. A `Window` runs a *view* of it: a copy of the module tree, its configuration
and its flags, over the very same weight tensors. So nothing has to be put back, and several threads can look
through one window at once: who watches is a context variable, not a property of the model.
"""

import copy
import inspect
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from types import FunctionType, MappingProxyType
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from transformers import PreTrainedModel

from attnxr.errors import AttnxrError, UnsupportedModelError
from attnxr.probe import trial
from attnxr.probe.finite import entry, refuse_rows
from attnxr.probe.interface import Watcher, after, before, make_bypassable, select, watching
from attnxr.probe.layout import Layout, NothingSeenError
from attnxr.probe.seen import Seeing
from attnxr.probe.settings import Settings, places_that_differ, snapshot


class Window:
    """A view of a Hugging Face model that shows its insides, sharing the weights and changing nothing.

    Parameters
    ----------
    hf_model : transformers.PreTrainedModel
        Any model with or without a head on top; the base model under it is looked into. Hooks it has of its own are
        part of it, and run here too.
    tokenizer : transformers tokenizer, optional
        To call vocabulary entries by their tokens in messages.

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

    Raises
    ------
    UnsupportedModelError
        If the model's attention can be seen through neither door, or cannot be looked into, or a vocabulary entry has
        an embedding that is infinite or NaN.
    """

    def __init__(self, hf_model: PreTrainedModel, tokenizer: Any = None):
        hf_model = getattr(hf_model, "_orig_mod", hf_model)  # what torch.compile wraps
        if not isinstance(hf_model, PreTrainedModel):
            held = _held_model(hf_model)
            where = f" This one holds such a model: give {held}, and its tokenizer." if held else ""
            raise UnsupportedModelError(
                f"A {type(hf_model).__name__} was given; expected a model of transformers (a PreTrainedModel).{where} "
                "Load one with transformers.AutoModel.from_pretrained(name) or attnxr.load_model(name); merge an "
                "adapter into its model first, with merge_and_unload()."
            )
        self.by_functions = False
        self._lock, self._tokenizer = threading.RLock(), tokenizer
        self._gathered: tuple[list, list[list[Tensor]], list[Tensor]] | None = None
        self.family = f"{type(hf_model).__name__} (model_type {hf_model.config.model_type!r})"
        self._given = cast(PreTrainedModel, hf_model.base_model)
        self._check()
        self.embeddings = self._embeddings(hf_model)
        self.config = hf_model.config.get_text_config()
        self._top = hf_model
        self.model = self.view()
        self.check_embeddings()
        self.takes = frozenset(inspect.signature(self.model.forward).parameters)
        for module in self.model.modules():
            module.register_forward_pre_hook(before, with_kwargs=True)
            module.register_forward_hook(after, with_kwargs=True)
        try:
            self._try()
            notes = self._enter()
        except AttnxrError:
            raise
        except Exception as error:  # what a family needs besides token ids shows in as many ways as there are families
            raise UnsupportedModelError(
                f"{self.family} does not run on two token ids alone ({type(error).__name__}: {error}). attnxr looks "
                "into encoders and decoders of text."
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
                except UnsupportedModelError:
                    if not as_eager:
                        raise
        self.by_functions = True
        return self._lay_out()

    def _lay_out(self) -> set:
        before_it_ran = snapshot(self.model)
        self.layout = Layout(self.model, self.config, self.family, self.n_embeddings, self.run)
        after_it_ran = snapshot(self.model)
        notes = places_that_differ(before_it_ran, after_it_ran)
        for place in notes:
            was, is_now = before_it_ran.get(place), after_it_ran.get(place)
            if isinstance(was, str) and isinstance(is_now, str):
                raise UnsupportedModelError(
                    f"{self.family} changed its {place[1]} from {was!r} to {is_now!r} as it ran on two tokens: it "
                    "computes in another way for short texts than for long ones, so that what is found out on short "
                    f"ones would not be right. Load the model with {place[1]}={is_now!r}, if that is what is wanted."
                )
        return notes

    def _try(self) -> None:
        """Refuse a model whose modules write to their own tensors: they are the caller's."""
        modules = trial.to_try(self._given)
        if not modules:
            return
        copied = trial.copies(modules)
        before = trial.places(copied)
        model = self.view(copied)
        ids = torch.full((1, 2), self.n_embeddings // 2, device=model.device)
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        written = trial.written_to(self._given, modules, copied, before)
        if written:
            raise UnsupportedModelError(
                f"{self.family} has {len(written)} modules that write to their own weights as they run ({written[0]}), "
                "as quantised layers do that pack them. attnxr shares the weights and changes none, so it cannot run "
                "them. Expected layers that only read: load the model without quantisation."
            )

    def _check(self) -> None:
        given = self._given
        if "decoder_input_ids" in inspect.signature(given.forward).parameters:
            raise UnsupportedModelError(
                f"{self.family} is an encoder-decoder; attnxr looks into encoders (BERT, RoBERTa, …) and decoders "
                "(GPT-2, Llama, …). Load one of those instead."
            )
        unloaded = [name for name, tensor in given.named_parameters() if tensor.is_meta or is_lazy(tensor)]
        if unloaded:
            raise UnsupportedModelError(
                f"{self.family} has {len(unloaded)} parameters on the meta device or uninitialised ({unloaded[0]}, …), "
                "which hold no numbers; expected weights in memory. Load the model without device_map or "
                "init_empty_weights."
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

    def check_embeddings(self) -> None:
        """Fail where a vocabulary entry has an embedding that is infinite or NaN."""
        weight = self.embeddings.weight
        # What is packed, or of eight bits, has no numbers to look at.
        if not weight.is_meta and weight.is_floating_point() and weight.dtype.itemsize > 1:
            self.refuse_rows(weight, "word embeddings")

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
        for module in top.modules():  # what torch.compile has made of a module belongs to that module
            shared[id(module._compiled_call_impl)] = None
            # Hooks are the caller's, with all they hold; one that is a method of a module goes with its module.
            for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
                if not isinstance(getattr(hook, "__self__", None), nn.Module):
                    shared[id(hook)] = hook
            shared |= {id(value): value for value in vars(module).values() if isinstance(value, Tensor)}
        shared.pop(id(None))
        shared |= instead
        try:
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
    def n_embeddings(self) -> int:
        """Rows of the input embedding matrix."""
        return self.embeddings.weight.shape[0]

    @property
    def unembedding(self) -> nn.Module | None:
        """The output embeddings of the head on top, if there is one."""
        output = self._top.get_output_embeddings()
        return output if isinstance(getattr(output, "weight", None), Tensor) else None

    def state(self) -> tuple:
        """Something that differs after weights were moved, replaced or changed, or a setting or hook was.

        Fused optimizers and ``.data`` count no versions, and inference tensors have none: so of each tensor some 64
        numbers are part of it, evenly spaced.
        """
        modules = list(self._given.modules())
        output = self.unembedding
        tensors = [*self._tensors(modules), *(() if output is None else output.parameters())]
        versions = [0 if t.is_inference() else t._version for t in tensors]
        return self._samples(tensors), versions, self.settings.now(modules)

    def _samples(self, tensors: list[Tensor]) -> tuple:
        """What and where tensors are, and some numbers of each; those that lie as one are gathered in few calls."""
        marks = [(id(t), t.data_ptr(), t.dtype, t.device, t.shape, t.stride()) for t in tensors]
        if self._gathered is None or self._gathered[0] != marks:
            views: dict[tuple, list[Tensor]] = {}
            others = []
            for tensor in tensors:
                if type(tensor) in (Tensor, nn.Parameter) and tensor.is_contiguous() and not tensor.is_meta:
                    views.setdefault((tensor.dtype, tensor.device), []).append(spaced(tensor, 64))
                else:
                    others.append(tensor)
            self._gathered = marks, list(views.values()), others
        _, gathered, others = self._gathered
        return marks, [_numbers(torch.cat(views)) for views in gathered], [sample(tensor, 64) for tensor in others]

    def _tensors(self, modules: Iterable[nn.Module]) -> Iterator[Tensor]:
        """Parameters, and the buffers that are saved with them: others are notes that a model makes as it runs."""
        for module in modules:
            yield from (each for each in module._parameters.values() if each is not None)
            for name, buffer in module._buffers.items():
                if buffer is not None and name not in module._non_persistent_buffers_set:
                    yield buffer

    def run(
        self, token_ids: Tensor, watcher: Watcher, *, position_id: int | None = None, inputs: Mapping[str, Tensor] = {}
    ) -> Any:
        """Run the model on a batch of token ids while `watcher` looks on.

        Parameters
        ----------
        token_ids : int64 tensor (batch, tokens)
            On any device; all of them are attended to, none is padding, unless `inputs` say so.
        watcher : Watcher
            What is to see this pass, and nobody else's.
        position_id : int, optional
            Where all tokens stand, for families that can be told; by default they stand one after the other.
        inputs : dict of int64 tensors (batch, tokens)
            What else the model is given, by the names of its arguments.

        Returns
        -------
        transformers.utils.ModelOutput or None
            None where the watcher ended the pass.
        """
        token_ids = token_ids.to(self.model.device)
        options: dict[str, Any] = {"attention_mask": torch.ones_like(token_ids), "use_cache": False}
        if position_id is not None and "position_ids" in self.takes:
            options["position_ids"] = torch.full_like(token_ids, position_id)
        options |= {name: values.to(token_ids.device) for name, values in inputs.items()}
        door = Seeing(watcher, *token_ids.shape) if self.by_functions else nullcontext()
        # One at a time: a rotary embedding that depends on the length of the text keeps it in a buffer.
        with self._lock, watching(watcher), torch.no_grad(), door:
            return self.model(input_ids=token_ids, **options)


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


def sample(tensor: Tensor, count: int) -> bytes:
    """Up to twice `count` numbers of a tensor, evenly spaced."""
    return b"" if tensor.is_meta else _numbers(spaced(tensor, count))


def spaced(tensor: Tensor, count: int) -> Tensor:
    """The same as a tensor, which of a contiguous one is a view."""
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, len(flat) // count)]


def _numbers(tensor: Tensor) -> bytes:
    return tensor.to("cpu", torch.float64).numpy().tobytes()
