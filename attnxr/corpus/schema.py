"""What a corpus holds, declared as data: the group ``tokens``, and what of ``results`` can be kept token by token."""

from attnxr import schema
from attnxr.schema import Spec

TOKENS: dict[str, Spec] = {
    "token_id": Spec(("position",), "int32", "token id", "vocabulary id of the token"),
    "is_special": schema.TOKEN_COORDS["is_special"],
    "text_id": schema.SEVERAL_TEXTS["text_id"],
    "text_position": schema.SEVERAL_TEXTS["text_position"],
    "token_type_id": Spec(
        ("position",), "int32", "token type", "token type that the model is given; -1 in a text that has none"
    ),
    "row_size": Spec(
        ("text",), "int64", "tokens of the text", "how many tokens the text has; 0 where it could not be read", True
    ),
    "cut": Spec(("text",), "int64", "tokens cut", "how many tokens were cut off a text that was too long", True),
    "error": Spec(("text",), "str", "error", "why there is nothing of the text; empty where there is"),
    "vocab_token": schema.DISTANCES["vocab_token"],
    "vocab_text": schema.DISTANCES["vocab_text"],
}
"""Texts lie end to end along ``position``: a contiguous ragged array of the CF conventions, by `row_size`."""

KEPT: dict[str, Spec] = {
    "head_encoding": schema.ENCODINGS["head_encoding"],
    **{name: schema.NEIGHBORS[name] for name in ("neighbor_id", "distance", "in_sequence", "own_rank", "own_distance")},
}
"""What can be kept of each token, layer and head."""

FILL = {"neighbor_id": -1, "own_rank": 0, "in_sequence": False}
"""What stands where there is nothing, as at the tokens of a text that failed; NaN for the others."""
