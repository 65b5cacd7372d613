"""What a stranger can send, tried by the hundred thousand: texts, addresses, messages, files, tokenizers, names.

``python -m tests.support.hostile [share] [kind …]`` tries all of it, or a share of it, such as 0.1, and prints how much
of each kind was tried. Each try is made from its kind's name and its number alone, so that one that fails can be made
again. Held of every try:

- it gives a result or an `AttnxrError`, and nothing is logged as an error;
- it takes at most `SECONDS` of processor time, and all of them together at most `MEMORY` more than before them;
- nothing is written but in the folder for temporary files and in the caches of compiled code, no process is started
  but the reader of files, and no connection is opened;
- what is shown is text: no markup of theirs stands in a page, no formula in a table, no path in a file's name.
"""

from __future__ import annotations

import asyncio
import csv
import faulthandler
import io
import json
import logging
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, quote_plus

import panel as pn
import transformers

import attnxr
from attnxr import saved
from attnxr.dashboard.address import codec
from attnxr.dashboard.address.history import History
from attnxr.dashboard.compute.answering import answer_request
from attnxr.dashboard.compute.worker import Worker
from attnxr.dashboard.files import exports, standalone
from attnxr.dashboard.parts import Part, Tabs
from attnxr.dashboard.rows.neighbors import neighbor_table, sequence_table, token_chips
from attnxr.dashboard.session.answer import Answer
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.dashboard import PANELS, Dashboard
from attnxr.errors import AttnxrError
from attnxr.tokens import label
from tests.support import models

SECONDS = 20
MEMORY = 2 << 30
MARKUP = "<script>top.hurt=1</script><img src=x onerror=hurt()>"
_ODD = (
    *("", " ", "\0", "\r\n", "\u202e", "\u200d", "\ufeff", "\ufffd", "\ud800", "\udfff", "\U0010ffff", "🍌", "ﷺ", "İ"),
    *(MARKUP, "</script>", "<!--", "]]>", "&lt;", "javascript:hurt()", "${hurt}", "{{ 7*7 }}", "{% raw %}", "$$x$$"),
    *('=HYPERLINK("x")', "+1", "-1", "@SUM(A1)", "'=1", "\t=1", " =1", '";=1', "|calc", "%00", "%s%n", "%(a)s", "{0}"),
    *("../../etc/passwd", "..\\..\\boot.ini", "/dev/zero", "C:\\con", "file:///etc/passwd", "http://127.0.0.1/", "nul"),
    *("[MASK]", "<mask>", "[CLS][SEP]", "##a", "Ġ", "<0x0A>", "null", "NaN", "Infinity", "1e999", "-0", "true", "[]"),
)
_NUMBERS = (0, 1, -1, 2, 3, 7, 40, 255, 1 << 15, -(1 << 31) + 1, (1 << 31) - 1, 1 << 31, 1 << 63, 1 << 200)
_OTHERS: tuple[Any, ...] = (None, True, False, 0.5, float("nan"), float("inf"), [], {}, [[]], {"a": 1}, ["text"], b"\0")

Tries = Iterator[object]


def text(chance: Random, most: int = 60) -> str:
    """A text of characters of every plane, surrogates too, with what is odd among them."""
    planes = (lambda: chance.randrange(0x80), lambda: chance.randrange(0x10000), lambda: chance.randrange(0x110000))
    pieces = (
        lambda: "".join(chr(chance.choice(planes)()) for _ in range(chance.randrange(1, 12))),
        lambda: chance.choice(_ODD),
        lambda: chance.choice(_ODD) * chance.randrange(1, 9),
        lambda: chance.choice(("time ", "flies", " like an arrow. ")),
    )
    return "".join(chance.choice(pieces)() for _ in range(chance.randrange(1, 9)))[:most]


@cache
def shelf() -> dict[str, attnxr.Model]:
    """The models that are offered."""
    bert = attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer(), name="bert")
    return {"bert": bert, "roberta": attnxr.Model(models.tiny_roberta(), models.byte_level_tokenizer(), name="roberta")}


def _silent(_said: str, _fraction: float | None) -> None:
    pass


