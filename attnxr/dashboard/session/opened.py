"""An answer out of a file: what is in it stands for itself, and what is not needs the model it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from attnxr import texts
from attnxr.dashboard.session.asking import CONTINUED
from attnxr.dashboard.session.limits import LIMITS
from attnxr.errors import AttnxrError, InputError
from attnxr.model import Model
from attnxr.options import READ_AS, STREAM_VECTORS, Stack
from attnxr.plausible import check_model
from attnxr.query.request import Options
from attnxr.saved import Saved, read_apart
from attnxr.schema import NEIGHBORS

_MOST_PAIRS = 1 << 27  # of positions, of all heads of a layer: they are compared with each other
_MOST_OF = {"layer": 1_000, "head": 1_000, "rank": 1_000}
_MOST_WORD = 40  # characters


@dataclass(frozen=True)
class Opened:
    """A file that a visitor has opened in place of a text.

    Parameters
    ----------
    digest : str
        Of its bytes: two files are the same if theirs are.
    name : str
        What the visitor calls it.
    saved : Saved
        What is in it.
    """

    digest: str
    name: str = field(compare=False)
    saved: Saved = field(compare=False, repr=False)

    @property
    def inputs(self) -> dict[str, Any]:
        """Values of the inputs, as far as the file says them."""
        attrs = self.saved.attrs
        said: dict[str, Any] = {"causal": bool(attrs["causal"]), **_read(attrs)}
        if self.saved.neighbors is not None:
            asked = self.saved.neighbors.attrs
            said |= {name: asked[name] for name in ("metric", "of", "space")}
            said["vocab_layer"] = layer if isinstance(layer := asked["vocab_layer"], str) else int(layer)
            said |= {"positional": bool(asked["positional"]), "k": self.saved.neighbors.sizes["rank"]}
        return said

    @property
    def model(self) -> str:
        """Name of the model that it came from."""
        return str(self.saved.attrs["model"])

    @property
    def stack(self) -> Stack | None:
        """Which stack of an encoder-decoder it is of, as `Request` says it."""
        return "decoder" if self.saved.attrs.get("stack") == "decoder" else None

    @property
    def fingerprint(self) -> str:
        """Fingerprint of that model."""
        return str(self.saved.attrs["fingerprint"])


def _read(attrs: dict[str, Any]) -> dict[str, Any]:
    """What was typed, how it was read, and what the model was asked to write behind it; of a decoder both texts."""
    if attrs.get("stack") == "decoder":
        of_decoder = {"stack": "decoder", "target": str(attrs["text"]), "text": str(attrs.get("encoder_text", ""))}
        return {**of_decoder, "read_as": "text", "continued": 0, "seed": None}
    generated = min(int(attrs.get("generated", 0)), CONTINUED[-1])
    found = {
        "stack": None,
        "target": "",
        "text": str(attrs.get("own_text", attrs["text"])),
        "read_as": str(attrs.get("read_as", "text")),
        "continued": generated,
        "seed": int(attrs["seed"]) if generated and "seed" in attrs else None,
    }
    if found["read_as"] in ("chat", "prompt"):
        # A text of a template has its special tokens; one message is what this page can be asked with.
        message = _message(attrs.get("messages"))
        found |= {"read_as": "bare"} if message is None else {"text": message}
    return found


def _message(messages: object) -> str | None:
    """What a user said, where that is all of a chat."""
    try:
        found = json.loads(str(messages))
    except (ValueError, RecursionError):
        return None
    one = found[0] if isinstance(found, list) and len(found) == 1 else None
    if not isinstance(one, dict) or one.keys() != {"role", "content"} or one["role"] != "user":
        return None
    content = one["content"]
    return content if isinstance(content, str) and 0 < len(content) <= LIMITS.text_characters else None


def open_file(path: Path, name: str) -> Opened:
    """Read a file that somebody has sent.

    Parameters
    ----------
    path : pathlib.Path
        Where it lies.
    name : str
        What he calls it.

    Returns
    -------
    Opened
        What is in it.

    Raises
    ------
    InputError
        If it is not what `attnxr.saved.read` takes, or not the whole of one text, as this page shows it.
    """
    saved = read_apart(path)
    for dataset in (saved.encodings, saved.neighbors):
        if dataset is not None:
            _check_whole(dataset)
    if saved.neighbors is not None:
        _check_asked(saved.neighbors)
    with path.open("rb") as file:
        return Opened(hashlib.file_digest(file, "sha256").hexdigest(), name, saved)


def _check_whole(dataset: xr.Dataset) -> None:
    if "text_id" in dataset.coords:
        raise InputError("The file has several texts in it; this page shows one. Save them one by one.")
    attrs = dataset.attrs
    if not isinstance(attrs.get("own_text", ""), str) or attrs.get("read_as", "text") not in READ_AS:
        raise InputError(
            f"The file's text was read as {attrs.get('read_as')!s:.80}, or goes on {attrs.get('own_text')!s:.80}; "
            f"expected a text, and one of {', '.join(READ_AS)}."
        )
    stack = attrs.get("stack", "encoder")
    if not isinstance(stack, str) or stack not in ("encoder", "decoder"):
        raise InputError(
            f"The file is of the stack {stack!s:.80} of an encoder-decoder; this page shows the encoder, or the "
            "decoder's attention to its own text. attnxr.saved.read(file) gives what is in it."
        )
    of_encoder = attrs.get("encoder_text", "")
    if not isinstance(of_encoder, str):
        raise InputError(f"The file has an encoder's text of {of_encoder!s:.80}; expected a text.")
    texts.encoder_ids(dataset)
    if max(len(each) for each in (attrs["text"], attrs.get("own_text", ""), of_encoder)) > LIMITS.text_characters:
        raise InputError(
            f"The file's text has more than {LIMITS.text_characters:,} characters, which are the most a page takes."
        )
    if len(dataset.attrs["model"]) > 500:
        raise InputError("The file's model has a name of more than 500 characters.")
    (ids,) = texts.token_ids(dataset)
    if attrs.get("generated", 0) > len(ids):
        raise InputError(
            f"The file's text has {len(ids)} tokens, of which {attrs['generated']} are said to be generated."
        )
    wanted: dict[str, int | None] = {"layer": None, "position": len(ids)}
    wanted |= dict.fromkeys(_head_dims(dataset))
    for dim, size in wanted.items():
        labels = dataset[dim].values if dim in dataset.dims else None
        if labels is None or not np.array_equal(labels, np.arange(len(labels) if size is None else size)):
            found = "none" if labels is None else str(labels.tolist())
            raise InputError(
                f"The file has a part of a result ({dim}: {found:.80}); this page shows all of it. Save the whole of "
                "what Model.encode and Model.neighbors return."
            )
    _check_shown(dataset, len(ids))


def _head_dims(dataset: xr.Dataset) -> list[str]:
    """What a result's heads are along; nothing for neighbours of vectors without heads."""
    if "neighbor_id" not in dataset:
        return ["head"]
    of = dataset.attrs["of"]
    if of in STREAM_VECTORS and of != "contribution":
        return []
    return ["kv_head" if "kv_head" in dataset["neighbor_id"].dims and of in ("key", "value") else "head"]


