"""How fast attnxr is, and how that compares: all measured in one process, with every answer judged.

    python benchmarks/compare.py              a sentence, all ways, against the bare matrix products
    python benchmarks/compare.py --long       long texts: time, and memory
    python benchmarks/compare.py --slice      one slice of the lazy distances
    python benchmarks/compare.py --factors    what is made once per model
    python benchmarks/compare.py --attribution  what heads promote, against the bare products
    python benchmarks/compare.py --scaling    how the cost grows; draws docs/scaling.png
    python benchmarks/compare.py --decompose  a pursuit of five words, against one search
    python benchmarks/compare.py --replace    head encodings replaced one at a time, on all-MiniLM-L6-v2
    python benchmarks/compare.py --doors      forward passes with capture, against bare ones
    python benchmarks/compare.py --quick      small shapes, every part: shows that all of it works, and no more

The other models have the sizes of real ones and random weights, so nothing is fetched. What is printed last are the
targets of the project, and whether they were reached. An answer of attnxr that is not exact ends the program with an
error.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a program: this checkout is what is measured
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.parts import (
    attribution,
    decompose,
    doors,
    factors,
    long_texts,
    measure,
    replacing,
    scaling,
    slices,
    whole_text,
)

PARTS = {
    "long": long_texts.run,
    "slice": slices.run,
    "factors": factors.run,
    "decompose": decompose.run,
    "attribution": attribution.run,
    "scaling": scaling.run,
    "replace": replacing.run,
    "doors": doors.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="512 tokens of RoBERTa-base's shape, 2,048 of a Llama's")
    parser.add_argument("--slice", action="store_true", help="one layer, head and position, all vocabulary entries")
    parser.add_argument("--factors", action="store_true", help="the first search of a new model")
    parser.add_argument("--attribution", action="store_true", help="what each head promotes and suppresses")
    parser.add_argument("--scaling", action="store_true", help="the cost against n, V, L·H and d")
    parser.add_argument("--decompose", action="store_true", help="words that add up, on minilm")
    parser.add_argument("--replace", action="store_true", help="replacements against whole forward passes")
    parser.add_argument("--doors", action="store_true", help="forward passes that keep what every head wrote")
    parser.add_argument("--quick", action="store_true", help="small shapes; every part, unless some are named")
    parser.add_argument("--markdown", action="store_true", help="print Markdown, as docs/cost.md has it")
    options = parser.parse_args()

    chosen = [run for name, run in PARTS.items() if getattr(options, name)]
    if not chosen:
        chosen = [whole_text.run, *(PARTS.values() if options.quick else ())]
    print(f"{measure.machine()}; memory: {measure.memory_gauge()}", end="\n\n", flush=True)
    for run in chosen:
        report = run(options.quick)
        if options.quick:
            report.verdicts.clear()  # of small shapes they mean nothing
        print(report.markdown() if options.markdown else report.text(), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
