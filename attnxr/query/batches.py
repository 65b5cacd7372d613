"""Texts of one length asked about together, again and again: what a corpus is made with."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr import checking
from attnxr.errors import InputError, UnsupportedModelError
from attnxr.inputs.reading import Reader, Reading
from attnxr.inputs.tokenized import types_for
from attnxr.options import Metric, VocabLayer
from attnxr.probe import together
from attnxr.probe.interface import on_cpu
from attnxr.probe.stacks import DecoderWindow
from attnxr.probe.window import typed
from attnxr.query.encoded import encoded
from attnxr.query.question import Question
from attnxr.query.request import Options, Request, Written, vocabulary_layers
from attnxr.query.snapshot import Snapshot
from attnxr.search.nearest import Nearest, Progress, told_to
from attnxr.tokens import Tokens


class Batches:
    """Some layers and heads of a model as it is now, to be asked about many texts.

    Parameters
    ----------
    seen : Snapshot
        Of the model.
    reader : Reader or None
        None where the model was given without a tokenizer.
    name : str
        What the model is called.
    layers, heads : list of int, optional
        By default all.
    causal, k, metric, vocab_layer, positional
        As in `Model.encode` and `Model.neighbors`.

    Attributes
    ----------
    layers, heads : tuple of int
        Those that are looked at, ascending.
    causal : bool
        Whether tokens look only backwards.
    head_size : int
    names : VocabularyTokens

    Raises
    ------
    InputError
        If an option is unknown, or there is no such layer or head.
    UnsupportedModelError
        If it is a decoder that reads a text of an encoder's.
    """

    def __init__(
        self,
        seen: Snapshot,
        reader: Reader | None,
        name: str,
        *,
        layers: Sequence[int] | None,
        heads: Sequence[int] | None,
        causal: bool | None,
        k: int,
        metric: Metric,
        vocab_layer: VocabLayer,
        positional: bool,
    ):
        layout = seen.window.layout
        if isinstance(seen.window, DecoderWindow):
            raise UnsupportedModelError(
                f"Many texts were to be looked at in the decoder of {seen.window.family}, which reads a text of the "
                "encoder's with each. Expected a model, or a stack, that reads one text: hf_model.get_encoder(). Or "
                "encode the pairs: model.encode(texts, target=targets)."
            )
        if causal is not None:
            checking.boolean("causal", causal, "True, False or None (the model's own)")
        self.layers = tuple(sorted(checking.some_of("layers", layers, layout.layers, seen.window.family)))
        self.heads = tuple(sorted(checking.some_of("heads", heads, range(layout.n_heads), seen.window.family)))
        self.head_size, self.names = layout.head_size, seen.tokens
        self.causal = layout.causal if causal is None else bool(causal)
        self._k = checking.whole_number("k", k, 1, seen.vocabulary.size, f"the size of the vocabulary of {name!r}")
        self._options = Options("encoding", "value", vocab_layer, positional, metric)
        self._options.check()
        self._seen, self._reader, self._name, self._causal = seen, reader, name, causal
        self._layers = [layout.layers.index(layer) for layer in self.layers]
        vocabulary_layers(seen, self._layers, vocab_layer)

    def read(self, text: str, truncate: bool) -> Tokens:
        """Tokens of a text, with the types that the model is to be given, if any.

        Raises
        ------
        InputError, TextTooLongError
            As `Model.encode`.
        """
        if self._reader is None:
            raise InputError(
                f"The model {self._name!r} was given without a tokenizer, so it cannot read texts. Build "
                "attnxr.Model(hf_model, tokenizer)."
            )
        tokens = self._reader.read(text, Reading(self._seen.window.layout.max_tokens, truncate))
        size = self._seen.vocabulary.size
        checking.vocabulary_ids(tokens.ids, size, self._name)
        return Tokens(tokens.ids, cut=tokens.cut, types=types_for(self._seen.window, tokens.types, size))

    @on_cpu()
    def run(
        self,
        token_ids: NDArray[np.int64],
        types: NDArray[np.int64] | None,
        see: together.See | None = None,
        vectors: bool = True,
    ) -> NDArray[np.float32]:
        """Run texts through the model: `attnxr.probe.together.run`.

        Parameters
        ----------
        token_ids : int64 array (t, n)
        types : int64 array (t, n), optional
        see : callable, optional
            Is shown the attention of each layer.
        vectors : bool
            Whether what the heads wrote is wanted; without, the array that is returned is empty.

        Returns
        -------
        float32 array (layers, heads, t, n, d)

        Raises
        ------
        UnsupportedModelError
            As `Model.encode`.
        """
        found = together.run(
            self._seen.window,
            token_ids,
            typed(types),
            causal=self._causal,
            layers=self._layers,
            heads=self.heads,
            see=see,
            vectors=vectors,
        )
        return np.empty(0, np.float32) if found is None else found

    @on_cpu()
    def nearest(
        self, written: Sequence[Written], progress: Progress | None = None
    ) -> list[tuple[Nearest, NDArray[np.bool_]]]:
        """Neighbours and own ranks of what `run` returned of some batches, and which neighbours occur in their text.

        Batches are searched together: what is made of the vocabulary for a position serves all texts that have it. The
        answers are the same to the bit as those of each batch alone.

        Parameters
        ----------
        written : sequence of Written
            One for each batch.
        progress : callable, optional
            Told the fraction done now and then; what it raises ends the search.

        Returns
        -------
        list of tuple
            Of each batch, a Nearest of (layers, heads, t, m, …), and a bool array (layers, heads, t, m, k).
        """
        request = Request.of_batches(self._seen, self._options, written, self._layers, self.heads)
        question = Question(self._seen, request)
        found = question.nearest(self._k, told_to(progress))
        arrays = *found.arrays, question.in_sequence(found.ids)
        ends = np.cumsum([0, *(each.vectors.shape[2] * each.vectors.shape[3] for each in written)])
        answers = []
        for each, start, end in zip(written, ends, ends[1:], strict=False):
            shape = each.vectors.shape[:4]
            *near, in_sequence = (array[:, :, start:end].reshape(*shape, *array.shape[3:]) for array in arrays)
            answers.append((Nearest(*near), in_sequence))
        return answers

    @on_cpu()
    def encodings(self, token_ids: NDArray[np.int64], types: NDArray[np.int64] | None) -> xr.Dataset:
        """What `Model.encode` returns of one text (n,), of these layers and heads."""
        nowhere = [-1] * len(token_ids)
        tokens = Tokens(token_ids.tolist(), nowhere, nowhere, nowhere, types=[] if types is None else types.tolist())
        whole = encoded(self._seen, self._name, [""], [tokens], (), self._causal)
        return whole.sel(layer=list(self.layers), head=list(self.heads))

    def try_out(self, neighbors: bool) -> None:
        """Run two tokens through the model, and the search if that is wanted, so that what cannot be is said at once.

        Raises
        ------
        UnsupportedModelError
            If the model cannot be asked so.
        """
        token_ids = np.full((1, 2), self.names.size // 2)
        vectors = self.run(token_ids, None)
        if neighbors:
            self.nearest([Written(vectors, token_ids, None, slice(None))])

    def check(self) -> None:
        """Fail where the model is no longer the one that was looked at.

        Raises
        ------
        InputError
            If its weights were changed or moved.
        """
        if not self._seen.is_current():
            raise InputError(
                "The model's weights were changed or moved while texts ran through it; expected weights that stay as "
                "they are while a corpus is built. Call again with the model it was begun with."
            )
