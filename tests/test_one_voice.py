"""An option means the same wherever it is met: the docstrings, the command and the page say it in the same words."""

from __future__ import annotations

import inspect
import re
from typing import Any

import click
import pytest

import attnxr
from attnxr import cli
from attnxr.dashboard.session.state import State
from attnxr.options import HOW_FAR, MEANS, METRIC_MEANS

# Where each is described at length; others say "As in" it.
OF_A_QUESTION = ("k", "metric", "of", "space", "vocab_layer", "positional")
HOME: dict[str, Any] = {
    **dict.fromkeys(MEANS, attnxr.build_corpus),
    **dict.fromkeys(OF_A_QUESTION, attnxr.Model.neighbors),
    **dict.fromkeys(("name", "dtype", "device"), attnxr.load_model),
    **dict.fromkeys(("field", "split", "limit"), attnxr.texts_of),
    "causal": attnxr.Model.encode,
}
CALLED = {"measure": "measures", "model": "name", "layer": "layers", "head": "heads"}
CALLED |= {"keep_layer": "keep_layers", "keep_head": "keep_heads"}
OWN = {("neighbors", "layer"), ("neighbors", "head"), ("top", "layer"), ("top", "head"), ("export", "model")}


def described(function: Any) -> dict[str, str]:
    """What a numpydoc docstring says of each parameter, in one line and without its marks."""
    parameters = inspect.cleandoc(function.__doc__).split("Parameters\n----------\n")[1]
    parameters = re.split(r"\n\n?\w+\n-+\n", parameters)[0]
    found = re.findall(r"^(\w[^\n]*) : [^\n]*\n((?:(?: {4}[^\n]*)?\n)+)", parameters + "\n", re.MULTILINE)
    return {name: " ".join(text.replace("`", "").split()) for names, text in found for name in names.split(", ")}


def commands() -> list[tuple[str, click.Option]]:
    corpus = cli.main.commands["corpus"]
    assert isinstance(corpus, click.Group)
    named = [*cli.main.commands.items(), *corpus.commands.items()]
    return [(name, each) for name, command in named for each in command.params if isinstance(each, click.Option)]


@pytest.mark.parametrize("name", MEANS)
def test_the_docstring_says_it(name: str) -> None:
    assert described(HOME[name])[name].startswith(MEANS[name].removesuffix("."))


def test_every_option_that_means_the_same_says_so_in_a_terminal() -> None:
    said = {
        (command, each.name): each.help
        for command, each in commands()
        if CALLED.get(str(each.name), each.name) in MEANS and (command, each.name) not in OWN
    }
    assert len(said) > 20
    for (command, name), shown in said.items():
        assert str(shown).startswith(MEANS[CALLED.get(str(name), str(name))]), (command, name)


@pytest.mark.parametrize("name", [*OF_A_QUESTION, "causal"])
def test_the_page_says_it(name: str) -> None:
    doc = str(State.param[name].doc)
    assert doc.startswith(HOW_FAR if name == "metric" else MEANS[name])
    if name == "metric":  # by the names that the page gives them
        assert all(means in doc for means in METRIC_MEANS.values())
