"""The address holds what is shown of the heads, and what it cannot have is told."""

from __future__ import annotations

from attnxr.dashboard.address import codec, of_heads
from attnxr.dashboard.session.heads import Heads


def test_what_is_written_is_read_again(heads: Heads) -> None:
    assert of_heads.write(heads) == ""
    shown = {
        "open": True,
        "x": "own_share",
        "y": "prev_token_score",
        "color": "head",
        "words": "fl <b>&",
        "of_layer": 1,
    }
    shown |= {"sort": "own_share", "descending": True, "chosen": 5, "pinned": 2}
    heads.param.update(**shown)
    query = of_heads.write(heads)
    other = Heads(heads.corpus)
    of_heads.read(f"?text=a&{query}", other)
    assert {name: getattr(other, name) for name in shown} == shown
    assert other.notices == []
    of_heads.read("?text=a", other)  # as on a new page
    assert of_heads.write(other) == ""


def test_what_cannot_be_shown_is_told(heads: Heads) -> None:
    of_heads.read("x=nothing&card=9.9&pin=a.b&of_layer=77&sort=head&page=elsewhere&y=" + "z" * 1000, heads)
    assert [sum(word in notice for notice in heads.notices) for word in ("nothing", "9.9", "a.b", "77", "zzz")] == [
        1
    ] * 5
    assert max(map(len, heads.notices)) < 200
    assert (heads.sort, heads.open, heads.chosen, heads.pinned) == ("head", False, 0, -1)


def test_no_name_is_in_the_address_twice() -> None:
    assert not set(of_heads.NAMES) & set(codec.NAMES)
