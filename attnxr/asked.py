"""The question that neighbours answer, in words: what the page, the command line and saved pages say of it."""

from collections.abc import Mapping
from typing import Any

from attnxr.options import STACKS, Metric, Of, Space

OF_WORDS: dict[Of, str] = {
    "encoding": "head encodings",
    "query": "queries",
    "key": "keys",
    "value": "values",
    "contribution": "contributions",
    "residual": "residual stream after the attention",
    "hidden": "residual stream after the block",
}
"""What the vectors of each name are called."""
SPACE_WORDS: dict[Space, str] = {
    "value": "values",
    "key": "keys",
    "query": "queries",
    "embedding": "embeddings",
    "unembedding": "output embeddings",
}
"""What of the vocabulary each space is called."""
METRIC_WORDS: dict[Metric, str] = {
    "cosine": "cosine",
    "euclidean": "Euclidean distance",
    "dot": "dot product",
    "centered_cosine": "centred cosine",
}
"""What each metric is called."""
_VECTOR: dict[Of, str] = {
    "encoding": "what each head wrote",
    "query": "each head's query",
    "key": "each head's key",
    "value": "each head's value",
    "contribution": "what each head adds to the residual stream",
    "residual": "the residual stream after each attention",
    "hidden": "the residual stream after each block",
}
_STACK = {"cross": "cross-attention"}
_OF_LAYERS = ("value", "key", "query")


def sentence(asked: Mapping[str, Any]) -> str:
    """One sentence that says which question neighbours answer.

    Parameters
    ----------
    asked : mapping
        ``of``, ``space``, ``vocab_layer``, ``positional`` and ``metric``, as `Model.neighbors` takes them, or the attrs
        of what it returned. Words that are no option's, as a stranger's file may have them, stand as they are. And
        ``stack``, of an encoder-decoder.

    Returns
    -------
    str
        A question.

    Examples
    --------
    >>> from attnxr.asked import sentence
    >>> sentence(dict(of="hidden", space="unembedding", vocab_layer="input", positional=True, metric="dot"))
    'Which vocabulary tokens have output embeddings nearest by dot product to the residual stream after each block?'
    """
    space = asked["space"]
    have = SPACE_WORDS.get(space, str(space))
    if space in _OF_LAYERS:
        have += f" {in_layer(asked['vocab_layer'])}"
    if space != "unembedding":
        have += ", at the same position," if asked["positional"] else ", without their positional embedding,"
    metric = METRIC_WORDS.get(asked["metric"], str(asked["metric"]))
    stack = asked.get("stack")
    which = f"In the {_STACK.get(stack, stack)}: which" if stack in STACKS else "Which"
    return f"{which} vocabulary tokens have {have} nearest by {metric} to {_VECTOR.get(asked['of'], str(asked['of']))}?"


def short(asked: Mapping[str, Any]) -> str:
    """The same in a few words, such as stand above a list: vectors, space, layer and metric.

    Examples
    --------
    >>> from attnxr.asked import short
    >>> short(dict(of="encoding", space="value", vocab_layer="input", positional=True, metric="cosine"))
    'head encodings, values in the first layer, cosine'
    """
    of, space, metric = asked["of"], asked["space"], asked["metric"]
    where = f" {in_layer(asked['vocab_layer'])}" if space in _OF_LAYERS else ""
    said = [OF_WORDS.get(of, str(of)), SPACE_WORDS.get(space, str(space)) + where]
    said.append(METRIC_WORDS.get(metric, str(metric)))
    if not asked["positional"] and space != "unembedding":
        said.append("without positions")
    return ", ".join(said)


def in_layer(vocab_layer: int | str) -> str:
    """Which layer's attention makes the vocabulary's vectors, in words."""
    return {"input": "in the first layer", "same": "in the same layer"}.get(str(vocab_layer), f"in layer {vocab_layer}")
