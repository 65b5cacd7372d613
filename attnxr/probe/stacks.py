"""The stacks of an encoder-decoder: its encoder, its decoder's attention to itself, and that to the encoder's text.

The encoder is a model of its own, and is looked into as such. The decoder is run as the whole model runs it, handed
what the encoder has put out, so that the encoder does not run; the pass ends with the decoder. Which of its modules
attend to the decoder's own tokens and which to the encoder's is found by running it on two of the one and three of the
other, and counting keys. From then on a `Watcher` is shown what those modules do that it asks about, and nothing else.
"""

import copy
import inspect
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import ModelOutput

from attnxr.errors import InputError, UnsupportedModelError
from attnxr.options import STACKS, Stack
from attnxr.probe.interface import Stop, Watcher
from attnxr.probe.layout import Layout, NothingSeenError
from attnxr.probe.settings import places_that_differ, snapshot
from attnxr.probe.window import Window, entries, typed

TEXT = "input_ids"
_TOKENS, _ENCODED = 2, 3  # of the decoder's and the encoder's text, by which the two kinds of attention are told


def stacks_of(hf_model: Any) -> tuple[Stack, ...]:
    """The stacks that a model has; none where it is no encoder-decoder."""
    if not isinstance(hf_model, PreTrainedModel):
        return ()
    takes = inspect.signature(hf_model.base_model.forward).parameters
    return STACKS if "decoder_input_ids" in takes else ()


def encoder_window(hf_model: PreTrainedModel, tokenizer: Any = None) -> Window:
    """Look into the encoder of an encoder-decoder, as into any encoder.

    Raises
    ------
    UnsupportedModelError
        As `Window`; or if it reads no text.
    """
    if (reads := _reads(hf_model)) != TEXT:
        raise UnsupportedModelError(
            f"The encoder of {type(hf_model).__name__} reads {reads}, and no tokens "
            "of a text. Expected an encoder of text; its decoder can be looked into, with stack='decoder' or 'cross'."
        )
    return Window(hf_model.get_encoder(), tokenizer)


def _reads(hf_model: PreTrainedModel) -> str:
    """The name of the argument that an encoder reads."""
    return str(getattr(hf_model.get_encoder(), "main_input_name", TEXT))


class _Inside(Watcher):
    """Knows which modules are running, the innermost last."""

    def __init__(self) -> None:
        self._running: list[nn.Module] = []

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self._running.append(module)

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        self._running.pop()


