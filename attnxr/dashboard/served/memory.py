"""Memory that is free goes back to the machine."""

import ctypes
import sys
import time
from collections.abc import Callable
from functools import cache
from threading import Thread

_EVERY = 20.0  # seconds
_WORK = 0.1  # seconds of the processor, of which there is something to give back


@cache  # one thread is enough
def give_back() -> None:
    """From now on, have a thread give back what is free, now and then after there was work.

    glibc keeps what a thread has freed for that thread's next need. Answers are computed by many threads, and a few
    small arrays that are kept of each stand between large ones that are not: 32 visitors in ten minutes left 1.7 GiB
    like that. Elsewhere than with glibc this does nothing.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        Thread(target=_go_on, args=(trim,), name="attnxr-memory", daemon=True).start()


def _go_on(trim: Callable[[int], object]) -> None:
    done = time.process_time()
    while True:
        time.sleep(_EVERY)
        if time.process_time() - done > _WORK:
            trim(0)
            done = time.process_time()
