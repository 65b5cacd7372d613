"""Vocabulary encodings: what layer 0's attention is handed for every vocabulary token at a given position.

Two ways to the same numbers:

- The *reference path* lets the model do it: the vocabulary runs as one-token sequences, with the position's own
  positional term put in place, up to layer 0's attention function. Right for every family, and slow, since every
  position needs a pass of its own.
- The *factored path* is for models whose last step before the attention is a LayerNorm of (word + position), and
  linear from there on. With ``x_v`` and ``x_p`` the two terms, centred over the channels, ``γ`` and ``β`` the
  LayerNorm's weight and bias, ``W h + b`` the linear map behind it::

      u[v, p] = (a_v + a_p) / s_vp + c      a = W diag(γ) x      c = W β + b
      s_vp    = sqrt((|x_v|² + 2 x_v·x_p + |x_p|²) / D + ε)

  so one matrix ``a`` serves every position. Its parts are read off the running model: ``x_v`` is what the LayerNorm
  is handed, ``W`` and ``b`` what comes out when its output is replaced by 0 and by the unit vectors.

Neither is believed without proof: `verify` compares both with the vectors of a real forward pass.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnxr import kernels
from attnxr.capture import Stop, Watcher, Window
from attnxr.errors import UnsupportedModelError

Space = Literal["value", "key", "query"]
SPACES: tuple[Space, ...] = ("value", "key", "query")
Path = Literal["factored", "reference"]

_BATCH = 4096  # vocabulary entries taken at once
_UNIT = 1024.0  # length of the unit vectors that read W: keeps W's bits clear of a large bias; exact, a power of 2


class _FirstAttention(Watcher):
    """Runs up to layer 0's attention function, and keeps what it and the steps before it were handed."""

    def __init__(
        self,
        window: Window,
        positional: Tensor | None = None,
        normed: Tensor | None = None,
        until_norm: bool = False,
    ):
        self.vectors: dict[Space, Tensor] = {}
        self.positional: Tensor | None = None
        self.norm_input: Tensor | None = None
        self._window = window
        self._put_positional = positional
        self._put_normed = normed
        self._until_norm = until_norm

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if module is self._window.layout.norm:
            self.norm_input = args[0]
            if self._until_norm:
                raise Stop

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Tensor | None:
        if module is self._window.layout.positions:
            self.positional = output
            if self._put_positional is not None:
                return self._put_positional.to(output).expand_as(output)
        if module is self._window.layout.norm and self._put_normed is not None:
            return self._put_normed.to(output)
        return None

    def attending(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> None:
        self.vectors = {"query": query, "key": key, "value": value}
        raise Stop


def positional_terms(window: Window, token_ids: list[int]) -> Tensor:
    """Positional term of every position of a text, as the model itself adds it.

    Parameters
    ----------
    window : Window
    token_ids : list of int, length n
        The whole text: some families count positions by what the tokens are.

    Returns
    -------
    float32 CPU tensor (n, E)
        ``E`` is the embedding size, 0 where the model adds no positional term.
    """
    seen = _FirstAttention(window)
    window.run(torch.tensor([token_ids]), seen)
    if seen.positional is None:
        return torch.zeros(len(token_ids), 0)
    return seen.positional.reshape(-1, seen.positional.shape[-1]).to("cpu", torch.float32)


def reference_encodings(window: Window, space: Space, positional: Tensor, token_ids: Tensor) -> Tensor:
    """Vocabulary encodings at one position, computed by the model itself (the reference path).

    Parameters
    ----------
    window : Window
    space : {"value", "key", "query"}
    positional : float32 tensor (E,)
        The position's row of `positional_terms`; zeros leave the positional term out.
    token_ids : int64 tensor (m,)

    Returns
    -------
    float32 CPU tensor (heads, m, d)
        ``heads`` is the number of key/value heads, of query heads for ``space="query"``.
    """
    parts = []
    for batch in token_ids.split(_BATCH):
        seen = _FirstAttention(window, positional=positional)
        window.run(batch[:, None], seen)
        parts.append(seen.vectors[space][:, :, 0].transpose(0, 1).to("cpu", torch.float32))
    return torch.cat(parts, dim=1)


@dataclass(frozen=True, eq=False)
class Block:
    """Vocabulary encodings of P positions: ``u[h, p, v] = (rows[h, v] + shift[h, p]) · scale[p, v] + offset[h]``.

    Here the scale is 1; the factored path has one of its own.

    Attributes
    ----------
    rows : float32 array (heads, V, d)
    shift : float64 array (heads, P, d)
    offset : float64 array (heads, d)
    """

    rows: NDArray[np.float32]
    shift: NDArray[np.float64]
    offset: NDArray[np.float64]

    def scale(self, entries: slice) -> NDArray[np.float64]:
        """Scale of every position at a run of vocabulary entries: float64 (P, V)."""
        return np.ones((self.shift.shape[1], self.rows[0, entries].shape[0]))

    def scale_at(self, places: NDArray[np.intp], entries: NDArray[np.integer]) -> NDArray[np.float64]:
        """Scale at pairs of a position and an entry: float64 (m,); equal words give equal bits."""
        return np.ones(len(entries))

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Mean encoding of the vocabulary for each head and position: float64 (heads, P, d)."""
        heads, size, _ = self.rows.shape
        total, weight = np.zeros_like(self.shift), np.zeros(self.shift.shape[1])
        for start in range(0, size, _BATCH):
            entries = slice(start, start + _BATCH)
            scale = self.scale(entries)
            weight += scale.sum(axis=1)
            for h in range(heads):
                total[h] += scale @ self.rows[h, entries].astype(np.float64)
        return (total + self.shift * weight[:, None]) / size + self.offset[:, None]


@dataclass(frozen=True, eq=False)
class _FactoredBlock(Block):
    words: NDArray[np.float32]  # (V, D), centred
    words_square: NDArray[np.float64]  # (V,)
    places: NDArray[np.float64]  # (P, D), centred
    places_square: NDArray[np.float64]  # (P,)
    epsilon: float

    def scale(self, entries: slice) -> NDArray[np.float64]:
        product = self.places @ self.words[entries].astype(np.float64).T
        return self._scale(self.words_square[entries], product, self.places_square[:, None])

    def scale_at(self, places: NDArray[np.intp], entries: NDArray[np.integer]) -> NDArray[np.float64]:
        product = kernels.pair_products(self.words, self.places, entries, places)
        return self._scale(self.words_square[entries], product, self.places_square[places])

    def _scale(
        self, word: NDArray[np.float64], product: NDArray[np.float64], place: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return 1 / np.sqrt((word + 2 * product + place) / self.words.shape[1] + self.epsilon)


class Factors:
    """The factored path: the parts of ``u`` that do not depend on the position, read off the model once.

    Parameters
    ----------
    window : Window
        Its layout must have a LayerNorm before layer 0's attention.
    size : int
        Number of vocabulary entries, V.

    Attributes
    ----------
    linear : dict of float32 tensors (heads, d, D)
        ``W diag(γ)`` of each space.
    offset : dict of float64 arrays (heads, d)
        ``c = W β + b`` of each space.
    """

    def __init__(self, window: Window, size: int):
        norm = window.layout.norm
        assert norm is not None, "is_usable_for says so first"
        width = norm.normalized_shape[0]
        self.size = size
        self.epsilon = norm.eps
        self._window = window
        self._words: Tensor | None = None
        self._rows: dict[Space, NDArray[np.float32]] = {}
        self._lock = threading.Lock()
        probes = torch.cat([torch.zeros(1, width), _UNIT * torch.eye(width)])[:, None]
        seen = _FirstAttention(window, normed=probes)
        window.run(torch.zeros(len(probes), 1, dtype=torch.int64), seen)
        self.linear: dict[Space, Tensor] = {}
        self.offset: dict[Space, NDArray[np.float64]] = {}
        gamma = torch.ones(width) if norm.weight is None else norm.weight.detach()
        beta = torch.zeros(width) if norm.bias is None else norm.bias.detach()
        for space, vectors in seen.vectors.items():
            out = vectors[:, :, 0].to("cpu", torch.float64)  # (1 + D, heads, d)
            matrix = (out[1:] - out[0]).permute(1, 2, 0) / _UNIT
            self.linear[space] = (matrix * gamma.to("cpu", torch.float64)).float()
            self.offset[space] = (matrix @ beta.to("cpu", torch.float64) + out[0]).numpy()

    @staticmethod
    def is_usable_for(window: Window) -> bool:
        """Whether the model has the form that can be factored. Whether the numbers agree is for `verify` to say."""
        return window.layout.norm is not None and window.layout.positions is not None

    def words(self, token_ids: Tensor) -> Tensor:
        """``x_v`` of some tokens: float32 (m, D), centred over the channels."""
        assert self._window.layout.positions is not None
        parts = []
        for batch in token_ids.split(_BATCH):
            seen = _FirstAttention(self._window, positional=torch.zeros(1), until_norm=True)
            self._window.run(batch[:, None], seen)
            assert seen.norm_input is not None
            parts.append(_centred(seen.norm_input.reshape(len(batch), -1)).float())
        return torch.cat(parts)

    def block(self, space: Space, positional: Tensor) -> Block:
        """Encodings of the whole vocabulary at the given positional terms, float32 (P, D)."""
        with self._lock:  # the first of several threads makes them, the others wait
            if self._words is None:
                self._words = self.words(torch.arange(self.size))
            if space not in self._rows:
                self._rows[space] = self._project(space, self._words)
        return self._block(space, positional, self._words, self._rows[space])

    def encodings(self, space: Space, positional: Tensor, token_ids: Tensor) -> Tensor:
        """Encodings of some tokens, each at the positional term beside it: float64 (heads, m, d)."""
        words = self.words(token_ids)
        rows = self._project(space, words)
        block = self._block(space, positional, words, rows)
        each = np.arange(len(token_ids))
        scale = block.scale_at(each, each)
        return torch.from_numpy((rows + block.shift) * scale[:, None] + block.offset[:, None])

    def _project(self, space: Space, words: Tensor) -> NDArray[np.float32]:
        heads, features, width = self.linear[space].shape
        flat = torch.mm(words, self.linear[space].reshape(-1, width).T)  # one large product is the fastest
        return flat.reshape(len(words), heads, features).transpose(0, 1).contiguous().numpy()

    def _block(self, space: Space, positional: Tensor, words: Tensor, rows: NDArray[np.float32]) -> Block:
        places = _centred(positional)
        return _FactoredBlock(
            rows=rows,
            shift=torch.matmul(places, self.linear[space].double().transpose(1, 2)).numpy(),
            offset=self.offset[space],
            words=words.numpy(),
            words_square=kernels.squares(words.numpy()),
            places=places.numpy(),
            places_square=kernels.squares(places.numpy()),
            epsilon=self.epsilon,
        )


def _centred(rows: Tensor) -> Tensor:
    rows = rows.to("cpu", torch.float64)
    return rows - rows.mean(dim=1, keepdim=True)


@dataclass(frozen=True)
class Verification:
    """How well the vocabulary encodings in use agree with the model itself.

    Attributes
    ----------
    path : {"factored", "reference"}
        Which of the two ways serves.
    error : float
        Largest ``|u − u_model| / |u_model|`` over heads, spaces and the pairs tried (``u_model``: the vector that
        layer 0's attention was handed in a real forward pass).
    tolerance : float
        What was allowed.
    pairs : int
        How many pairs of a token and a position were tried.
    """

    path: Path
    error: float
    tolerance: float
    pairs: int

    def __str__(self) -> str:
        return (
            f"{self.path} path; largest relative error {self.error:.1e} (allowed {self.tolerance:.0e}) against the "
            f"model's own vectors, at {self.pairs} pairs of token and position"
        )


def verify(window: Window, factors: Factors | None, size: int, tolerance: float = 1e-5) -> Verification:
    """Compare vocabulary encodings with those of real forward passes, and say which path may serve.

    Random texts (seeded), as long as the model takes but at most 128 tokens, run through the model as any text
    does. At each of their positions, the vector that layer 0's attention was handed is the truth.

    Raises
    ------
    UnsupportedModelError
        If neither path agrees to `tolerance`.
    """
    length = min(window.layout.max_tokens or 128, 128)
    generator = torch.Generator().manual_seed(0)
    token_ids = torch.randint(size, (length,), generator=generator)
    truth = _FirstAttention(window)
    window.run(token_ids[None], truth)
    places = positional_terms(window, token_ids.tolist())
    true = {space: vectors[0].to("cpu", torch.float64) for space, vectors in truth.vectors.items()}

    error = math.inf
    if factors is not None:
        error = max(_relative_error(factors.encodings(space, places, token_ids), true[space]) for space in SPACES)
        if error <= tolerance:
            return Verification("factored", error, tolerance, length)
    few = torch.arange(0, length, max(1, length // 16))  # each position is a pass of its own here
    found = {
        space: torch.cat(
            [reference_encodings(window, space, places[i], token_ids[i : i + 1]) for i in few.tolist()], dim=1
        )
        for space in SPACES
    }
    reference_error = max(_relative_error(found[space].double(), true[space][:, few]) for space in SPACES)
    if not reference_error <= tolerance:
        raise UnsupportedModelError(
            f"The vocabulary encodings of {type(window.model).__name__} differ from the vectors of its own forward "
            f"pass by a relative error of {reference_error:.1e} (factored: {error:.1e}); at most {tolerance:.0e} was "
            "expected. No number would be right, so none is given. Please report the model's name."
        )
    return Verification("reference", reference_error, tolerance, len(few))


def _relative_error(found: Tensor, true: Tensor) -> float:
    difference = torch.linalg.vector_norm(found - true, dim=-1)
    return float((difference / torch.linalg.vector_norm(true, dim=-1).clamp_min(1e-30)).max())


class Vocabulary:
    """Encodings of the whole vocabulary at any positions, by whichever path was verified.

    Parameters
    ----------
    window : Window
    size : int
        Number of vocabulary entries, V: ids 0 … V−1.
    """

    def __init__(self, window: Window, size: int):
        self.window = window
        self.size = size
        factors = Factors(window, size) if Factors.is_usable_for(window) else None
        self.verification = verify(window, factors, size)
        self._factors = factors if self.verification.path == "factored" else None

    def blocks(self, space: Space, positional: Tensor) -> list[tuple[NDArray[np.intp], Callable[[], Block]]]:
        """Vocabulary encodings for some positional terms, in as few blocks as the path allows.

        Parameters
        ----------
        space : {"value", "key", "query"}
        positional : float32 tensor (P, E)

        Returns
        -------
        list of (int array, callable)
            The rows of `positional` that a block serves, and what computes it: a block can be large, so one at a
            time is held. Together they serve every row once.
        """
        rows = np.arange(len(positional))
        if self._factors is not None:
            return [(rows, partial(self._factors.block, space, positional))]
        return [(rows[i : i + 1], partial(self._reference_block, space, positional[i])) for i in rows]

    def _reference_block(self, space: Space, positional: Tensor) -> Block:
        rows = reference_encodings(self.window, space, positional, torch.arange(self.size)).numpy()
        heads, _, features = rows.shape
        return Block(rows, np.zeros((heads, 1, features)), np.zeros((heads, features)))
