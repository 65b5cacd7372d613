"""Where a corpus lies: a local folder, or anything that fsspec has a URL for; files are there whole or not at all.

Besides the arrays, which Zarr writes, a corpus has small files: its plan, and a marker for each unit that is done. They
are written whole. A folder can rename: a file is written beside, brought onto the disk and put in its place. An object
store cannot, and need not: an object that is put is there whole once it was put, and before it is not. So a marker says
the same in both, if it is written after what it speaks of.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from attnxr.errors import InputError
from attnxr.whole import write_whole

PARTS = ".parts"
"""Folder of what is being written; what a builder that was killed leaves there is no part of the corpus."""
_LEASE_SECONDS = 60.0
_FAR = 1 << 30  # in the file of a lock: what Windows locks nobody can read, so it is what is not there


class Storage(Protocol):
    """Files by name, such as ``units/3.json``, with ``/`` on all machines.

    Attributes
    ----------
    url : str
        What the user calls it.
    """

    url: str

    def put_whole(self, name: str, data: bytes) -> None:
        """Write a file, in place of the one there; who reads meanwhile finds the old one or the new one, whole."""

    def get(self, name: str) -> bytes:
        """Read a file; raises FileNotFoundError."""

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""

    def names(self, under: str = "") -> list[str]:
        """Names of all files in a folder and its folders, sorted; none where there is no such folder."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def flush(self, name: str) -> None:
        """Bring a file that Zarr wrote onto the disk, so that a marker that is put after it speaks the truth."""

    def clean(self) -> None:
        """Remove what builders that were killed left half written; only who holds the lock may do so."""

    def lock(self, name: str = "lock") -> Any:
        """Hold a lock while in the block: ``with storage.lock(): …``.

        Raises
        ------
        InputError
            If another builder that lives holds it; what it says of itself is in the message.
        """

    def zarr(self, *, read_only: bool = True) -> Any:
        """The same place as a Zarr store."""


def at(store: str | Path, **options: Any) -> Storage:
    """Find the storage that a path or a URL stands for.

    Parameters
    ----------
    store : str or Path
        A path; or a URL that fsspec knows, such as ``s3://bucket/name``, ``memory://name`` or ``file:///tmp/name``.
    **options
        What fsspec's file system is to be told: keys, endpoints.

    Raises
    ------
    InputError
        If it is neither, or a path where a file stands; or fsspec (or what it needs for that URL) is not installed.
    """
    if not isinstance(store, str | Path) or not str(store):
        raise InputError(
            f"store={store!r} was given; expected a path, or a URL such as 's3://bucket/name' or 'memory://name'."
        )
    url = str(store)
    if "://" not in url:
        return _folder(url, Path(url))
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise InputError(f"store={url!r} was given; expected three slashes before a path, 'file:///folder/name'.")
        return _folder(url, Path(url2pathname(parts.path)))
    try:
        from fsspec.core import url_to_fs

        filesystem, root = url_to_fs(url, **options)
    except ImportError as error:
        raise InputError(
            f"store={url!r} was given, and {error.name or error} is not installed. Expected a path, or "
            "pip install 'attnxr[corpus]' and what fsspec names for such a URL (s3fs, gcsfs, adlfs …)."
        ) from error
    except ValueError as error:  # of a protocol that fsspec does not know
        raise InputError(
            f"store={url!r} was given; fsspec says: {error}. Expected a path or a URL it knows."
        ) from error
    return Objects(url, filesystem, root)


def _folder(store: str, path: Path) -> "Folder":
    storage = Folder(path)
    files = [str(each) for each in (storage.path, *storage.path.parents) if each.is_file()]
    if files:
        raise InputError(
            f"store={store!r} was given, and {files[0]!r} is a file. Expected a folder of its own for a corpus."
        )
    return storage


