"""Token ids that are given in place of a text: a list of them, or what a tokenizer returns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnxr.errors import InputError, TextTooLongError
from attnxr.inputs.reading import Reading
from attnxr.probe.interface import Watcher
from attnxr.probe.window import Window
from attnxr.texts import PLACES
from attnxr.tokens import Tokens, words_of

_TAKEN = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
# What a tokenizer says besides, and no model is given.
_NOTES = (
    "special_tokens_mask",
    "offset_mapping",
    "length",
    "overflowing_tokens",
    "num_truncated_tokens",
    "overflow_to_sample_mapping",
)
_ULPS = 1024  # what the same text may differ by where it stands behind padding


@dataclass(frozen=True)
class Padding:
    """The id of padding.

    Attributes
    ----------
    id : int or None
        None where there is none.
    has_other_role : bool
        Whether it is, say, the end of a text too, so that one alone says nothing.
    """

    id: int | None
    has_other_role: bool

    def check(self, ids: NDArray[np.integer]) -> None:
        """Refuse ids that begin or end with padding, which came without a mask."""
        ends = 2 if self.has_other_role else 1
        if len(ids) > ends and any((end == self.id).all() for end in (ids[:ends], ids[-ends:])):
            raise InputError(
                f"token_ids that begin or end with padding (id {self.id}) were given without a mask, so that the model "
                "would attend to it. Expected ids without padding, or all that the tokenizer returns, with its "
                "attention_mask: model.encode(tokenizer(text))."
            )


def given_again(token_ids: Sequence[int], types: Sequence[int]) -> dict[str, Sequence[int]]:
    """A text that was encoded, as `read` takes it: all of it is to be seen, whatever it begins and ends with.

    Parameters
    ----------
    token_ids, types : list of int
        A text of ``attrs["token_ids"]`` and its types, none of them where the model was given none.
    """
    given: dict[str, Sequence[int]] = {"input_ids": token_ids, "attention_mask": [1] * len(token_ids)}
    return given | {"token_type_ids": types} if types else given


def padding_of(tokenizer: Any) -> Padding:
    """By a tokenizer; without one, ids are what the caller says they are."""
    pad = getattr(tokenizer, "pad_token_id", None)
    others = [getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "cls", "sep", "unk")]
    return Padding(pad, pad in others)


def types_for(window: Window, types: list[int], size: int) -> list[int]:
    """Token types as a model is to be given them: none where 0 says the same.

    Parameters
    ----------
    window : Window
    types : list of int
    size : int
        Number of vocabulary entries.

    Raises
    ------
    InputError
        If the model has no such types.
    """
    known = getattr(window.config, "type_vocab_size", None)
    takes = "token_type_ids" in window.takes
    # Without a table of types, GPT-2 and its like add the embedding of the vocabulary entry of that number.
    if not any(types) and (known is not None or not takes):
        return []
    most = (known or size) if takes else 1
    wrong = [each for each in types if not 0 <= each < most]
    if wrong:
        raise InputError(
            f"The token type {wrong[0]} was given; {window.family} "
            + (f"has the types 0 to {most - 1}." if takes else "takes no token types.")
            + " Does the tokenizer belong to this model?"
        )
    return types


def read(given: Sequence[int] | Mapping[str, Any], how: Reading, padding: Padding, window: Window) -> list[Tokens]:
    """The tokens of each text that is given as ids, or as a tokenizer returned it.

    Parameters
    ----------
    given : list of int, or mapping
        One text's ids, as a list or as the batch of one that ``return_tensors`` makes. Or ``input_ids`` of one text or
        several, and ``attention_mask``, ``token_type_ids`` and ``position_ids`` as long, if any: without what is
        masked. Words are known where a fast tokenizer made it.
    how : Reading
    padding : Padding
    window : Window
        Of the model, which is asked whether a text that begins behind padding is the same to it.

    Raises
    ------
    InputError
        If they are no such ids, or begin or end with padding that no mask masks; if something else is in there, lengths
        differ, a mask leaves out what is no padding, or the text stands where it would give the model other numbers
        than alone.
    TextTooLongError
        If the model takes fewer tokens, and they are not to be cut.
    """
    if isinstance(given, Mapping):
        return list(_from_tokenizer(given, how, padding, window))
    return [_cut(_from_ids(given, padding), how)]


def _from_ids(token_ids: Sequence[int], padding: Padding) -> Tokens:
    """One text's ids, not cut yet."""
    try:
        ids = np.asarray(_on_cpu(token_ids))
    except ValueError:  # lists of different lengths
        ids = np.asarray(token_ids, object)
    if ids.ndim == 2 and len(ids) == 1:
        ids = ids[0]
    if ids.ndim != 1 or not ids.size or ids.dtype.kind not in "iu":
        raise InputError(
            f"token_ids of shape {ids.shape} and dtype {ids.dtype} were given; expected a list of at least one "
            "whole number, such as tokenizer(text)['input_ids']. Give several texts as the tokenizer returns them: "
            "model.encode(tokenizer(texts))."
        )
    padding.check(ids)
    nowhere = [-1] * len(ids)
    return Tokens(ids.tolist(), nowhere, nowhere, nowhere)