def _hold_error(error: AttnxrError, secret: str = "") -> None:
    assert 0 < len(str(error)) < 20_000
    assert not secret or secret not in str(error)


def labels(chance: Random, most: int) -> Tries:
    """Tokens and what they stand for, as a person sees them."""
    for _ in range(most):
        token, means = text(chance, 12), text(chance, 12)
        shown = label(token, means)
        assert all(each.isprintable() for each in shown)
        json.dumps(shown).encode()
        yield token, means


def cells(chance: Random, most: int) -> Tries:
    """Cells of a table in a file."""
    for _ in range(most):
        token = text(chance, 20)
        written = exports.cell(token)
        assert not written.lstrip(" \u00a0\n\v\f").startswith(("=", "+", "-", "@", "\t", "\r")), written
        assert (written[1:] if written.startswith("'") else written) == token
        yield token


def file_names(chance: Random, most: int) -> Tries:
    """Names of files that a page gives, of models with names of strangers."""
    for _ in range(most):
        said = text(chance, chance.choice((5, 40, 5000))), text(chance, chance.choice((5, 5000)))
        name = exports.plain_name(*said, suffix="csv")
        stem, dot, suffix = name.rpartition(".")
        assert (dot, suffix) == (".", "csv")
        assert stem.startswith("attnxr")
        assert stem.replace("-", "").isalnum()
        assert name.isascii()
        assert len(name) <= 255
        yield said


def addresses(chance: Random, most: int) -> Tries:
    """Queries of addresses, read into a page that shows something, and written again."""
    for first in range(0, most, 50):
        state = State(["bert", "roberta"], text="Time flies.")
        history = History(state, "")
        state.land(_answer())
        for _ in range(min(50, most - first)):
            query = _query(chance)
            target = codec.read(query, state, {})
            assert len("".join(target.notices)) < 20_000
            assert target.inputs["model"] in shelf()
            assert len(target.inputs["text"]) <= codec.MOST_CHARACTERS
            history.part._handle_msg({"query": query})
            codec.write(state)[0].encode("ascii")
            yield query


def _query(chance: Random) -> str:
    def value() -> str:
        asked = chance.choice((text(chance), chance.choice(_ODD), str(chance.choice(_NUMBERS)), "on", "off", "dot"))
        return chance.choice((quote, quote_plus, str))(asked.encode(errors="surrogatepass"), *()) if asked else asked

    names = [chance.choice((*codec.NAMES, "tab", "heads", text(chance, 6))) for _ in range(chance.randrange(8))]
    said = chance.choice("&&&;").join(f"{name}={value()}" for name in names)
    return chance.choice(("?", "", "#", "??")) + chance.choice((said, said, said, said * 60, text(chance, 3000)))


def messages(chance: Random, most: int) -> Tries:
    """Messages to every part of a page with its worker, of the part's form and of none."""
    left = most
    while left > 0:
        batch = [*_sent(chance, min(left, 100))]
        left -= len(batch)
        yield from batch


def _sent(chance: Random, most: int) -> list[object]:
    async def visit() -> list[object]:
        sent: list[object] = []
        state = State(list(shelf()), text="Time flies.")
        state.land(_answer())
        worker, page = Worker(state, shelf().__getitem__), Dashboard(state)
        try:
            for state.panel in PANELS:
                pass
            parts = _parts(page)
            assert len({type(each) for each in parts}) >= 12
            for number in range(most):
                part = chance.choice(parts)
                data = _message(chance, part)
                sent.append((type(part).__name__, data))
                part._handle_msg(data)
                if number % 5 == 0:
                    await asyncio.sleep(0)
            await _rest(state)
            _check(state)
        finally:
            worker.close()
            page.cleanup()
            pn.state.reset()
        return sent

    return asyncio.run(visit())


def _parts(page: Dashboard) -> list[Part]:
    found: list[Part] = list(pn.Column(page).select(Part))
    for tabs in [each for each in found if isinstance(each, Tabs)]:
        for view in tabs.views:
            found += view.select(Part)
    return found


