"""Files that a view writes in Python: what the page's buttons send to a browser."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from attnxr.dashboard.session.answer import Answer
from attnxr.dashboard.session.state import State
from attnxr.errors import InputError
from attnxr.whole import write_whole


def save(file: str | Path, state: State, ways: Mapping[str, Callable[[Answer], bytes]]) -> None:
    """Write a file of a state's answer, in the way that its ending names.

    Parameters
    ----------
    file : str or pathlib.Path
        Where to write it; a file that is there is replaced.
    state : State
        What is shown.
    ways : mapping of str to callable
        What makes the file's bytes, by the ending with its dot.

    Raises
    ------
    InputError
        If the name is none, or has another ending, or there is no answer yet.
    """
    expected = " or ".join(ways)
    if not isinstance(file, str | Path):
        raise InputError(f"A {type(file).__name__} was given; expected the name of a file that ends with {expected}.")
    path = Path(file)
    make = ways.get(path.suffix.lower())
    if make is None:
        raise InputError(f"The file {str(file)!r} was given; expected a name that ends with {expected}.")
    if state.answer is None:
        raise InputError(
            f"There is no answer to write: {state.error or 'none is there yet'}. Expected a view that shows one: wait "
            "until view.state.answer is there, or ask something else."
        )
    replace(path, make(state.answer))


def replace(path: Path, content: bytes) -> None:
    """Write a file beside the old one and put it in its place, so that a full disk leaves the old one as it was."""
    there = path.resolve()
    write_whole(there, content, there.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}"))