def _check_shown(dataset: xr.Dataset, n: int) -> None:
    """Fail where the page lacks something that it shows, or would have to show or compare too much."""
    needed = ["head_encoding", "attention"] if "head_encoding" in dataset else list(NEIGHBORS)
    if missing := [name for name in needed if name not in dataset]:
        raise InputError(
            f"The file's results have no {missing[0]!r}, which this page shows. Save what Model.encode and "
            "Model.neighbors return, with all their variables."
        )
    if dataset.sizes.get("key_position", n) != n:
        raise InputError(f"The file has attention to {dataset.sizes['key_position']} of its text's {n} tokens.")
    for dim, most in _MOST_OF.items():
        if dataset.sizes.get(dim, 1) > most:
            raise InputError(f"The file has {dataset.sizes[dim]:,} of {dim}; at most {most:,} are shown.")
    heads = dataset.sizes.get("head", 1)
    if heads * n * n > _MOST_PAIRS:
        raise InputError(
            f"The file's text has {n:,} tokens, to be compared with each other in {heads} heads; at "
            f"most {isqrt(_MOST_PAIRS // heads):,} are taken. Save a shorter text."
        )


def _check_asked(near: xr.Dataset) -> None:
    asked: dict[str, Any] = {name: near.attrs.get(name) for name in ("of", "space", "vocab_layer", "metric")}
    for name, value in asked.items():
        if not isinstance(value, str | int | np.integer) or len(str(value)) > _MOST_WORD:
            raise InputError(
                f"The neighbours in the file were found with {name}={value!s:.80}; expected a word of {name}."
            )
    try:
        Options(**asked, positional=bool(near.attrs["positional"])).check()
    except InputError as error:
        raise InputError(f"The neighbours in the file are of no question that can be asked. {error}") from error
    along = [dim for dim in near["neighbor_id"].dims if dim in ("head", "kv_head")]
    if along != _head_dims(near):
        raise InputError(
            f"The neighbours in the file were found with of={near.attrs['of']!r} and have the dimensions "
            f"{tuple(near['neighbor_id'].dims)}; expected {_head_dims(near) or 'no heads'} among them."
        )
    if not np.array_equal(near["rank"].values, np.arange(1, near.sizes["rank"] + 1)):
        raise InputError("The neighbours in the file are not of the ranks 1, 2, ….")


def model_for(opened: Opened, offered: str, load: Callable[[str], Model], what: str) -> Model:
    """Give the model that a file came from, if this server has it.

    Parameters
    ----------
    opened : Opened
        The file.
    offered : str
        Name of the server's model that is chosen; no other one is loaded, whatever the file says.
    load : callable
        Gives the model of a name.
    what : str
        What it is needed for, for the message.

    Returns
    -------
    Model
        With the same fingerprint; of an encoder-decoder, the stack that the file is of as the one that is meant.

    Raises
    ------
    InputError
        If the server has no such model, or the file cannot be of it.
    """
    source = f"the model {opened.model!r} (fingerprint {opened.fingerprint}) that {opened.name} came from"
    if offered != opened.model:
        raise InputError(f"{what} needs {source}, and this server does not offer it. What the file holds is shown.")
    try:
        model = load(offered)
        if opened.stack is not None:
            model = model.of_stack(opened.stack)
    except AttnxrError as error:
        raise InputError(f"{what} needs {source}, and this server cannot load it: {error}") from error
    if model.fingerprint != opened.fingerprint:
        raise InputError(
            f"{what} needs {source}; this server's {offered!r} has other weights (fingerprint {model.fingerprint}). "
            "What the file holds is shown."
        )
    sizes = {"head": model.n_heads, "kv_head": model.n_kv_heads, "feature": model.head_size}
    for dataset in (opened.saved.encodings, opened.saved.neighbors):
        if dataset is not None:
            check_model(dataset, sizes | {"vocab_size": model.vocab_size}, model.n_layers, opened.name)
    return model
