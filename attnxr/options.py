"""What can be asked for: the words of every option, as types."""

from typing import Literal, get_args

Metric = Literal["cosine", "euclidean", "dot", "centered_cosine"]
HeadVector = Literal["encoding", "query", "key", "value"]
StreamVector = Literal["contribution", "residual", "hidden"]
Of = Literal[HeadVector, StreamVector]
HeadSpace = Literal["value", "key", "query"]
StreamSpace = Literal["embedding", "unembedding"]
Space = Literal[HeadSpace, StreamSpace]
NamedLayer = Literal["input", "same"]
VocabLayer = int | NamedLayer
Include = Literal["query_vector", "key_vector", "value_vector", "residual", "hidden"]
Moment = Literal["vocabulary_mean", "covariance", "direction"]
OfPursuit = Literal["approximation"]
Together = Literal["layer", "head", "position"]
Split = Literal["line", "paragraph"]

METRICS: tuple[Metric, ...] = get_args(Metric)
HEAD_VECTORS: tuple[HeadVector, ...] = get_args(HeadVector)
STREAM_VECTORS: tuple[StreamVector, ...] = get_args(StreamVector)
OF: tuple[Of, ...] = get_args(Of)
HEAD_SPACES: tuple[HeadSpace, ...] = get_args(HeadSpace)
STREAM_SPACES: tuple[StreamSpace, ...] = get_args(StreamSpace)
SPACES: tuple[Space, ...] = get_args(Space)
INCLUDE: tuple[Include, ...] = get_args(Include)
MOMENTS: tuple[Moment, ...] = get_args(Moment)
OF_PURSUIT: tuple[OfPursuit, ...] = get_args(OfPursuit)
NAMED_LAYERS: tuple[NamedLayer, ...] = get_args(NamedLayer)
TOGETHER: tuple[Together, ...] = get_args(Together)
SPLITS: tuple[Split, ...] = get_args(Split)

VARIABLE: dict[Of, str] = {
    "encoding": "head_encoding",
    "query": "query_vector",
    "key": "key_vector",
    "value": "value_vector",
    "contribution": "head_encoding",  # which it is made from
    "residual": "residual",
    "hidden": "hidden",
}
"""Where the vectors of each name are in a Dataset of encodings."""
