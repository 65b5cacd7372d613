"""The Datasets, declared as data: names, dimensions, dtypes and meanings, and the check that they hold.

No variable has the name of one of xarray's own attributes or methods, so ``near.distance`` is ``near["distance"]``. Two
coordinates do, as they label the dimensions that everybody calls so: write ``ds["head"]`` and ``ds["rank"]``, since
``ds.head`` and ``ds.rank`` are xarray's methods.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import xarray as xr

from attnxr.errors import InputError


@dataclass(frozen=True)
class Spec:
    """One variable or coordinate of a Dataset.

    Attributes
    ----------
    dims : tuple of str
    dtype : str
        Its NumPy dtype; ``str`` for strings of any kind.
    long_name : str
        What an axis is labelled with: 40 characters at most.
    description : str
        What it is.
    counts : bool
        Whether its whole numbers count something, and are not ids or places.
    least : int or None
        The smallest value that it may have, where `attnxr.plausible` is to see to it.
    most : str
        The largest: "entry" is the last id of the vocabulary, "entries" how many there are; by default there is none.
    """

    dims: tuple[str, ...]
    dtype: str
    long_name: str
    description: str
    counts: bool = False
    least: int | None = None
    most: Literal["", "entry", "entries"] = ""

    @property
    def attrs(self) -> dict[str, str]:
        """What the variable says of itself: ``long_name``, ``description``, and ``units`` of measures and counts."""
        units = {"units": "1"} if self.counts or self.dtype.startswith("float") else {}
        return {"long_name": self.long_name, **units, "description": self.description}


def _head(*dims: str) -> tuple[str, ...]:
    return ("layer", "head", "position", *dims)


_ALIASES: dict[Any, str] = {"kv_head": "head", "other_kv_head": "other_head", "key_feature": "feature"}
_KV = ("layer", "kv_head", "position", "feature")
_STREAM = ("layer", "position", "channel")
_OF_ENCODER = ("layer", "kv_head", "key_position", "feature")

TOKEN_COORDS: dict[str, Spec] = {
    "position": Spec(
        ("position",), "int64", "position", "place in the text, 0-based; runs on where several texts lie end to end"
    ),
    "token": Spec(("position",), "str", "token", "the tokenizer's token"),
    "text": Spec(
        ("position",), "str", "text of the token", "what the token stands for, a leading space marking a word start"
    ),
    "token_id": Spec(("position",), "int64", "token id", "vocabulary id of the token", least=0, most="entry"),
    "char_start": Spec(
        ("position",),
        "int64",
        "first character",
        "first character of the token in the text; -1 where it has none",
        least=-1,
    ),
    "char_end": Spec(
        ("position",), "int64", "end of characters", "one past its last character; -1 where it has none", least=-1
    ),
    "word": Spec(
        ("position",), "int64", "word", "word of the text it belongs to, 0-based; -1 where it belongs to none", least=-1
    ),
    "is_special": Spec(("position",), "bool", "special token", "whether it is one of the tokenizer's special tokens"),
}
SEVERAL_TEXTS: dict[str, Spec] = {
    "text_id": Spec(("position",), "int64", "text", "which of the texts the position belongs to, 0-based"),
    "text_position": Spec(("position",), "int64", "position in its text", "place in that text, 0-based"),
}
# On a dimension of its own, so that it is there whatever positions are selected.
SOURCE: dict[str, Spec] = {
    "source": Spec(("source_id",), "str", "text", "the text of that text_id; empty where ids were given"),
    "encoder_source": Spec(
        ("source_id",),
        "str",
        "text of the encoder",
        "what the encoder of an encoder-decoder read beside that text; empty where ids were given",
    ),
}
# In place of attrs["token_ids"] and attrs["text_lengths"], where there are too many to lie in attrs.
MANY_TEXTS: dict[str, Spec] = {
    "source_token_id": Spec(
        ("source_token",), "int64", "token id", "vocabulary ids of all tokens of all texts, end to end"
    ),
    "row_size": Spec(("source_id",), "int64", "tokens of the text", "how many tokens each text has", counts=True),
}
TEXT_COORDS: dict[str, Spec] = TOKEN_COORDS | SEVERAL_TEXTS | SOURCE
"""All that say which tokens of which texts the positions are."""
KEY_COORDS: dict[str, Spec] = {
    "key_token": Spec(("key_position",), "str", "token of the key", "the tokenizer's token of the encoder's text"),
    "key_text": Spec(("key_position",), "str", "text of the key", "what that token stands for"),
    "key_token_id": Spec(("key_position",), "int64", "token id of the key", "vocabulary id of that token", least=0),
}
"""What cross-attention looks at: tokens of the encoder's text."""
ENCODINGS: dict[str, Spec] = {
    "head_encoding": Spec(
        _head("feature"), "float32", "head encoding", "head encoding: attention-weighted sum of the values"
    ),
    "attention": Spec(
        _head("key_position"),
        "float32",
        "attention weight",
        "attention weights; rows sum to 1, less what a sink takes",
        least=0,
    ),
    "gate": Spec(
        _head("feature"),
        "float32",
        "factor before W_O",
        "what the head encoding is multiplied by before W_O reads it: a gate, or a norm with the scale that the text "
        "gave it; NaN where the head encoding is 0",
    ),
    "query_vector": Spec(
        _head("feature"), "float32", "query vector", "query vectors, as the attention was handed them"
    ),
    "key_vector": Spec(_KV, "float32", "key vector", "key vectors, as the attention was handed them"),
    "value_vector": Spec(_KV, "float32", "value vector", "value vectors, as the attention was handed them"),
    "encoder_key_vector": Spec(
        _OF_ENCODER, "float32", "key vector of the encoder's text", "key vectors that cross-attention was handed"
    ),
    "encoder_value_vector": Spec(
        _OF_ENCODER,
        "float32",
        "value vector of the encoder's text",
        "value vectors that cross-attention was handed, made of the encoder's last hidden state",
    ),
    "residual": Spec(
        _STREAM,
        "float32",
        "residual stream after attention",
        "input of the block plus what its attention writes: resid_mid to others",
    ),
    "hidden": Spec(_STREAM, "float32", "hidden state", "output of the block: Hugging Face's hidden_states[layer + 1]"),
    **KEY_COORDS,
}
CHECKS: dict[str, Spec] = {
    "reconstruction": Spec(
        ("layer",), "float64", "error of reconstruction", "relative error of W_O applied to what it reads of the heads"
    ),
    "identity": Spec(
        ("space",), "float64", "error of vocabulary encodings", "relative error of the own tokens' vocabulary encodings"
    ),
    "unchanged": Spec(
        (),
        "float64",
        "change of the output by capture",
        "relative difference of the model's output with and without capture",
    ),
}
QUESTIONS: dict[str, Spec] = {
    "refusal": Spec(
        ("of", "space", "vocab_layer"),
        "str",
        "why the question is refused",
        "why Model.neighbors refuses these vectors in this space of this layer; empty where it answers",
    ),
}
NEIGHBORS: dict[str, Spec] = {
    "neighbor_id": Spec(
        _head("rank"), "int32", "token id of the neighbour", "vocabulary id of the neighbour", least=0, most="entry"
    ),
    "neighbor": Spec(_head("rank"), "str", "neighbour", "its token"),
    "neighbor_text": Spec(_head("rank"), "str", "text of the neighbour", "what its token stands for"),
    "distance": Spec(_head("rank"), "float32", "distance", "its distance, ascending with rank"),
    "in_sequence": Spec(_head("rank"), "bool", "neighbour is in the text", "whether it occurs in the text"),
    "own_rank": Spec(
        _head(),
        "int32",
        "own rank",
        "1 + the number of vocabulary entries strictly nearer than the own token",
        counts=True,
        least=1,
        most="entries",
    ),
    "own_distance": Spec(_head(), "float32", "distance of the own token", "distance of the own token"),
}
DISTANCES: dict[str, Spec] = {
    "distance": Spec(
        _head("vocab"), "float32", "distance", "distance of each vocabulary entry; computed when a slice is taken"
    ),
    "vocab_token": Spec(("vocab",), "str", "vocabulary entry", "token of the vocabulary entry"),
    "vocab_text": Spec(("vocab",), "str", "text of the vocabulary entry", "what it stands for"),
}
VOCABULARY_ENCODINGS: dict[str, Spec] = {
    "vocabulary_encoding": Spec(
        _head("entry", "feature"), "float64", "vocabulary encoding", "encoding of the vocabulary entry"
    ),
    "vector": Spec(
        _head("feature"), "float64", "vector compared with the vocabulary", "vector that is compared with it"
    ),
}
MOMENTS: dict[str, Spec] = {
    "vocabulary_mean": Spec(
        _head("feature"), "float64", "mean of vocabulary encodings", "mean of the vocabulary's encodings"
    ),
    "covariance": Spec(
        _head("feature", "other_feature"),
        "float64",
        "covariance of vocabulary encodings",
        "their covariance, over all entries",
    ),
    "direction": Spec(
        _head("feature"),
        "float64",
        "mean direction of vocabulary encodings",
        "mean of the vocabulary's encodings, each of length 1",
    ),
}
DECOMPOSITION: dict[str, Spec] = {
    "entry_id": Spec(
        _head("step"),
        "int32",
        "token id of the part",
        "vocabulary id of the entry that the step added; -1 where none was left that helps",
    ),
    "entry": Spec(_head("step"), "str", "part", "its token"),
    "entry_text": Spec(_head("step"), "str", "text of the part", "what its token stands for"),
    "in_sequence": Spec(_head("step"), "bool", "part is in the text", "whether it occurs in the text"),
    "weight": Spec(
        _head("step"),
        "float64",
        "weight",
        "its weight in the sum of all, not negative; NaN where there is no entry",
    ),
    "explained": Spec(
        _head("step"),
        "float64",
        "share explained",
        "share of |z - mean|^2 that the entries up to this step add up to, at their best weights",
    ),
    "explained_p": Spec(
        _head("step"), "float64", "p of the share explained", "p-value of a share as large, by as many entries"
    ),
    "approximation": Spec(
        _head("step", "feature"),
        "float32",
        "sum of the parts",
        "the vocabulary's mean encoding plus the weighted entries up to this step, at their best weights",
    ),
}
REPLACED: dict[str, Spec] = {
    "hidden_change": Spec(
        _head(),
        "float64",
        "change of the last hidden state",
        "length of the change of the last hidden state at the position, over its length",
    ),
    "hidden_change_anywhere": Spec(
        _head(),
        "float64",
        "change of all last hidden states",
        "length of the change of the text's last hidden states, all together, over their length",
    ),
    "kl": Spec(
        _head(),
        "float64",
        "divergence of the next word, in nats",
        "Kullback-Leibler divergence, in nats, of the head's distribution over the vocabulary at the position: from "
        "the original to the one with z replaced",
    ),
    "kl_anywhere": Spec(
        _head(), "float64", "mean divergence, in nats", "the mean of that divergence over all positions of the text"
    ),
    "logit_change": Spec(
        _head(),
        "float64",
        "change of the true token's logit",
        "logit of the true token with z replaced less the original one: of the token at the position, or, where tokens "
        "look only backwards, of the next one; NaN where there is none",
    ),
}
EFFECTS: dict[str, Spec] = REPLACED | {
    "recovered": Spec(
        _head("replacement", "measure"),
        "float64",
        "recovered share",
        "1 less the effect of the replacement over that of the mean: 1 where it says all that the head said, 0 where "
        "no more than the mean does; NaN where the mean has no effect",
    ),
    "replacement_id": Spec(
        _head("replacement"),
        "int32",
        "token id of the replacement",
        "vocabulary id of the entry that z is replaced by; -1 where it is none",
    ),
    "replacement_token": Spec(_head("replacement"), "str", "replacement", "its token"),
    "replacement_text": Spec(_head("replacement"), "str", "text of the replacement", "what it stands for"),
}
SIGNIFICANCE: dict[str, Spec] = {
    "nearest": Spec(_head(), "float32", "nearest distance", "distance of the nearest vocabulary entry"),
    "nearest_null": Spec(_head(), "float64", "nearest distance by chance", "mean of that distance over the draws"),
    "nearest_p": Spec(_head(), "float64", "p of the nearest distance", "p-value of the nearest distance"),
    "nearest_q": Spec(
        _head(), "float64", "q of the nearest distance", "Benjamini-Hochberg q-value of the nearest distance"
    ),
    "k_mean": Spec(_head(), "float64", "mean distance of the k nearest", "mean distance of the k nearest"),
    "k_mean_null": Spec(
        _head(), "float64", "mean distance of the k nearest by chance", "mean of that mean over the draws"
    ),
    "k_mean_p": Spec(_head(), "float64", "p of the k nearest", "p-value of the mean of the k nearest"),
    "k_mean_q": Spec(
        _head(), "float64", "q of the k nearest", "Benjamini-Hochberg q-value of the mean of the k nearest"
    ),
    "nearest_far_p": Spec(
        _head(), "float64", "p of so far a nearest distance", "p-value of a nearest distance as large: the other tail"
    ),
    "k_mean_far_p": Spec(
        _head(), "float64", "p of so far k nearest", "p-value of a mean of the k nearest as large: the other tail"
    ),
    "nearest_layer_p": Spec(
        ("layer",),
        "float64",
        "p of the layer's nearest distances",
        "p-value of the nearest distance's mean over the layer",
    ),
    "k_mean_layer_p": Spec(
        ("layer",), "float64", "p of the layer's k nearest", "p-value of the mean of the k nearest, over the layer"
    ),
    "own_p": Spec(_head(), "float64", "p of the own token", "own rank / V: p-value of the own token among all entries"),
    "own_q": Spec(
        _head(), "float64", "q of the own token", "Benjamini-Hochberg q-value of the own token among all entries"
    ),
}
POWER: dict[str, Spec] = {
    "power": Spec(
        ("layer", "cosine"), "float64", "power", "share of vectors at that cosine to a word whose p is small enough"
    ),
    "cosine_found": Spec(
        ("layer",), "float64", "cosine that is found", "cosine to a word at which the wanted share is found"
    ),
}
HUBNESS: dict[str, Spec] = {
    "occurrence": Spec(
        ("layer", "head", "position", "vocab"),
        "int32",
        "occurrences among neighbours",
        "how many vectors have the entry as a neighbour",
        counts=True,
    ),
    "skewness": Spec(_head(), "float64", "skewness of occurrences", "skewness of that number over the vocabulary"),
    "chance_skewness": Spec((), "float64", "skewness by chance", "skewness if neighbours were picked at random"),
    "hub_id": Spec(
        _head("hub_rank"),
        "int32",
        "token id of the hub",
        "vocabulary id of a most frequent neighbour; -1 where none is left",
    ),
    "hub": Spec(_head("hub_rank"), "str", "hub", "its token"),
    "hub_text": Spec(_head("hub_rank"), "str", "text of the hub", "what its token stands for"),
    "hub_occurrence": Spec(
        _head("hub_rank"), "int32", "occurrences of the hub", "how many vectors have it as a neighbour", counts=True
    ),
}
REMEDIES: dict[str, Spec] = {
    "skewness": Spec(
        ("metric", *_head()), "float64", "skewness of occurrences", "skewness of how often entries are neighbours"
    ),
    "chance_skewness": Spec((), "float64", "skewness by chance", "skewness if neighbours were picked at random"),
    "largest_occurrence": Spec(
        ("metric", *_head()),
        "int32",
        "occurrences of the largest hub",
        "how many vectors have the largest hub as a neighbour",
        counts=True,
    ),
    "overlap": Spec(
        ("metric", *_head()),
        "float64",
        "overlap with the nearest by cosine",
        "share of the neighbours by cosine that stay neighbours",
    ),
    "own_rank": Spec(
        ("metric", *_head()),
        "int32",
        "own rank",
        "1 + the number of entries strictly nearer than the own token",
        counts=True,
    ),
}
ROGUE: dict[str, Spec] = {
    "contribution": Spec(
        ("pairs", "layer", "head", "feature"),
        "float64",
        "contribution to the expected cosine",
        "what a feature adds to the expected cosine",
    ),
    "expected_cosine": Spec(("pairs", "layer", "head"), "float64", "expected cosine", "mean cosine of such pairs"),
    "top_feature": Spec(
        ("pairs", "layer", "head", "top_rank"),
        "int32",
        "feature that contributes most",
        "feature that contributes most",
    ),
    "top_share": Spec(
        ("pairs", "layer", "head", "top_rank"),
        "float64",
        "share of the expected cosine",
        "its part of the expected cosine",
    ),
}
SEQUENCE_DISTANCES: dict[str, Spec] = {
    "distance": Spec(
        _head("other_position"),
        "float32",
        "distance between positions",
        "distance between the encodings of two positions",
    ),
    "other_token": Spec(("other_position",), "str", "other token", "token at the other position"),
    "other_text": Spec(("other_position",), "str", "text of the other token", "what it stands for"),
}
SEQUENCE_NEIGHBORS: dict[str, Spec] = {
    "neighbor_position": Spec(_head("rank"), "int64", "position of the neighbour", "position of the neighbour"),
    "neighbor": Spec(_head("rank"), "str", "neighbour", "token that stands there"),
    "neighbor_text": Spec(_head("rank"), "str", "text of the neighbour", "what it stands for"),
    "distance": Spec(_head("rank"), "float32", "distance", "its distance, ascending with rank"),
}
ENCODER_NEIGHBORS: dict[str, Spec] = {
    "neighbor_position": Spec(
        _head("rank"), "int64", "position of the neighbour", "position of the neighbour in the encoder's text"
    ),
    "neighbor": Spec(_head("rank"), "str", "neighbour", "token that stands there"),
    "neighbor_text": Spec(_head("rank"), "str", "text of the neighbour", "what it stands for"),
    "distance": Spec(_head("rank"), "float32", "distance", "distance of its value, ascending with rank"),
}
TRAJECTORIES: dict[str, Spec] = {
    "own_rank": Spec(
        _head(),
        "int32",
        "own rank",
        "1 + the number of vocabulary entries strictly nearer than the own token",
        counts=True,
    ),
    "own_quantile": Spec(
        _head(), "float64", "own quantile", "share of the other vocabulary entries that are strictly nearer"
    ),
    "own_similarity": Spec(_head(), "float32", "own similarity", "similarity to the own token: the larger, the nearer"),
    "best_head": Spec(
        ("layer", "position"), "int64", "head with the smallest own rank", "head with the smallest own rank"
    ),
    "best_own_rank": Spec(
        ("layer", "position"), "int32", "smallest own rank of the heads", "its own rank", counts=True
    ),
    "median_own_rank": Spec(
        ("layer", "position"), "float64", "median own rank of the heads", "median of the own rank over heads"
    ),
    "stream_own_rank": Spec(
        ("layer", "position"), "int32", "own rank in the stream", "own rank in the residual stream", counts=True
    ),
    "stream_own_quantile": Spec(
        ("layer", "position"), "float64", "own quantile in the stream", "own quantile in the residual stream"
    ),
    "stream_own_similarity": Spec(
        ("layer", "position"), "float32", "own similarity in the stream", "own similarity in the residual stream"
    ),
}
CONSECUTIVE_OVERLAP: dict[str, Spec] = {
    "overlap": Spec(
        _head(),
        "float64",
        "overlap of neighbours",
        "share of the nearest tokens that were among those one layer before",
    ),
    "previous_layer": Spec(("layer",), "int64", "layer before", "the layer before, of those that are there"),
}
LAYER_OVERLAP: dict[str, Spec] = {
    "overlap": Spec(
        ("layer", "other_layer", "head", "position"),
        "float64",
        "overlap of neighbours",
        "share of the nearest tokens that two layers have both",
    ),
}
HEAD_OVERLAP: dict[str, Spec] = {
    "overlap": Spec(
        ("layer", "head", "other_head", "position"),
        "float64",
        "overlap of neighbours",
        "share of the nearest tokens that two heads have both",
    ),
}
ORIGINS: dict[str, Spec] = {
    "origin": Spec(
        _head(),
        "str",
        "origin of the nearest token",
        "what the nearest token is: own, other (token of the text) or neither",
    ),
    "origin_position": Spec(
        _head(),
        "int64",
        "position of the origin",
        "position where the nearest token stands in the text; -1 for neither",
    ),
    "origin_attention": Spec(
        _head(), "float32", "attention to the origin", "attention that the head paid there; NaN for neither"
    ),
    "own_share": Spec(
        ("layer", "head"), "float64", "share of own tokens", "share of positions whose nearest token is the own one"
    ),
    "other_share": Spec(
        ("layer", "head"),
        "float64",
        "share of other tokens of the text",
        "share of positions whose nearest token is another of the text",
    ),
    "neither_share": Spec(
        ("layer", "head"),
        "float64",
        "share of tokens not in the text",
        "share of positions whose nearest token is not in the text",
    ),
}
ROLES: dict[str, Spec] = {
    "self_attention_score": Spec(
        ("layer", "head"), "float64", "attention to itself", "attention from a position to itself, mean over positions"
    ),
    "prev_token_score": Spec(
        ("layer", "head"),
        "float64",
        "attention to the previous token",
        "attention to the position before, mean over positions that have one",
    ),
    "next_token_score": Spec(
        ("layer", "head"),
        "float64",
        "attention to the next token",
        "attention to the position after, mean over positions that see one; NaN under a causal mask",
    ),
    "duplicate_token_score": Spec(
        ("layer", "head"),
        "float64",
        "attention to the same token elsewhere",
        "attention to other places of the same token, mean over positions that see one",
    ),
    "induction_score": Spec(
        ("layer", "head"),
        "float64",
        "induction score",
        "attention to what followed the token's earlier places, mean over positions whose token has one",
    ),
    "first_token_score": Spec(
        ("layer", "head"),
        "float64",
        "attention to the first token",
        "attention to the text's first position, mean over the others",
    ),
    "special_token_score": Spec(
        ("layer", "head"),
        "float64",
        "attention to special tokens",
        "attention to the tokenizer's special tokens, mean over positions that see one",
    ),
    "pattern_entropy": Spec(
        ("layer", "head"),
        "float64",
        "entropy of attention (nats)",
        "entropy of a position's attention in nats, mean over positions",
    ),
    "qk_distance": Spec(
        ("layer", "head"),
        "float64",
        "distance of attention (positions)",
        "distance in positions to what is attended to, weighted by attention, mean over positions",
    ),
    "qk_distance_variance": Spec(
        ("layer", "head"),
        "float64",
        "variance of attention's distance",
        "variance of that distance, over all positions and what they attend to, in squared positions",
    ),
    "n_positions": Spec(
        ("measure",), "int64", "positions in the mean", "how many positions the mean is over", counts=True
    ),
}
WORD_COORDS: dict[str, Spec] = {
    "word": Spec(("word",), "int64", "word", "place of the word, 0-based; runs on where several texts lie end to end"),
    "word_text": Spec(("word",), "str", "word", "the word as the text writes it"),
    "char_start": Spec(
        ("word",), "int64", "first character", "first character of the word in its text; -1 where it has none"
    ),
    "char_end": Spec(("word",), "int64", "end of characters", "one past its last character; -1 where it has none"),
    "n_tokens": Spec(("word",), "int64", "tokens of the word", "how many tokens it has", counts=True),
    "text_id": Spec(("word",), "int64", "text", "which of the texts the word belongs to, 0-based"),
    "text_word": Spec(("word",), "int64", "word in its text", "place of the word in its text, as the tokenizer counts"),
}
COMPARISON: dict[str, Spec] = {
    "other_position": Spec(
        ("position",), "int64", "position in b", "position in b of the token that is at `position` in a"
    ),
    "own_rank_difference": Spec(
        _head(), "int32", "difference of own ranks", "own rank in b less own rank in a", counts=True
    ),
    "own_distance_difference": Spec(
        _head(), "float32", "difference of own distances", "own distance in b less own distance in a"
    ),
    "overlap": Spec(
        _head(), "float64", "overlap of neighbours", "share of the n nearest tokens that a and b have both"
    ),
    "rbo": Spec(_head(), "float64", "rank-biased overlap", "rank-biased overlap of the n nearest tokens, extrapolated"),
    "attention_difference": Spec(
        _head("key_position"), "float32", "difference of attention", "attention in b less attention in a"
    ),
    "attention_distance": Spec(
        _head(), "float64", "distance of attention", "total variation between the attention in a and in b"
    ),
    "key_token": Spec(("key_position",), "str", "token attended to", "token that is attended"),
    "other_key_position": Spec(
        ("key_position",), "int64", "position attended to in b", "position in b of the token that is attended"
    ),
}
_OF_ENTRY = ("position", "entry")
ATTRIBUTION: dict[str, Spec] = {
    "head_logit": Spec(_head("entry"), "float64", "logit from the head", "what the head adds to the target's logit"),
    "feed_forward_logit": Spec(
        ("layer", *_OF_ENTRY),
        "float64",
        "logit from the feed-forward",
        "what the layer's feed-forward adds to the target's logit, its own biases included",
    ),
    "embedding_logit": Spec(
        _OF_ENTRY,
        "float64",
        "logit from the embeddings",
        "what the stream that enters the first block adds to the target's logit",
    ),
    "bias_logit": Spec(
        _OF_ENTRY,
        "float64",
        "logit from biases",
        "what the biases of W_O, of the norms and of the head for language add to the target's logit",
    ),
    "rest_logit": Spec(
        _OF_ENTRY,
        "float64",
        "logit from what was not selected",
        "what heads and feed-forwards that are not in the Dataset, and blocks that are not looked into, add to it",
    ),
    "logit": Spec(_OF_ENTRY, "float64", "logit", "the model's own logit of the target"),
    "remainder": Spec(_OF_ENTRY, "float64", "remainder", "the logit less all parts: what is not linear, and rounding"),
    "target_id": Spec(
        _OF_ENTRY, "int64", "token id of the target", "vocabulary id whose logit it is; -1 where there is none"
    ),
    "target": Spec(_OF_ENTRY, "str", "target", "its token"),
    "target_text": Spec(_OF_ENTRY, "str", "text of the target", "what its token stands for"),
}


