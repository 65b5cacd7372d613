"""Linear maps read off a model, from what it makes of zero and of the unit vectors."""

import torch
from torch import Tensor

_UNIT = 1024.0  # length of the unit vectors: keeps the map's bits clear of a large bias; exact, a power of 2


def probes(width: int) -> Tensor:
    """What to hand to the map, one vector a text: float32 (1 + width, 1, width)."""
    return torch.cat([torch.zeros(1, width), _UNIT * torch.eye(width)])[:, None]


def read_linear(out: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix and offset of a map, from what it made of the `probes`.

    Parameters
    ----------
    out : tensor (1 + width, …)

    Returns
    -------
    (float64 CPU tensor (…, width), float64 CPU tensor (…))
    """
    out = out.to("cpu", torch.float64)
    return ((out[1:] - out[0]) / _UNIT).movedim(0, -1), out[0]
