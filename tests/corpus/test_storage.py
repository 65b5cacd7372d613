"""Files of a corpus: whole or not at all, in a folder and in what fsspec has; one builder at a time."""

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest
import zarr

from attnxr import InputError
from attnxr.corpus import storage

HOLD = """
import sys, time
from attnxr.corpus import storage
with storage.at(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""
PUT_FOR_EVER = """
import sys
from attnxr.corpus import storage
place = storage.at(sys.argv[1])
print("begins", flush=True)
i = 0
while True:
    place.put_whole("marker", bytes([i % 256]) * 3_000_000)
    i += 1
"""


@pytest.fixture(params=["path", "file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        pytest.importorskip("fsspec", "2024.12")  # the first whose memory:// Zarr can write to
        return f"memory://{uuid.uuid4().hex}/corpus"
    folder = tmp_path / "a corpus"
    return folder.as_uri() if request.param == "file" else str(folder)


def run(program: str, *arguments: str) -> "subprocess.Popen[str]":
    child = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline()
    return child


def end(child: "subprocess.Popen[str]") -> None:
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.stdout is not None
    child.stdout.close()


def test_files_are_put_listed_replaced_and_removed(url: str) -> None:
    place = storage.at(url)
    assert place.names() == []
    assert not place.exists("units/1.json")
    with pytest.raises(FileNotFoundError):
        place.get("units/1.json")
    place.put_whole("units/1.json", b"one")
    place.put_whole("units/10.json", b"ten")
    place.put_whole("plan.json", b"plan")
    place.put_whole("units/1.json", b"uno")
    assert place.names() == ["plan.json", "units/1.json", "units/10.json"]
    assert place.names("units") == ["units/1.json", "units/10.json"]
    assert place.names("unit") == []
    assert (place.get("units/1.json"), place.exists("units/1.json"), place.exists("units")) == (b"uno", True, False)
    place.flush("plan.json")
    place.remove("units/1.json")
    place.remove("units/1.json")
    place.clean()
    assert place.names() == ["plan.json", "units/10.json"]


def test_zarr_writes_where_the_files_are(url: str) -> None:
    place = storage.at(url)
    group = zarr.create_group(place.zarr(read_only=False), overwrite=False)
    numbers = np.arange(1000, dtype=np.int32).reshape(10, 100)
    group.create_array("of_unit", shape=(10, 100), chunks=(10, 10), shards=(10, 50), dtype="int32")[:] = numbers
    place.put_whole("attnxr/marker.json", b"{}")
    assert [name for name in place.names() if name.startswith("of_unit/c/")] == ["of_unit/c/0/0", "of_unit/c/0/1"]
    reader = storage.at(url).zarr()
    np.testing.assert_array_equal(zarr.open_group(reader, mode="r")["of_unit"][:], numbers)
    with pytest.raises(ValueError, match="read-only"):
        zarr.create_group(reader, path="other")


def test_a_lock_is_held_once_and_let_go(url: str) -> None:
    place = storage.at(url)
    with place.lock():
        with pytest.raises(InputError, match=rf"is being built by process {os.getpid()} on"), storage.at(url).lock():
            pass
        with place.lock("another"):
            pass
    with pytest.raises(ZeroDivisionError), place.lock():
        _ = 1 / 0
    with place.lock():
        pass


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    child = run(HOLD, str(tmp_path))
    place = storage.at(tmp_path)
    with pytest.raises(InputError, match=f"process {child.pid} on"), place.lock():
        pass
    end(child)
    with place.lock():
        pass


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    place = storage.at(tmp_path)
    left = 0
    for wait in np.linspace(0.01, 0.05, 5):
        child = run(PUT_FOR_EVER, str(tmp_path))
        threading.Event().wait(wait)
        end(child)
        if place.exists("marker"):
            found = np.frombuffer(place.get("marker"), np.uint8)
            assert (len(found), np.ptp(found)) == (3_000_000, 0)
        assert place.names() in ([], ["marker"])
        left += (tmp_path / storage.PARTS).exists()
        place.clean()
        assert not (tmp_path / storage.PARTS).exists()
    assert place.names() == ["marker"]
    assert left


def test_a_put_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = storage.at(tmp_path)
    place.put_whole("marker", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        place.put_whole("marker", b"new")
    assert place.get("marker") == b"old"
    assert list((tmp_path / storage.PARTS).iterdir()) == []


class TestLease:
    """The lock of an object store: an object that is renewed."""

    @pytest.fixture
    def place(self) -> storage.Storage:
        pytest.importorskip("fsspec")
        return storage.at(f"memory://{uuid.uuid4().hex}")

    def lease(self, place: storage.Storage, **changes: object) -> None:
        with place.lock():
            found = json.loads(place.get("lock"))
        place.put_whole("lock", json.dumps({**found, "owner": "other", **changes}).encode())

    def test_of_a_process_that_lives_elsewhere_it_is_kept(self, place: storage.Storage) -> None:
        self.lease(place, host="elsewhere", pid=1)
        with pytest.raises(InputError, match="process 1 on elsewhere"), place.lock():
            pass

    def test_it_is_taken_over_once_it_is_not_renewed(self, place: storage.Storage) -> None:
        self.lease(place, host="elsewhere", at=0)
        with place.lock():
            assert json.loads(place.get("lock"))["pid"] == os.getpid()
        assert place.names() == []

    @pytest.mark.skipif(os.name == "nt", reason="processes are not looked for there")
    def test_it_is_taken_over_at_once_of_a_dead_process_of_this_machine(self, place: storage.Storage) -> None:
        child = subprocess.Popen([sys.executable, "-c", ""])
        child.wait()
        self.lease(place, pid=child.pid)
        with place.lock():
            pass

    def test_it_is_renewed_and_not_that_of_another_one(
        self, place: storage.Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(storage, "_LEASE_SECONDS", 0.2)
        with place.lock():
            first = place.get("lock")
            threading.Event().wait(0.3)
            assert json.loads(place.get("lock"))["at"] > json.loads(first)["at"]
            place.put_whole("lock", b'{"owner": "other"}')
            threading.Event().wait(0.2)
        assert place.get("lock") == b'{"owner": "other"}'


@pytest.mark.parametrize(
    ("store", "says"),
    [
        (3, "expected a path, or a URL"),
        ("", "expected a path, or a URL"),
        ("nothing://x", "fsspec says"),
        ("file://host/x", "three slashes"),
    ],
)
def test_what_is_no_place_is_refused(store: object, says: str) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(InputError, match=says):
        storage.at(store)  # type: ignore[arg-type]
