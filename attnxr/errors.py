"""The errors a user can meet. Each message says what was given, what was expected and what to do next."""

from collections.abc import Sequence
from numbers import Integral
from typing import TypeVar

_T = TypeVar("_T", bound=str)


class AttnxrError(Exception):
    """Base of every error that attnxr raises on purpose."""


class InputError(AttnxrError, ValueError):
    """A text, a Dataset or an option is not of the form that was asked for."""


class TextTooLongError(InputError):
    """A text has more tokens than the model can take."""


class ModelNotFoundError(AttnxrError, OSError):
    """No model (or no tokenizer) could be had under the given name."""


class UnsupportedModelError(AttnxrError):
    """The model cannot be looked into, so that no number about it would be right."""


def choice(option: str, value: _T, allowed: Sequence[str]) -> _T:
    """Check one option's value; raises InputError with the values that are allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"{option}={value!r} was given; expected one of {', '.join(map(repr, allowed))}.")
    return value


def whole_number(option: str, value: object, least: int, most: int | None = None) -> int:
    """Check one option that is a number; raises InputError with the numbers that are allowed."""
    is_number = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_number or not least <= value <= (value if most is None else most):  # type: ignore[operator]
        allowed = f"{least} or more" if most is None else f"{least} to {most}"
        raise InputError(f"{option}={value!r} was given; expected a whole number, {allowed}.")
    return int(value)  # type: ignore[call-overload]
