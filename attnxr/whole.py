"""Files that are there whole or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes, beside: Path) -> None:
    """Write a file beside another one, bring it onto the disk, and put it in its place.

    So a full disk, or an end in between, leaves the old one as it was.

    Parameters
    ----------
    path : Path
    content : bytes
    beside : Path
        A name on the same disk that nobody else has.
    """
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
