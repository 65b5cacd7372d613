"""Functions that numba compiles, and keeps on disk wherever there is a folder to keep them in."""

import logging
from collections.abc import Callable
from typing import Any

import numba

_logger = logging.getLogger(__name__)


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function when it is first called, without holding Python's lock while it runs.

    What is compiled is kept in the folder of the package, or in the user's cache where that cannot be written, so that
    the next process reads it in a moment. Where neither can be written, as in some containers or on a full disk, each
    process compiles for itself; ``NUMBA_CACHE_DIR`` names another folder. A file there that cannot be read is replaced.

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
            return _forgiving(numba.njit(nogil=True, cache=True, **options)(function))
        except RuntimeError:  # numba's word for: no folder
            return numba.njit(nogil=True, **options)(function)

    return decorate


def _forgiving(kernel: Any) -> Any:
    """Have a function compile where numba would fail for its folder: on a damaged file, or a full disk."""
    kept: Any = getattr(kernel, "_cache", None)
    load, save, flush = (getattr(kept, name, None) for name in ("load_overload", "save_overload", "flush"))
    if not (callable(load) and callable(save) and callable(flush)):
        return kernel

    def tried(what: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return what(*arguments)
        except Exception as error:  # a damaged pickle raises what it likes
            _logger.warning(
                "Compiled functions cannot be kept or read in %s (%s: %s), so this process compiles them for itself; "
                "NUMBA_CACHE_DIR names another folder.",
                kept.cache_path,
                type(error).__name__,
                error,
            )
            if what is load:
                tried(flush)
            return None

    kept.load_overload = lambda *arguments: tried(load, *arguments)
    kept.save_overload = lambda *arguments: tried(save, *arguments)
    return kernel
