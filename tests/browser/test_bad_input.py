"""Whatever is typed: a right answer or a clear message, and what was typed is shown as text."""

from __future__ import annotations

import numpy as np
import pytest

import attnxr
from attnxr.tokens import label
from tests.browser.test_page import START, results
from tests.browser.visitor import HEADS, VOCABULARY, Visitor

ODD = (
    "bell \a and escape \x1b[31m and zero width \u200b here",
    "🍌🦟 flies 👩‍👩‍👧‍👦",
    "הזבוב עף כמו חץ",
    "\u202eright to left\u202c",
    "<script>document.body.remove()</script><img src=x onerror=alert(1)>",
    "&lt;b&gt; &amp; %3Cscript%3E ${1} {{ 2 }} $$x$$ `code`",
)


@pytest.fixture(params=["minilm", "tiny"])
def reader(request: pytest.FixtureRequest, visitor: Visitor) -> tuple[Visitor, attnxr.Model]:
    """A visitor, and the model he has chosen: WordPiece or byte-level."""
    if request.param == "minilm":
        visitor.choose("Model", "minilm")
    return visitor, request.getfixturevalue(f"{request.param}_model")


def test_an_empty_or_blank_text_is_refused_and_the_old_results_are_gone(
    visitor: Visitor, tiny_model: attnxr.Model
) -> None:
    near, _ = results(tiny_model, "Time flies.")
    for text in ("", "   ", "\n\t\n"):
        visitor.text_box.fill(text)
        visitor.text_box.press("Enter")
        visitor.page.get_by_role("alert").filter(has_text="empty or blank").wait_for()
        assert visitor.tokens() == []
        assert all(cell["token"] is None for row in visitor.cells(VOCABULARY) for cell in row)

        visitor.text_box.fill("Time flies.")
        visitor.text_box.press("Enter")
        visitor.wait()
        assert visitor.error() == ""
        assert visitor.tokens() == [label(*pair) for pair in zip(near.token.values, near.text.values, strict=True)]


def test_a_text_that_is_too_long_is_cut_and_says_by_how_much(visitor: Visitor, tiny_model: attnxr.Model) -> None:
    text = "flies " * 100
    visitor.run(text)
    near, sequence = results(tiny_model, text)
    (notice,) = visitor.notices()
    assert f"its last {near.attrs['truncated']} tokens were cut" in notice
    assert f"{near.sizes['position']} tokens" in notice
    visitor.sees(near, sequence, layer=0, head=0, position=1)

    visitor.run(START)
    assert visitor.notices() == []


def test_odd_texts_get_a_right_answer_and_are_shown_as_text(reader: tuple[Visitor, attnxr.Model]) -> None:
    visitor, model = reader
    for text in ODD:  # one after the other: to open a page takes longer than all of them
        visitor.run(text)
        assert visitor.error() == "", text
        assert visitor.text_box.input_value() == text
        near, sequence = results(model, text)
        word = int(np.argmin(near.is_special.values))  # emoji are special to minilm: it has one token for all it lacks
        visitor.sees(near, sequence, layer=0, head=0, position=word)
        assert visitor.page.locator("img[src=x]").count() == 0


def test_a_typed_special_token_is_shown_and_said_to_be_one(reader: tuple[Visitor, attnxr.Model]) -> None:
    visitor, model = reader
    for typed in ("<mask>", "[MASK]"):
        text = f"Time {typed} like an arrow."
        visitor.run(text)
        near, sequence = results(model, text)
        visitor.sees(near, sequence, layer=0, head=0, position=1)
        inside = near.is_special.values[1:-1].any()
        assert visitor.notices() == (
            [f"Read as the model's own special tokens, not as plain text: {typed}"] if inside else []
        )


def test_what_the_pointer_rests_on_is_told_as_text(visitor: Visitor, tiny_model: attnxr.Model) -> None:
    text = "<s> & </s> <mask> <pad> <s> & < b >"
    near, _ = results(tiny_model, text)
    visitor.run(text)
    first = near.neighbor.isel(rank=0).values
    where = next(where for where in np.ndindex(first.shape) if "<" in first[where])
    visitor.press_token(where[-1])
    visitor.strip.locator(f"[aria-pressed=true][data-index='{where[-1]}']").wait_for()
    visitor.point_at(HEADS, *where[:2])
    visitor.page.locator(".bk-Tooltip", has_text="Nearest token").filter(has_text=first[where]).wait_for()
