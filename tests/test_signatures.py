"""Signatures read well in help(): no default shows where in memory it lies."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import attnxr

ADDRESS = re.compile(r"\bat 0x[0-9a-f]+")


def public() -> Iterator[tuple[str, Any]]:
    """Functions, classes and methods that a user reaches from `attnxr` without an underscore."""
    named = [(f"attnxr.{name}", getattr(attnxr, name)) for name in attnxr.__all__]
    modules = [(name, each) for name, each in named if inspect.ismodule(each)]
    for name, module in modules:
        inside = {key: each for key, each in vars(module).items() if not key.startswith("_")}
        inside |= {key: getattr(module, key) for key in getattr(module, "__all__", ())}
        ours = {key: each for key, each in inside.items() if getattr(each, "__module__", "").startswith("attnxr")}
        named += [(f"{name}.{key}", each) for key, each in ours.items()]
    for name, each in named:
        if inspect.isclass(each):
            yield name, each
            for key, method in vars(each).items():
                if inspect.isfunction(method) and not key.startswith("_"):
                    yield f"{name}.{key}", method
        elif inspect.isfunction(each):
            yield name, each


def test_what_is_public_is_found() -> None:
    names = {name for name, _ in public()}
    expected = {"attnxr.Model.neighbors", "attnxr.significance", "attnxr.load_model", "attnxr.schema.validate"}
    assert expected | {"attnxr.dashboard.state_of", "attnxr.saved.read"} <= names


def test_no_signature_shows_an_address() -> None:
    signatures = {}
    for name, each in public():
        try:
            signatures[name] = str(inspect.signature(each))
        except ValueError:  # a class whose own signature is hidden, as that of an exception
            assert issubclass(each, BaseException)
    assert [name for name, signature in signatures.items() if ADDRESS.search(signature)] == []


def test_an_address_would_be_found() -> None:
    def function(progress: Any = lambda fraction: None) -> None:
        """Has a default that shows its address."""

    assert ADDRESS.search(str(inspect.signature(function)))
