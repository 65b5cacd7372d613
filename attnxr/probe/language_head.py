"""The head for language on top of a model: the logits that it makes of last hidden states, by the model's own code.

Between the last hidden state and the logits there is more than a matrix: a transform (BERT), a scale (Granite, Cohere),
a cap (Gemma 2). So nothing is computed here. The given model's own ``forward`` is run, on a view, and in place of its
base model stands one that hands out the hidden states that are asked about.
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attnxr.errors import UnsupportedModelError
from attnxr.probe.interface import Watcher
from attnxr.probe.window import Window, base_of

_TOKENS = 8  # of the text on which a head is compared with the model that it belongs to
_TOLERANCE = 1e-5
_ULPS = 16  # a model in half precision agrees with itself no better than to so many units of its last place


def has_language_head(window: Window, size: int) -> bool:
    """Whether there is a head on top that gives each of `size` vocabulary entries a logit."""
    return window.unembedding_rows >= size


class LanguageHead:
    """The head for language on top of a model, at one moment: made for one call, it keeps nothing beyond it.

    Parameters
    ----------
    window : Window
    size : int
        Number of vocabulary entries, V.
    purpose : str
        What it is for, in the message of a refusal.

    Raises
    ------
    UnsupportedModelError
        If the model has no such head, as where it is a head that classifies texts; or if it makes other logits of a
        last hidden state than the given model does.
    """

    def __init__(self, window: Window, size: int, purpose: str = "Logits were"):
        if not has_language_head(window, size):
            raise UnsupportedModelError(
                f"{purpose} asked of {window.family}, which has {window.unembedding_rows or 'no'} output embeddings "
                f"for {size} vocabulary entries. Load the model with its language-modelling head, as "
                "attnxr.load_model does where a checkpoint has one."
            )
        self._window, self._size = window, size
        token_ids = torch.linspace(0, window.n_embeddings - 1, min(_TOKENS, window.layout.max_tokens or _TOKENS))
        ids = token_ids.long()[None].to(window.model.device)
        whole = window.view_with_head()
        if window.is_coarse:  # other kernels round otherwise
            whole.set_attn_implementation("eager")
        base, output, logits = self._plain_pass(whole, ids)
        name = next(name for name, module in base_of(whole).named_modules() if module is base)
        self._base = _Instead(base, output)
        self.model = window.view_with_head({name: self._base})
        self._check(ids, output, logits)

    @property
    def output(self) -> nn.Module:
        """The output embeddings, as they run in `model`."""
        return self.model.get_output_embeddings()

    def logits(self, hidden: Tensor) -> Tensor:
        """The logits of last hidden states, in the model's precision and on its device.

        Parameters
        ----------
        hidden : tensor (…, D)
            As the base model calls them: after its last norm. Each is taken alone, whatever the others are.

        Returns
        -------
        tensor (…, rows of the output embeddings)
            Rows beyond V, where there are any, are padding that the model counts all the same.
        """
        flat = hidden.to(self._window.model.device, self._window.model.dtype).reshape(1, -1, hidden.shape[-1])
        self._base.hidden = flat
        ids = torch.zeros(flat.shape[:2], dtype=torch.int64, device=flat.device)
        with torch.set_grad_enabled(hidden.requires_grad):
            found = self._found(self.model(**self._window.inputs(ids)))
        self._base.hidden = None
        return found.reshape(*hidden.shape[:-1], -1)

    def _plain_pass(self, whole: PreTrainedModel, ids: Tensor) -> tuple[nn.Module, Any, Tensor]:
        """Run the given model: the part of its base model that its head calls, what that puts out, and the logits."""
        running: list[nn.Module] = []
        called: list[tuple[nn.Module, Any]] = []

        base = base_of(whole).get_submodule(self._window.core)

        def enter(module: nn.Module, args: tuple) -> None:
            running.append(module)

        def leave(module: nn.Module, args: tuple, output: Any) -> None:
            running.pop()
            if not running and _hidden(output) is not None:
                called.append((module, output))

        # Most heads call the base model, and OPT's the decoder in it; what is known of a decoder begins there.
        for module in base.modules():
            module.register_forward_pre_hook(enter, prepend=True)
            module.register_forward_hook(leave)
        with torch.no_grad():
            logits = self._found(whole(**self._window.inputs(ids)))
        return *called[-1], logits

    def _found(self, result: Any) -> Tensor:
        """The logits among what a model puts out."""
        values = result if isinstance(result, tuple) else result.values()
        found = next((each for each in values if isinstance(each, Tensor) and each.ndim == 3), None)
        if found is None or found.shape[-1] < self._size:
            shape = None if found is None else tuple(found.shape)
            raise UnsupportedModelError(
                f"{self._window.family} puts out no logits of {self._size} vocabulary entries for each token (found: "
                f"{shape}). Load the model with its language-modelling head."
            )
        return found

    def _check(self, ids: Tensor, output: Any, logits: Tensor) -> None:
        """Fail unless the last hidden state is the base model's, and the head makes the model's logits of it."""
        tolerance = max(_TOLERANCE, _ULPS * torch.finfo(self._window.model.dtype).eps)
        hidden, seen = _hidden(output), _hidden(self._window.run(ids, Watcher()))
        assert hidden is not None
        # The last token first, and all in one text: a head that looks at more than one token at a time shows.
        found = self.logits(hidden.flip(1)).flip(1)
        for what, one, other in (("last hidden state", seen, hidden), ("logits", found, logits)):
            error = float((one.double() - other.double()).norm() / other.double().norm()) if one is not None else 1.0
            if not error <= tolerance:
                raise UnsupportedModelError(
                    f"The {what} of {self._window.family} differ by a relative error of {error:.1e} from those that "
                    f"the model itself gives; at most {tolerance:.0e} was expected. Its head does more with a text "
                    "than to make logits of each last hidden state, so no number would be right."
                )


class _Instead(nn.Module):
    """Stands in place of a base model, and hands out what that once did, with other last hidden states."""

    def __init__(self, module: nn.Module, output: Any):
        super().__init__()
        self.__dict__["module"] = module  # for its attributes; it is no part of this one, and does not run
        self.output = output
        self.hidden: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["module"], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self.output, tuple):
            return self.hidden, *self.output[1:]
        return type(self.output)(**OrderedDict(self.output.items()) | {"last_hidden_state": self.hidden})


def _hidden(output: Any) -> Tensor | None:
    """The last hidden state among what a base model puts out, if it is one that does."""
    found = output[:1] if isinstance(output, tuple) else (getattr(output, "last_hidden_state", None),)
    return next((each for each in found if isinstance(each, Tensor) and each.ndim == 3), None)
