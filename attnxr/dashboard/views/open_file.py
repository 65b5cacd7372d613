"""Opens a saved file in place of a text: takes it piece by piece, and reads it beside the event loop."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Any

from panel.viewable import Viewer

from attnxr.dashboard.compute.jobs import OPEN, Job
from attnxr.dashboard.parts import OpenFileButton
from attnxr.dashboard.session.opened import Opened, open_file
from attnxr.dashboard.session.state import State

MOST_BYTES = 256 << 20
"""What a file may have."""


class OpenFile(Viewer):
    """A button that opens a file.

    Parameters
    ----------
    state : State
        What the file is put into.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state
        self._name = ""
        self._coming: Any = None
        self._button = OpenFileButton(
            self._take,
            help="A NetCDF file (or a Zarr store in a zip) that this page or attnxr saved: encodings, neighbours or "
            f"both, of one text. At most {MOST_BYTES >> 20} MiB.",
        )
        state.param.watch(lambda _event: self._say(""), "answer")

    def _take(self, data: dict[str, Any]) -> None:
        """Take a piece; which one, and of what, a browser may say as it likes."""
        name, size, start = data["name"][-120:], data["size"], data["start"]
        try:
            piece = base64.b64decode(data["data"], validate=True)
        except ValueError:  # characters that are none of base64's
            self._refuse("The file did not come through. Choose it again.")
            return
        if self._button.busy and start == 0:
            return
        if size > MOST_BYTES:
            self._refuse(
                f"{name} has {size / (1 << 20):,.0f} MiB; at most {MOST_BYTES >> 20} MiB are taken. Leave out what is "
                "not needed, such as drop_vars('hidden'), or open it in Python."
            )
            return
        if start == 0:
            self._drop()
            # In memory while it is small; on disk, in a file without a name, when it is not.
            self._name, self._coming = name, tempfile.SpooledTemporaryFile(max_size=8 << 20)  # noqa: SIM115
        expected = self._coming is not None and start == self._coming.tell()
        if not expected or start + len(piece) > size or not (piece or size == 0):
            self._refuse("The file did not come through. Choose it again.")
            return
        self._coming.write(piece)
        done = start + len(piece)
        if done < size:
            self._say(f"{name}: {100 * done / size:.0f} % …", busy=True)
            self._button.send({"next": done})
        else:
            self._say(f"Reading {name} …", busy=True)
            came, name, self._coming = self._coming, self._name, None
            Job(
                OPEN,
                lambda _report: _opened(came, name),
                subject=name,
                done=self._open,
                failed=lambda said: self._refuse(f"{name} cannot be opened. {said}"),
            ).start()

    def _open(self, opened: Opened) -> None:
        self._say("")
        if self._state.opened == opened:
            self._state.param.trigger("opened")
        else:
            self._state.open(opened)

    def _refuse(self, said: str) -> None:
        self._drop()
        self._say(said, refused=True)

    def _drop(self) -> None:
        if self._coming is not None:
            self._coming.close()
            self._coming = None

    def _say(self, said: str, *, busy: bool = False, refused: bool = False) -> None:
        self._button.param.update(said=said, busy=busy, refused=refused)

    def __panel__(self) -> OpenFileButton:
        return self._button


def _opened(came: Any, name: str) -> Opened:
    with came, tempfile.TemporaryDirectory(prefix="attnxr-") as folder:
        path = Path(folder) / "saved"
        came.seek(0)
        with path.open("wb") as file:
            while piece := came.read(1 << 20):
                file.write(piece)
        return open_file(path, name)
