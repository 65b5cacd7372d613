"""Forward passes over a text that collect what every head of every layer wrote."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attnxr.errors import UnsupportedModelError
from attnxr.probe.finite import remedy
from attnxr.probe.interface import Watcher, stream
from attnxr.probe.window import Window, typed


class _Encodings(Watcher):
    """Collects, layer by layer, what the encodings Dataset is made of."""

    def __init__(self, window: Window, include: tuple[str, ...], causal: bool | None):
        self.forced_causal = causal
        self._of_stream = "residual" in include
        self.head_encoding: list[Tensor] = []
        self.attention: list[Tensor] = []
        self.query_vector: list[Tensor] = []
        self.key_vector: list[Tensor] = []
        self.value_vector: list[Tensor] = []
        self.gate: list[Tensor] = []
        self.residual: list[Tensor] = []
        self.hidden: list[Tensor] = []
        self._layout = window.layout
        self._blocks: list[tuple[Tensor, int]] = []  # those running: their input, and the layers seen before them

    def attending(self, module: nn.Module | None, query: Tensor, key: Tensor, value: Tensor) -> None:
        self.query_vector.append(query[0])
        self.key_vector.append(key[0])
        self.value_vector.append(value[0])

    def attended(self, output: Tensor, weights: Tensor) -> None:
        # First of all: infinite and undefined numbers fail every other check too, and its message would mislead.
        check_finite(output, len(self.head_encoding))
        self.head_encoding.append(output[0].transpose(0, 1))
        # A learned sink takes its share of the weights as one more column: rows then sum to less than 1.
        self.attention.append(weights[0, :, :, : self.value_vector[-1].shape[1]])

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        seen = len(self.head_encoding)
        if self._layout.gated and len(self.gate) < seen and module is self._layout.projections[seen - 1]:
            self.gate.append(gate(self.head_encoding[-1], stream(args, kwargs)))
        if module in self._layout.blocks:
            self._blocks.append((stream(args, kwargs), len(self.head_encoding)))

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if not self._blocks:
            return
        block_input, before = self._blocks[-1]
        seen = len(self.head_encoding)
        is_next = before < seen > len(self.residual) and module is self._layout.projections[seen - 1]
        if self._of_stream and is_next:
            if block_input.shape != output.shape:
                raise UnsupportedModelError(
                    f"include=['residual'] was asked of a model whose attention writes {output.shape[-1]} numbers, and "
                    f"whose stream has {block_input.shape[-1]}: they do not add. Leave it out."
                )
            self.residual.append((block_input + output)[0])
        if module in self._layout.blocks:
            self._blocks.pop()
            if before < seen:
                self.hidden.append((output if isinstance(output, Tensor) else output[0])[0])


def gate(encoding: Tensor, read: Tensor) -> Tensor:
    """What a text's head encodings (H, n, d) were multiplied by for what W_O reads: float32 or more, NaN where z is 0.

    Parameters
    ----------
    encoding : tensor (H, n, d)
    read : tensor, as many numbers
        What W_O was handed: (…, H · d).
    """
    heads, n, size = encoding.shape
    encoding, read = (each if each.dtype.itemsize > 4 else each.float() for each in (encoding, read))
    found = read.reshape(n, heads, size).transpose(0, 1) / encoding
    return torch.where(encoding == 0, torch.nan, found)


def check_finite(output: Tensor, layer: int) -> None:
    """Fail where what a layer's attention wrote has numbers that are infinite or undefined."""
    if not output.isfinite().all():
        raise UnsupportedModelError(
            "The model makes infinite or undefined numbers of this text, in attention "
            f"{layer} of its layers, to which no distance can be given. {remedy(output.dtype)}"
        )


