"""The question of a page: the lists that choose it, and the sentence that says it in every heading."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attnxr import asked
from attnxr.dashboard.parts import Heading
from attnxr.dashboard.session.asking import PRESETS, SEEDS, Choice, K, preset
from attnxr.dashboard.session.state import ASKED, READING, State

_OTHER = "another question"
_ADVICE = " Later layers have a language of their own: ask “in its own layer” too."


def sentence(state: State) -> str:
    """Which question a state asks, in one sentence."""
    if state.answer is not None:
        return asked.sentence(state.answer.question)
    return asked.sentence({**state.request.question, "stack": state.stack})


def follow_question(state: State, heading: Heading, words: str) -> None:
    """Have a view's heading say which question the view answers, whichever is asked.

    Parameters
    ----------
    state : State
        What to follow.
    heading : Heading
        Whose help to set.
    words : str
        The help, in which ``{question}`` stands for the sentence, and ``{advice}`` for which question to ask next.
    """

    def say(*_events: object) -> None:
        advice = _ADVICE if preset(state.asked()) == "as the demo" else ""
        heading.help = words.replace("{question}", sentence(state)).replace("{advice}", advice)

    state.param.watch(say, [*ASKED, "stack", "answer"])
    say()


def question_fields(state: State, other: str = "") -> list[dict[str, Any]]:
    """What a row of choices shows of a question.

    Parameters
    ----------
    state : State
        Whose question it is.
    other : str
        "versus_" for the question of the answer that is compared.

    Returns
    -------
    list of dict
        Fields of `attnxr.dashboard.parts.Choices`: the question in people's words, and its parts.
    """
    offered, now = state.offered, state.asked(other)
    of, space, vocab_layer = now
    presets = list(offered.presets())
    if not preset(now):
        presets.append(Choice(_OTHER, _OTHER, "The lists beside it ask it."))
    lists = {
        "of": ("Vectors", offered.vectors()),
        "space": ("Against", offered.spaces(of)),
        "vocab_layer": ("In layer", offered.vocab_layers(of, space, vocab_layer)),
    }
    words = (
        "Questions that people ask. As the demo: against the first layer's values, in every layer. In its own layer: "
        "against the values of the layer that wrote, as later layers have a language of their own. The lists beside it "
        "say what each question is, and ask others."
    )
    fields = [_field(other + "question", "Question", words, preset(now) or _OTHER, presets)]
    for name, (label, choices) in lists.items():
        help_ = state.param[other + name].doc
        fields.append(_field(other + name, label, help_, getattr(state, other + name), list(choices)))
    return fields


def stack_fields(state: State) -> list[dict[str, Any]]:
    """What a row of choices shows of the stacks of a model: nothing where it has one."""
    choices = list(state.offered.stacks(state.stack))
    return [_field("stack", "Stack", state.param["stack"].doc, state.stack, choices)] if choices else []


def reading_fields(state: State) -> list[dict[str, Any]]:
    """What a row of choices shows of how the text is read, and of what the model is to write behind it."""
    offered, docs = state.offered, {name: state.param[name].doc for name in READING}
    readings = list(offered.readings(state.read_as))
    fields = []
    if len(readings) > 1:
        fields.append(_field("read_as", "Read as", docs["read_as"], state.read_as, readings))
    continued = list(offered.continuations(state.continued))
    if continued:
        fields.append(_field("continued", "Continue by", docs["continued"], state.continued, continued))
    if state.continued:
        seeds = sorted({*filter(None, SEEDS), *filter(None, [state.seed])})
        choices = [Choice(None, "the likeliest"), *(Choice(seed, f"drawn, seed {seed}") for seed in seeds)]
        fields.append(_field("seed", "Tokens", docs["seed"], state.seed, choices))
    return fields


def k_field(state: State) -> dict[str, Any]:
    """What a row of choices shows of how many neighbours there are to be."""
    choices = [Choice(k, str(k)) for k in sorted({*K, state.k})]
    return _field("k", "Neighbours", state.param["k"].doc, state.k, choices)


def choose(state: State, name: str, value: Any, other: str = "") -> None:
    """Change a question as the visitor says, and what no longer goes with it.

    Parameters
    ----------
    state : State
        Whose question it is.
    name : str
        Name of the field, without `other`.
    value : object
        One of its values.
    other : str
        As of `question_fields`.
    """
    if name == "question":
        if value in PRESETS:
            state.ask(PRESETS[value], other)
    else:
        state.ask(state.offered.changed(state.asked(other), **{name: value}), other)


def _field(name: str, label: str, help_: str | None, value: object, choices: Iterable[Choice]) -> dict[str, Any]:
    choices = list(choices)
    refused = [
        f"Not offered of this model: {each.words}. {each.refusal}"
        for each in choices
        if each.refusal and each.value != _OTHER
    ]
    return {
        "name": name,
        "label": label,
        "help": "\n\n".join(filter(None, [help_, *refused])),
        "value": value,
        "options": [[each.value, each.words, each.refusal] for each in choices],
        "disabled": len(choices) == 1,
    }
