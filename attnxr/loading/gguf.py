"""GGUF files: what transformers needs to read one, and how it has to unpack it."""

import importlib.util
from pathlib import Path
from typing import Any

import transformers

from attnxr.errors import ModelNotFoundError

_TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json")


def source(name: str, path: Path) -> tuple[str, dict[str, str]]:
    """Where from_pretrained finds a GGUF file: its folder, and which file of it.

    Parameters
    ----------
    name : str
        What was asked for, for the messages.
    path : Path
        The file.

    Returns
    -------
    (str, dict)
        The folder, and the options that name the file.

    Raises
    ------
    ModelNotFoundError
        If there is no such file, a package that reads it is not installed, or a tokenizer lies beside it.
    """
    if not path.is_file():
        raise ModelNotFoundError(
            f"There is no file {name!r}. Expected a GGUF file on this machine: check the path, or download it first."
        )
    lacking = [package for package in ("accelerate", "gguf") if importlib.util.find_spec(package) is None]
    if not hasattr(transformers, "GgufConfig"):
        lacking.append("transformers>=5.23")
    if lacking:
        raise ModelNotFoundError(
            f"{name!r} is a GGUF file, and reading it needs {' and '.join(lacking)}, not installed here. Install with "
            f"pip install {' '.join(map(repr, lacking))}."
        )
    # The class and special tokens of a tokenizer beside it would be mixed with the vocabulary in the file.
    beside = sorted(file.name for pattern in _TOKENIZER_FILES for file in path.parent.glob(pattern) if file != path)
    if beside:
        raise ModelNotFoundError(
            f"Beside the GGUF file {name!r} lie files of a tokenizer, {beside}, which transformers would mix with the "
            "tokenizer in the file. Expected a GGUF file in a folder without another tokenizer: move it to its own."
        )
    return str(path.parent), {"gguf_file": path.name}


def unpacked() -> dict[str, Any]:
    """The option that makes plain parameters of the weights: packed ones are read by kernels fetched from the hub."""
    return {"quantization_config": transformers.GgufConfig(dequantize=True)}
