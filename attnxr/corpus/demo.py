"""Where the small corpus lies that is made to try things with, unless another place is named."""

import os
from pathlib import Path


def demo_store() -> Path:
    """The place of the demo's corpus, ``attnxr/demo.zarr``, where programs of this user keep what they make.

    Returns
    -------
    pathlib.Path
        Whether there is one or not.

    Examples
    --------
    >>> from attnxr.corpus.demo import demo_store
    >>> demo_store().parts[-2:]
    ('attnxr', 'demo.zarr')
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "attnxr", "demo.zarr")
