"""How fast a corpus is built, on all-MiniLM-L6-v2 and the language reference that comes with Python.

    python benchmarks/corpus.py            about 30,000 tokens, several times over: some ten minutes
    python benchmarks/corpus.py --quick    a few texts: shows that all of it works, and no more

Everything has one thread in each process. The floor is what the same batches of texts take in the bare model, and,
where neighbours are searched, the bare matrix products of all head encodings with the vocabulary's. Times that are
compared are of one run, by turns; a store is made anew each time, reading the texts and finishing the atlas included.
"""

import argparse
import subprocess
import sys
import tempfile
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
from benchmarks.parts.measure import interleaved, say, seconds
from benchmarks.parts.report import Report, Table, in_mib, in_seconds, times

OF_EACH_TOKEN = ("roles", "looking", "own", "words", "examples")
TILE = 2048  # vocabulary entries in a product
UNIT = 4096
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


def speed(model: Model, given: list[str], repeat: int) -> Report:
    """Tokens per second against the floor: of roles alone, and of all that looks at each token."""
    forward, floor = Floor(model, given, products=False), Floor(model, given, products=True)
    functions: dict[str, Callable[[], object]] = {
        "forward passes": forward,
        "roles": Built(model, given, measures=["roles"]),
        "forward passes and bare products": floor,
        ", ".join(OF_EACH_TOKEN): Built(model, given, measures=OF_EACH_TOKEN),
    }
    say("one process")
    took = interleaved(functions, repeat)
    bare, roles, both, whole = took.values()
    table = Table(f"{forward.tokens:,} tokens of {len(given):,} texts, one thread", ("", "time", "tokens/s"))
    table.rows += [(name, in_seconds(each), f"{forward.tokens / each:,.0f}") for name, each in took.items()]
    report = Report([table])
    report.target("roles alone", {"minilm": bare / roles}, 0.8, "of the forward pass", at_most=False)
    report.target("corpus", {"minilm": both / whole}, 0.7, "of forward pass and products", at_most=False)
    return report


def workers(model: Model, given: list[str], repeat: int) -> Report:
    """Two workers of one thread each against one."""
    took = {}
    for count in (1, 2):
        say(f"{count} workers")
        with cluster.local(count) as client:
            build = Built(model, given, measures=OF_EACH_TOKEN, client=client)
            Built(model, given[:8], measures=OF_EACH_TOKEN, client=client)()
            took[count] = min(seconds(build) for _ in range(repeat))
    table = Table("Workers of one thread each, the model loaded by each for every corpus", ("workers", "time", "speed"))
    table.rows += [(str(count), in_seconds(each), times(took[1] / each)) for count, each in took.items()]
    report = Report([table])
    report.target("two workers", {"minilm": took[1] / took[2]}, 1.7, "× one worker", at_most=False)
    return report


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
            again, Path(folder) / "corpus.zarr", model, measures=OF_EACH_TOKEN, layers=[0, 3], unit_tokens=UNIT
        )
    return gauge.peak


def sizes(model: Model, given: list[str]) -> Report:
    """Bytes of each token in the store, of each variable that can be kept, and for all else."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "corpus.zarr"
        attnxr.build_corpus(given, store, model, measures=OF_EACH_TOKEN, keep=tuple(KEPT), unit_tokens=UNIT)
        tokens = Plan.read(str(store)).n_tokens
        of = {name: _size(store / "results" / name) for name in KEPT}
        rest = {"tokens": _size(store / "tokens"), "atlas": _size(store / "atlas"), "states": _size(store / "attnxr")}
    table = Table(f"Bytes in the store, of {tokens:,} tokens", ("", "a token", "a token, layer and head"))
    heads = model.n_layers * model.n_heads
    table.rows += [(name, f"{size / tokens:,.1f}", f"{size / tokens / heads:.2f}") for name, size in of.items()]
    table.rows += [(name, f"{size / tokens:,.1f}", "") for name, size in rest.items()]
    return Report([table], ["The atlas does not grow with the corpus, and states do with its units."])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few texts; every part")
    parser.add_argument("--part", choices=["speed", "workers", "memory", "sizes"], action="append", help="only these")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    options = parser.parse_args()
    count, repeat = (6, 1) if options.quick else (700, 3)
    model, given = attnxr.load_model("minilm"), texts(count)
    parts: dict[str, Callable[[], Report]] = {
        "speed": lambda: speed(model, given, repeat),
        "workers": lambda: workers(model, given, repeat),
        "memory": lambda: memory(min(count, 200)),
        "sizes": lambda: sizes(model, given[:200]),
    }
    print(f"{measure.machine()}; memory: {measure.memory_gauge()}", end="\n\n", flush=True)
    for name, run in parts.items():
        if options.part and name not in options.part:
            continue
        report = run()
        if options.quick:
            report.verdicts.clear()  # of a few texts they mean nothing
        print(report.markdown() if options.markdown else report.text(), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
