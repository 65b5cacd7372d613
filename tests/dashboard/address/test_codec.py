"""A copied address shows the same page; what is wrong in one is told, and does no harm."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, urlencode

import pytest

from attnxr.dashboard.address import codec
from attnxr.dashboard.address.history import History
from attnxr.dashboard.session.answer import Answer, Request
from attnxr.dashboard.session.state import REQUEST, START_TEXT, State

Solve = Callable[[Request], Answer]
SELECTION = ("layer", "head", "position")


def shown(state: State) -> tuple[object, ...]:
    return tuple(
        getattr(state, name)
        for name in (
            *REQUEST,
            *SELECTION,
            "panel",
            "controls",
            *codec.CHOICES,
            "versus_text",
            "versus_model",
            *codec.VERSUS,
        )
    )


def arrive(query: str, solve: Solve) -> State:
    """What a new visitor sees at an codec."""
    state = State(["bert", "roberta"])
    History(state, query)
    state.land(solve(state.request))
    return state


def query(state: State) -> str:
    return codec.write(state)[0]


def test_a_new_page_has_nothing_in_its_address(solve: Solve) -> None:
    state = State(["bert", "roberta"])
    assert query(state) == ""
    state.land(solve(state.request))
    assert query(state) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"text": "A banana & an arrow = 50% + ümläut?\nTwo lines. <b>#1</b>"},
        {"model": "roberta"},
        {"metric": "centered_cosine"},
        {"positional": False},
        {"causal": True},
        {"causal": False},
        {"panel": "Attention"},
        {"controls": False},
        {"measure": "origin"},
        {"panel": "Over layers", "quantity": "own_distance"},
        {"panel": "Map", "map_over": "tokens", "map_method": "tsne"},
        {"panel": "Compare", "versus": "text", "versus_text": "A fly & a <b>banana</b>.", "difference": "rbo"},
        {"panel": "Compare", "versus": "model", "versus_model": "roberta"},
        {"of": "query", "space": "key", "vocab_layer": "same"},
        {"of": "hidden", "space": "embedding", "k": 5},
        {"vocab_layer": 2, "head": 2},
        {"panel": "Compare", "versus": "question", "versus_of": "key", "versus_space": "query", "versus_metric": "dot"},
        {"panel": "Compare", "versus": "question", "versus_vocab_layer": 1},
        {"layer": 1},
        {"head": 1},
        {"position": 0},
        {"position": 5},
        {"text": "Fruit flies.", "model": "roberta", "metric": "dot", "layer": 1, "head": 1, "position": 3},
    ],
)
def test_a_copied_address_shows_the_same_page(change: dict[str, object], solve: Solve) -> None:
    state = State(["bert", "roberta"])
    state.param.update({name: value for name, value in change.items() if name not in SELECTION})
    state.land(solve(state.request))
    state.param.update({name: value for name, value in change.items() if name in SELECTION})

    copy = arrive("?" + query(state), solve)

    assert shown(copy) == shown(state)
    assert copy.notices == []
    assert query(copy) == query(state)


def test_what_is_as_on_a_new_page_is_left_out_but_for_the_model(answered: State) -> None:
    answered.select(head=2)
    assert parse_qs(query(answered)) == {"head": ["2"], "model": ["bert"]}


def test_an_address_holds_two_thousand_characters_and_says_so_of_more(answered: State, solve: Solve) -> None:
    answered.text = "Time flies. " * 166 + "An arrow"
    assert len(answered.text) == codec.MOST_CHARACTERS
    written, notices = codec.write(answered)
    assert notices == []
    assert codec.read(written, answered, {}).inputs["text"] == answered.text

    answered.text += "s"
    written, notices = codec.write(answered)
    assert "2,001 characters" in notices[0]
    assert "saved as a file instead" in notices[0]
    assert "text" not in parse_qs(written)

    place = codec.read(written, answered, {})
    assert place.inputs["text"] == START_TEXT
    assert "too long" in place.notices[0]
    known = {codec.digest(answered.text): answered.text}
    assert codec.read(written, answered, known).inputs["text"] == answered.text


def test_a_long_text_to_compare_with_is_known_again_where_it_was_seen(answered: State) -> None:
    answered.param.update(versus="text", versus_text="A fly. " * 300)
    written, notices = codec.write(answered)
    assert "The other text has 2,100 characters" in notices[0]
    known = {codec.digest(answered.versus_text): answered.versus_text}
    assert codec.read(written, answered, known).inputs["versus_text"] == answered.versus_text
    elsewhere = codec.read(written, answered, {})
    assert elsewhere.inputs["versus_text"] == ""
    assert "too long" in elsewhere.notices[0]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"model": "../../etc/passwd"}, "asks for model “../../etc/passwd”; there is bert, roberta."),
        ({"model": ""}, "asks for model “”"),
        ({"metric": "manhattan"}, "asks for metric “manhattan”"),
        ({"measure": "beauty"}, "asks for measure “beauty”"),
        ({"map_method": "astrology"}, "asks for map_method “astrology”; there is pca, tsne"),
        ({"versus_model": "gpt"}, "asks for versus_model “gpt”; there is bert, roberta."),
        ({"versus_text": "x" * 2001}, "has 2,001 characters"),
        ({"of": "beauty"}, "asks for of “beauty”; there is encoding, query"),
        ({"space": "<script>"}, "asks for space “<script>”"),
        ({"of": "query", "space": "embedding"}, "asks a question that has no meaning"),
        ({"of": "hidden", "space": "embedding", "vocab_layer": "2"}, "asks a question that has no meaning"),
        ({"vocab_layer": "-1"}, "asks for vocab_layer “-1”; there is input, same, or a number."),
        ({"vocab_layer": "9" * 5000}, "asks for vocab_layer “9999"),
        ({"vocab_layer": "٣"}, "asks for vocab_layer “٣”"),
        ({"k": "1000000"}, "asks for k “1000000”; there is 5, 10, 15, 30."),
        ({"versus_of": "hidden"}, "asks a question that has no meaning"),
        ({"versus_metric": "manhattan"}, "asks for versus_metric “manhattan”"),
        ({"controls": "0"}, "asks for controls “0”; there is on, off."),
        ({"positional": "maybe"}, "asks for positional “maybe”"),
        ({"mask": "None"}, "asks for mask “None”; there is off, on."),
        ({"layer": "three"}, "asks for layer “three”, which is no whole number."),
        ({"head": "-1"}, "asks for head “-1”"),
        ({"at": "1.5"}, "asks for position “1.5”"),
        ({"at": "٣"}, "asks for position “٣”"),
        ({"at": "9" * 5000}, "asks for position “9999"),
        ({"layer": "99"}, "asks for layer 99; there are layers 0 to 2."),
        ({"at": "14"}, "asks for position 14; there are positions 0 to 13."),
        ({"text": "x" * 2001}, "has 2,001 characters"),
        ({"stack": "cross"}, "asks for stack “cross”; there is encoder, decoder."),
        ({"stack": "<script>"}, "asks for stack “<script>”"),
        ({"target": "An arrow"}, "has a target, and asks for no stack that reads one"),
        ({str(i): "" for i in range(200)}, "too many parts"),
    ],
)
def test_what_cannot_be_shown_is_told_and_the_rest_is_shown(said: dict[str, str], told: str, solve: Solve) -> None:
    state = arrive(urlencode(said | {"head": said.get("head", "2")}), solve)

    assert told in state.notices[0]
    assert len(state.notices) == 1
    assert len(state.notices[0]) < 400
    assert state.request == State(["bert", "roberta"]).request
    assert (state.layer, state.position) == (0, 1)
    assert state.head == (2 if "too many" not in told and "head" not in told else 0)


@pytest.mark.parametrize("text", ["%", "%ff%fe", "?&&&===", "text=%00", "head=%E9", "\udcff=\udcff", "text=%ED%A0%80"])
def test_no_address_raises(text: str, state: State) -> None:
    place = codec.read(text, state, {})
    assert place.inputs["model"] == "bert"


def test_parts_that_are_not_the_dashboards_are_nothing_to_it(solve: Solve) -> None:
    state = arrive("?theme=dark&utm=1&__class__=x&answer=1&activity=2", solve)
    assert query(state) == ""
    assert state.notices == []


def test_of_several_the_first_counts(state: State) -> None:
    assert codec.read("head=1&head=2", state, {}).selection == {"head": 1}


def test_an_address_holds_how_a_text_is_read_and_what_is_written_behind_it() -> None:
    state = State(["bert"])
    state.param.update(read_as="prompt", continued=20, seed=77)
    assert parse_qs(query(state)) == {"read_as": ["prompt"], "continued": ["20"], "seed": ["77"]}
    assert (
        codec.read(query(state), State(["bert"]), {}).inputs.items()
        >= {
            "read_as": "prompt",
            "continued": 20,
            "seed": 77,
        }.items()
    )
    state.param.update(continued=0)
    assert "seed" not in query(state)


def test_an_address_holds_the_stack_and_the_target_that_it_reads() -> None:
    state = State(["t5"])
    state.param.update(stack="decoder", target="A banana & an arrow = 50% + ümläut?")
    assert parse_qs(query(state)) == {"stack": ["decoder"], "target": [state.target]}
    read = codec.read(query(state), State(["t5"]), {}).inputs
    assert (read["stack"], read["target"]) == ("decoder", state.target)
    assert codec.read("stack=encoder", state, {}).inputs["stack"] is None

    state.target = "x" * 2001
    written, notices = codec.write(state)
    assert notices == [
        "The target has 2,001 characters, and an address holds at most 2,000: a copied link would not show it. It can "
        "be saved as a file instead (Take away)."
    ]
    assert codec.read(written, State(["t5"]), {codec.digest(state.target): state.target}).inputs["target"] == (
        state.target
    )
    elsewhere = codec.read(written, State(["t5"]), {})
    assert elsewhere.inputs["target"] == ""
    assert elsewhere.notices == [
        "The address is of a target too long for it, which it does not hold. Paste it again.",
    ]
    refused = codec.read(f"stack=decoder&target={state.target}", State(["t5"]), {})
    assert refused.inputs["target"] == ""
    assert "The target in the address has 2,001 characters; at most 2,000 are read from it." in refused.notices[0]

    state.stack = None
    assert codec.write(state) == ("", [])


@pytest.mark.parametrize(
    ("forged", "said"),
    [
        ("read_as=none", "read_as “none”; there is text, bos, bare, chat, prompt"),
        ("continued=1000000", "continued “1000000”"),
        ("continued=7", "continued “7”"),
        ("continued=5&seed=-1", "seed “-1”"),
        ("continued=5&seed=2147483648", "seed “2147483648”"),
        ("seed=3", "seed “3”; expected a whole number, 0 to 2,147,483,647, with continued"),
    ],
)
def test_what_no_page_asks_is_told(forged: str, said: str) -> None:
    target = codec.read(forged, State(["bert"]), {})
    assert said in " ".join(target.notices)
    assert (target.inputs["read_as"], target.inputs["seed"]) == ("text", None)
    assert target.inputs["continued"] in (0, 5)
