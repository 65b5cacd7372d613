"""What a browser may send to a part: each field of a message by its name, and what its value may be.

A message is a stranger's input. What is not of its part's form is ignored, and the log says so in lines that grow with
the logarithm of how many there are, and have nothing of the message in them.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

Field = Callable[[object], bool]
"""Whether a value is one that the field may have."""

_MOST_STEPS = 1 << 31

_logger = logging.getLogger(__name__)
_ignored = itertools.count(1)


def string(most: int) -> Field:
    """A field of at most so many characters."""
    return lambda value: isinstance(value, str) and len(value) <= most


def index() -> Field:
    """A field that is a whole number: which of a list, where −1 and what is beyond its end are none of it."""
    return lambda value: type(value) is int and -_MOST_STEPS < value < _MOST_STEPS


def one_of(*values: object) -> Field:
    """A field that has one of some values: 1 and 1.0 are not True."""
    return lambda value: any(type(value) is type(each) and value == each for each in values)


def ignore(part: str) -> None:
    """Say that a part was sent what is not of its form, at the 1st, 2nd, 4th, 8th … time in this process."""
    count = next(_ignored)
    if count & (count - 1) == 0:
        _logger.warning("%s was sent what is no message to it; so far %d such messages were ignored", part, count)