def _message(chance: Random, part: Part) -> Any:
    known: dict[str, Any] = dict(part._sends)
    if chance.random() < 0.2:
        return chance.choice((*_OTHERS, text(chance), {chance.choice((*known, "a")): chance.choice(_OTHERS)}))
    said: dict[str, Any] = {}
    fields = [(each["name"], each["options"]) for each in getattr(part, "fields", ())]
    if fields and chance.random() < 0.8:
        name, options = chance.choice(fields)
        return {"name": name, "value": chance.choice(options)[0] if options else chance.choice((True, text(chance)))}
    for name, takes in known.items():
        words = (*PANELS, "png", "svg", "pin", "netcdf", "choose", "order", "search")
        drawn = (_any(chance, words) for _ in range(30))
        said[name] = next((value for value in drawn if takes(value)), chance.choice(_OTHERS))
    return said


def _any(chance: Random, words: tuple[str, ...]) -> Any:
    return chance.choice((chance.choice(_NUMBERS), chance.choice(words), text(chance), chance.choice((True, False))))


async def _rest(state: State) -> None:
    """Wait until nothing is being done."""
    deadline = time.monotonic() + 120
    while any(each.name.startswith("attnxr-") and _works(each) for each in threading.enumerate()):
        if time.monotonic() > deadline:
            faulthandler.dump_traceback()
            raise AssertionError("jobs do not end")
        await asyncio.sleep(0.01)
    for _ in range(20):
        await asyncio.sleep(0.01)


def _works(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_name == "_outcome":
            return True
        frame = frame.f_back
    return False


def _check(state: State) -> None:
    assert state.model in shelf()
    answer = state.answer
    if answer is not None:
        assert all(getattr(state, name) < size for name, size in answer.sizes.items())


@cache
def _answer() -> Answer:
    return answer_request(State(list(shelf()), text="Time flies.").request, shelf().__getitem__, _silent)


def texts(chance: Random, most: int) -> Tries:
    """Texts that are read, and all that a page says of them."""
    for number in range(most):
        asked = text(chance, chance.choice((3, 60, 60, 5000)))
        state = State(list(shelf()), text=asked)
        state.model = chance.choice(list(shelf()))
        try:
            answer = answer_request(state.request, shelf().__getitem__, _silent)
        except AttnxrError as error:
            _hold_error(error)
        else:
            state.land(answer)
            chips = json.dumps(token_chips(answer.encodings))
            assert chips.isprintable()
            _hold_tables(answer)
            if number % 20 == 0:
                _hold_page(standalone.page(answer, standalone.Selection(0, 0, state.position)))
        yield asked


def _hold_tables(answer: Answer) -> None:
    for table in (neighbor_table(answer, 0, 0), sequence_table(answer, 0, 0)):
        rows = csv.reader(io.StringIO(exports.table_csv(table, "token").decode("utf-8-sig")))
        for row in list(rows)[1:]:
            assert not any(each.startswith(("=", "+", "@", "\t", "\r")) for each in row), row


class _Markup(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs), attrs
        assert not any((value or "").startswith("javascript:") for _, value in attrs), attrs


def _hold_page(made: bytes) -> None:
    """A page has the markup of any other page, and no more."""
    found = _Markup()
    found.feed(made.decode())
    assert sorted(found.tags) == _usual_tags()


@cache
def _usual_tags() -> list[str]:
    usual = _Markup()
    usual.feed(standalone.page(_answer(), standalone.Selection(0, 0, 1)).decode())
    return sorted(usual.tags)


def tokenizers(chance: Random, most: int) -> Tries:
    """Entries of vocabularies that are markup, formulas and worse: each is a try."""
    left = most
    while left > 0:
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        odd = {text(chance, 15).encode(errors="replace").decode() for _ in range(300)}
        names = list(dict.fromkeys([*special, *"abcdefghij", *sorted(odd - {""})]))[:390]
        tokenizer = transformers.BertTokenizer(vocab={name: i for i, name in enumerate(names)})
        model = attnxr.Model(models.tiny_bert(vocab_size=400), tokenizer, name=text(chance, 20))
        state = State([model.name], text=f"a {chance.choice(_ODD[14:])} b")
        answer = answer_request(state.request, {model.name: model}.__getitem__, _silent)
        state.land(answer)
        _hold_tables(answer)
        _hold_page(standalone.page(answer, standalone.Selection(0, 0, 1), dark=chance.random() < 0.5))
        exports.citation(answer)
        left -= len(odd)
        yield from sorted(odd)[: left + len(odd)]


def zips(chance: Random, most: int) -> Tries:
    """Stores in zips whose entries have other names, or say something else."""
    with tempfile.TemporaryDirectory(prefix="attnxr-hostile-") as folder:
        entries = _entries(Path(folder))
        for number in range(most):
            changed = dict(entries)
            for _ in range(chance.randrange(1, 4)):
                name = chance.choice(list(changed))
                content = changed.pop(name)
                if name.endswith(".json") and chance.random() < 0.7:
                    changed[name] = _other_json(chance, content)
                else:
                    changed[chance.choice((text(chance), f"../../{name}", f"/tmp/{name}", name * 20))] = content
            path = Path(folder) / "sent.zip"
            with zipfile.ZipFile(path, "w") as written:
                for name, content in changed.items():
                    written.writestr(name.encode(errors="replace").decode().replace("\0", "?") or "?", content)
            try:
                saved.read(path)
            except AttnxrError as error:
                _hold_error(error)
            yield number


def _entries(folder: Path) -> dict[str, bytes]:
    near = _answer().neighbors.drop_encoding()
    near.to_zarr(folder / "store", zarr_format=3, consolidated=False)
    there = sorted(each for each in (folder / "store").rglob("*") if each.is_file())
    return {each.relative_to(folder / "store").as_posix(): each.read_bytes() for each in there}


def _other_json(chance: Random, content: bytes) -> bytes:
    """Metadata with one of its values, somewhere inside, replaced."""
    try:
        said = json.loads(content)
    except ValueError:  # cut before
        return content
    places: list[tuple[Any, Any]] = []

    def look(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node) if isinstance(node, list) else 0):
            places.append((node, key))
            look(node[key])

    look(said)
    if places:
        node, key = chance.choice(places)
        value = chance.choice((*_NUMBERS, *_OTHERS[:-1], text(chance), "float64", "int8", "<U99999999", [1 << 40]))
        node[key] = value
    return json.dumps(said).encode()[: None if chance.random() < 0.9 else chance.randrange(1, 200)]