class _Sorting(_Inside):
    """Finds how many keys the attention of each module has, in a pass that ends with the decoder."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self._core = core
        self.keys: dict[nn.Module, set[int]] = {}

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        super().after(module, args, kwargs, output)
        if module is self._core:
            raise Stop

    def attending(self, module: nn.Module | None, query: Tensor, key: Tensor, value: Tensor) -> None:
        self.keys.setdefault(self._running[-1], set()).add(key.shape[2] if query.shape[2] == _TOKENS else -1)


class _Only(_Inside):
    """Shows a watcher the attention of some modules, and ends the pass with the decoder, whose output it keeps."""

    def __init__(
        self, watcher: Watcher, modules: Collection[nn.Module], others: Collection[nn.Module], core: nn.Module
    ):
        super().__init__()
        self._watcher, self._modules, self._others, self._core = watcher, modules, others, core
        # A decoder looks only backwards as it is; the mask of what it looks at in the encoder's text has no backwards.
        self.forced_causal = self._forced = None if watcher.forced_causal else watcher.forced_causal
        self.output: Any = None

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        super().before(module, args, kwargs)
        if module in self._others:
            self.forced_causal = None
        self._watcher.before(module, args, kwargs)

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        super().after(module, args, kwargs, output)
        if module in self._others:
            self.forced_causal = self._forced
        instead = self._watcher.after(module, args, kwargs, output)
        if module is self._core:
            self.output = output if instead is None else instead
            raise Stop
        return instead

    def bypassed(self, block: nn.Module) -> bool:
        return self._watcher.bypassed(block)

    def attending(self, module: nn.Module | None, query: Tensor, key: Tensor, value: Tensor) -> None:
        if self._is_asked_about():
            self._watcher.attending(module, query, key, value)

    def attended(self, output: Tensor, weights: Tensor) -> Tensor | None:
        return self._watcher.attended(output, weights) if self._is_asked_about() else None

    def _is_asked_about(self) -> bool:
        inner = self._running[-1]
        if inner not in self._modules and inner not in self._others:
            raise UnsupportedModelError(
                f"The attention of a {type(inner).__name__} was seen in this text, and none in a text of two tokens: "
                "the model computes in another way for short texts than for long ones. No number would be right."
            )
        return inner in self._modules


@dataclass
class _States(BaseModelOutput):
    """Numbers in the place of what an encoder puts out; decoders that read sounds ask which of them are padding."""

    attention_mask: Tensor | None = None


class DecoderWindow(Window):
    """A view of an encoder-decoder through which its decoder is looked into, while it reads a text of the encoder's.

    Parameters
    ----------
    hf_model : transformers.PreTrainedModel
        With or without a head on top.
    tokenizer : transformers tokenizer, optional

    Raises
    ------
    UnsupportedModelError
        As `Window`; or if a module attends to both texts.
    """

    stack: Stack = "decoder"

    def __init__(self, hf_model: PreTrainedModel, tokenizer: Any = None):
        self._encoded: ModelOutput
        self._of_encoder: set = set()
        self._attentions: dict[Stack, set[nn.Module]] = {}
        super().__init__(hf_model, tokenizer)

    def reading(self, states: Tensor) -> "DecoderWindow":
        """The same window on a decoder that reads what the encoder has put out of a text, (1, m, D)."""
        other = copy.copy(self)
        other._encoded = self._with_states(states)
        return other

    def _with_states(self, states: Tensor) -> ModelOutput:
        return type(self._encoded)(**{**self._encoded, "last_hidden_state": states})

    def cross(self) -> "DecoderWindow":
        """The same window, that shows the decoder's attention to the encoder's text and not that to itself.

        Raises
        ------
        UnsupportedModelError
            If it cannot be looked into.
        """
        other = copy.copy(self)
        other.stack = "cross"
        other.layout = Layout(other.model, other.config, other.family, other.n_embeddings, other._run)
        other.layout.causal = self.layout.causal
        other.layout.max_tokens = self.layout.max_tokens
        return other

    @property
    def states(self) -> Tensor:
        """What the decoder reads of the encoder, (1, m, D): before it is `reading` a text, random numbers."""
        return self._encoded[0]

    @property
    def encoder_reads(self) -> str:
        """The name of the argument that the encoder reads: `TEXT`, where that is tokens of a text."""
        return _reads(self.model)

    @property
    def encoder_entries(self) -> int:
        """Rows of the encoder's embeddings."""
        return entries(self.model.get_encoder().get_input_embeddings())

    @property
    def encoder_limit(self) -> int | None:
        """The longest text that the encoder takes, by the configuration; None where that says nothing."""
        names = "max_encoder_position_embeddings", "max_position_embeddings"
        return next((most for name in names if (most := getattr(self._given.config, name, None))), None)

    def encoded(self, token_ids: Sequence[int], types: Sequence[int] = ()) -> Tensor:
        """What the encoder puts out of a text: (1, m, D), after its last norm."""
        ids = torch.tensor([list(token_ids)])
        return self._run_encoder({"input_ids": ids, "attention_mask": torch.ones_like(ids), **typed(types)})[0]

    def handed(self, given: Mapping[str, Any]) -> Tensor:
        """What the encoder puts out of something else than a text, or has put out: (1, m, D).

        Parameters
        ----------
        given : mapping
            ``encoder_outputs``, the encoder's last hidden state of one text; or what the encoder reads, by the names of
            its arguments, such as the ``input_features`` of one recording.

        Raises
        ------
        InputError
            If it is none of these.
        """
        width = self.states.shape[-1]
        found: Any = None
        if set(given) == {"encoder_outputs"}:
            found = given["encoder_outputs"]
            found = found if isinstance(found, Tensor) else found[0]
        else:
            encoder = self.model.get_encoder()
            takes = inspect.signature(encoder.forward).parameters
            reads = encoder.main_input_name
            known = {name: torch.as_tensor(each) for name, each in given.items() if name in takes}
            if reads in known and set(given) <= {*takes, "attention_mask"}:
                known = {
                    name: each.to(self.model.dtype) if each.is_floating_point() else each
                    for name, each in known.items()
                }
                found = self._run_encoder(known)[0]
        is_one = isinstance(found, Tensor) and found.ndim == 3 and len(found) == 1 and found.shape[1] > 0
        if not is_one or found.shape[2] != width or not found.is_floating_point():
            raise InputError(
                f"{', '.join(sorted(map(str, given)))} was given to {self.family}; expected what its encoder reads, of "
                f"one text or recording, or encoder_outputs, its last hidden state of shape (1, m, {width})."
            )
        return found.detach()

    def _run_encoder(self, inputs: Mapping[str, Tensor], view: PreTrainedModel | None = None) -> ModelOutput:
        # In a view of its own: some compute in another way once they have seen a short text.
        encoder = (view or self.view()).get_encoder()
        with torch.no_grad():
            return encoder(**{name: each.to(self.model.device) for name, each in inputs.items()})

    def shifted(self, labels: Sequence[int]) -> list[int]:
        """What the decoder is handed where the model is given labels: its start token and they, the last left out.

        The given model's own ``forward(labels=…)`` is run up to its decoder.

        Raises
        ------
        InputError
            If it takes no labels, or makes something else of them.
        """
        takes = inspect.signature(self._top.forward).parameters
        found: list[Tensor] = []

        def keep(module: nn.Module, args: tuple, kwargs: dict) -> None:
            found.append(kwargs["input_ids"] if "input_ids" in kwargs else args[0])
            raise Stop

        if "labels" in takes and "decoder_input_ids" in takes:
            whole = self.view_with_head()
            whole.base_model.get_submodule(self.core).register_forward_pre_hook(keep, with_kwargs=True)
            ids = torch.tensor([list(labels)], device=whole.device)
            options = self.inputs(ids)
            with suppress(Stop), torch.no_grad():
                whole(encoder_outputs=options["encoder_outputs"], labels=ids, use_cache=False)
        shifted = found[0].reshape(-1).tolist() if found else []
        if shifted[1:] != list(labels)[:-1] or len(shifted) != len(labels):
            raise InputError(
                f"target was given as a text to {self.family}, which does not say what its decoder is handed of one. "
                "Expected a model with its head for language, such as AutoModelForSeq2SeqLM loads, or target as the "
                "ids that the decoder is to read, its start token first."
            )
        return shifted

    def _run(self, token_ids: Tensor, watcher: Watcher, *options: Any) -> Any:
        """Run the decoder on a batch of token ids; what is returned is its own output, see `Window.run`."""
        if not self._attentions:
            return super()._run(token_ids, watcher, *options)
        mine = self._attentions[self.stack]
        others = {module for each in self._attentions.values() for module in each} - mine
        only = _Only(watcher, mine, others, self.model.get_submodule(self.core))
        super()._run(token_ids, only, *options)
        return only.output

    def inputs(self, token_ids: Tensor, others: Any = None) -> dict[str, Any]:
        """See `Window.inputs`; names of `others` are those of the decoder's."""
        states = self.states.to(self.model.device, self.model.dtype).expand(len(token_ids), -1, -1)
        options = {f"decoder_{name}": each for name, each in (others or {}).items()}
        if "attention_mask" in self.takes:
            options = {"decoder_attention_mask": torch.ones_like(token_ids), **options}
        encoded = self._with_states(states)
        return {"decoder_input_ids": token_ids, "encoder_outputs": encoded, "use_cache": False, **options}

    def _keys(self, token_ids: Tensor) -> set[int]:
        return {token_ids.shape[1], self.states.shape[1]}

    def _text_config(self, hf_model: PreTrainedModel) -> PreTrainedConfig:
        return hf_model.config.get_text_config(decoder=True)

    def _taken(self) -> frozenset[str]:
        of_decoder = (name for name in super()._taken() if name.startswith("decoder_"))
        return frozenset(name.removeprefix("decoder_") for name in of_decoder)

    def _embeddings(self, hf_model: PreTrainedModel) -> nn.Embedding:
        decoder = self._given.get_decoder()
        if not isinstance(decoder, PreTrainedModel):
            raise UnsupportedModelError(
                f"The decoder of {self.family} is a {type(decoder).__name__}, and no model of its own, so that nobody "
                "says what its embeddings are. Expected a decoder that is a PreTrainedModel."
            )
        inner = decoder.base_model
        self.core = next(name for name, module in self._given.named_modules() if module is inner)
        # Until a text of the encoder's is known, what it put out is anything: no vocabulary encoding depends on it.
        width = self._given.get_encoder().config.get_text_config().hidden_size
        states = torch.randn(1, _ENCODED, width, generator=torch.Generator().manual_seed(0))
        self._encoded = _States(last_hidden_state=states)
        return super()._embeddings(decoder)

    def _lay_out(self) -> set:
        return super()._lay_out() | self._of_encoder

    def _find_layout(self) -> None:
        self._attentions = {}
        seen = _Sorting(self.model.get_submodule(self.core))
        token = self.n_embeddings // 2
        if self.encoder_reads == TEXT:
            ids = torch.tensor([[token % self.encoder_entries] * _ENCODED])
            view = self.view()
            before_it_ran = snapshot(view)
            self._encoded = self._run_encoder({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, view)
            after_it_ran = snapshot(view)
            # What an encoder notes as it runs is no setting; that it goes over to another way of attending is one.
            self._of_encoder = {
                place
                for place in places_that_differ(before_it_ran, after_it_ran)
                if not isinstance(before_it_ran.get(place), str)
            }
        self._run(torch.tensor([[token] * _TOKENS]), seen)
        if not seen.keys:
            raise NothingSeenError(
                f"The decoder of {self.family} hands nothing to transformers' attention interface, and multiplies no "
                "values by a softmax of products of queries and keys. Expected attention that does one of the two."
            )
        if any(keys not in ({_TOKENS}, {_ENCODED}) for keys in seen.keys.values()):
            counts = sorted({count for keys in seen.keys.values() for count in keys})
            raise UnsupportedModelError(
                f"The decoder of {self.family} attends to {counts} keys where {_TOKENS} tokens are its own and "
                f"{_ENCODED} the encoder's. Expected each attention to be to one of the two texts alone."
            )
        for stack, count in (("decoder", _TOKENS), ("cross", _ENCODED)):
            self._attentions[cast(Stack, stack)] = {module for module, keys in seen.keys.items() if keys == {count}}
        if not self._attentions["decoder"]:
            raise UnsupportedModelError(f"The decoder of {self.family} has no attention to its own tokens.")
        super()._find_layout()
