"""How an answer's text was read, and what the model wrote behind it, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnxr.dashboard.session.answer import Answer
from attnxr.dashboard.session.asking import READ_WORDS

_MOST_SHOWN = 200  # characters


def read_as(attrs: Mapping[str, Any]) -> str:
    """How a text was read, where not as by default: given the attrs of its Dataset."""
    words: dict[str, str] = {name: words for name, words in READ_WORDS.items() if name != "text"}
    return words.get(attrs.get("read_as", ""), "")


def generated(attrs: Mapping[str, Any]) -> str:
    """Which tokens of a text the model wrote, and how it chose them; empty where it wrote none."""
    count = int(attrs.get("generated", 0))
    if not count:
        return ""
    how = f"drawn with seed {attrs['seed']}" if "seed" in attrs else "the likeliest each time"
    return f"the last {f'{count} are' if count > 1 else 'one is'} generated, {how}"


def of_encoder(attrs: Mapping[str, Any]) -> str:
    """What the encoder read beside the text of a decoder, as a sentence; empty for other texts."""
    if attrs.get("stack") != "decoder":
        return ""
    text = " ".join(str(attrs.get("encoder_text", "")).split())
    shown = (
        f"“{text[:_MOST_SHOWN]}{'…' if len(text) > _MOST_SHOWN else ''}”" if text else "what it was given as numbers"
    )
    return f"The text is the decoder's, which reads it while the encoder reads {shown}."


def sentence(attrs: Mapping[str, Any]) -> str:
    """All of it, in sentences; empty where there is nothing to say."""
    return " ".join(filter(None, [of_encoder(attrs), _of_own(attrs)]))


def _of_own(attrs: Mapping[str, Any]) -> str:
    said = [f"read as {words}" if (words := read_as(attrs)) else "", generated(attrs)]
    found = "; ".join(filter(None, [said[0], said[1] and f"of its tokens {said[1]}"]))
    return f"The text is {found}." if said[0] else f"{found[:1].upper()}{found[1:]}." if found else ""


def fewer(answer: Answer) -> str:
    """Why the model wrote fewer tokens than it was asked for; empty where it did not."""
    wanted, attrs = answer.request.continued, answer.encodings.attrs
    count = int(attrs.get("generated", wanted))
    if count >= wanted or answer.request.opened is not None:
        return ""
    ended = count and bool(answer.encodings["is_special"].values[-1])
    why = "the model ended the text there" if ended else "the model takes no longer text"
    return (
        f"Of {wanted} tokens that were asked for, {count or 'none'} {'was' if count == 1 else 'were'} generated: {why}."
    )
