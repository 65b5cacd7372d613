"""What torch.compile and PEFT put around a model, taken off."""

import sys
from typing import Any

from attnxr.errors import UnsupportedModelError


def unwrapped(given: Any) -> Any:
    """Take off what torch.compile, or PEFT with an adapter inside the model, has put around it.

    Parameters
    ----------
    given : object
        A model or one of its modules.

    Returns
    -------
    object
        The module inside; the given one itself where nothing is around it. The layers of an adapter stand inside the
        model, in the places of its own, and stay there.

    Raises
    ------
    UnsupportedModelError
        If PEFT's wrapper does something itself, so that the model inside would compute something else.
    """
    given = getattr(given, "_orig_mod", given)
    peft = sys.modules.get("peft")  # where it was not imported, nothing is of it
    if peft is None or not isinstance(given, peft.PeftModel):
        return given
    for name, config in given.peft_config.items():
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        if config.is_prompt_learning or kind == "XLORA" or getattr(config, "alora_invocation_tokens", None):
            raise UnsupportedModelError(
                f"A {type(given).__name__} with the adapter {name!r} of type {kind} was given, which lies around the "
                "model: it puts vectors before the text, or chooses what its layers do by the text, so that the model "
                "inside alone would compute something else. Expected an adapter whose layers stand inside the model "
                "(LoRA, DoRA, IA3, …), or the model without one."
            )
    return unwrapped(given.get_base_model())
