"""Linear maps as a model applies them, by whatever module: a matrix of floats, packed numbers, an adapter around one.

What a module's ``weight`` says need not be what it does. It may be packed (bitsandbytes, GPTQ), a part of what is
applied (LoRA), or changed by a hook. So the matrix is read off what the module makes of zero and of the unit vectors;
only of a plain ``nn.Linear``, to which nothing was done, it is the weight.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from attnxr.errors import UnsupportedModelError
from attnxr.probe.stored import is_plain

_UNIT = 1024.0  # length of the unit vectors: keeps the map's bits clear of a large bias; exact, a power of 2
_TOGETHER = 512  # unit vectors that a module is handed at once
_TRIED = 4  # vectors on which it is tried whether a module is the linear map that was read off it
_TOLERANCE = 1e-4
_ULPS = 4  # a sum of products in half precision is as exact as so many units of its last place


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


def shape(module: object) -> tuple[int, int] | None:
    """How many numbers a linear map puts out and takes; None where a module is none."""
    if not isinstance(module, nn.Module) or isinstance(module, nn.Embedding):
        return None
    weight = getattr(module, "weight", None)
    if type(module) is nn.Linear and isinstance(weight, Tensor):  # one that was put in later has another shape
        return weight.shape[0], weight.shape[1]
    for names in (("out_features", "in_features"), ("outfeatures", "infeatures")):
        found = [getattr(module, name, None) for name in names]
        if all(isinstance(each, int) for each in found):
            return found[0], found[1]  # type: ignore[return-value]
    if isinstance(weight, Tensor) and weight.ndim == 2:
        return (weight.shape[1], weight.shape[0]) if hasattr(module, "nf") else (weight.shape[0], weight.shape[1])
    return None


def outermost(top: nn.Module) -> Iterator[nn.Module]:
    """The linear maps under a module; one inside another (that of an adapter) is a part of it."""
    for child in top.children():
        if shape(child) is None:
            yield from outermost(child)
        else:
            yield child


def matrix(
    module: nn.Module, width: int, like: Tensor, what: str, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Matrix and offset of the linear map that a module applies.

    Parameters
    ----------
    module : nn.Module
    width : int
        How many numbers it takes.
    like : tensor
        Of the precision and on the device of what it is handed.
    what : str
        What to call it in a message.
    dtype : torch.dtype
        In which to return what is read off the module.

    Returns
    -------
    (CPU tensor (out, in), CPU tensor (out,))
        A plain ``nn.Linear`` keeps the precision of its weight.

    Raises
    ------
    UnsupportedModelError
        If it is no linear map, as where it rounds what it is handed.
    """
    weight = getattr(module, "weight", None)
    if type(module) is nn.Linear and is_plain(weight) and not _is_changed(module):  # type: ignore[arg-type]
        bias = torch.zeros(len(weight), dtype=weight.dtype) if module.bias is None else module.bias.detach()
        return weight.detach().cpu(), bias.cpu()  # type: ignore[union-attr]
    with torch.no_grad():
        nothing = module(torch.zeros(1, 1, width).to(like))[:, 0]
        made = torch.empty(nothing.shape[1], width, dtype=dtype)
        for start in range(0, width, _TOGETHER):
            stop = min(start + _TOGETHER, width)
            units = torch.zeros(stop - start, 1, width)
            units[:, 0, start:stop].fill_diagonal_(_UNIT)
            made[:, start:stop], offset = read_linear(torch.cat([nothing, module(units.to(like))[:, 0]]))
        tried = torch.randn(_TRIED, 1, width, generator=torch.Generator().manual_seed(0)).to(like)
        true = module(tried)[:, 0].to("cpu", torch.float64)
    off = tried[:, 0].to("cpu", torch.float64) @ made.double().T + offset - true
    error = float(off.norm() / true.norm().clamp_min(1e-300))
    if not error <= max(_TOLERANCE, _ULPS * torch.finfo(like.dtype).eps):
        raise UnsupportedModelError(
            f"{what} is a {type(module).__name__} (of {type(module).__module__}) that is no linear map: what it makes "
            f"of a vector is off by {error:.1e} from the sum of what it makes of the vector's numbers, as where it "
            "rounds what it is handed. So no head has a part of its own in what it writes. Expected a module that "
            "rounds weights alone: load the model in the precision in which that computes (bitsandbytes' 4 bits: "
            "bfloat16), or without quantisation. Head encodings and their neighbours in other spaces are not affected."
        )
    return made, offset.to(dtype)


def _is_changed(module: nn.Module) -> bool:
    """Whether something else than its class says what a module computes."""
    return "forward" in vars(module) or bool(module._forward_hooks or module._forward_pre_hooks)
