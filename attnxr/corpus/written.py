"""Files that are put into a store, with their hashes kept."""

import hashlib

from attnxr.corpus.storage import Storage


class Files:
    """Puts files into a storage, whole.

    Attributes
    ----------
    digests : dict of str to str
        SHA-256 of each, by its name.
    """

    def __init__(self, storage: Storage):
        self._storage = storage
        self.digests: dict[str, str] = {}

    def put(self, name: str, data: bytes) -> None:
        """Put one."""
        self._storage.put_whole(name, data)
        self.digests[name] = hashlib.sha256(data).hexdigest()
