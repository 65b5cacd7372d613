"""A JupyterLab of its own: nothing of the user's settings in it, and nothing asked of other hosts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.browser.answering import wait_for

TOKEN = "0123456789abcdef"
_HOMES = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_SETTINGS_DIR")
_SETTINGS = {
    "apputils-extension/notification": '{"fetchNews": "false"}',
    "notebook-extension/tracker": '{"windowingMode": "none"}',  # cells that are out of sight are there all the same
}
_QUIET = [
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
]


@contextmanager
def lab(folder: Path, notebook: Path) -> Iterator[tuple[str, Path]]:
    """Serve a copy of a notebook; gives the address that opens it alone, and the copy."""
    work = folder / "work"
    work.mkdir()
    shutil.copy(notebook, work)
    homes = {name: str(folder / name.lower()) for name in _HOMES}
    homes["JUPYTERLAB_WORKSPACES_DIR"] = str(folder / "workspaces")
    for name, value in _SETTINGS.items():
        setting = Path(homes["JUPYTERLAB_SETTINGS_DIR"], "@jupyterlab", f"{name}.jupyterlab-settings")
        setting.parent.mkdir(parents=True)
        setting.write_text(value)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "log.txt"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += [f"--ServerApp.root_dir={work}", f"--IdentityProvider.token={TOKEN}", *_QUIET]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **homes}, cwd=work, stdout=output, stderr=output, start_new_session=True
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/api/status?token={TOKEN}", process, log)
            yield f"http://127.0.0.1:{port}/doc/tree/{notebook.name}?token={TOKEN}", work / notebook.name
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def run_all(page: Any) -> None:
    """Have the cells of the open notebook run one after the other."""
    page.get_by_text("| Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
