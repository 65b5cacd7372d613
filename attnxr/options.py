"""What can be asked for: the words of every option, as types, and what each option means, said once."""

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
Stack = Literal["encoder", "decoder", "cross"]
ReadAs = Literal["text", "bos", "bare", "chat", "prompt"]

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
STACKS: tuple[Stack, ...] = get_args(Stack)
READ_AS: tuple[ReadAs, ...] = get_args(ReadAs)

MOST_SEED = 2**31 - 1
"""The largest seed of random numbers, which every kind of file can hold."""

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

METRIC_MEANS: dict[Metric, str] = {
    "cosine": "1 minus the cosine of their angle",
    "euclidean": "the length of their difference",
    "dot": "minus their inner product",
    "centered_cosine": "the cosine after the vocabulary's mean encoding of that head and position is taken from both",
}

HOW_FAR = "How far two vectors are apart."
MEANS: dict[str, str] = {
    # Of a question
    "k": "How many neighbours.",
    "metric": " ".join([HOW_FAR, *(f"{name}: {means}." for name, means in METRIC_MEANS.items())]),
    "of": "Which vectors.",
    "space": "What of the vocabulary they are compared with.",
    "vocab_layer": "Which layer makes the vocabulary's encodings: the first (input), for each vector its own layer "
    "(same), or the layer of that number.",
    "positional": "Whether each vocabulary entry is encoded as if it stood at the token's position, or without any "
    "position.",
    "causal": "On: each token sees only itself and those before it, in every layer with attention. Off: where the "
    "model's own mask lets a token see another one, that one sees it too. By default the mask is the model's own.",
    # Of a model
    "name": "A hub id, a local folder or .gguf file, or minilm, which the demo extra ships.",
    "dtype": "The precision that the model computes in; by default what its checkpoint says or is stored in.",
    "device": "A torch device, such as cuda; by default the CPU.",
    # Of a corpus
    "field": "The field of JSON lines, or the column of a table, that holds a text.",
    "split": "What one text of a text file is.",
    "limit": "How many texts to take at most, from the first; by default all.",
    "measures": "What to measure of each head; by default all there is.",
    "keep": "What to keep of each token.",
    "layers": "Which layers to measure; by default all.",
    "heads": "Which heads to measure; by default all.",
    "keep_layers": "Of which layers it is kept; by default of all that are measured.",
    "keep_heads": "Of which heads it is kept; by default of all that are measured.",
    "sample": "How many texts are shown whole to measures that take long.",
    "seed": "Which texts these are: the same seed draws the same.",
    "truncate": "Keep the start of a text that is too long.",
    "unit_tokens": "How many tokens a unit has, which is done as a whole.",
    "batch_bytes": "What texts may take that go through the model together, in bytes.",
    "threads": "How many threads torch, the search and BLAS have.",
}
"""What an option means: docstrings begin with these words, and the command and the page show them."""
