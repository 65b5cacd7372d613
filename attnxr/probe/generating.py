"""Token ids that a model puts behind others, by transformers' own ``generate`` on a view: the model stays as it is."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from attnxr.errors import UnsupportedModelError
from attnxr.probe.language_head import has_language_head
from attnxr.probe.window import Window


def refusal(window: Window, size: int) -> str:
    """Why a model generates no text, and what to load; empty where it does.

    Parameters
    ----------
    window : Window
    size : int
        Number of vocabulary entries, V.
    """
    if window.stack is not None or window.config.is_encoder_decoder:
        reason = "it is an encoder-decoder, whose decoder writes another text than its encoder reads"
    elif not window.layout.causal:
        reason = "its tokens see those behind them, so that it was not made to say which token comes next"
    elif not (window.generates and has_language_head(window, size)):
        reason = "it has no head for language on top, which says which token comes next"
    else:
        return ""
    return (
        f"{window.family} cannot continue a text: {reason}. Load a decoder with its head for language, as "
        "attnxr.load_model('gpt2') or transformers.AutoModelForCausalLM.from_pretrained(name) does."
    )


def generated(
    window: Window, token_ids: Sequence[int], n: int, size: int, seed: int | None, progress: Callable[[float], object]
) -> list[int]:
    """Continue token ids.

    Parameters
    ----------
    window : Window
    token_ids : sequence of int
        Of a whole text.
    n : int
        How many to put behind them at most, 1 or more; fewer where the model ends the text.
    size : int
        Number of vocabulary entries, V: rows of the output embeddings beyond it are nobody's.
    seed : int or None
        None takes the likeliest each time. With a seed each is drawn with the probability that the model gives it, by
        a generator of random numbers that is nobody else's.
    progress : callable
        Told the fraction of n that is done; what it raises ends the work.

    Returns
    -------
    list of int
        Those behind, the token that ends a text included where it came.

    Raises
    ------
    UnsupportedModelError
        If the model generates no text, or its logits are no numbers.
    """
    if refused := refusal(window, size):
        raise UnsupportedModelError(refused)
    model: Any = window.view_with_head()
    ends = model.generation_config.eos_token_id
    known = [end for end in ([ends] if isinstance(ends, int) else ends or []) if 0 <= end < size]
    # What else a checkpoint asks for (penalties, other temperatures, tokens that are forced) is no wish of the caller.
    model.generation_config = GenerationConfig(eos_token_id=known or None)
    ids = torch.tensor([list(token_ids)], device=model.device)
    with torch.no_grad():
        whole = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=GenerationConfig(
                do_sample=False,
                num_beams=1,
                max_new_tokens=n,
                eos_token_id=known or None,
                pad_token_id=known[0] if known else 0,  # one text has no padding; without any, transformers says so
            ),
            logits_processor=[_Choice(size, seed, window.family)],
            stopping_criteria=[_Told(len(token_ids), n, progress)],
        )
    return whole[0, len(token_ids) :].tolist()


class _Choice(LogitsProcessor):
    """Leaves only vocabulary entries to be chosen, and of these, with a seed, only the one that is drawn.

    transformers would draw with the numbers that all threads of a process share.
    """

    def __init__(self, size: int, seed: int | None, family: str):
        self._size, self._family = size, family
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        logits = scores[:, : self._size]
        if bool(torch.isnan(logits).any()):
            raise UnsupportedModelError(
                f"{self._family} puts out logits that are NaN, so that no token can be chosen by them. Expected "
                "numbers: load it in another precision, such as dtype='float32'."
            )
        if self._generator is None:
            chosen = logits.argmax(-1)
        else:
            chosen = drawn(logits[0], self._generator)[None].to(scores.device)
        only = torch.full_like(scores, -torch.inf)
        return only.scatter(1, chosen[:, None], 0.0)


class _Told(StoppingCriteria):
    """Says how far it is after each token, and stops nothing by itself."""

    def __init__(self, start: int, n: int, progress: Callable[[float], object]):
        self._start, self._n, self._progress = start, n, progress

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        self._progress((input_ids.shape[1] - self._start) / self._n)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def drawn(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One of the entries, with the probability that their logits (V,) give it: int64 (), on the CPU."""
    probabilities = torch.softmax(logits.double().cpu(), -1)
    return torch.multinomial(probabilities, 1, generator=generator)[0]
