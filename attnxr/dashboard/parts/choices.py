"""A row of lists and switches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import param

from attnxr.dashboard.parts.message import one_of
from attnxr.dashboard.parts.part import Part


class Choices(Part):
    """A row of labelled lists and switches; sends ``{"name": …, "value": …}`` when one is changed.

    A field has ``name``, ``label``, ``value``, ``disabled`` and ``help``, and a list ``options`` of (value, shown)
    where it is not a switch; an option that cannot be chosen has a third entry, which says why.
    """

    fields = param.List(item_type=dict)

    _esm = Path(__file__).with_suffix(".js")

    def _takes(self, message: dict[Any, Any]) -> bool:
        if message.keys() != {"name", "value"}:
            return False
        for field in self.fields:
            if one_of(field["name"])(message["name"]):
                options = field["options"]
                values = (
                    (True, False)
                    if options is None
                    else [value for value, _shown, *refusal in options if not any(refusal)]
                )
                return one_of(*values)(message["value"])
        return False