def _extremes(*dims: str) -> dict[str, Spec]:
    return {
        name: spec
        for kind, what in (("promoted", "largest"), ("suppressed", "smallest"))
        for name, spec in {
            f"{kind}_id": Spec(
                dims, "int32", f"token id of the {kind} entry", f"vocabulary id to whose logit the head adds the {what}"
            ),
            kind: Spec(dims, "str", f"{kind} entry", "its token"),
            f"{kind}_text": Spec(dims, "str", f"text of the {kind} entry", "what its token stands for"),
            f"{kind}_logit": Spec(dims, "float32", f"logit of the {kind} entry", "what the head adds to its logit"),
        }.items()
    }


PROMOTED: dict[str, Spec] = _extremes(*_head("rank"))
VOCABULARY_MAP: dict[str, Spec] = {
    **_extremes("layer", "head", "vocab", "rank"),
    "own_rank": Spec(
        ("layer", "head", "vocab"),
        "int32",
        "own rank",
        "1 + the number of entries that the head promotes more than the token it reads: 1 is copying",
        counts=True,
    ),
    "lowest_rank": Spec(
        ("layer", "head", "vocab"),
        "int32",
        "own rank from the other end",
        "1 + the number of entries that the head suppresses more than the token it reads: 1 is suppression",
        counts=True,
    ),
    "vocab_token": DISTANCES["vocab_token"],
    "vocab_text": DISTANCES["vocab_text"],
}
_OF_POINT = "of the vector, or of those whose neighbour or own token the vocabulary entry is; -1 where they differ"
MAP: dict[str, Spec] = {
    "coordinate": Spec(("point", "component"), "float64", "place on the map", "where on the map the point is"),
    "trustworthiness": Spec(
        (), "float64", "trustworthiness", "1 less a penalty for neighbours on the map that are none among the vectors"
    ),
    "explained_variance_ratio": Spec(
        ("component",), "float64", "share of variance", "share of the variance along the component"
    ),
    "kind": Spec(("point",), "str", "kind of point", "encoding (a vector of the text) or vocabulary"),
    **{
        dim: Spec(("point",), "int64", dim.replace("_", " "), f"{dim} {_OF_POINT}")
        for dim in ("layer", "head", "kv_head", "position")
    },
    **{name: Spec(("point",), "int64", each.long_name, f"{name} {_OF_POINT}") for name, each in SEVERAL_TEXTS.items()},
    "token_id": Spec(
        ("point",), "int64", "token id", "vocabulary id of the token at the position, or of the vocabulary entry"
    ),
    "token": Spec(("point",), "str", "token", "its token"),
    "text": Spec(("point",), "str", "text", "what it stands for"),
    "is_own": Spec(
        ("point",),
        "bool",
        "own token of a vector",
        "whether it is a vocabulary entry that is the own token of a vector",
    ),
    "best_rank": Spec(
        ("point",),
        "int64",
        "smallest rank among neighbours",
        "smallest rank of the vocabulary entry among a vector's neighbours, else 0",
    ),
}


