"""How fast a corpus is built, on all-MiniLM-L6-v2 and the language reference that comes with Python.

    python benchmarks/corpus.py            some nine minutes on two quiet cores
    python benchmarks/corpus.py --cpu      where the machine does other things too: the processor's time for the clock's
    python benchmarks/corpus.py --quick    a few texts: shows that all of it works, and no more

Everything has one thread in each process. The floor is what the same batches of texts take in the bare model, whose
fused attention gives no weights, and, where neighbours are searched, the bare matrix products in float32 of all head
encodings with one vocabulary's. That the vocabulary is another one at each position, the order of entries, the own rank
and the writing of files are no part of it. Times that are compared are of one run, by turns; a store is made anew each
time, reading the texts and finishing the atlas included. What that takes whatever the texts are is that of one text;
with as few as some thousand tokens it would be most of what is measured. The processor's time of workers is that of the
one that is busiest, and of the process that hands out the units; each loads the model for every corpus.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

if not __package__:  # run as a program: this checkout is what is measured
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch

import attnxr
from attnxr.corpus import cluster
from attnxr.corpus.plan import Plan
from attnxr.corpus.schema import KEPT
from attnxr.corpus.unit import threads_limited
from attnxr.model import Model
from benchmarks.parts import measure
from benchmarks.parts.measure import cpu_seconds, interleaved, say, seconds
from benchmarks.parts.report import Report, Table, in_mib, in_seconds, times

OF_EACH_TOKEN = ("roles", "looking", "own", "words", "examples")
TILE = 2048  # vocabulary entries in a product
UNIT = 4096
SMALL_UNIT = 512  # where there are to be several of few texts
WORKERS_UNIT = 1024
WORKERS_TEXTS = 600  # of which a worker's second of loading and of tables is a small part
GROWTH = 10  # times as many texts, for memory


def texts(count: int) -> list[str]:
    """The first paragraphs of the language reference."""
    return list(islice(attnxr.texts_of("pydoc"), count))


class Built:
    """Builds corpora, each in a folder of its own that goes afterwards."""

    def __init__(self, model: Model, given: list[str], **options: Any):
        self.model, self.given = model, given
        self.options = {"unit_tokens": UNIT, **options}

    def __call__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            attnxr.build_corpus(self.given, Path(folder) / "corpus.zarr", self.model, **self.options)


class Floor:
    """What the batches of a corpus take in the bare model, and the bare products with the vocabulary."""

    def __init__(self, model: Model, given: list[str], products: bool):
        self.model, self.products = model, products
        with tempfile.TemporaryDirectory() as folder:
            store = Path(folder) / "corpus.zarr"
            attnxr.build_corpus(given, store, model, measures=["roles"], unit_tokens=UNIT)
            self.batches = list(_batches(Plan.read(str(store))))
        self.tokens = sum(batch.numel() for batch in self.batches)
        self.vocabulary = torch.randn(model.n_heads, model.head_size, model.vocab_size)

    def __call__(self) -> None:
        with threads_limited(1), torch.no_grad():
            for batch in self.batches:
                self.model.hf_model(input_ids=batch, attention_mask=torch.ones_like(batch))
                if self.products:
                    z = torch.randn(self.model.n_heads, self.model.n_layers * batch.numel(), self.model.head_size)
                    for head in range(self.model.n_heads):
                        for start in range(0, self.model.vocab_size, TILE):
                            torch.mm(z[head], self.vocabulary[head, :, start : start + TILE])


def _batches(plan: Plan) -> Any:
    """The token ids that go through the model together, as the plan has them."""
    for unit in plan.units:
        there = plan.texts(unit)
        mine = there.start >= plan.span(unit)[0]
        for length in np.unique(there.length[mine]):
            starts = there.start[mine & (there.length == length)] - there.first
            size = plan.texts_together(int(length))
            for first in range(0, len(starts), size):
                places = starts[first : first + size, None] + np.arange(length)
                yield torch.from_numpy(there.token_id[places])


def speed(model: Model, many: list[str], some: list[str], repeat: int, cpu: bool) -> Report:
    """Tokens per second against the floor: of roles alone, and of all that looks at each token."""
    forward, floor = Floor(model, many, products=False), Floor(model, some, products=True)
    functions: dict[str, Callable[[], object]] = {
        "forward passes": forward,
        "roles": Built(model, many, measures=["roles"]),
        "forward passes and bare products": floor,
        ", ".join(OF_EACH_TOKEN): Built(model, some, measures=OF_EACH_TOKEN),
        "the same of one text": Built(model, some[:1], measures=OF_EACH_TOKEN),
    }
    say("one process")
    took = interleaved(functions, repeat, cpu_seconds if cpu else seconds)
    bare, roles, both, whole, _ = took.values()
    counts = [forward.tokens, forward.tokens, floor.tokens, floor.tokens]
    table = Table(f"{len(many):,} texts, and {len(some):,} where all is measured; one thread", ("", "time", "tokens/s"))
    table.rows += [
        (name, in_seconds(each), f"{count / each:,.0f}" if count else "")
        for (name, each), count in zip(took.items(), [*counts, 0], strict=True)
    ]
    report = Report([table], [f"They make {len(forward.batches)} and {len(floor.batches)} batches of one length."])
    report.target("roles alone", {"minilm": bare / roles}, 0.8, "of the forward pass", at_most=False)
    report.target("corpus", {"minilm": both / whole}, 0.7, "of forward pass and products", at_most=False)
    return report


def workers(given: list[str], repeat: int, cpu: bool) -> Report:
    """Two workers of one thread each against one, by turns."""
    model = attnxr.load_model("minilm")
    took: dict[int, list[float]] = {1: [], 2: []}
    with cluster.local(1) as one, cluster.local(2) as two:
        for turn in range(repeat + 1):
            for count, client in ((1, one), (2, two)):
                say(f"{count} workers, turn {turn}")
                # The first turn has workers import and compile, and is not counted.
                some = given if turn else given[: max(2, len(given) // 8)]
                build = Built(model, some, measures=OF_EACH_TOKEN, client=client, unit_tokens=WORKERS_UNIT)
                clock, processor = _took(build, client)
                if turn:
                    took[count].append(processor if cpu else clock)
    fastest = {count: min(each) for count, each in took.items()}
    table = Table("Workers of one thread each, the model loaded by each for every corpus", ("workers", "time", "speed"))
    table.rows += [(str(count), in_seconds(each), times(fastest[1] / each)) for count, each in fastest.items()]
    report = Report([table])
    report.target("two workers", {"minilm": fastest[1] / fastest[2]}, 1.7, "× one worker", at_most=False)
    return report


def _took(build: Callable[[], object], client: cluster.Client) -> tuple[float, float]:
    """Seconds by the clock; and of the processor for the busiest worker and this process, one after the other."""
    before = client.run(time.process_time)
    own: list[float] = []
    clock = seconds(lambda: own.append(cpu_seconds(build)))
    after = client.run(time.process_time)
    return clock, own[0] + max(after[worker] - before[worker] for worker in before)


def memory(count: int) -> Report:
    """The most that a process takes for some texts, and for ten times as many."""
    peaks = {}
    for over in (1, GROWTH):
        say(f"memory of {over * count} texts")
        code = f"from benchmarks.corpus import peak; print(peak({count}, {over}))"
        root = Path(__file__).resolve().parent.parent
        done = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True)
        peaks[over * count] = int(done.stdout.split()[-1])
    table = Table("The most memory of a process, model and libraries included", ("texts", "memory"))
    table.rows += [(f"{number:,}", in_mib(each)) for number, each in peaks.items()]
    few, many = peaks.values()
    report = Report([table])
    report.target("memory", {f"{GROWTH} times the texts": many / few}, 1.1, "× the memory")
    return report


def peak(count: int, over: int) -> int:
    """Bytes that this process takes at most while it builds a corpus of `count` texts, each so many times over."""
    given = texts(count)
    model = attnxr.load_model("minilm")
    with measure.PeakMemory() as gauge, tempfile.TemporaryDirectory() as folder:
        again = (text for _ in range(over) for text in given)
        attnxr.build_corpus(
            again, Path(folder) / "corpus.zarr", model, measures=OF_EACH_TOKEN, layers=[0], unit_tokens=SMALL_UNIT
        )
    return gauge.peak


def sizes(model: Model, given: list[str]) -> Report:
    """Bytes of each token in the store, of each variable that can be kept, and for all else."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "corpus.zarr"
        chosen = sorted({0, model.n_layers - 1})  # the first and the last: bytes are told for each
        attnxr.build_corpus(
            given, store, model, measures=OF_EACH_TOKEN, keep=tuple(KEPT), layers=chosen, unit_tokens=UNIT
        )
        tokens = Plan.read(str(store)).n_tokens
        of = {name: _size(store / "results" / name) for name in KEPT}
        rest = {"tokens": _size(store / "tokens"), "atlas": _size(store / "atlas"), "states": _size(store / "attnxr")}
    table = Table(f"Bytes in the store, of {tokens:,} tokens", ("", "a token", "a token, layer and head"))
    heads = len(chosen) * model.n_heads
    table.rows += [(name, f"{size / tokens:,.1f}", f"{size / tokens / heads:.2f}") for name, size in of.items()]
    table.rows += [(name, f"{size / tokens:,.1f}", "") for name, size in rest.items()]
    of_what = f"Of the {heads} heads of layers {chosen}."
    return Report([table], [of_what, "The atlas does not grow with the corpus, and states do with its units."])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few texts; every part")
    parser.add_argument("--part", choices=["speed", "workers", "memory", "sizes"], action="append", help="only these")
    parser.add_argument("--cpu", action="store_true", help="the processor's time in place of the clock's")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    options = parser.parse_args()
    model, given = attnxr.load_model("minilm"), texts(6 if options.quick else 200)
    repeat = 1 if options.quick else 2
    parts: dict[str, Callable[[], Report]] = {
        "speed": lambda: speed(model, given, given[:90], repeat, options.cpu),
        "workers": lambda: workers(given if options.quick else texts(WORKERS_TEXTS), repeat, options.cpu),
        "memory": lambda: memory(min(len(given), 30)),
        "sizes": lambda: sizes(model, given[:90]),
    }
    clock = "the processor's time" if options.cpu else "the clock's time"
    print(f"{measure.machine()}; {clock}; memory: {measure.memory_gauge()}", end="\n\n", flush=True)
    for name, run in parts.items():
        if options.part and name not in options.part:
            continue
        report = run()
        if options.quick:
            report.verdicts.clear()  # of a few texts they mean nothing
        print(report.markdown() if options.markdown else report.text(), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