def encode(
    window: Window, token_ids: list[int], include: tuple[str, ...], causal: bool | None, types: Sequence[int] = ()
) -> dict[str, Tensor]:
    """Run one text through the model and collect what every head of every layer wrote.

    Parameters
    ----------
    window : Window
    token_ids : list of int, length n
    include : tuple of str
        What to collect besides ``head_encoding`` and ``attention``: any of `attnxr.options.INCLUDE`.
    causal : bool or None
        Whether tokens may look only backwards (True) or both ways (False); None is the model's own way.
    types : list of int, length n
        Token types, where the model is given any.

    Returns
    -------
    dict of float32 CPU tensors
        ``head_encoding`` (L, H, n, d), ``attention`` (L, H, n, n), ``gate`` (L, H, n, d) of models that have one,
        ``query_vector`` (L, H, n, d), ``key_vector`` and ``value_vector`` (L, kv heads, n, d), ``residual`` and
        ``hidden`` (L, n, D). Of cross-attention, keys and values are of the m positions of the encoder's text, and so
        is the last dimension of ``attention``.

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
    seen = _Encodings(window, include, causal)
    window.run(torch.tensor([token_ids]), seen, inputs=typed(types))
    _explain_encodings(window, seen)
    always = ("head_encoding", "attention", *(["gate"] if window.layout.gated else []))
    found = {name: _stacked(getattr(seen, name)) for name in (*always, *include)}
    if window.stack != "cross":  # the keys of which are positions of another text
        _check_mask(window, found["attention"], causal)
    return found


def _stacked(layers: list[Tensor]) -> Tensor:
    """All layers as one float32 CPU tensor; each is let go of on the way, since attention can fill the memory."""
    out = torch.empty((len(layers), *layers[0].shape), dtype=torch.float32, device="cpu")
    for layer in range(len(layers) - 1, -1, -1):
        out[layer] = layers.pop()
    return out


def _explain_encodings(window: Window, seen: _Encodings) -> None:
    """Have each layer's weights be those that its encodings are the sum of values with."""
    for layer, (encoding, value) in enumerate(zip(seen.head_encoding, seen.value_vector, strict=True)):
        seen.attention[layer] = explained(window, layer, seen.attention[layer], encoding, value)


def explained(window: Window, layer: int, weights: Tensor, encoding: Tensor, value: Tensor) -> Tensor:
    """Weights with which a layer's encodings are the sum of values.

    Some families scale what the attention wrote once more, for a sink: then so are the weights.

    Parameters
    ----------
    window : Window
    layer : int
        Which of the layers with attention.
    weights : tensor (…, H, n, n)
    encoding : tensor (…, H, n, d)
    value : tensor (…, kv heads, n, d)

    Returns
    -------
    float32 tensor (…, H, n, n)
        Or the weights themselves, where they are right as they are.

    Raises
    ------
    UnsupportedModelError
        If there are none.
    """
    eps = max(torch.finfo(encoding.dtype).eps, torch.finfo(torch.float32).eps)
    # Sums of n products are kept in float32 whatever the model's precision.
    slack = 16 * eps + weights.shape[-1] * torch.finfo(torch.float32).eps
    given, (weights, encoding, value) = weights, (each.float() for each in (weights, encoding, value))
    value = value.repeat_interleave(encoding.shape[-3] // value.shape[-3], dim=-3)
    most = (weights @ value.abs()).amax(dim=-1, keepdim=True)
    found = weights @ value
    if ((encoding - found).abs() <= slack * most).all():
        return given
    scale = (encoding * found).sum(-1, keepdim=True) / (found * found).sum(-1, keepdim=True).clamp_min(1e-30)
    if not ((encoding - scale * found).abs() <= slack * most).all():
        raise UnsupportedModelError(
            f"The head encodings of layer {window.layout.layers[layer]} of {window.family} are no sum of values "
            "with the weights it gives: one of the two is not what it seems. No encodings are returned."
        )
    return weights * scale


def _check_mask(window: Window, attention: Tensor, causal: bool | None) -> None:
    """Fail where the weights show that the model did not do as it was asked."""
    check_mask(window, [bool(layer.triu(1).any()) for layer in attention], attention.shape[-1], causal)


def check_mask(window: Window, ahead: Sequence[bool], n: int, causal: bool | None) -> None:
    """Fail where it shows in which layers a token of a text of n attends to later ones that the mask is not as asked.

    Raises
    ------
    UnsupportedModelError
    """
    own = window.layout.causal
    if (causal is True and any(ahead)) or (causal is False and own and n > 1 and not all(ahead)):
        raise UnsupportedModelError(
            f"causal={causal} was asked of {window.family}, which makes its attention mask without transformers' mask "
            "interface, or in one piece with a bias, so that it cannot be changed. Leave causal at None, the model's "
            f"own (causal={own})."
        )