def _axes(**descriptions: str) -> dict[str, Spec]:
    words = ("metric", "pairs", "space", "key_word_text", "other_source", "replacement", "measure")
    dtypes = {"cosine": "float64"} | dict.fromkeys(words, "str")
    dims = {"key_word_text": ("key_word",), "other_source": ("other_source_id",)}
    return {
        name: Spec(dims.get(name, (name,)), dtypes.get(name, "int64"), name.replace("_", " "), description)
        for name, description in descriptions.items()
    }


# The labels of the other dimensions. They are described and not checked: whoever compares Datasets may label them anew.
AXES: dict[str, Spec] = _axes(
    layer="layer of the model, 0-based: 0 reads the input",
    head="attention head, 0-based, as in the model",
    kv_head="head of keys and values, 0-based; several query heads may share one",
    other_layer="the other layer that it is compared with",
    other_head="the other head that it is compared with",
    other_kv_head="the other head of keys and values that it is compared with",
    other_position="position that it is compared with",
    other_source="the texts of b, where they are others than those of a",
    key_position="position that is attended to",
    key_word="word that is attended to",
    key_word_text="the word that is attended to, as the text writes it",
    rank="place among the nearest, 1 for the nearest",
    hub_rank="place among the hubs, 1 for the largest",
    step="place in the order in which entries were added, 1 for the first",
    top_rank="place among the features, 1 for the one that contributes most",
    vocab="vocabulary id",
    component="component of the map, 1-based",
    cosine="cosine between a vector and the word it was made near to",
    metric="how distances are measured",
    pairs="which pairs of vectors the cosine is between",
    space="what of the vocabulary was checked",
    replacement="what is put in place of z",
    measure="name of the variable that it is about",
)


