"""The precision a model computes in: checked at the door, and a copy of a model in another one."""

import copy
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from attnxr.errors import InputError

Dtype = Literal["auto", "float32", "bfloat16", "float16", "float64"] | torch.dtype
_DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_of(dtype: Any) -> torch.dtype | None:
    """Check a precision by name or as torch has it.

    Parameters
    ----------
    dtype : {"auto", "float32", "bfloat16", "float16", "float64"} or torch.dtype

    Returns
    -------
    torch.dtype or None
        None for ``"auto"``: what is there.

    Raises
    ------
    InputError
        If it is none of these.
    """
    if isinstance(dtype, str) and dtype in ("auto", *_DTYPES):
        return _DTYPES.get(dtype)
    if isinstance(dtype, torch.dtype) and dtype in _DTYPES.values():
        return dtype
    raise InputError(
        f"dtype={dtype!r} was given; expected 'auto' (as stored), {', '.join(map(repr, _DTYPES))} or one of these as a "
        "torch.dtype, such as torch.bfloat16."
    )


def cast(hf_model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Copy a model into another precision, and leave the given one as it is.

    What is saved with a model is cast, each tensor once, tied ones tied: parameters and persistent buffers. What it
    works out for itself (the angles of a rotary embedding) and what its family keeps in float32 stays as it is, as
    where ``from_pretrained`` is asked for that precision.

    Parameters
    ----------
    hf_model : transformers.PreTrainedModel
    dtype : torch.dtype

    Returns
    -------
    transformers.PreTrainedModel
        The given model itself where nothing is to be cast.

    Raises
    ------
    InputError
        If it is quantised, or cannot be copied.
    """
    if not isinstance(hf_model, PreTrainedModel):
        return hf_model  # which is refused with the reason by who looks into it
    if getattr(hf_model, "quantization_method", None) is not None:
        raise InputError(
            f"dtype={str(dtype).removeprefix('torch.')!r} was given with a quantised model, whose weights are packed "
            "numbers. Expected dtype='auto', or a model that was loaded without quantisation."
        )
    kept = _kept_in_float32(hf_model, dtype)
    instead: dict[int, Any] = {}
    for name, tensor in hf_model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point() or tensor.dtype == dtype:
            continue
        if id(tensor) not in instead and not kept.intersection(name.split(".")):
            twin = tensor.detach().to(dtype)
            of_module = isinstance(tensor, torch.nn.Parameter)
            instead[id(tensor)] = torch.nn.Parameter(twin, tensor.requires_grad) if of_module else twin
    if not instead:
        return hf_model
    try:
        other = copy.deepcopy(hf_model, instead)
    except Exception as error:  # anything can be kept in a module
        raise InputError(
            f"dtype={str(dtype).removeprefix('torch.')!r} was given with a {type(hf_model).__name__} that cannot be "
            f"copied ({type(error).__name__}: {error}). Cast it yourself, hf_model.to({dtype}), and leave dtype out."
        ) from error
    other.config.dtype = dtype
    return other


def _kept_in_float32(hf_model: PreTrainedModel, dtype: torch.dtype) -> set[str]:
    """Names of modules that a family keeps in float32 in this precision."""
    strict = set(getattr(hf_model, "_keep_in_fp32_modules_strict", None) or ())
    if dtype == torch.float16:
        return strict | set(getattr(hf_model, "_keep_in_fp32_modules", None) or ())
    return strict if dtype == torch.bfloat16 else set()