def files(chance: Random, most: int) -> Tries:
    """Files with other bytes, or fewer, given to the reader in a process of its own."""
    whole = saved.write(_answer().encodings, _answer().neighbors)
    with tempfile.TemporaryDirectory(prefix="attnxr-hostile-") as folder:
        path = Path(folder) / "sent.nc"
        for number in range(most):
            content = bytearray(whole)
            for _ in range(chance.choice((1, 10, 1000))):
                content[chance.randrange(len(content) if chance.random() < 0.3 else 4096)] = chance.randrange(256)
            path.write_bytes(content if chance.random() < 0.8 else content[: chance.randrange(len(content))])
            try:
                saved.read_apart(path)
            except AttnxrError as error:
                _hold_error(error, folder)
            yield number


def model_names(chance: Random, most: int) -> Tries:
    """Names of models that nobody has."""
    for _ in range(most):
        name = text(chance, chance.choice((5, 40, 5000)))
        try:
            attnxr.load_model(name)
        except AttnxrError as error:
            _hold_error(error)
        else:
            raise AssertionError(f"{name!r} was loaded")
        yield name


KINDS: dict[str, tuple[Callable[[Random, int], Tries], int]] = {
    "tokens as they are shown": (labels, 40_000),
    "cells of tables": (cells, 20_000),
    "names of files": (file_names, 10_000),
    "addresses": (addresses, 20_000),
    "messages to parts": (messages, 10_000),
    "texts": (texts, 2_000),
    "entries of tokenizers": (tokenizers, 3_000),
    "stores in zips": (zips, 1_000),
    "files": (files, 40),
    "names of models": (model_names, 500),
}
"""What tries each kind, and how often."""


class _TooLongError(BaseException):  # no Exception: attnxr would tell it as its own
    pass


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("attnxr"):
            self.said.append(record.getMessage())


