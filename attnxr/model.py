"""Model: a Hugging Face model to ask what its attention heads wrote. A thin face over the files below it."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import xarray as xr
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from attnxr.checking import boolean, choice, choices, vocabulary_ids, whole_number
from attnxr.errors import InputError
from attnxr.inputs.continuation import Continuation, continued
from attnxr.inputs.given import read
from attnxr.inputs.reading import Messages, Reader, Reading
from attnxr.inputs.target import TargetReader
from attnxr.inputs.target import read as target_of
from attnxr.loading.by_name import MINILM, Weights, load
from attnxr.loading.precision import Dtype, cast, dtype_of
from attnxr.loading.wrapped import unwrapped
from attnxr.options import (
    INCLUDE,
    MOMENTS,
    MOST_SEED,
    OF_PURSUIT,
    Metric,
    Moment,
    Of,
    OfPursuit,
    ReadAs,
    Space,
    Stack,
    Together,
    VocabLayer,
)
from attnxr.probe.generating import refusal
from attnxr.probe.interface import on_cpu
from attnxr.probe.stacks import DecoderWindow
from attnxr.query import attribution, entries, lazy, moments, neighbors, offered, pursuit, replaced, vocabulary_map
from attnxr.query.batches import Batches
from attnxr.query.encoded import encoded
from attnxr.query.question import Question
from attnxr.query.request import Options, Request
from attnxr.query.snapshot import Snapshot
from attnxr.query.stack import Snapshots, check_pairs, read_sources
from attnxr.search.nearest import Progress, told_to
from attnxr.tokens import VocabularyTokens
from attnxr.vocabulary import checks
from attnxr.vocabulary.encodings import Verification

_MEMORY = 4 << 30


def load_model(
    name: str,
    *,
    weights: Weights = "safetensors",
    dtype: Dtype = "auto",
    device: str | None = None,
    memory: int = _MEMORY,
    layers: Sequence[int] | None = None,
) -> "Model":
    """Load a model by name and look into it.

    Parameters
    ----------
    name : str
        A hub id, a local folder or ``.gguf`` file, or ``minilm``, which the demo extra ships: ``"roberta-base"``.
    weights : {"safetensors", "pickle"}
        Pickled weights are read only when asked for. Code that comes with a model is never run.
    dtype : {"auto", "float32", "bfloat16", "float16", "float64"} or torch.dtype
        The precision that the model computes in; by default what its checkpoint says or is stored in. One in half
        precision stays so, which takes half of the memory, and its numbers agree with each other to fewer digits
        (`Model.verification`). What is asked of it is compared in float64 all the same.
    device : str, optional
        A torch device, such as ``cuda``; by default the CPU.
    memory, layers
        See `Model`.

    Returns
    -------
    Model

    Raises
    ------
    InputError
        If `weights`, `dtype`, `device`, `memory` or `layers` is invalid.
    ModelNotFoundError
        If there is no such model or no tokenizer beside it, or none can be had without a network.
    UnsupportedModelError
        If no right number could be given about a model of that type.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> model.n_layers, model.n_heads, model.vocab_size
    (6, 12, 30522)
    """
    choice("weights", weights, get_args(Weights))
    if not isinstance(name, str | os.PathLike):
        raise InputError(f"name={name!r} was given; expected a hub id, a folder or a file, such as 'roberta-base'.")
    name = os.fspath(name)
    hf_model, tokenizer = load(name, weights, dtype_of(dtype))
    if device is not None:
        try:
            nn.Module.to(hf_model, torch.device(device))
        except (RuntimeError, AssertionError, TypeError) as error:  # no device, or none that this torch was built for
            raise InputError(
                f"device={device!r} was given, to which the model cannot be moved ({error}). Expected a torch device "
                "that this machine has, such as 'cpu'."
            ) from error
    model = Model(hf_model, tokenizer, name=name, memory=memory, layers=layers)
    there = Path(name).expanduser()
    model.loaded_as = {
        "name": str(there.absolute()) if name != MINILM and there.exists() else name,
        "weights": weights,
        "dtype": dtype,
        "device": device,
        "memory": memory,
        "layers": None if layers is None else [*map(int, layers)],
    }
    return model


def _reading(
    seen: Snapshot, truncate: bool, add_special_tokens: bool | Literal["bos"], add_generation_prompt: bool
) -> Reading:
    boolean("truncate", truncate)
    boolean("add_generation_prompt", add_generation_prompt)
    bos = isinstance(add_special_tokens, str) and add_special_tokens == "bos"
    if not bos:
        boolean("add_special_tokens", add_special_tokens, "True, False or 'bos'")
    special: bool | Literal["bos"] = "bos" if bos else bool(add_special_tokens)
    return Reading(seen.window.layout.max_tokens, bool(truncate), special, bool(add_generation_prompt))


class Model:
    """A Hugging Face model whose heads can be asked what they wrote, and which words that is near to.

    The model that is given is not changed, and not copied unless `dtype` asks for another precision: its weights are
    shared, and what a call sees belongs to that call, so any number of threads can use one Model. A copy
    (``copy.deepcopy``) has weights of its own, and so has one that was pickled, with all of them in the pickle.

    Parameters
    ----------
    hf_model : transformers.PreTrainedModel
        An encoder, decoder or encoder-decoder, with or without a head on top, on any device. It is looked at in
        evaluation mode, whatever mode it is in. A ``peft.PeftModel`` whose adapter stands inside the model is one too.
    tokenizer : transformers tokenizer, optional
        Without one, pass ``token_ids`` to `encode`.
    name : str, optional
        What to call it in results; by default what its configuration says.
    dtype : {"auto", "float32", "bfloat16", "float16", "float64"} or torch.dtype
        The precision to compute in, by default that which the model has. For another one its weights are copied, once,
        in that precision; what becomes of the given model later does not reach this copy.
    memory : int
        Bytes that tables as large as the vocabulary may take together, 4 GiB unless told: float32, V × D numbers for
        each layer and space that is asked about. The one not used for longest goes first, and is made again when it is
        needed; one that is larger alone is made each time.
    layers : list of int, optional
        Which layers to look into, by their numbers in the model; by default all that have attention. Needed where
        layers differ in the number or the size of their heads (Gemma 4, OpenELM): what is refused without it says which
        groups there are. The first of them is what ``vocab_layer="input"`` means, and `fingerprint` is another one.

    Attributes
    ----------
    n_layers, n_heads, n_kv_heads, head_size : int
        L, H, the number of key/value heads and d, of the layers that are looked into. These and all that says something
        of the whole model are, of an encoder-decoder, those of its encoder, or of its decoder where the encoder cannot
        be looked into; see `of_stack`.
    loaded_as : dict or None
        The arguments with which `load_model` loads it in another process; None where it was given in memory.

    Raises
    ------
    InputError
        If the tokenizer or `dtype` is invalid, the model cannot be copied in that precision, or it has no such layers.
    UnsupportedModelError
        If its attention cannot be looked into, its layers are of different shapes, or its vocabulary encodings cannot
        be had right.

    Examples
    --------
    >>> import transformers
    >>> import attnxr
    >>> config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2)
    >>> model = attnxr.Model(transformers.GPT2LMHeadModel(config).eval())
    >>> model.encode(token_ids=[3, 1, 4]).sizes["position"]
    3
    """

    def __init__(
        self,
        hf_model: PreTrainedModel,
        tokenizer: Any = None,
        *,
        name: str | None = None,
        dtype: Dtype = "auto",
        memory: int = _MEMORY,
        layers: Sequence[int] | None = None,
    ):
        self._memory = whole_number("memory", memory, 0, why=f"in bytes, such as {_MEMORY}")
        if name is not None and not isinstance(name, str):
            raise InputError(f"name={name!r} was given; expected a str, what to call the model in results.")
        if layers is not None and (isinstance(layers, str) or not isinstance(layers, Iterable)):
            raise InputError(f"layers={layers!r} was given; expected a list of the numbers of layers, such as [0, 1].")
        asked = dtype_of(dtype)
        inside = unwrapped(hf_model)
        if asked is not None:
            inside = hf_model = cast(inside, asked)
        self._hf_model, self._tokenizer = hf_model, tokenizer
        self._reader = None if tokenizer is None else Reader(tokenizer)
        self._target_reader = None if tokenizer is None else TargetReader(tokenizer)
        self._layers = None if layers is None else [*layers]
        self._snapshots = Snapshots(inside, tokenizer, self._memory, self._layers)
        config = self._look_first(self._snapshots.first).window.model.config
        called = name or config.name_or_path or config.model_type
        self.name = called.encode(
            errors="backslashreplace"
        ).decode()  # a folder may be named by bytes that are no UTF-8
        self.loaded_as: dict[str, Any] | None = None

    def _look_first(self, stack: Stack | None) -> Snapshot:
        """Have a stack be the one that is meant where none is said."""
        seen = self._snapshots.of(stack)
        layout, self._first = seen.window.layout, stack
        self.n_layers, self.n_heads, self.n_kv_heads = layout.n_layers, layout.n_heads, layout.n_kv_heads
        self.head_size = layout.head_size
        return seen

    def _look(self, stack: Stack | None = None) -> Snapshot:
        """What is known of the model, or of a stack of it, as it is now: see `Snapshots`."""
        return self._snapshots.of(stack or self._first)

    def _look_for(self, encodings: object) -> Snapshot:
        """The same of the stack that encodings say they are of."""
        said = encodings.attrs.get("stack") if isinstance(encodings, xr.Dataset) else None
        return self._look(said if said in self.stacks else None)

    def __reduce__(self) -> tuple:
        """Copied and pickled as what it was built from; what it has found out since is found out again."""
        built: Callable[..., Model] = partial(Model, name=self.name, memory=self._memory, layers=self._layers)
        if self._first is not None and self._first != self._snapshots.first:
            built = partial(_built_of_stack, built, self._first)
        return built, (self._hf_model, self._tokenizer)

    def __repr__(self) -> str:
        vocabulary = self._snapshots.last(self._first).vocabulary
        return (
            f"<attnxr.Model {self.name!r}: {self.n_layers} layers × {self.n_heads} heads × {self.head_size} features, "
            f"{vocabulary.size} vocabulary entries; {vocabulary.verification}>"
        )

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """The stacks of an encoder-decoder, as `encode` takes them; none where the model is no encoder-decoder."""
        return self._snapshots.stacks

    def of_stack(self, stack: Stack) -> "Model":
        """Give the same model with another stack as the one that is meant where none is said.

        What says something of the whole model, such as `n_heads`, `vocab_size`, `vocabulary`, `fingerprint`,
        `verification`, `questions` and `verify`, is then that of this stack, and so is what analyses make of it. What
        `encode` is asked is the same.

        Parameters
        ----------
        stack : {"encoder", "decoder", "cross"}
            One of `stacks`.

        Returns
        -------
        Model
            It shares with this one all that is known and kept of the model.

        Raises
        ------
        InputError
            If the model has no such stack.
        UnsupportedModelError
            If it cannot be looked into.

        Examples
        --------
        >>> import transformers
        >>> import attnxr
        >>> config = transformers.T5Config(
        ...     vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_decoder_layers=2, num_heads=2
        ... )
        >>> model = attnxr.Model(transformers.T5ForConditionalGeneration(config).eval())
        >>> model.n_layers, model.of_stack("decoder").n_layers
        (1, 2)
        """
        if not self.stacks:
            raise InputError(
                f"stack={stack!r} was asked of {self.name!r}, which is no encoder-decoder. It has one stack."
            )
        choice("stack", stack, self.stacks)
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._look_first(stack)
        if stack != self._snapshots.first:
            other.loaded_as = None  # which would load the model with the first stack meant
        return other

    @property
    def hf_model(self) -> PreTrainedModel:
        """The model that was given, which is looked into."""
        return self._hf_model

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that was given; None where there is none."""
        return self._tokenizer

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration of `hf_model`."""
        return self._hf_model.config

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

        Made from the configuration, hooks and other settings, and of each weight tensor at least one number of every
        row and column; but for a pooler and a head on top, on which no encoding depends.
        """
        return self._look().fingerprint

    @on_cpu()
    def encode(
        self,
        text: str | Sequence[str] | Messages | Sequence[Messages] | Mapping[str, Any] | Continuation | None = None,
        *,
        pair: str | Sequence[str] | None = None,
        token_ids: Sequence[int] | None = None,
        target: str | Sequence[str] | Sequence[int] | None = None,
        stack: Stack | None = None,
        include: str | Sequence[str] = (),
        truncate: bool = False,
        causal: bool | None = None,
        add_special_tokens: bool | Literal["bos"] = True,
        add_generation_prompt: bool = False,
    ) -> xr.Dataset:
        """Run the model on a text and return what every head of every layer wrote at every position.

        Parameters
        ----------
        text : str, list of str, messages, Continuation, or what a tokenizer returned
            One text, or several, which lie end to end along ``position``, with coords ``text_id`` and
            ``text_position``; ``attention``, ``key_position`` of which would differ, is then left out. A coord
            ``source``, on a dimension of its own, ``source_id``, holds the texts: that of a position is
            ``source[text_id]``. To make a table, leave it out: ``near.drop_vars("source").to_dataframe()``.

            A chat, or a list of chats, is given as transformers takes it, ``[{"role": "user", "content": "Hello"}]``;
            the tokenizer's chat template makes a text of it, special tokens included.

            What `generate` returned is looked at token by token as it was generated, and not read again.

            What a tokenizer returns (``tokenizer(text)``, with or without ``return_tensors``) is taken with its
            ``token_type_ids``; what its ``attention_mask`` masks, which is padding, has no position in the result.
        pair : str or list of str, optional
            The second sentence of a pair, or that of each text, for models that read two: the tokenizer puts its
            special tokens between them and tells their types. The text is then both, a line break between.
        token_ids : list of int, length n
            In place of a text: the ids the model sees, special tokens included and no padding.
        target : str, list of str, or list of int, optional
            Of an encoder-decoder: what its decoder reads while it reads the text, which the encoder is given. Of a text
            the decoder is handed what the model itself makes of it as labels: its start token first
            (``decoder_start_token_id``), the last token left out. Ids are handed over as they are. As many texts as
            there are for the encoder.

            Where the encoder reads no text, `text` is what it reads, by name (``{"input_features": …}``), or its last
            hidden state, ``{"encoder_outputs": …}`` (1, m, D).
        stack : {"encoder", "decoder", "cross"}, optional
            Of an encoder-decoder: the encoder (the default without a target; the decoder does not run), the attention
            of the decoder to its own tokens (the default with one), or that to the encoder's text. Each is looked into
            as a model of its own: the decoder is compared with what its own attention makes of its own vocabulary.
            Of ``cross``, ``attention`` is (layer, head, position, key_position), with the encoder's tokens as
            ``key_token``, ``key_text`` and ``key_token_id``; keys and values are ``encoder_key_vector`` and
            ``encoder_value_vector`` (layer, kv_head, key_position, feature). It is one text, without residual and
            hidden, and `causal` is the model's own.
        include : str or list of str
            What to add: any of ``query_vector``, ``key_vector``, ``value_vector``, ``residual``, ``hidden``.
            ``hidden[l]`` is what Hugging Face calls ``hidden_states[l + 1]`` (before a last norm), and ``residual``
            what others call ``resid_mid``.
        truncate : bool
            Keep the start of a text that is too long (of a pair, of the longer sentence), and say in
            ``attrs["truncated"]`` how many tokens were cut; those of a target count too.
        causal : bool, optional
            On: each token sees only itself and those before it, in every layer with attention. Off: where the model's
            own mask lets a token see another one, that one sees it too. By default the mask is the model's own. So with
            it off full attention sees everything, and a sliding window, a local layer or a chunk reaches as far ahead
            as it does back.
        add_special_tokens : bool or "bos"
            Whether the tokenizer puts its special tokens around a text. False for a text that has them, such as
            ``tokenizer.apply_chat_template(messages, tokenize=False)``. With ``"bos"`` the token that begins a text
            (``bos_token``) stands first, also where the tokenizer puts none there, as GPT-2's.
        add_generation_prompt : bool
            Whether a chat ends with the header of the answer that the model is to give.

        Returns
        -------
        xr.Dataset
            ``head_encoding`` (layer, head, position, feature), ``attention`` (layer, head, position, key_position) and
            what was asked for besides, float32, and of a model that multiplies head encodings by a gate or a norm
            before W_O reads them, ``gate`` (layer, head, position, feature), what it multiplied them by; coords on
            ``position``: token, text, token_id, char_start, char_end, word, is_special. attrs: model, fingerprint, text
            (of one text), token_ids (int64 array of the whole text, or of all texts end to end, with text_lengths
            beside it), token_type_ids where the model is given any, causal, truncated and versions; read_as where one
            text was read in another way than by default (``bos``, ``bare`` without special tokens, ``chat``, ``prompt``
            with the header of the answer), with the messages of a chat as JSON; generated, how many tokens at the end
            of a `Continuation` were, with own_text and the seed, if any; of an
            encoder-decoder the stack, and of its decoder encoder_text and encoder_token_ids (of several texts the coord
            encoder_source).

        Raises
        ------
        InputError
            If the text is empty, the ids or types are out of range, ids end in padding that no mask masks, a name in
            `include` is unknown, or `target` and `stack` do not go together or with the model.
        TextTooLongError
            If the text has more tokens than `max_tokens` and `truncate` is False.
        UnsupportedModelError
            If `causal` or ``residual`` or ``hidden`` is asked of a model that does not allow it, or a stack cannot be
            looked into.

        Examples
        --------
        >>> import attnxr
        >>> model = attnxr.load_model("minilm")
        >>> enc = model.encode("Time flies like an arrow.")
        >>> enc.token.values.tolist()
        ['[CLS]', 'time', 'flies', 'like', 'an', 'arrow', '.', '[SEP]']
        >>> enc.head_encoding.dims, enc.head_encoding.shape
        (('layer', 'head', 'position', 'feature'), (6, 12, 8, 32))
        """
        asked = self._snapshots.asked_for(stack, target)
        seen = self._look(asked)
        if causal is not None:
            boolean("causal", causal, "True, False or None (the model's own)")
        included = choices("include", include, INCLUDE)
        how = _reading(seen, truncate, add_special_tokens, add_generation_prompt)
        if asked in (None, "encoder"):
            given, tokens = read(text, pair, token_ids, how, self._reader, seen.window, self.name)
            return encoded(seen, self.name, given, tokens, included, causal, asked)
        assert isinstance(seen.window, DecoderWindow)
        sources = read_sources(self._snapshots, seen.window, text, pair, token_ids, how, self._reader, self.name)
        given, tokens = target_of(target, how, self._target_reader, seen.window, self.name)
        check_pairs(asked, sources, len(tokens), causal, included)
        return encoded(seen, self.name, given, tokens, included, causal, asked, sources)

    @property
    def can_generate(self) -> bool:
        """Whether `generate` continues a text: a decoder with its head for language."""
        seen = self._look()
        return not refusal(seen.window, seen.vocabulary.size)

    @property
    def readings(self) -> list[ReadAs]:
        """How the tokenizer can read what is typed; none without a tokenizer.

        ``text``, with the special tokens that it puts around a text; ``bos``, with the token that begins a text first,
        where there is one and it puts none; ``bare``, without any, where it puts some and there is such a token; and
        ``chat`` and ``prompt``, as a message of a chat, without and with the header of the answer to come, where it has
        a template of chats.
        """
        return [] if self._reader is None else self._reader.ways()

    @on_cpu()
    def generate(
        self,
        text: str | Messages | Mapping[str, Any] | None = None,
        *,
        n: int = 20,
        seed: int | None = None,
        token_ids: Sequence[int] | None = None,
        truncate: bool = False,
        add_special_tokens: bool | Literal["bos"] = True,
        add_generation_prompt: bool = False,
        progress: Progress | None = None,
    ) -> Continuation:
        """Have the model continue a text; `encode` takes what is returned.

        It is transformers' own ``generate`` on a view of the model, whose generation_config is not used but for the
        tokens that end a text: no penalties, no other temperature. The mask is the model's own.

        Parameters
        ----------
        text, token_ids, add_special_tokens, add_generation_prompt
            As in `encode`, of one text. Special tokens that the tokenizer puts behind a text, as to end it, are left
            out.
        n : int
            How many tokens to generate, 1 or more; fewer where the model ends the text.
        seed : int, optional
            Draw each token with the probability that the model gives it: the same seed draws the same. By default it is
            the likeliest each time.
        truncate : bool
            Generate as many as there is room for, and cut a text that is too long, as in `encode`, and generate none.
        progress : callable, optional
            Told the fraction done, 0 … 1, after each token; what it raises ends the call.

        Returns
        -------
        Continuation
            ``token_ids`` of the whole, of which the first ``n_own`` are the text's own, and ``text``.

        Raises
        ------
        InputError
            If n or the seed is invalid, several texts are given, or as in `encode`.
        TextTooLongError
            If the text and n tokens are more than `max_tokens`, and `truncate` is False.
        UnsupportedModelError
            If the model has no head for language, is an encoder or an encoder-decoder, or its logits are no numbers.

        Examples
        --------
        >>> import transformers
        >>> import attnxr
        >>> config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None)
        >>> model = attnxr.Model(transformers.GPT2LMHeadModel(config).eval())
        >>> continued = model.generate(token_ids=[3, 1, 4], n=5)
        >>> continued.token_ids[:3], continued.n_own, len(continued.token_ids)
        ([3, 1, 4], 3, 8)
        """
        n = whole_number("n", n, 1, why="how many tokens to generate")
        if seed is not None:
            seed = whole_number("seed", seed, 0, MOST_SEED)
        seen, told = self._look(), told_to(progress)
        how = _reading(seen, truncate, add_special_tokens, add_generation_prompt)
        if isinstance(text, Continuation):
            raise InputError(
                "A Continuation was given to Model.generate; expected a text. Give its ids to go on: "
                "token_ids=continued.token_ids."
            )
        given, tokens = read(text, None, token_ids, how, self._reader, seen.window, self.name)
        if len(tokens) > 1:
            raise InputError(f"{len(tokens)} texts were given to Model.generate; expected one.")
        size = seen.vocabulary.size
        vocabulary_ids(tokens[0].ids, size, self.name)
        return continued(given[0], tokens[0], n, seed, how, self._reader, seen.window, size, told)

    @on_cpu()
    def neighbors(
        self,
        encodings: xr.Dataset,
        *,
        k: int = 15,
        metric: Metric = "cosine",
        of: Of = "encoding",
        space: Space = "value",
        vocab_layer: VocabLayer = "input",
        positional: bool = True,
        progress: Progress | None = None,
    ) -> xr.Dataset:
        """Find the vocabulary tokens nearest to what each head wrote, exactly, for all layers, heads and positions.

        Parameters
        ----------
        encodings : xr.Dataset
            What `encode` returns, or a selection from it; dimensions that it dropped the result has dropped too.
        k : int
            How many neighbours, 1 … V.
        metric : {"cosine", "euclidean", "dot", "centered_cosine"}
            How far two vectors are apart. ``cosine``: 1 minus the cosine of their angle. ``euclidean``: the length of
            their difference. ``dot``: minus their inner product. ``centered_cosine``: the cosine after the vocabulary's
            mean encoding of that head and position is taken from both. So 1 − cos(z, u), ``|z − u|``, −z·u and
            1 − cos(z − ū, u − ū).
        of : {"encoding", "query", "key", "value", "contribution", "residual", "hidden"}
            Which vectors. Of a head: its encodings, queries, keys or values. Of the residual stream: what each head
            writes into it (``contribution``, W_O[h] z without the bias; of z times ``gate``, where the model has one),
            the stream after the block's attention (``residual``) or after the block (``hidden``). All but ``encoding``
            and ``contribution`` must have been included in `encode`, queries, keys and values as ``query_vector``,
            ``key_vector``, ``value_vector``.
        space : {"value", "key", "query"} or {"embedding", "unembedding"}
            What of the vocabulary they are compared with. For vectors of a head: the value, key or query vectors that
            a layer's attention computes for each vocabulary token at the same position. For vectors of the stream: the
            stream that enters the first block for each vocabulary token at the same position, or the model's output
            embeddings.
        vocab_layer : {"input", "same"} or int
            Which layer makes the vocabulary's encodings: the first (``input``), for each vector its own layer
            (``same``), or the layer of that number. Its attention is handed the embeddings as they enter the model, and
            makes of them what it makes, its own norm included. Layers have bases of their own, so these are different
            questions.
        positional : bool
            Whether each vocabulary entry is encoded as if it stood at the token's position, or without any position:
            with the positional term of that position, or, in a rotary model, with keys and queries turned by it.
            Without it those of a rotary model stand as at position 0.
        progress : callable, optional
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

        Examples
        --------
        >>> import attnxr
        >>> model = attnxr.load_model("minilm")
        >>> enc = model.encode("Time flies like an arrow.")
        >>> near = model.neighbors(enc, k=3)
        >>> near.neighbor.sel(layer=0, head=3, position=2).values.tolist()
        ['snakes', 'claws', 'eyes']
        >>> near.own_rank.sel(layer=0, head=3, position=2).item()
        16
        """
        question = self._ask(encodings, Options(of, space, vocab_layer, positional, metric))
        return neighbors.answer(question, k, told_to(progress), self.name)

    @on_cpu()
    def questions(self) -> xr.Dataset:
        """Tell which combinations of vectors and spaces `neighbors` and `distances` take of this model.

        Returns
        -------
        xr.Dataset
            ``refusal`` (of, space, vocab_layer) str: why the combination is refused, and empty where it is answered.
            ``vocab_layer`` has the names; the number of a layer is taken where ``same`` is. A layer beyond the first
            whose vectors are not sure to be right, which takes a pass through it to find out, is refused when it is
            asked.

        Examples
        --------
        >>> import attnxr
        >>> refusal = attnxr.load_model("minilm").questions().refusal.sel(vocab_layer="input")
        >>> refusal.sel(of="query", space="key").item()
        ''
        >>> refusal.sel(of="contribution", space="unembedding").item().partition(" for ")[0]
        "space='unembedding' was asked of BertModel (model_type 'bert'), which has no output embeddings"
        """
        return offered.answer(self._look(), self.name)

    @on_cpu()
    def distances(
        self,
        encodings: xr.Dataset,
        *,
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

        Examples
        --------
        >>> import attnxr
        >>> model = attnxr.load_model("minilm")
        >>> enc = model.encode("Time flies like an arrow.")
        >>> dist = model.distances(enc)
        >>> one = dist.distance.sel(layer=0, head=3, position=2, vocab_token="flies")
        >>> round(one.item(), 3)
        0.345
        """
        return lazy.answer(self._ask(encodings, Options(of, space, vocab_layer, positional, metric)))

    @on_cpu()
    def vocabulary_encodings(
        self,
        encodings: xr.Dataset,
        ids: xr.DataArray | Sequence[int],
        *,
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

        Examples
        --------
        >>> import attnxr
        >>> model = attnxr.load_model("minilm")
        >>> enc = model.encode("Time flies like an arrow.")
        >>> near = model.neighbors(enc, k=5)
        >>> found = model.vocabulary_encodings(enc, near.neighbor_id)
        >>> found.vocabulary_encoding.dims
        ('layer', 'head', 'position', 'rank', 'feature')
        """
        return entries.answer(self._ask(encodings, Options(of, space, vocab_layer, positional)), ids, self.name)

    @on_cpu()
    def moments(
        self,
        encodings: xr.Dataset,
        *,
        include: Sequence[Moment] = ("vocabulary_mean", "covariance"),
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
            Any of ``vocabulary_mean``, ``covariance`` and ``direction``, the mean of ``u / |u|`` (0 for one of
            length 0).

        Returns
        -------
        xr.Dataset
            ``vocabulary_mean`` and ``direction`` (layer, head, position, feature), ``covariance`` (layer, head,
            position, feature, other_feature), float64, over all V vocabulary entries with equal weights. Layers that
            are compared with one vocabulary share its numbers in memory, so the arrays are not to be written into.

        Raises
        ------
        InputError, UnsupportedModelError
            As in `neighbors`; or if a name in `include` is unknown.

        Examples
        --------
        >>> import attnxr
        >>> model = attnxr.load_model("minilm")
        >>> enc = model.encode("Time flies like an arrow.")
        >>> model.moments(enc, include=["vocabulary_mean"]).vocabulary_mean.dims
        ('layer', 'head', 'position', 'feature')
        """
        included = choices("include", include, MOMENTS)
        return moments.answer(self._ask(encodings, Options(of, space, vocab_layer, positional)), included)

    @on_cpu()
    def pursuit(
        self,
        encodings: xr.Dataset,
        *,
        n: int = 5,
        include: str | Sequence[OfPursuit] = (),
        of: Of = "encoding",
        space: Space = "value",
        vocab_layer: VocabLayer = "input",
        positional: bool = True,
        progress: Progress | None = None,
    ) -> xr.Dataset:
        """Find the few vocabulary entries whose encodings add up to each vector; `attnxr.decompose` says how.

        Parameters
        ----------
        encodings, of, space, vocab_layer, positional, progress
            As in `neighbors`.
        n : int
            How many entries at most, 1 … d.
        include : str or list of str
            ``approximation``, what they add up to after each step.

        Returns
        -------
        xr.Dataset
            ``entry_id``, ``entry``, ``entry_text``, ``in_sequence``, ``weight`` and ``explained`` (layer, head,
            position, step) with ``step`` 1 … n. There is no ``head`` where the vectors have none.

        Raises
        ------
        InputError, UnsupportedModelError
            As in `neighbors`; or if a name in `include` is unknown.
        """
        included = choices("include", include, OF_PURSUIT)
        question = self._ask(encodings, Options(of, space, vocab_layer, positional))
        return pursuit.answer(question, n, included, told_to(progress))

    @on_cpu()
    def logit_parts(
        self, encodings: xr.Dataset, ids: xr.DataArray | None = None, *, progress: Progress | None = None
    ) -> xr.Dataset:
        """Take the logits of chosen vocabulary entries apart: see `attnxr.attribute`, which finds entries by name.

        Parameters
        ----------
        encodings : xr.Dataset
        ids : xr.DataArray, optional
            Vocabulary ids along ``entry``, ``position`` or both; by default the true token.
        progress : callable, optional
            Told the fraction done, 0 … 1, now and then; what it raises ends the call.

        Returns
        -------
        xr.Dataset
        """
        return attribution.parts_of_logits(self._look_for(encodings), self.name, encodings, ids, told_to(progress))

    @on_cpu()
    def logit_extremes(self, encodings: xr.Dataset, *, k: int = 10, progress: Progress | None = None) -> xr.Dataset:
        """Find what each head promotes and suppresses most: see `attnxr.promoted`.

        Parameters
        ----------
        encodings : xr.Dataset
        k : int
        progress : callable, optional

        Returns
        -------
        xr.Dataset
        """
        return attribution.extremes_of_logits(self._look_for(encodings), self.name, encodings, k, told_to(progress))

    @on_cpu()
    def head_maps(
        self,
        ids: Sequence[int],
        *,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        k: int = 10,
        after_first_block: bool = False,
        progress: Progress | None = None,
    ) -> xr.Dataset:
        """Find which tokens heads promote that read a token, without a text: see `attnxr.vocabulary_map`.

        Parameters
        ----------
        ids : list of int, length m
            Vocabulary ids of the tokens that are read.
        layers, heads : list of int, optional
            By default all.
        k : int
        after_first_block : bool
        progress : callable, optional

        Returns
        -------
        xr.Dataset
        """
        seen = self._look()
        return vocabulary_map.answer(seen, self.name, ids, layers, heads, k, after_first_block, told_to(progress))

    @on_cpu()
    def replace(
        self,
        encodings: xr.Dataset,
        by: xr.DataArray,
        *,
        together: Sequence[Together] | xr.DataArray = (),
        progress: Progress | None = None,
    ) -> xr.Dataset:
        """Put other vectors in place of what heads write, each in a pass of its own, and measure what becomes of it.

        A vector that equals the head's own, as the Dataset holds it in float32, is that: its effect is exactly 0. What
        lies before a replaced layer is computed once.

        Parameters
        ----------
        encodings : xr.Dataset
            What `encode` returns, or a selection from it: its layers, heads and positions are replaced, one at a time.
            The text is run again, whole and with the mask it was encoded with; special tokens are replaced like others.
        by : xr.DataArray
            What to put there, with the dimension ``feature``, and ``layer``, ``head`` and ``position`` where it
            differs between these: ``0 * enc.head_encoding``, ``enc.head_encoding.mean("position")``. Other dimensions
            are replacements that are made one after the other.
        together : list of {"layer", "head", "position"}, or xr.DataArray of bool
            What is replaced in one pass: ``["position"]`` a head at all positions of a text that are there, ``["head",
            "position"]`` what a layer's attention writes but for its bias. Or which layers, heads and positions to
            replace in one pass.
        progress : callable, optional
            Told the fraction done, 0 … 1, now and then; what it raises ends the work.

        Returns
        -------
        xr.Dataset
            float64, (layer, head, position, …), with the other dimensions of `by`, without those that are replaced
            together; ``source_id`` for ``position`` where there are several texts. With h the last hidden state, after
            the last norm, h' the same with z replaced, and p, p' what a head for language makes of them:

            - ``hidden_change``: ``|h' − h| / |h|`` at the position where z was replaced;
            - ``hidden_change_anywhere``: the same of all positions of the text as one vector;
            - ``kl``: Σ p log(p / p') there, in nats, over all rows of the output embeddings; never negative;
            - ``kl_anywhere``: its mean over the text's positions;
            - ``logit_change``: the true token's logit with z replaced less the original one, there. The true token is
              that of the position, or, where tokens look only backwards, the next one: NaN at the last position.

            Those at one position are left out where positions are replaced together, and all but the first two of a
            model without a head for language. In float32 the model's own rounding makes some 1e-6 of a
            ``hidden_change``, and less than 1e-9 of a ``kl`` (float64 sums over float32 logits, none of which cancel).
            attrs["together"] says what was replaced together, ``chosen`` where an array did.

        Raises
        ------
        InputError
            If the Dataset is not this model's, or `by` has another shape, other labels, or numbers that are not finite.
        UnsupportedModelError
            If the head on top makes other logits of a last hidden state than the model does.

        Examples
        --------
        >>> import attnxr
        >>> model = attnxr.load_model("minilm")
        >>> enc = model.encode("Time flies.").isel(layer=[0, 5], head=[3])
        >>> change = model.replace(enc, by=0 * enc.head_encoding)
        >>> change.hidden_change.dims
        ('layer', 'head', 'position')
        """
        return replaced.answer(self._look_for(encodings), self.name, encodings, by, together, told_to(progress))

    @on_cpu()
    def verify(self, *, stack: Stack | None = None) -> xr.Dataset:
        """Check on this model that what attnxr says of it is what it computes.

        Parameters
        ----------
        stack : {"encoder", "decoder", "cross"}, optional
            Of an encoder-decoder; by default the first of them that can be looked into.

        Returns
        -------
        xr.Dataset
            Largest relative errors, float64, over a text of random tokens (seeded):

            - ``reconstruction`` (layer): W_O applied to the concatenated head encodings (times ``gate``, where the
              model has one), against what the attention block puts out without attnxr;
            - ``identity`` (space): the vocabulary encodings of the text's own tokens, against the vectors that the
              first layer's attention was handed, any blocks before it passed by (for ``embedding``, the stream that
              enters the first block);
            - ``unchanged``: the model's output with capture on, against its output without attnxr, with the attention
              implementation it has (in half precision the eager one: others round otherwise).

            attrs: model, fingerprint, path (of each space), tolerance, and ``passed``, 1 where all are within it.

        Examples
        --------
        >>> import attnxr
        >>> model = attnxr.load_model("minilm")
        >>> checks = model.verify()
        >>> bool(checks.attrs["passed"])
        True
        """
        if stack is not None:
            choice("stack", stack, self.stacks)
        seen = self._look(stack)
        checked = checks.check(seen.window, seen.vocabulary)
        return checked.assign_attrs(model=self.name, fingerprint=seen.fingerprint)

    def batches(
        self,
        *,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        causal: bool | None = None,
        k: int = 15,
        metric: Metric = "cosine",
        vocab_layer: VocabLayer = "input",
        positional: bool = True,
    ) -> Batches:
        """Look at many texts, those of one length together: what `attnxr.build_corpus` runs a model with.

        Parameters
        ----------
        layers, heads : list of int, optional
            Which to look at; by default all.
        causal, k, metric, vocab_layer, positional
            As in `encode` and `neighbors`.

        Returns
        -------
        Batches
            Of the model as it is now.

        Raises
        ------
        InputError
            If an option is invalid.
        UnsupportedModelError
            If it is the decoder of an encoder-decoder that is looked at.
        """
        return Batches(
            self._look(),
            self._reader,
            self.name,
            layers=layers,
            heads=heads,
            causal=causal,
            k=k,
            metric=metric,
            vocab_layer=vocab_layer,
            positional=positional,
        )

    def _ask(self, encodings: xr.Dataset, options: Options) -> Question:
        seen = self._look_for(encodings)
        return Question(seen, Request.of(seen, self.name, encodings, options))


def _built_of_stack(built: Callable[..., Model], stack: Stack, *given: Any) -> Model:
    """A model as `Model.of_stack` gives it, in the place that it was copied or unpickled to."""
    return built(*given).of_stack(stack)
