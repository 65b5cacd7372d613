"""Functions that numba compiles, and keeps on disk wherever there is a folder to keep them in."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function when it is first called, without holding Python's lock while it runs.

    What is compiled is kept in the folder of the package, or in the user's cache where that cannot be written, so that
    the next process reads it in a moment. Where neither can be written, as in some containers, each process compiles
    for itself; ``NUMBA_CACHE_DIR`` names another folder.

    Parameters
    ----------
    **options
        Of `numba.njit`. There is no ``fastmath``: it would regroup sums.

    Returns
    -------
    callable
        Makes a compiled function of a function.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # numba's word for: no folder
            return numba.njit(nogil=True, **options)(function)

    return decorate
