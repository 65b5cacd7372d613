"""Clocks and memory gauges."""

import ctypes
import gc
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

MIB = 1 << 20

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_EVERY = 0.002  # seconds between two samples


def seconds(function: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def cpu_seconds(function: Callable[[], object]) -> float:
    """How long the processor is at work for this process during one call, in all of its threads together.

    On a machine that does other things too, it says more than the clock; where there is one thread and no waiting,
    both say the same.
    """
    start = time.process_time()
    function()
    return time.process_time() - start


def best(function: Callable[[], object], repeat: int) -> float:
    """The shortest of several calls, after one that is not counted."""
    function()
    return min(seconds(function) for _ in range(repeat))


def interleaved(
    functions: dict[str, Callable[[], object]],
    repeat: int,
    clock: Callable[[Callable[[], object]], float] = seconds,
) -> dict[str, float]:
    """The shortest of several calls of each function, by turns, after a turn that is not counted.

    What slows the machine down for a while then slows all of them, and not one.
    """
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeat):
        for name, function in functions.items():
            times[name].append(clock(function))
    return {name: min(each) for name, each in times.items()}


def fresh_interpreter(statement: str, repeat: int) -> float:
    """Seconds that a statement takes in an interpreter of its own, less those for none."""

    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    took = interleaved({"with": lambda: run(statement), "without": lambda: run("pass")}, repeat)
    return took["with"] - took["without"]


class PeakMemory:
    """The most resident memory that this process has had within the block, and had when it began: `peak`, `before`.

    Linux keeps the high-water mark (VmHWM of /proc/self/status), and starts it anew when 5 is written to
    /proc/self/clear_refs: then nothing is missed. Elsewhere, and where a container forbids that, a thread looks every
    two milliseconds. Memory that was freed but not given back yet is given back first, where the C library can
    (malloc_trim), so that what reuses it is counted.
    """

    def __enter__(self) -> "PeakMemory":
        _give_back()
        self.before = self.peak = _resident()
        self._marked = _reset_mark()
        if not self._marked:
            self._done = threading.Event()
            self._thread = threading.Thread(target=self._sample, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._marked:
            self.peak = max(self.peak, _mark())
        else:
            self._done.set()
            self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(_EVERY):
            self.peak = max(self.peak, _resident())

    @property
    def beyond(self) -> int:
        """Bytes beyond what was there when the block began."""
        return self.peak - self.before


def memory_gauge() -> str:
    """How `PeakMemory` measures on this machine."""
    return "high-water mark of the kernel" if _reset_mark() else "sampled every 2 ms"


def _resident() -> int:
    return psutil.Process().memory_info().rss


def _reset_mark() -> bool:
    """Start the high-water mark anew, and say whether that was done."""
    try:
        _CLEAR.write_text("5")
        return 0 < _mark() < _resident() + 16 * MIB
    except OSError:
        return False


def _mark() -> int:
    lines = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


def _give_back() -> None:
    gc.collect()
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def say(what: str) -> None:
    """Say on stderr what is being done now."""
    print(f"… {what}", file=sys.stderr, flush=True)


def machine() -> str:
    """The machine and the versions that the numbers belong to, in one line."""
    packages = ("torch", "numba", "numpy", "transformers", "faiss-cpu", "scikit-learn", "attnxr")
    cores = psutil.cpu_count(logical=False) or os.cpu_count()
    memory = psutil.virtual_memory().total / (1 << 30)
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{_cpu()}, {cores} cores ({os.cpu_count()} threads of hardware), {memory:.0f} GiB, {platform.system()}; "
        f"{torch.get_num_threads()} threads; Python {platform.python_version()}, {versions}"
    )


def _cpu() -> str:
    """The processor's name; with its family and model where the name alone tells little."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = found.get("model name", platform.machine())
    if "cpu family" in found:
        name += f" (family {found['cpu family']}, model {found['model']})"
    return name