_CHANGES = {
    "os.mkdir": (0, 2),
    "os.remove": (0, 1),
    "os.rename": (1, 3),
    "os.rmdir": (0, 1),
    "os.symlink": (1, 2),
    "os.truncate": (0, None),
}
"""Python's audit events of a changed file: which argument is its name, which the open folder it is in (-1: none)."""


class _Guard:
    """What is written, started or connected to while it watches; a hook of Python's own, which cannot be taken away."""

    def __init__(self) -> None:
        self.watching = False
        self.seen: list[str] = []
        caches = (os.environ.get("NUMBA_CACHE_DIR", ""), os.environ.get("HF_HOME", ""))
        self._places = tuple(os.path.realpath(each) for each in (tempfile.gettempdir(), *caches) if each)
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.watching:
            return
        if event == "open" and isinstance(arguments[0], str | bytes):
            path, mode, flags = os.fsdecode(arguments[0]), arguments[1], arguments[2]
            writes = any(each in (mode or "") for each in "wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR)
            if writes and not self._may_be(path):
                self.seen.append(f"written: {path}")
        elif event in _CHANGES:
            name, folder = _CHANGES[event]
            if not self._may_be(os.fsdecode(arguments[name]), -1 if folder is None else arguments[folder]):
                self.seen.append(f"{event}: {arguments!r:.200}")
        elif event == "subprocess.Popen":
            if not {"attnxr.saved", "lscpu"} & set(arguments[1]):  # the latter by joblib, which counts cores
                self.seen.append(f"started: {arguments[1]}")
        elif event in ("socket.connect", "os.system", "os.exec", "os.posix_spawn"):
            self.seen.append(f"{event}: {arguments!r:.200}")

    def _may_be(self, path: str, folder: int = -1) -> bool:
        if folder >= 0:  # a name in a folder that is open: `shutil.rmtree` removes so
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
        real = os.path.realpath(path)
        return real.startswith((*self._places, "/dev/null")) or "__pycache__" in real


_guard = cache(_Guard)


@contextmanager
def _held() -> Iterator[None]:
    """Hold while something is tried that nothing is logged as an error, written or started."""
    errors, guard = _Errors(), _guard()
    logging.getLogger().addHandler(errors)
    guard.seen.clear()
    guard.watching = True
    try:
        yield
    finally:
        guard.watching = False
        logging.getLogger().removeHandler(errors)
    assert not errors.said, errors.said[0]
    assert not guard.seen, guard.seen[0]


def _too_long(_number: int, _frame: object) -> None:
    raise _TooLongError(f"it takes more than {SECONDS} s of processor time")


def tried(kind: str, share: float = 1.0) -> int:
    """Try a kind, or a share of it; gives how often. What does not hold is raised, with the number of the try."""
    tries, most = KINDS[kind]
    count, parts = 0, max(1, round(20 * share))
    for part in range(parts):  # each has a beginning of its own, so that one of them can be made again
        wanted = max(1, round(most * share / parts))
        old = signal.signal(signal.SIGVTALRM, _too_long)
        try:
            with _held():
                made = tries(Random(f"{kind} {part}"), wanted)
                while True:
                    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS * (100 if tries is messages else 1))
                    try:
                        next(made)
                    except StopIteration:
                        break
                    count += 1
        except BaseException as error:
            error.add_note(f"{kind}: part {part} of {wanted} tries each, after {count} in all")
            raise
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, old)
    return count


def main() -> None:
    arguments = sys.argv[1:]
    share = float(arguments.pop(0)) if arguments and arguments[0].replace(".", "").isdigit() else 1.0
    os.environ["HF_HUB_OFFLINE"] = "1"
    _answer()
    begins, total = _memory(), 0
    for kind in arguments or KINDS:
        since = time.process_time()
        count = tried(kind, share)
        total += count
        print(f"{count:>8,} {kind} ({time.process_time() - since:.0f} s)", flush=True)
    print(f"{total:>8,} in all; {(_memory() - begins) >> 20} MiB more at most than before them")
    assert _memory() - begins <= MEMORY


def _memory() -> int:
    """The most bytes that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
