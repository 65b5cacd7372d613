"""Forward passes over a text that collect what every head of every layer wrote."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attnxr.errors import UnsupportedModelError
from attnxr.finite import remedy
from attnxr.interface import Watcher, stream
from attnxr.window import Window, typed


class _Encodings(Watcher):
    """Collects, layer by layer, what the encodings Dataset is made of."""

    def __init__(self, window: Window, causal: bool | None):
        self.forced_causal = causal
        self.encoding: list[Tensor] = []
        self.attention: list[Tensor] = []
        self.query: list[Tensor] = []
        self.key: list[Tensor] = []
        self.value: list[Tensor] = []
        self.residual: list[Tensor] = []
        self.hidden: list[Tensor] = []
        self._layout = window.layout
        self._blocks: list[tuple[Tensor, int]] = []  # those running: their input, and the layers seen before them

    def attending(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> None:
        self.query.append(query[0])
        self.key.append(key[0])
        self.value.append(value[0])

    def attended(self, output: Tensor, weights: Tensor) -> None:
        # First of all: numbers that are none fail every other check too, for a reason that is not theirs.
        if not output.isfinite().all():
            raise UnsupportedModelError(
                f"The model makes infinite or undefined numbers of this text, in attention {len(self.encoding)} of its "
                f"layers, to which no distance can be given. {remedy(output.dtype)}"
            )
        self.encoding.append(output[0].transpose(0, 1))
        # A learned sink takes its share of the weights as one more column: rows then sum to less than 1.
        self.attention.append(weights[0, :, :, : output.shape[1]])

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if module in self._layout.blocks:
            self._blocks.append((stream(args, kwargs), len(self.encoding)))

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if not self._blocks:
            return
        block_input, before = self._blocks[-1]
        seen = len(self.encoding)
        if before < seen > len(self.residual) and module is self._layout.projections[seen - 1]:
            if block_input.shape != output.shape:
                raise UnsupportedModelError(
                    f"include=['residual'] was asked of a model whose attention writes {output.shape[-1]} numbers, and "
                    f"whose stream has {block_input.shape[-1]}: they do not add. Leave it out."
                )
            self.residual.append((block_input + output)[0])
        if module in self._layout.blocks:
            self._blocks.pop()
            if before < seen:
                self.hidden.append((output[0] if isinstance(output, tuple) else output)[0])


def encode(
    window: Window, token_ids: list[int], include: tuple[str, ...], causal: bool | None, types: Sequence[int] = ()
) -> dict[str, Tensor]:
    """Run one text through the model and collect what every head of every layer wrote.

    Parameters
    ----------
    window : Window
    token_ids : list of int, length n
    include : tuple of str
        What to collect besides ``encoding`` and ``attention``: any of ``query``, ``key``, ``value``, ``residual``
        and ``hidden``.
    causal : bool or None
        Whether tokens may look only backwards (True) or both ways (False); None is the model's own way.
    types : list of int, length n
        Token types, where the model is given any.

    Returns
    -------
    dict of float32 CPU tensors
        ``encoding`` (L, H, n, d), ``attention`` (L, H, n, n), ``query`` (L, H, n, d), ``key`` and ``value``
        (L, kv heads, n, d), ``residual`` and ``hidden`` (L, n, D).

    Raises
    ------
    UnsupportedModelError
        If ``residual`` or ``hidden`` is asked of a model whose layers are not one block each, or `causal` of one
        that makes its mask by itself.
    """
    wanted = sorted({"residual", "hidden"} & set(include))
    if wanted and not window.layout.blocks:
        raise UnsupportedModelError(
            f"include={wanted} was asked of {window.family}, whose layers are not one block each, on one stream. "
            "Leave these names out; the head encodings are not affected."
        )
    seen = _Encodings(window, causal)
    window.run(torch.tensor([token_ids]), seen, inputs=typed(types))
    _explain_encodings(window, seen)
    found = {name: _stacked(getattr(seen, name)) for name in ("encoding", "attention", *include)}
    _check_mask(window, found["attention"], causal)
    return found


def _stacked(layers: list[Tensor]) -> Tensor:
    """All layers as one float32 CPU tensor; each is let go of on the way, since attention can fill the memory."""
    out = torch.empty((len(layers), *layers[0].shape), dtype=torch.float32, device="cpu")
    for layer in range(len(layers) - 1, -1, -1):
        out[layer] = layers.pop()
    return out


def _explain_encodings(window: Window, seen: _Encodings) -> None:
    """Have each layer's weights be those that its encodings are the sum of values with.

    Some families scale what the attention wrote once more, for a sink: then so are the weights.
    """
    eps = max(torch.finfo(seen.encoding[0].dtype).eps, torch.finfo(torch.float32).eps)
    # Sums of n products are kept in float32 whatever the model's precision.
    slack = 16 * eps + seen.attention[0].shape[-1] * torch.finfo(torch.float32).eps
    for layer, (encoding, value) in enumerate(zip(seen.encoding, seen.value, strict=True)):
        weights, encoding, value = (each.float() for each in (seen.attention[layer], encoding, value))
        value = value.repeat_interleave(len(encoding) // len(value), dim=0)
        most = (weights @ value.abs()).amax(dim=-1, keepdim=True)
        found = weights @ value
        if ((encoding - found).abs() <= slack * most).all():
            continue
        scale = (encoding * found).sum(-1, keepdim=True) / (found * found).sum(-1, keepdim=True).clamp_min(1e-30)
        seen.attention[layer] = weights * scale
        if not ((encoding - scale * found).abs() <= slack * most).all():
            raise UnsupportedModelError(
                f"The head encodings of layer {window.layout.layers[layer]} of {window.family} are no sum of values "
                "with the weights it gives, so one of the two is not what it seems, and none is given."
            )


def _check_mask(window: Window, attention: Tensor, causal: bool | None) -> None:
    """Fail where the weights show that the model did not do as it was asked."""
    ahead = torch.stack([layer.triu(1).any() for layer in attention])
    own = window.layout.causal
    if (causal is True and ahead.any()) or (causal is False and own and attention.shape[-1] > 1 and not ahead.all()):
        raise UnsupportedModelError(
            f"causal={causal} was asked of {window.family}, which makes its attention mask without transformers' mask "
            f"interface, so that it cannot be changed. Leave causal at None, the model's own (causal={own})."
        )