def only_dims(specs: dict[str, Spec], dims: Iterable[Any]) -> dict[str, Spec]:
    """The same variables without those of a vector's dimensions (layer, head, position) that are not among `dims`."""
    kept = {_ALIASES.get(dim, dim) for dim in dims}
    return {
        name: replace(spec, dims=tuple(dim for dim in spec.dims if dim in kept or dim not in _head()))
        for name, spec in specs.items()
    }


def _holds_the_same(variable: xr.Variable, dtype: str) -> bool:
    """Whether numbers are whole ones that the expected type holds too: files and arithmetic change widths."""
    expected = np.dtype(dtype)
    if expected.kind != "i" or variable.dtype.kind not in "iu":
        return False
    if np.can_cast(variable.dtype, expected):
        return True
    limits, values = np.iinfo(expected), variable.values
    return not values.size or (limits.min <= int(values.min()) and int(values.max()) <= limits.max)


def validate(dataset: xr.Dataset, specs: dict[str, Spec], required: tuple[str, ...] = ()) -> xr.Dataset:
    """Check a Dataset against its declaration.

    Parameters
    ----------
    dataset : xr.Dataset
    specs : dict of Spec
        What its variables must look like. Head vectors of grouped-query models may have ``kv_head`` for ``head``, and
        queries and keys that are longer or shorter than values ``key_feature`` for ``feature``.
    required : tuple of str
        Names that must be there.

    Returns
    -------
    xr.Dataset
        The same Dataset.

    Raises
    ------
    InputError
        With the name, what was found and what was expected.
    """
    if not isinstance(dataset, xr.Dataset):
        raise InputError(
            f"A {type(dataset).__name__} was given; expected the xarray Dataset that Model.encode returns."
        )
    for name in required:
        if name not in dataset.variables:
            raise InputError(
                f"The Dataset has no {name!r}, only {sorted(map(str, dataset.variables))}. Expected what "
                "Model.encode returns, or a selection from it."
            )
    for name, spec in {**TEXT_COORDS, **specs}.items():
        if name not in dataset.variables:
            continue
        variable = dataset.variables[name]
        if name not in specs and not variable.dims:
            continue  # the one coordinate of a single position
        found, expected = (tuple(_ALIASES.get(dim, dim) for dim in each.dims) for each in (variable, spec))
        if found != expected:
            advice = "Select with lists or slices, so that dimensions are kept: isel(layer=[3])."
            if set(found) > set(expected):
                advice = "Were Datasets joined, of two texts say? Give each by itself."
            elif set(found) == set(expected):
                advice = f"Put them in this order: dataset.transpose({', '.join(map(repr, spec.dims))}, ...)."
            elif set(found) - set(expected):
                advice = "Were they renamed or stacked? Give them their names back."
            raise InputError(f"{name!r} has dimensions {variable.dims}; expected {spec.dims}. {advice}")
        if spec.dtype == "str" and variable.dtype.kind in "OUT":
            continue
        if spec.dtype != variable.dtype and not _holds_the_same(variable, spec.dtype):
            advice = f" Cast it: dataset[{name!r}].astype({spec.dtype!r})." if variable.dtype.kind == "f" else ""
            raise InputError(f"{name!r} has dtype {variable.dtype}; expected {spec.dtype}.{advice}")
    return dataset


def describe(dataset: xr.Dataset, specs: dict[str, Spec]) -> xr.Dataset:
    """Let every variable say what it is (``long_name``, ``units``, ``description``), then `validate`."""
    for name, spec in {**AXES, **TEXT_COORDS, **specs}.items():
        if name in dataset.variables:
            dataset[name].attrs.update(spec.attrs)
    return validate(dataset, specs)
