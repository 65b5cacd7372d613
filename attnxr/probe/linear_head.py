"""A head for language as a linear map, at the last hidden states of a text.

Most heads are one already: output embeddings, and a scale. BERT's and its like have a transform in between (a linear
map, an activation, a norm). There the derivative at the text's own hidden state stands for the activation, and the norm
keeps the scale that the text gave it, as all norms on the way do: its own derivative would leave out whatever points
along its input, and so nearly all of the sum. A cap (Gemma 2) is left out: logits are those before it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnxr.probe.language_head import LanguageHead
from attnxr.probe.linear import outermost, shape
from attnxr.probe.norms import FrozenNorm, frozen, tolerance

_SMALL = 2.0**-10  # a logit that no cap changes
_NUMBERS = 1 << 22  # of the vectors that go through the transform at once
_POSITIONS = 64  # whose logits are made at once


class _Enough(Exception):  # noqa: N818 - not an error
    """Raised to end a pass before the output embeddings, which take most of its time."""


class LinearHead:
    """A head for language, linear at the last hidden states of one text: ``logit[v] = direction(part) · W_U[v]``.

    Parameters
    ----------
    head : LanguageHead
    hidden : tensor (n, D)
        The last hidden states.
    size : int
        Number of vocabulary entries, V.

    Attributes
    ----------
    scale : float
        What the products with the output embeddings are multiplied by.
    bias : float64 array (V,)
        What each entry's logit has besides, scaled already.
    has_transform : bool
        Whether more than a number stands between the last hidden state and the output embeddings.
    """

    def __init__(self, head: LanguageHead, hidden: Tensor, size: int):
        self._head, self._hidden, self._size = head, hidden, size
        self._allowed = tolerance(hidden.dtype)
        self._output = head.output
        self._norms: dict[nn.Module, FrozenNorm] = {}
        features = self._features(hidden)
        given, made = (each.double().flatten() for each in (hidden, features))
        self._share: float | None = None
        if given.shape == made.shape:
            share = float(given @ made / (given @ given).clamp_min(1e-300))
            if float((made - share * given).norm()) <= self._allowed * float(made.norm()):
                self._share = 1.0 if abs(share - 1) <= self._allowed else share
        self.has_transform = self._share is None
        self.scale, self.bias = self._behind(features.shape[-1])

    def directions(
        self, parts: NDArray[np.float64], here: NDArray[np.intp], with_bias: bool = False
    ) -> NDArray[np.float64]:
        """What parts (…, p, D) of the last hidden states of some positions are where the output embeddings read them.

        Parameters
        ----------
        parts : float64 array (…, p, D)
        here : int array (p,)
        with_bias : bool
            Whether the biases of the transform are added.

        Returns
        -------
        float64 array (…, p, E)
            Scaled, so that their products with output embeddings are logits.
        """
        if self._share is not None:
            return self.scale * self._share * parts
        flat = torch.from_numpy(parts.reshape(-1, *parts.shape[-2:])).to(self._hidden)
        step = max(1, _NUMBERS // max(1, flat[0].numel()))
        found = [self._through(each, here, with_bias) for each in flat.split(step)]
        return self.scale * torch.cat(found).reshape(*parts.shape[:-1], -1).to("cpu", torch.float64).numpy()

    def logits(self, here: NDArray[np.intp], ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """The model's own logits of entries ids (p, m) at some positions (p,)."""
        found = np.empty(ids.shape)
        for start in range(0, len(here), _POSITIONS):
            batch = slice(start, start + _POSITIONS)
            logits = self._head.logits(self._hidden[here[batch]]).to("cpu", torch.float64).numpy()
            found[batch] = np.take_along_axis(logits, ids[batch], axis=1)
        return found

    def _features(self, hidden: Tensor) -> Tensor:
        """What the output embeddings are handed of each hidden state; on the way, which modules are norms."""
        made: list[Tensor] = []

        def stop(module: nn.Module, args: tuple) -> None:
            made.append(args[0])
            raise _Enough

        def look(module: nn.Module, args: tuple, output: Any) -> None:
            if args and isinstance(args[0], Tensor) and isinstance(output, Tensor) and args[0].shape == output.shape:
                calls.append((module, args[0], output))

        calls: list[tuple[nn.Module, Tensor, Tensor]] = []
        hooks = [self._output.register_forward_pre_hook(stop)]
        hooks += [each.register_forward_hook(look) for each in self._head.model.modules()]
        with _removing(hooks):
            self._run(hidden)
        for module, given, output in calls:
            if (norm := frozen(module, given, output)) is not None:
                self._norms[module] = norm
        return made[0].reshape(len(hidden), -1)

    def _through(self, parts: Tensor, here: NDArray[np.intp], with_bias: bool) -> Tensor:
        """Derivative of the transform along parts (m, p, D), each norm's scale held: (m, p, E).

        That of ``grad(y, x, u)`` by u, along the parts: two backward passes make a forward one. The share of the biases
        is such an x too, 0 here, along which all of them are one part.
        """
        made: list[Tensor] = []
        at = self._hidden[here].expand(parts.shape).clone().requires_grad_()
        share = torch.zeros(parts.shape[:-1], device=parts.device, dtype=parts.dtype, requires_grad=True)
        of_biases = share.reshape(1, -1, 1)

        def stop(module: nn.Module, args: tuple) -> None:
            made.append(args[0])
            raise _Enough

        def hold(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
            norm, x = self._norms[module], args[0]
            x = x - x.mean(dim=-1, keepdim=True) if norm.centred else x
            scale = torch.from_numpy(norm.scale[here]).to(x).expand(parts.shape[:-1]).reshape(1, -1, 1)
            gain, bias = (torch.from_numpy(each).to(x) for each in (norm.gain, norm.bias))
            return x * gain * scale + bias * (1 + of_biases)

        def add(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
            return output + biases[module] * of_biases

        linear = [each for each in outermost(self._head.model) if each is not self._output]
        biases = {each: self._bias(each) for each in linear}
        hooks: list[Any] = [self._output.register_forward_pre_hook(stop)]
        hooks += [module.register_forward_hook(hold) for module in self._norms]
        hooks += [module.register_forward_hook(add) for module in linear]
        with _removing(hooks), torch.enable_grad():
            self._run(at)
            output = made[0].reshape(*parts.shape[:-1], -1)
            along = torch.zeros_like(output, requires_grad=True)
            backward = torch.autograd.grad(output, (at, share), along, create_graph=True, materialize_grads=True)
            tangents = parts, torch.full_like(share, float(with_bias))
            return torch.autograd.grad(backward, along, tangents)[0].detach()

    def _behind(self, width: int) -> tuple[float, NDArray[np.float64]]:
        """What becomes of the output embeddings' products: a scale, and what is added."""

        def logits(value: float) -> NDArray[np.float64]:
            hook = self._output.register_forward_hook(lambda module, args, output: torch.full_like(output, value))
            with _removing([hook]):
                return self._head.logits(self._hidden[:1])[0, : self._size].to("cpu", torch.float64).numpy()

        nothing = logits(0.0)
        scale = float(np.median((logits(_SMALL) - nothing) / _SMALL))
        scale = 1.0 if abs(scale - 1) <= self._allowed else scale
        with torch.no_grad():
            bias = self._output(torch.zeros(1, width).to(self._hidden))[0, : self._size]
        return scale, nothing + scale * bias.to("cpu", torch.float64).numpy()

    def _bias(self, module: nn.Module) -> Tensor:
        """What a linear map adds: what it makes of zero."""
        _, width = cast(tuple[int, int], shape(module))
        with torch.no_grad():
            return module(torch.zeros(1, width).to(self._hidden))[0]

    def _run(self, hidden: Tensor) -> None:
        with suppress(_Enough):
            self._head.logits(hidden)


@contextmanager
def _removing(hooks: list) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