class Folder:
    """A folder of a local or mounted disk.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path):
        self.path = path.expanduser().absolute()
        self.url = str(path)

    def put_whole(self, name: str, data: bytes) -> None:
        path = self.path / name
        beside = self.path / PARTS / uuid.uuid4().hex
        for folder in (path.parent, beside.parent):
            folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, data, beside)
        _flush_folder(path.parent)

    def get(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def exists(self, name: str) -> bool:
        return (self.path / name).is_file()

    def names(self, under: str = "") -> list[str]:
        found = []
        for folder, folders, files in os.walk(self.path / under):
            here = Path(folder).relative_to(self.path)
            if here == Path():
                folders[:] = [each for each in folders if each != PARTS]
            found += [(here / file).as_posix() for file in files]
        return sorted(found)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def flush(self, name: str) -> None:
        path = self.path / name
        with path.open("r+b") as file:
            os.fsync(file.fileno())
        _flush_folder(path.parent)

    def clean(self) -> None:
        parts = self.path / PARTS
        if parts.is_dir():
            for part in parts.iterdir():
                part.unlink(missing_ok=True)
            with suppress(OSError):  # a worker writes there now
                parts.rmdir()

    @contextmanager
    def lock(self, name: str = "lock") -> Iterator[None]:
        # The system lets go of it when the process ends, however it ends.
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if not _try_lock(file):
                file.seek(0)
                raise _held(self.url, file.read())
            file.truncate(0)
            file.write(_whose(uuid.uuid4().hex))
            file.flush()
            try:
                yield
            finally:
                file.truncate(0)
                _unlock(file)

    def zarr(self, *, read_only: bool = True) -> Any:
        from zarr.storage import LocalStore

        return LocalStore(self.path, read_only=read_only)


class Objects:
    """Objects of any file system of fsspec, which holds what was put once it was put whole, as S3 and its like do.

    Parameters
    ----------
    url : str
    filesystem : fsspec.AbstractFileSystem
    root : str
        Path in it.
    """

    def __init__(self, url: str, filesystem: Any, root: str):
        self.url = url
        self._filesystem = filesystem
        self._root = root.rstrip("/")

    def put_whole(self, name: str, data: bytes) -> None:
        self._filesystem.pipe_file(self._path(name), data)

    def get(self, name: str) -> bytes:
        return bytes(self._filesystem.cat_file(self._path(name)))

    def exists(self, name: str) -> bool:
        self._filesystem.invalidate_cache()  # another process may have put it
        return bool(self._filesystem.isfile(self._path(name)))

    def names(self, under: str = "") -> list[str]:
        self._filesystem.invalidate_cache()
        return sorted(path[len(self._root) + 1 :] for path in self._filesystem.find(self._path(under)))

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._filesystem.rm_file(self._path(name))

    def flush(self, name: str) -> None:
        pass  # it lies where it was put

    def clean(self) -> None:
        pass  # nothing is half written

    @contextmanager
    def lock(self, name: str = "lock") -> Iterator[None]:
        # A lease: an object that its holder writes again and again, and that is nobody's once that has stopped. An
        # object store cannot say who came first to the second, nor do clocks agree to it. So two builders that start at
        # once can both begin; the one that finds the other's lease ends. What they write is the same to the byte.
        found = self._lease(name)
        if found and not _gone(found):
            raise _held(self.url, json.dumps(found).encode())
        owner = uuid.uuid4().hex
        self.put_whole(name, _whose(owner))
        if (self._lease(name) or {}).get("owner") != owner:
            raise _held(self.url, self.get(name))
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(name, owner, ended), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()
            if (self._lease(name) or {}).get("owner") == owner:
                self.remove(name)

    def zarr(self, *, read_only: bool = True) -> Any:
        from zarr.storage import FsspecStore

        if self._filesystem.async_impl:
            return FsspecStore.from_url(self.url, self._filesystem.storage_options, read_only=read_only)
        from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

        return FsspecStore(AsyncFileSystemWrapper(self._filesystem, asynchronous=True), read_only, self._root)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    def _lease(self, name: str) -> dict[str, Any] | None:
        try:
            found = json.loads(self.get(name))
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _renew(self, name: str, owner: str, ended: threading.Event) -> None:
        while not ended.wait(_LEASE_SECONDS / 4):
            with suppress(OSError):  # a store that cannot be had now may be the next time
                if (self._lease(name) or {}).get("owner") == owner:
                    self.put_whole(name, _whose(owner))


def _whose(owner: str) -> bytes:
    return json.dumps({"owner": owner, "host": socket.gethostname(), "pid": os.getpid(), "at": time.time()}).encode()


def _gone(lease: dict[str, Any]) -> bool:
    """Whether the holder of a lease has ended: its process is not there, or has not renewed it for a minute."""
    if time.time() - float(lease.get("at", 0)) > _LEASE_SECONDS:
        return True
    if lease.get("host") != socket.gethostname() or os.name == "nt":  # on Windows the signal 0 ends a process
        return False
    try:
        os.kill(int(lease.get("pid", 0)), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is there, and another user's
        return False
    return False


def _held(url: str, whose: bytes) -> InputError:
    try:
        found = json.loads(whose)
        by = f"process {found['pid']} on {found['host']}, of {time.ctime(found['at'])}"
    except (ValueError, TypeError, KeyError):  # on Windows, or just being written
        by = "another process"
    return InputError(
        f"The corpus at {url!r} is being built by {by}. Expected one builder at a time. Wait for it, or end it and "
        "call again: what it has done stays."
    )


if os.name == "nt":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        file.seek(_FAR)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True

    def _unlock(file: IO[bytes]) -> None:
        file.seek(_FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]

    def _flush_folder(path: Path) -> None:
        pass  # folders cannot be opened there

else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)

    def _flush_folder(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
