"""A real server and a real Chromium. Nothing the page does may go unseen: errors and requests are collected."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from playwright.sync_api import Browser, expect, sync_playwright

import attnxr
from attnxr.corpus.measures import DEFAULT
from tests.browser.answering import wait_for
from tests.browser.visitor import FLAGS, Visitor
from tests.support import corpus, models

ROOT = Path(__file__).parents[2]
PANEL = [str(Path(sys.executable).with_name("panel")), "serve", "app"]
MISSING = "no-such-model"
HOSTILE = "<img src=x onerror=alert(1)>"
SENTENCES = [
    "Time flies like an arrow.",
    "Fruit flies like a banana.",
    "The dog flies like a dog.",
    "flies flies flies",
]
PATIENCE = 60_000  # milliseconds; for all that is waited for, so that a busy machine is no failure
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """An installed Chromium. It ends with this folder: while sync Playwright runs, ``asyncio.run`` fails."""
    with sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        installed = [path for path in (shutil.which(name) for name in names) if path]
        path = next(iter([*installed, playwright.chromium.executable_path]))
        if not Path(path).exists():
            reason = "no Chromium is installed: `playwright install chromium`, or the system's package, brings one"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of another shape than minilm, with a byte-level vocabulary; its weights are random."""
    folder = tmp_path_factory.mktemp("tiny-roberta")
    return str(models.save(folder, models.tiny_roberta(), models.byte_level_tokenizer()))


@pytest.fixture(scope="session")
def decoder_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A decoder with its head for language, whose tokenizer has a token that begins a text and a template of chats."""
    folder = tmp_path_factory.mktemp("tiny-gpt2")
    return str(models.save(folder, models.tiny_gpt2(), models.decoder_tokenizer()))


@pytest.fixture(scope="session")
def decoder_server(decoder_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the app, started with the decoder first."""
    with _serve(tmp_path_factory.mktemp("server"), PANEL, ROOT, "--args", decoder_folder, "minilm") as address:
        yield address


@pytest.fixture(scope="session")
def two_stacks_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An encoder-decoder with its head for language, whose stacks differ in their number of layers."""
    folder = tmp_path_factory.mktemp("tiny-t5")
    return str(models.save(folder, models.tiny_t5(), models.byte_level_tokenizer()))


@pytest.fixture(scope="session")
def two_stacks_server(two_stacks_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the app, started with the encoder-decoder first."""
    with _serve(tmp_path_factory.mktemp("server"), PANEL, ROOT, "--args", two_stacks_folder, "minilm") as address:
        yield address


@pytest.fixture(scope="session")
def minilm_model() -> attnxr.Model:
    return attnxr.load_model("minilm")


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: str) -> attnxr.Model:
    return attnxr.load_model(tiny_folder)


@pytest.fixture(scope="session")
def newcomers_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the app, served as the README says."""
    with _serve(tmp_path_factory.mktemp("server"), PANEL, ROOT) as address:
        yield address


@pytest.fixture(scope="session")
def command_server(tiny_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the app, served by attnxr's own command, which needs no checkout."""
    command = [sys.executable, "-m", "attnxr", "serve", tiny_folder, "--model", "minilm"]
    with _serve(tmp_path_factory.mktemp("server"), command, tmp_path_factory.mktemp("empty")) as address:
        yield address


@pytest.fixture(scope="session")
def server(tiny_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the app, started with models of the server's own choice: the first one answers quickly."""
    with _serve(tmp_path_factory.mktemp("server"), PANEL, ROOT, "--args", tiny_folder, "minilm", MISSING) as address:
        yield address


@pytest.fixture(scope="session")
def heads_server(tiny_folder: str, tiny_model: attnxr.Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the app with a corpus, of which each third word of the vocabulary is a script."""
    ids = [tiny_model.encode(text).token_id.values.tolist() for text in SENTENCES]
    tree = corpus.tree(tiny_model, ids, DEFAULT)
    tokens = tree["tokens"].to_dataset()
    for name in ("vocab_token", "vocab_text"):
        tokens[name][::3] = HOSTILE
    folder = tmp_path_factory.mktemp("server")
    xr.DataTree.from_dict({"tokens": tokens, "atlas": tree["atlas"].to_dataset()}).to_zarr(
        folder / "it.zarr", consolidated=False
    )
    with _serve(folder, PANEL, ROOT, "--args", tiny_folder, "--corpus", str(folder / "it.zarr")) as address:
        yield address


@contextmanager
def _serve(folder: Path, command: list[str], where: Path, *arguments: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "log.txt"
    command = [*command, "--address", "127.0.0.1", "--port", str(port), *arguments]
    with log.open("w") as output:
        # A process group of its own: whatever it starts ends with it.
        process = subprocess.Popen(command, cwd=where, stdout=output, stderr=output, start_new_session=True)
        try:
            wait_for(f"http://127.0.0.1:{port}/", process, log)
            yield f"http://127.0.0.1:{port}/app"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
    assert _failures(log.read_text()) == []


def _failures(said: str) -> list[str]:
    """Last lines of the tracebacks in a log. That a visitor leaves while something is on its way to him is none."""
    raised = re.findall(r"^[\w.]+(?:Error|Exception|Interrupt)\b.*", said, re.MULTILINE)
    return [line for line in raised if not re.match(r"tornado\.\w+\.(WebSocket|Stream)ClosedError", line)]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[[str], Any]]:
    """Open an address in a browser of its own, any number of times."""
    contexts, troubles = [], []

    def open_page(address: str) -> Any:
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: troubles.append(f"page error: {error}"))
        page.on("console", lambda said: troubles.extend(_complaint(said)))
        page.on("requestfailed", lambda request: troubles.extend(_failed(request)))
        page.on("request", lambda request: None if _is_ours(request.url) else troubles.append(f"asked: {request.url}"))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == [], troubles


@pytest.fixture
def arrive(open_page: Callable[[str], Any]) -> Callable[[str], Visitor]:
    """Open the page as a new visitor, any number of times."""

    def arrive(address: str) -> Visitor:
        visitor = Visitor(open_page(address))
        visitor.wait()
        return visitor

    return arrive


def _complaint(said: Any) -> list[str]:
    """What is said on the console, where it is an error or a warning; that JupyterLab starts slowly is none."""
    slow = re.match(r"Plugin \S+ (is taking too long to activate|\(with .* took .* to activate)", said.text)
    return [said.text] if said.type in ("error", "warning") and not slow else []


def _failed(request: Any) -> list[str]:
    """A request by its address, unless it asks for the head of an answer alone: Chromium calls that one failed.

    Panel 1.10 asks in this way whether Jupyter serves its files. An answer that did not come is said on the console.
    """
    return [] if request.method == "HEAD" else [f"failed: {request.url}"]


def _is_ours(address: str) -> bool:
    return address.startswith(("http://127.0.0.1:", "data:", "blob:"))


@pytest.fixture
def visitor(arrive: Callable[[str], Visitor], server: str) -> Visitor:
    return arrive(server)


def pytest_exception_interact(node: pytest.Item, call: pytest.CallInfo[Any]) -> None:
    """End the run where a test waited for ever: what interrupts it leaves Playwright so that the next one would too."""
    if call.excinfo is not None and "from pytest-timeout" in str(call.excinfo.value):
        node.session.shouldfail = f"{node.nodeid} waited for the browser for ever"
