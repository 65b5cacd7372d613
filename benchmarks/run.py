"""What the library costs, as ratios within one run: machines are noisy, ratios less so.

python benchmarks/run.py            a RoBERTa-base shape with random weights (about a minute)
python benchmarks/run.py --quick    a small one, to see that nothing has rotted
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import RobertaConfig, RobertaModel

import attnxr

TOKENS = 14
TILE = 4096


def best(function: Callable[[], object], repeat: int) -> float:
    """Return the shortest of several runs, in seconds, after one that is not counted."""
    function()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def build(quick: bool) -> RobertaModel:
    """Build a RoBERTa with random weights: the base shape, or a small one."""
    torch.manual_seed(0)
    shape = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
    if quick:
        shape |= {"vocab_size": 5000, "num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 4}
        shape |= {"intermediate_size": 256}
    return RobertaModel(RobertaConfig(**shape)).eval()


def bare_products(model: attnxr.Model) -> Callable[[], None]:
    """Only the float32 products of all queries with all vocabulary rows, tile by tile."""
    rows = torch.randn(model.n_heads, model.vocab_size, model.head_size)
    queries = torch.randn(model.n_heads, model.n_layers * TOKENS, model.head_size)

    def run() -> None:
        for start in range(0, model.vocab_size, TILE):
            for h in range(model.n_heads):
                torch.mm(queries[h], rows[h, start : start + TILE].T)

    return run


def import_seconds(statement: str) -> float:
    """Seconds that a fresh interpreter takes for a statement, less those for none."""

    def run(code: str) -> float:
        return best(lambda: subprocess.run([sys.executable, "-c", code], check=True), 3)

    return run(statement) - run("pass")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small model, few repetitions")
    quick = parser.parse_args().quick
    repeat = 2 if quick else 5

    hf_model = build(quick)
    load = best(lambda: attnxr.Model(hf_model), 1)
    model = attnxr.Model(hf_model)
    generator = np.random.default_rng(0)
    token_ids = generator.integers(4, model.vocab_size, TOKENS).tolist()
    inputs = torch.tensor([token_ids])

    with torch.no_grad():
        forward = best(lambda: hf_model(inputs), repeat)
    encode = best(lambda: model.encode(token_ids=token_ids), repeat)
    encodings = model.encode(token_ids=token_ids)

    start = time.perf_counter()
    model.neighbors(encodings.isel(layer=[0], head=[0], position=[0]))
    first = time.perf_counter() - start
    width = hf_model.config.hidden_size
    words, square = torch.randn(model.vocab_size, width), torch.randn(width, width)
    product = best(lambda: words @ square, repeat)
    products = best(bare_products(model), repeat)
    rows = [
        ("import attnxr", import_seconds("import attnxr"), None, ""),
        ("Model(hf_model), verified", load, None, ""),
        ("encode", encode, forward, "the bare forward pass"),
        ("first neighbors: factors and compilation", first, product, "one V×D×D product"),
    ]
    for metric in ("cosine", "euclidean", "dot", "centered_cosine"):
        seconds = best(lambda metric=metric: model.neighbors(encodings, metric=metric), repeat)  # type: ignore[misc]
        rows.append((f"neighbors, {metric}", seconds, products, "the bare tiled float32 products"))
    own_space = best(lambda: model.neighbors(encodings, vocab_layer="same"), repeat)
    rows.append(("neighbors, in each layer's own space", own_space, products, "the bare tiled float32 products"))
    rows.append(("verify", best(model.verify, repeat), forward, "the bare forward pass"))
    lazy = model.distances(encodings).distance
    rows.append(
        ("one slice of distances", best(lambda: lazy.isel(layer=1, head=1, position=1).values, repeat), None, "")
    )

    print(
        f"{model.n_layers} layers × {model.n_heads} heads × {model.head_size} features, V = {model.vocab_size}, "
        f"{TOKENS} tokens, k = 15; {torch.get_num_threads()} threads"
    )
    for name, seconds, against, what in rows:
        ratio = f"{seconds / against:8.2f} × {what}" if against else ""
        print(f"{name:42s} {1000 * seconds:10.1f} ms {ratio}")


if __name__ == "__main__":
    main()
