"""A server of the page that builds corpora beside it, one after the other, in the same process."""

import sys
import tempfile
import threading
from pathlib import Path

import attnxr
from attnxr.dashboard.served.server import serve
from benchmarks.parts.app.server import MODEL
from benchmarks.parts.app.visits import text

_TEXTS, _WORDS = 8, 24


def _build() -> None:
    """Build corpora of other texts each time, and read the atlas of each."""
    model, turn = attnxr.load_model(MODEL), 0
    while True:
        with tempfile.TemporaryDirectory(prefix="attnxr-soak-") as folder:
            texts = [text(_WORDS, 20_000_000 + _TEXTS * turn + number) for number in range(_TEXTS)]
            attnxr.atlas(attnxr.build_corpus(texts, Path(folder) / "corpus", model)).load()
        turn += 1
        print(f"built {turn}", flush=True)


def main() -> None:
    threading.Thread(target=_build, daemon=True).start()
    serve([MODEL], port=int(sys.argv[1]), address="127.0.0.1")


if __name__ == "__main__":
    main()
