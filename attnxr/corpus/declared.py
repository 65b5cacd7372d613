"""The atlas of heads, declared as data: names, dimensions, dtypes and meanings."""

from attnxr import schema
from attnxr.schema import Spec

_HEAD = ("layer", "head")
_LISTED = (*_HEAD, "order")
_EXAMPLE = (*_HEAD, "example")


def _named(kind: str, what: str, **numbers: tuple[str, str, str]) -> dict[str, Spec]:
    """A list of vocabulary entries: their ids, tokens and texts, and numbers of theirs."""
    counted = {
        f"{kind}_{name}": Spec(_LISTED, dtype, long_name, description, counts=dtype == "int64")
        for name, (dtype, long_name, description) in numbers.items()
    }
    return {
        f"{kind}_id": Spec(_LISTED, "int64", f"token id of {what}", f"vocabulary id of {what}; -1 where none is left"),
        f"{kind}_token": Spec(_LISTED, "str", what, "its token"),
        f"{kind}_text": Spec(_LISTED, "str", f"text of {what}", "what its token stands for"),
        **counted,
    }


def _attended(kind: str, which: str, way: str) -> dict[str, Spec]:
    return _named(
        kind,
        which,
        mass=("float64", f"attention {way} it", f"attention {way} all its places, from and to tokens of content"),
        lift=("float64", "lift of its attention", f"(mass + 5) / (expected + 5), as of written_lift; {way} it"),
    )


def _written(kind: str, which: str) -> dict[str, Spec]:
    return _named(
        kind,
        which,
        count=("int64", "times written", "at how many tokens it is the entry nearest to what the head wrote"),
        share=("float64", "share of what is written", "that number over the number of tokens"),
        lift=(
            "float64",
            "lift over other heads",
            "(count + 5) / (expected + 5), where the other heads' share of the entry makes what is expected",
        ),
    )


ATLAS: dict[str, Spec] = {
    **schema.ROLES,
    "distance_share": Spec(
        (*_HEAD, "offset"), "float64", "share of attention", "share of all attention that goes as far as the bin says"
    ),
    "offset_low": Spec(("offset",), "int64", "first offset", "first key less query that is in the bin"),
    "offset_high": Spec(("offset",), "int64", "last offset", "last key less query that is in the bin"),
    **_attended("key", "token looked at", "to"),
    **_attended("query", "token that looks", "from"),
    **{
        name: Spec(
            _HEAD,
            "float64",
            schema.ORIGINS[name].long_name,
            schema.ORIGINS[name].description.replace("positions", "tokens that are not special"),
        )
        for name in ("own_share", "other_share", "neither_share")
    },
    "own_rank_count": Spec(
        (*_HEAD, "rank_bin"), "int64", "tokens", "how many tokens have an own rank that is in the bin", counts=True
    ),
    "rank_low": Spec(("rank_bin",), "int64", "first rank", "first own rank that is in the bin"),
    "rank_high": Spec(("rank_bin",), "int64", "last rank", "last own rank that is in the bin"),
    "n_written": Spec((), "int64", "tokens", "how many tokens that are not special were compared", counts=True),
    **_written("written", "entry written most"),
    **_written("distinctive", "entry written more than by others"),
    "example_text_id": Spec(_EXAMPLE, "int64", "text", "number of the text in the corpus; -1 where there is none"),
    "example_activation": Spec(
        _EXAMPLE, "float32", "activation", "largest attention in the text between two tokens of content"
    ),
    "example_query": Spec(_EXAMPLE, "int32", "query of the activation", "place in the text of the token that looks"),
    "example_key": Spec(_EXAMPLE, "int32", "key of the activation", "place in the text of the token looked at"),
    "example_attended": Spec(
        (*_EXAMPLE, "attended"),
        "int32",
        "places looked at",
        "places in the text that the query attends to most; -1 where none is left",
    ),
    "example_weight": Spec((*_EXAMPLE, "attended"), "float32", "attention weight", "attention to that place"),
    "example_interval": Spec(
        ("example",), "int64", "interval", "decile of the activation, 1 to 10; 11: among the largest of the corpus"
    ),
    "activation_mean": Spec(_HEAD, "float64", "mean activation", "mean activation of the texts that have one"),
    "activation_count": Spec(
        (*_HEAD, "activation_bin"), "int64", "texts", "how many texts have an activation in the bin", counts=True
    ),
    "activation_low": Spec(("activation_bin",), "float64", "least activation", "lower edge of the bin"),
    "activation_high": Spec(("activation_bin",), "float64", "largest activation", "upper edge of the bin"),
    "activation_decile": Spec(
        (*_HEAD, "decile"),
        "float32",
        "largest activation of the decile",
        "largest activation among the drawn texts of the decile; NaN where there are none",
    ),
    "decile": Spec(("decile",), "int64", "decile", "tenth of the drawn texts, from the least activation, 1-based"),
    "n_active": Spec((), "int64", "texts", "how many texts have tokens of content and thus activations", True),
    "n_drawn": Spec((), "int64", "texts drawn", "how many texts were drawn at random to make the deciles", True),
    "nearer_share": Spec(
        _HEAD,
        "float64",
        "share nearer than chance",
        "share of tokens of the sample where an entry is nearer than chance has it, p <= 0.05; 0.05 by chance",
    ),
    "own_nearer_share": Spec(
        _HEAD,
        "float64",
        "share of own tokens nearer than chance",
        "share of tokens of the sample whose own token is among the nearest 5 percent of the vocabulary",
    ),
    "n_tested": Spec((), "int64", "tokens tested", "how many tokens the sample has that are not special", counts=True),
    "change": Spec(
        (*_HEAD, "replacement"),
        "float64",
        "change of the last hidden states",
        "relative change of a text's last hidden states where the head writes something else at all tokens that are "
        "not special, mean over the texts of the sample",
    ),
    "recovered": Spec(
        (*_HEAD, "replacement"),
        "float64",
        "recovered share",
        "1 less the replacement's change, summed over texts, over that of the mean",
    ),
    "kl_change": Spec(
        (*_HEAD, "replacement"), "float64", "divergence, in nats", "mean divergence of the logits, as of change"
    ),
    "kl_recovered": Spec(
        (*_HEAD, "replacement"), "float64", "recovered share of the divergence", "as recovered, of kl_change"
    ),
    "replacement": Spec(("replacement",), "str", "replacement", "what is put in place of what the head writes"),
    "n_replaced": Spec((), "int64", "texts of the sample", "how many texts heads were replaced in", counts=True),
    "quoted_id": Spec(("quoted",), "int64", "text", "number in the corpus of a text that is an example"),
    "quoted_size": Spec(("quoted",), "int64", "tokens of the text", "how many tokens it has", counts=True),
    "quoted_token_id": Spec(
        ("quoted_position",), "int64", "token id", "vocabulary ids of the tokens of these texts, end to end"
    ),
    "quoted_token": Spec(("quoted_position",), "str", "token", "their tokens"),
    "quoted_text": Spec(("quoted_position",), "str", "text of the token", "what the tokens stand for"),
    "quoted_special": Spec(("quoted_position",), "bool", "special token", "whether they are special tokens"),
}
"""``order`` is the place in a list, from the first; *content* is all tokens but special ones and a text's first."""
