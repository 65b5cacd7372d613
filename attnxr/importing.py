"""Imports of a program that then runs for long."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quickly(name: str) -> Iterator[None]:
    """Import a module within it, and all that it needs, without looking for garbage.

    Imports make a million objects that stay. Python looks through them again and again meanwhile, which is a quarter of
    the time that they take. They are not looked through later either.

    Parameters
    ----------
    name : str
        Of the module. Where it was imported before, nothing is different.
    """
    if name in sys.modules:
        yield
        return
    thresholds = gc.get_threshold()
    # Not `gc.disable`: what dask.array finds disabled when it is imported, it disables again at each slice, for good.
    gc.set_threshold(0)
    try:
        yield
        gc.freeze()
    finally:
        gc.set_threshold(*thresholds)
