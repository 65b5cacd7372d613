"""Random tokens repeated: texts without sense, in which only what came before tells what comes next."""

from typing import Any

import numpy as np

from attnxr.checking import whole_number
from attnxr.errors import InputError, TextTooLongError
from attnxr.model import Model


def random_repeats(model: Model, *, length: int = 25, repeats: int = 2, n: int = 10, seed: int = 0) -> list[list[int]]:
    """Make texts of random tokens that are repeated, the usual test of induction heads [1]_.

    Each text is a block of `length` different tokens, drawn with equal chances from the vocabulary, some times over:
    A B C A B C. From the second time on, a head that looks for what followed the token earlier finds what comes next.

    Around them stand the special tokens that the tokenizer puts around a text; where it puts none first, its
    beginning-of-text token does, if there is one. Among them stand no special or added tokens, and no entries beyond
    the tokenizer's. Without a tokenizer, the model's configuration says which these are.

    Parameters
    ----------
    model : Model
    length : int
        Tokens of a block.
    repeats : int
        How often the block stands in the text, 2 or more.
    n : int
        How many texts.
    seed : int
        Not negative. The same seed gives the same texts.

    Returns
    -------
    list of list of int
        Token ids of each text, for `Model.encode`, all of one length.

    Raises
    ------
    InputError
        If an option is out of range, or the vocabulary has fewer than `length` ordinary tokens.
    TextTooLongError
        If a text has more tokens than the model takes.

    References
    ----------
    .. [1] Olsson et al., "In-context Learning and Induction Heads", 2022.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> texts = attnxr.random_repeats(model, length=20, n=4)
    >>> len(texts)
    4
    >>> found = attnxr.roles(model.encode(token_ids=ids) for ids in texts)
    """
    whole_number("repeats", repeats, 2)
    whole_number("n", n, 1)
    whole_number("seed", seed, 0)
    ordinary, before, after = _vocabulary(model)
    whole_number("length", length, 1, len(ordinary), "as many as the vocabulary has ordinary tokens")
    size, most = len(before) + length * repeats + len(after), model.max_tokens
    if most is not None and size > most:
        raise TextTooLongError(
            f"length={length} and repeats={repeats} were given, which make {size} tokens with the special ones; the "
            f"model takes at most {most}. Ask for shorter blocks: "
            f"length={(most - len(before) - len(after)) // repeats} or less."
        )
    generator = np.random.default_rng(seed)
    blocks = (generator.choice(ordinary, length, replace=False).tolist() for _ in range(n))
    return [[*before, *block * repeats, *after] for block in blocks]


def _vocabulary(model: Model) -> tuple[list[int], list[int], list[int]]:
    """The ordinary tokens of a vocabulary, and what stands before and after a text."""
    if not isinstance(model, Model):
        raise InputError(f"A {type(model).__name__} was given; expected an attnxr.Model.")
    tokenizer = model.tokenizer
    if tokenizer is None:
        named = [
            getattr(model.config, f"{kind}_token_id", None) for kind in ("bos", "eos", "pad", "cls", "sep", "mask")
        ]
        special = {i for ids in named for i in (ids if isinstance(ids, list) else [ids])}
        bos = named[0]
        return [i for i in range(model.vocab_size) if i not in special], [] if bos is None else [bos], []
    added = getattr(tokenizer, "added_tokens_decoder", None)
    special = {*tokenizer.all_special_ids, *(added if isinstance(added, dict) else ())}
    size = model.vocab_size  # each time the model is looked at anew
    ordinary = sorted(i for i in set(tokenizer.get_vocab().values()) - special if i < size)
    before, after = _around(tokenizer)
    bos = tokenizer.bos_token_id
    return ordinary, before or ([] if bos is None else [bos]), after


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and after a text."""
    inside = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    whole = list(tokenizer("a")["input_ids"])
    start = next(i for i in range(len(whole)) if whole[i : i + len(inside)] == inside)
    return whole[:start], whole[start + len(inside) :]
