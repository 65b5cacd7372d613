"""How much a server does for its visitors, as its environment says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from attnxr.errors import InputError


@dataclass(frozen=True)
class Limits:
    """What whoever serves the page can choose, each by the environment variable ``ATTNXR_`` and its name.

    Attributes
    ----------
    text_characters : int
        Of a text that a page takes: all of it is read, however few tokens the model takes.
    answers_at_once : int
        Which threads compute, of all visitors. More than the cores need: whoever waits for a slow download holds one.
    waiting : int
        Jobs of a kind that wait for a thread, of all visitors together.
    kept_mib : int
        MiB that the kept answers of a process take together.
    """

    text_characters: int = 200_000
    answers_at_once: int = 8
    waiting: int = 100
    kept_mib: int = 1024

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Limits:
        """Read those that are set.

        Raises
        ------
        InputError
            If one is no whole number from 1 on.
        """
        chosen = {}
        for field in fields(cls):
            name = f"ATTNXR_{field.name.upper()}"
            given = environment.get(name, "")
            if not given:
                continue
            if not re.fullmatch("0*[1-9][0-9]{0,15}", given):
                raise InputError(f"{name} was set to {given!r:.80}; expected a whole number from 1 on.")
            chosen[field.name] = int(given)
        return cls(**chosen)


LIMITS = Limits.read(os.environ)
