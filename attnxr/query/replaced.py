"""What becomes of a model's output when head encodings are replaced: measured for every replacement by itself."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from attnxr import schema
from attnxr.checking import aligned, choices, head_vectors
from attnxr.errors import InputError
from attnxr.options import TOGETHER, Together
from attnxr.probe.language_head import LanguageHead, has_language_head
from attnxr.probe.replace import TRIED, Changes, ReplacedText
from attnxr.probe.window import Window
from attnxr.query.request import Options, Request
from attnxr.query.snapshot import Snapshot
from attnxr.query.stack import windows_of
from attnxr.search.nearest import Progress, within

# Tokens of a batch, so that what a block works on stays in the cache. The 1,008 replacements of a sentence of 14 tokens
# on all-MiniLM-L6-v2 took 4.8 s with 112, 4.1 s with 224, 3.4 s with 448, 3.3 s with 896 and 4.3 s with 2,352;
# on another machine 0.96 s with 392, 0.94 s with 512, 0.89 s with 896 and 0.93 s with 1,536.
_TOKENS = 896
_LOGITS = 1 << 20  # that are at hand at once
# So many replacements in a layer run whole: to try whether their passes may begin there takes as long as seven of them.
_FEW = 6
AT_POSITION = ("hidden_change", "kl", "logit_change")
"""Measures at the position of what was replaced; the others are over the whole text."""


def answer(
    seen: Snapshot,
    name: str,
    encodings: xr.Dataset,
    by: xr.DataArray,
    together: Sequence[Together] | xr.DataArray,
    progress: Progress,
) -> xr.Dataset:
    """Replace head encodings and measure what the output has become; see `Model.replace`."""
    request = Request.of(seen, name, encodings, Options("encoding", "value", "input", True))
    _refuse_twice(request)
    chosen = None
    if isinstance(together, xr.DataArray):
        chosen, together = _chosen(request, together), TOGETHER
    together = choices("together", together, TOGETHER)
    vectors, others = _vectors(request, by)
    head = None
    if has_language_head(seen.window, seen.vocabulary.size):
        head = LanguageHead(seen.window, seen.vocabulary.size)
    dims = request.frame.dims
    windows = windows_of(seen, request.frame.attrs, len(request.texts))
    texts = [text for text in range(len(request.texts)) if (request.text_of == text).any()]
    shape = [1 if dim in together else size for dim, size in zip(dims, vectors.shape, strict=False)]
    if "position" in together:
        shape[2] = len(request.texts)
    names = _measures(head is not None, "position" in together)
    found = {each: np.full((*shape, vectors.shape[3]), np.nan) for each in names}
    done, total = 0.0, len(request.own)
    for text in texts:
        here = np.flatnonzero(request.text_of == text)
        whole = np.ones((*vectors.shape[:2], len(here)), bool) if chosen is None else chosen[:, :, here]
        jobs = _Jobs(_Text(windows[text], request, text, head), request, here, vectors[:, :, here], whole, together)
        for cells, measured in jobs.run(within(progress, done / total, len(here) / total)):
            at = (cells[:, 0], cells[:, 1], np.full(len(cells), text) if "position" in together else here[cells[:, 2]])
            for each in names:
                found[each][(*at, cells[:, 3])] = measured[each]
        done += len(here)
    if not seen.is_current():
        raise InputError(
            "The model's weights were changed or moved while head encodings were replaced; expected weights that stay "
            "as they are during a call. Encode the text again."
        )
    progress(1.0)
    return _dataset(request, found, others, together, chosen is not None)


def _refuse_twice(request: Request) -> None:
    """Fail where a layer, head or position is there twice: both would be replaced in one pass, by different vectors."""
    for dim, labels in _labels(request).items():
        twice = [label for label, count in zip(*np.unique(labels, return_counts=True), strict=True) if count > 1]
        if twice:
            raise InputError(f"The encodings have {dim} {twice[0]} more than once. Expected each once: select it so.")


def _measures(logits: bool, texts: bool) -> list[str]:
    names = ["hidden_change", "hidden_change_anywhere", *(["kl", "kl_anywhere", "logit_change"] if logits else [])]
    return [name for name in names if not (texts and name in AT_POSITION)]


def _labels(request: Request) -> dict[str, NDArray]:
    return {dim: np.asarray(request.frame.coords[dim]) for dim in request.frame.dims}


def _vectors(request: Request, by: xr.DataArray) -> tuple[NDArray[np.float64], xr.DataArray]:
    """What replaces the encodings, (L, H, n, K, d), and, of the dimensions K, an array that has them alone."""
    size = request.vectors.shape[-1]
    array = head_vectors(by, _labels(request), size, "by")
    others = array.isel(layer=0, head=0, position=0, feature=0)
    scalars = [name for name, each in others.coords.items() if not each.dims]
    return array.values.reshape(*array.shape[:3], -1, size), others.drop_vars(scalars)


def _chosen(request: Request, together: xr.DataArray) -> NDArray[np.bool_]:
    """Which cells (L, H, n) are replaced, all in one pass."""
    strange = set(together.dims) - set(request.frame.dims)
    if together.dtype != bool or strange:
        raise InputError(
            f"together was given as an array of {together.dtype} with dimensions {together.dims}; expected true or "
            "false, with dimensions among layer, head and position; or names of dimensions, such as ('position',)."
        )
    chosen = np.asarray(aligned(together, _labels(request), "together").values)
    if not chosen.any():
        raise InputError("together is false everywhere, so that nothing is replaced. Expected one true value or more.")
    return chosen


class _Text:
    """One text, and how the output of passes over it is measured."""

    def __init__(self, window: Window, request: Request, text: int, head: LanguageHead | None):
        attrs, layout = request.frame.attrs, window.layout
        causal = bool(attrs.get("causal", layout.causal))
        self.replaced = ReplacedText.of(
            window, request.texts[text], request.types[text], None if causal == layout.causal else causal
        )
        self._causal, self._head = causal, head
        self._original = self.replaced.hidden.to("cpu", torch.float64)
        self._lengths = self._original.norm(dim=1)
        ids = self.replaced.token_ids
        # Causal models say at a position what the next token is.
        self._true = torch.cat([ids[1:], torch.full((1,), -1)]) if causal else ids
        self._log_p, self._true_logit = None, None
        if head is not None:
            logits = head.logits(self.replaced.hidden).to("cpu", torch.float64)
            self._log_p = torch.log_softmax(logits, dim=-1)
            self._true_logit = logits[torch.arange(len(ids)), self._true.clamp_min(0)]

    def measure(self, hidden: Tensor, places: Tensor | None, first: Tensor) -> dict[str, NDArray[np.float64]]:
        """Changes of last hidden states (rows, n, D): at a place of each, and anywhere.

        Parameters
        ----------
        hidden : tensor (rows, n, D)
        places : int tensor (rows,), optional
        first : int tensor (rows,)
            The first position at which anything was replaced.
        """
        change = hidden.to("cpu", torch.float64) - self._original
        if self._causal:  # nothing before it can change: what differs there is how a batch is rounded
            before = torch.arange(change.shape[1])[None] < first[:, None]
            change[before] = 0
        size = change.norm(dim=2)
        rows = torch.arange(len(hidden))
        found = {"hidden_change_anywhere": size.norm(dim=1) / self._lengths.norm()}
        if places is not None:
            found["hidden_change"] = size[rows, places] / self._lengths[places]
        if self._head is not None:
            divergence, true = self._divergence(hidden, size > 0)
            found["kl_anywhere"] = divergence.mean(dim=1)
            if places is not None:
                found |= {"kl": divergence[rows, places], "logit_change": true[rows, places]}
        return {name: each.cpu().numpy() for name, each in found.items()}

    def unchanged(self, count: int, places: Tensor | None) -> dict[str, NDArray[np.float64]]:
        """The measures of passes in which nothing is replaced."""
        found = {name: np.zeros(count) for name in schema.REPLACED}
        if places is not None:
            found["logit_change"][(self._true[places] < 0).numpy()] = np.nan
        return found

    def _divergence(self, hidden: Tensor, differs: Tensor) -> tuple[Tensor, Tensor]:
        """KL(original ‖ replaced) and the change of the true token's logit, (rows, n), both 0 where nothing differs."""
        assert self._head is not None
        assert self._log_p is not None
        assert self._true_logit is not None
        divergence = torch.zeros(differs.shape, dtype=torch.float64)
        change = torch.where(self._true >= 0, divergence, math.nan)
        for part in differs.nonzero().split(max(1, _LOGITS // self._log_p.shape[1])):
            row, place = part[:, 0], part[:, 1]
            logits = self._head.logits(hidden[row, place]).to("cpu", torch.float64)
            divergence[row, place] = _kl(self._log_p[place], logits - self._log_p[place])
            true = self._true[place]
            of_true = logits[torch.arange(len(part)), true.clamp_min(0)] - self._true_logit[place]
            change[row, place] = torch.where(true >= 0, of_true, math.nan)
        return divergence, change


def _kl(log_p: Tensor, change: Tensor) -> Tensor:
    """KL(p ‖ q), (rows,), where the logits of q are those of p and a change (rows, V): float64, never negative.

    A change of all logits by the same number is none. With δ the change less its mean under p,
    ``KL = log Σ p exp(δ) = log(1 + Σ p (exp(δ) − 1 − δ))``: no term of the sum is negative, and none cancels.
    """
    p = log_p.exp()
    change = torch.where(p > 0, change, 0.0)  # a logit of −∞ stays one
    change = change - (p * change).sum(dim=1, keepdim=True)
    # exp(δ) − 1 − δ cancels for small δ, where the first terms of its series are all there is.
    terms = torch.where(change.abs() < 1e-4, change.square() * (0.5 + change / 6), change.expm1() - change)
    found = (p * terms).sum(dim=1).log1p()
    return torch.where(found.isfinite(), found, torch.logsumexp(log_p + change, dim=1).clamp_min(0))


@dataclass(frozen=True, eq=False)
class _Jobs:
    """All replacements in one text, in batches of passes.

    A job is a cell (layer, head, position, replacement), with 0 in place of what is replaced together.
    """

    text: _Text
    request: Request
    here: NDArray[np.intp]
    vectors: NDArray[np.float64]
    chosen: NDArray[np.bool_]
    together: tuple[Together, ...]

    def run(self, progress: Progress) -> Iterator[tuple[NDArray[np.intp], dict[str, NDArray[np.float64]]]]:
        """Cells (m, 4) and what was measured of them."""
        replaced = self.text.replaced
        own = torch.stack([replaced.encodings[layer] for layer in self._layers])  # (L, n, H, d)
        own = own[:, torch.from_numpy(self._at)][:, :, torch.from_numpy(self._heads)]
        own_now = own.float().cpu().numpy().transpose(0, 2, 1, 3)[:, :, :, None]
        # What equals the head's own encoding, as a Dataset holds it, is that: nothing is replaced.
        changed = (self.vectors.astype(np.float32) != own_now).any(axis=-1) & self.chosen[..., None]
        cells = self._cells()
        gone = tuple(axis for axis, dim in enumerate(self.request.frame.dims) if dim in self.together)
        any_changed = changed.any(axis=gone, keepdims=True)[tuple(cells.T)]
        if not any_changed.all():
            yield cells[~any_changed], self.text.unchanged(len(cells[~any_changed]), self._places(cells[~any_changed]))
        cells = cells[any_changed]
        done = 0
        for part, hidden in self._passes(cells, changed):
            places, first = self._places(part), self._first(part, changed)
            yield part, self.text.measure(hidden, places, first)
            done += len(part)
            progress(done / len(cells))

    @property
    def _layers(self) -> list[int]:
        labels = np.asarray(self.request.frame.coords["layer"]).tolist()
        return [self.text.replaced.window.layout.layers.index(label) for label in labels]

    @property
    def _heads(self) -> NDArray[np.intp]:
        return np.array(self.request.frame.coords["head"])  # a copy, which torch may take

    @property
    def _at(self) -> NDArray[np.int64]:
        return self.request.at[self.here]

    def _cells(self) -> NDArray[np.intp]:
        sizes = zip(self.request.frame.dims, self.vectors.shape, strict=False)
        shape = [1 if dim in self.together else size for dim, size in sizes]
        return np.stack(
            np.unravel_index(np.arange(math.prod(shape) * self.vectors.shape[3]), (*shape, self.vectors.shape[3])),
            axis=1,
        )

    def _selected(self, cell: NDArray[np.intp]) -> tuple[Any, ...]:
        """The index of all that a cell stands for, among layers, heads, positions and replacements."""
        dims = self.request.frame.dims
        return *(
            slice(None) if dim in self.together else slice(i, i + 1) for dim, i in zip(dims, cell, strict=False)
        ), cell[3]

    def _places(self, cells: NDArray[np.intp]) -> Tensor | None:
        return None if "position" in self.together else torch.from_numpy(self._at[cells[:, 2]])

    def _first(self, cells: NDArray[np.intp], changed: NDArray[np.bool_]) -> Tensor:
        """The first position at which each job replaces anything."""
        if "position" not in self.together:
            return torch.from_numpy(self._at[cells[:, 2]])
        where = [changed[self._selected(cell)].any(axis=(0, 1)) for cell in cells]
        return torch.tensor([int(self._at[each].min()) for each in where])

    def _passes(self, cells: NDArray[np.intp], changed: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
        """Last hidden states (m, n, D) of some of the jobs at a time."""
        rows = max(1, _TOKENS // len(self.text.replaced.token_ids))
        if "layer" in self.together:
            layers = self._layers
            begin = layers[0] if layers == sorted(layers) and self._able({layers[0]: cells}, rows) else None
            yield from self._whole(cells, changed, rows, begin)
            return
        of_layers = {layer: cells[cells[:, 0] == i] for i, layer in enumerate(self._layers)}
        able = self._able(of_layers, rows)
        for layer, of_layer in of_layers.items():
            if not len(of_layer):
                continue
            if layer not in able:
                yield from self._whole(of_layer, changed, rows, None)
            elif "position" in self.together:
                yield from self._whole(of_layer, changed, rows, layer)
            else:
                yield from self._packed(layer, of_layer, changed, rows)

    def _able(self, cells: dict[int, NDArray[np.intp]], rows: int) -> set[int]:
        """Layers of which the passes of their jobs may begin there, and are worth to be tried."""
        asked = [layer for layer, of_layer in cells.items() if len(of_layer) > _FEW]
        together = max(1, rows // TRIED)
        groups = [asked[start : start + together] for start in range(0, len(asked), together)]
        return {layer for group in groups for layer in self.text.replaced.can_begin_at(group)}

    def _whole(
        self, cells: NDArray[np.intp], changed: NDArray[np.bool_], rows: int, begin: int | None
    ) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
        """Each job as a pass of its own, from a layer on."""
        for start in range(0, len(cells), rows):
            part = cells[start : start + rows]
            yield part, self.text.replaced.whole(self._changes(part, changed), len(part), begin)

    def _changes(self, cells: NDArray[np.intp], changed: NDArray[np.bool_]) -> Changes:
        """What each job, one a row, has in place of the heads' own encodings."""
        found = {}
        for i, layer in enumerate(self._layers) if "layer" in self.together else [self._of_layer(cells)]:
            where = np.zeros((*changed.shape[1:3], len(cells)), bool)
            vectors = self.vectors[i][..., cells[:, 3], :]
            for row, cell in enumerate(cells):
                _, *selected, replacement = self._selected(cell)
                where[(*selected, row)] = changed[i][(*selected, replacement)]
            if where.any():
                own = self.text.replaced.encodings[layer]
                found[layer] = self._spread(vectors, own), self._spread(where, own)
        return found

    def _of_layer(self, cells: NDArray[np.intp]) -> tuple[int, int]:
        """The one layer that cells are of: which of those that are there, and which of the model's."""
        i = int(cells[0, 0])
        return i, self._layers[i]

    def _spread(self, of_some: NDArray, own: Tensor) -> Tensor:
        """From some heads and positions (H, p, rows, …) to all (rows, n, H, …), 0 where there are others."""
        some = torch.from_numpy(np.ascontiguousarray(np.moveaxis(of_some, (2, 1), (0, 1))))  # (rows, p, H, …)
        dtype = torch.bool if some.dtype == torch.bool else own.dtype
        out = torch.zeros((len(some), *own.shape[:2], *some.shape[3:]), dtype=dtype, device=own.device)
        at, heads = torch.from_numpy(self._at), torch.from_numpy(self._heads)
        out[:, at[:, None], heads] = some.to(out)
        return out

    def _packed(
        self, layer: int, cells: NDArray[np.intp], changed: NDArray[np.bool_], rows: int
    ) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
        """Jobs at one position each: the replaced block runs once for all positions of a head and replacement."""
        replaced = self.text.replaced
        groups, of_cell = np.unique(cells[:, [0, 1, 3]], axis=0, return_inverse=True)
        of_cell = of_cell.ravel()  # NumPy 2.0 gives it as a column
        order = np.argsort(of_cell, kind="stable")
        cells, of_cell = cells[order], of_cell[order]
        for start in range(0, len(groups), rows):
            some = groups[start : start + rows]
            # All positions at once: a cell without one.
            packed_together = _Jobs(
                self.text, self.request, self.here, self.vectors, self.chosen, (*self.together, "position")
            )
            whole = np.column_stack([some[:, 0], some[:, 1], np.zeros(len(some), np.intp), some[:, 2]])
            packed = replaced.after_block(layer, *packed_together._changes(whole, changed)[layer])
            inside = (of_cell >= start) & (of_cell < start + len(some))
            here, row = cells[inside], torch.from_numpy(of_cell[inside] - start)
            for first in range(0, len(here), rows):
                part, places = here[first : first + rows], torch.from_numpy(self._at[here[first : first + rows, 2]])
                streams = replaced.unpacked(layer, packed[row[first : first + rows], places], places)
                yield part, replaced.from_block(layer, streams)


def _dataset(
    request: Request,
    found: dict[str, NDArray[np.float64]],
    others: xr.DataArray,
    together: Sequence[Together],
    by_array: bool,
) -> xr.Dataset:
    """The measures, without the dimensions that were replaced together."""
    frame = request.frame
    gone = [dim for dim in frame.dims if dim in together]
    dims = [*frame.dims, *map(str, others.dims)]
    of_positions = {*schema.TOKEN_COORDS, *schema.SEVERAL_TEXTS}
    coords = {
        name: each
        for name, each in frame.coords.items()
        if name not in gone and not ("position" in gone and name in of_positions)
    }
    if "position" in gone and len(request.texts) > 1:
        gone.remove("position")
        dims[2] = "source_id"
    said = {"of", "space", "vocab_layer", "positional", "vocab_size"}
    attrs = {name: value for name, value in frame.attrs.items() if name not in said}
    attrs["together"] = "chosen" if by_array else " ".join(together)
    shape = [others.sizes[dim] for dim in others.dims]
    data = {
        name: xr.Variable(dims, values.reshape(*values.shape[:3], *shape)).isel(dict.fromkeys(gone, 0))
        for name, values in found.items()
    }
    result = xr.Dataset(data, {**coords, **others.coords}, attrs)
    specs = {name: replace(schema.REPLACED[name], dims=tuple(map(str, result[name].dims))) for name in found}
    dropped = [dim for dim in frame.dropped if dim in result.dims]
    return schema.describe(result, specs).isel(dict.fromkeys(dropped, 0))