def _from_tokenizer(given: Mapping[str, Any], how: Reading, padding: Padding, window: Window) -> Iterator[Tokens]:
    """Texts as a tokenizer returned them, cut."""
    unknown = [str(name) for name in given if name not in (*_TAKEN, *_NOTES)]
    if "input_ids" not in given or unknown:
        raise InputError(
            f"A mapping with {', '.join(sorted(map(str, given))) or 'nothing'} was given; expected what a tokenizer "
            "returns: input_ids, and attention_mask, token_type_ids and position_ids if any. Leave the rest out."
        )
    columns = {name: _rows(name, given[name]) for name in _TAKEN if given.get(name) is not None}
    lengths = {name: [len(row) for row in rows] for name, rows in columns.items()}
    if any(each != lengths["input_ids"] for each in lengths.values()):
        raise InputError(f"Of each text, so many were given: {lengths}; expected as many of each as input_ids.")
    for i in range(len(columns["input_ids"])):
        row = {name: rows[i] for name, rows in columns.items()}
        ids = row["input_ids"]
        if "attention_mask" not in row:
            padding.check(ids)
        mask = row.setdefault("attention_mask", np.ones_like(ids))
        seen = np.flatnonzero(mask)
        if not np.isin(mask, (0, 1)).all() or not len(seen) or seen[-1] - seen[0] >= len(seen):
            raise InputError(
                f"An attention_mask with {len(seen)} of {len(mask)} tokens to attend to was given, {mask!s:.60}; "
                "expected 1 for each token of a text, and 0 for padding before or behind it. Leave out of the text "
                "what the model is not to see."
            )
        nowhere, words = [-1] * len(seen), _words(given, i, ids)
        tokens = Tokens(
            ids[seen].tolist(),
            nowhere,
            nowhere,
            [words[k] for k in seen] if words else nowhere,
            types=row["token_type_ids"][seen].tolist() if "token_type_ids" in row else [],
        )
        tokens = _cut(tokens, how)
        if seen[0] or "position_ids" in row:
            _check_place(window, row, int(seen[0]), len(tokens.ids))
        yield tokens


def _cut(tokens: Tokens, how: Reading) -> Tokens:
    length, max_tokens = len(tokens.ids), how.max_tokens
    if max_tokens is None or length <= max_tokens:
        return tokens
    if not how.truncate:
        raise TextTooLongError(
            f"{length} token_ids were given; the model takes at most {max_tokens}. Shorten the list, or pass "
            "truncate=True to keep its start."
        )
    kept = {name: getattr(tokens, name)[:max_tokens] for name in ("ids", *PLACES, "types")}
    return Tokens(**kept, cut=length - max_tokens)


def _on_cpu(given: Any) -> Any:
    if isinstance(given, Tensor) and given.is_meta:
        raise InputError("A tensor on the meta device was given, which holds no numbers; expected one of token ids.")
    return given.cpu() if isinstance(given, Tensor) else given


def _rows(name: str, given: Any) -> list[NDArray[np.integer]]:
    """One of the things that are given of each text: a list or an array, or a list of these."""
    given = _on_cpu(given)
    try:
        one = np.ndim(given[0]) == 0
        rows = [np.asarray(_on_cpu(row)) for row in ([given] if one else given)]
    except (TypeError, IndexError, KeyError, ValueError):
        rows = []
    kinds = "biu" if name == "attention_mask" else "iu"
    if not rows or any(row.ndim != 1 or not row.size or row.dtype.kind not in kinds for row in rows):
        raise InputError(f"{name} {given!s:.80} were given; expected whole numbers, of one text or of each of several.")
    return [row.astype(np.int64) for row in rows]


def _words(given: Any, i: int, ids: NDArray[np.integer]) -> list[int]:
    """The word of each token, where a fast tokenizer made these very ids; those of a second sentence come after."""
    made = getattr(given, "encodings", None)
    if not made or i >= len(made) or made[i].ids != ids.tolist():
        return []
    return words_of(made[i].word_ids, made[i].sequence_ids)


def _check_place(window: Window, row: dict[str, NDArray], first: int, length: int) -> None:
    """Refuse a text that gives the model other numbers where it stands than it does alone."""
    here = slice(0, first + length)
    inputs = {name: torch.from_numpy(values[here])[None] for name, values in row.items() if name in window.takes}
    if "position_ids" in row and "position_ids" not in window.takes:
        raise InputError(f"position_ids were given to {window.family}, which takes none. Leave them out.")
    token_ids = inputs.pop("input_ids")
    alone = {name: values[:, first:] for name, values in inputs.items() if name == "token_type_ids"}
    most = window.layout.max_tokens
    difference = np.inf
    if most is None or token_ids.shape[1] <= most:
        try:
            there = window.run(token_ids, Watcher(), inputs=inputs)[0][0, first:].double()
        except (RuntimeError, IndexError) as error:  # no such positions
            raise InputError(
                f"position_ids or padding were given with which {window.family} does not run ({error!s:.120}). "
                "Expected padding on the right, and no position_ids but those that the model itself would give the "
                "text."
            ) from error
        expected = window.run(token_ids[:, first:], Watcher(), inputs=alone)[0][0].double()
        difference = float((there - expected).norm() / expected.norm())
    if not difference <= _ULPS * torch.finfo(window.model.dtype).eps:
        raise InputError(
            "The text stands behind padding, or at position_ids, where it gives the model other numbers than alone "
            f"(relative difference {difference:.0e}). Expected padding on the right, and no position_ids but those "
            "that the model itself would give the text."
        )
