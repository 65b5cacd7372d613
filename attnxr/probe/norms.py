"""Norms of the residual stream, recognised by what they do, with the scale held that a text gave them.

A LayerNorm is ``(x − mean(x)) · g / s(x) + b``, an RMSNorm the same without the mean and mostly without b. With s held
where the text has it, each is a linear map and a bias, so that what a sum of vectors becomes is a sum too. Nothing is
asked of a module's class: g and b are read off what it makes of chosen vectors, and that it is such a norm is checked
on the text itself.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_SIZE = 1024.0  # of the vectors that are handed to a norm: none of its epsilon is left; exact, a power of 2
_TOLERANCE = 1e-5
_ULPS = 8  # a model in half precision agrees with itself no better than to so many units of its last place


def tolerance(dtype: torch.dtype) -> float:
    """Largest relative error of what counts as the same, in a model of this precision."""
    return max(_TOLERANCE, _ULPS * torch.finfo(dtype).eps)


@dataclass(frozen=True, eq=False)
class FrozenNorm:
    """A norm with the scales of one text: ``y = (x − mean(x)) · gain · scale + bias``, or the same without the mean.

    Attributes
    ----------
    centred : bool
        Whether the mean over the channels is subtracted.
    gain, bias : float64 array (D,)
    scale : float64 array (n,)
        1 / s of each position.
    """

    centred: bool
    gain: NDArray[np.float64]
    bias: NDArray[np.float64]
    scale: NDArray[np.float64]

    def of(self, parts: NDArray[np.float64], here: NDArray[np.intp]) -> NDArray[np.float64]:
        """What parts (…, p, D) of its input at some positions become in its output, the bias left out."""
        return self.direction(parts) * self.scale[here][:, None]

    def direction(self, parts: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same of parts (…, D) but for the scale."""
        return (parts - parts.mean(axis=-1, keepdims=True) if self.centred else parts) * self.gain


def frozen(module: nn.Module, given: Tensor, made: Tensor) -> FrozenNorm | None:
    """A module as a norm with the scales that it had in a text; None where it is no norm.

    Parameters
    ----------
    module : nn.Module
    given, made : tensor (…, D)
        What it was handed in the text, n vectors, and what it made of that.
    """
    if any(True for _ in module.children()) or any(each.ndim > 1 for each in module.parameters(recurse=False)):
        return None
    width = given.shape[-1]
    vector = torch.ones(width)
    vector[1::2] = -1
    if width % 2:
        vector[-3:] = torch.tensor([1.0, 1.0, -2.0])  # so that the mean is 0
    vector = vector * _SIZE
    probes = torch.stack([torch.zeros(width), vector, 2 * vector, vector + _SIZE])
    try:
        with torch.no_grad():
            out = module(probes.to(given)[None])
    except TypeError:  # it wants more than a vector (the layers of DoRA), so that it is no norm
        return None
    if not isinstance(out, Tensor) or out.shape[-1] != width:
        return None
    bias, one, two, moved = _plain(out)
    allowed = tolerance(given.dtype)
    if not np.linalg.norm(two - one) <= allowed * np.linalg.norm(one):  # no norm: what it makes grows with its input
        return None
    gain = (one - bias) * float(vector.square().mean().sqrt()) / vector.double().numpy()
    centred = bool(np.linalg.norm(moved - one) <= 0.1 * np.linalg.norm(one - bias))
    x, y = _plain(given), _plain(made)
    direction = FrozenNorm(centred, gain, bias, np.ones(len(x))).direction(x)
    scale = np.einsum("nd,nd->n", y - bias, direction) / np.maximum((direction**2).sum(axis=1), 1e-300)
    off = np.linalg.norm(y - bias - direction * scale[:, None], axis=1)
    if not (off <= allowed * np.maximum(np.linalg.norm(y, axis=1), 1e-300)).all():
        return None
    return FrozenNorm(centred, gain, bias, scale)


def _plain(rows: Tensor) -> NDArray[np.float64]:
    return rows.detach().reshape(-1, rows.shape[-1]).to("cpu", torch.float64).numpy()
