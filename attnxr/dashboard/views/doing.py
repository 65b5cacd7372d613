"""What the chosen head's writing does: words that add up to it, its effect, where it looks, what it promotes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import panel as pn
import xarray as xr

from attnxr.dashboard.parts import BarLists, Heading
from attnxr.dashboard.rows.doing import Row, bar_list, effect_rows, promoted_rows, role_note, role_rows, word_rows
from attnxr.dashboard.session.answer import Aspect
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.on_demand import OnDemand
from attnxr.plots.grids import token_label


class WhatItDoes(OnDemand):
    """What the writing of the chosen layer and head at the chosen token is made of, and what it does.

    Parameters
    ----------
    given : State or xarray.Dataset
        What to follow.
    **params
        Starting values of the parameters.
    """

    kinds = ("promoted", "effects", "decomposition", "roles")

    def __init__(self, given: State | xr.Dataset, **params: Any) -> None:
        super().__init__(given, **params)
        self._heading = Heading(
            title="What it does",
            help="What a head writes is a mixture: which words add up to it, each with its weight? If it wrote "
            "something else here, how would the model's output change? The change is that of the last hidden states of "
            "the whole text, as a share of their length; where the model has a head for language, that of the words it "
            "expects (divergence in nats). Recovered is 100% where the output stays as it was, 0% where it changes as "
            "much as with the head's mean. Words are those of the layer's own space, as long as what the head wrote.",
        )
        self._lists = BarLists()
        self._follow()

    def _aspect(self, kind: str) -> Aspect:
        state = self._state
        if kind == "effects":
            return Aspect(kind, state.layer, state.head, state.position)
        return Aspect(kind, None if kind == "roles" else state.layer)

    def _draw(self) -> None:
        state = self._state
        if state.answer is None:
            self._heading.detail = ""
            self._lists.lists = []
            return
        layer, head, position = state.layer, state.head, state.position
        name = token_label(state.answer.encodings, position)
        self._heading.detail = f"layer {state.answer.layers[layer]} · head {head} · “{name}” at position {position}"
        roles = state.aspect(self._aspect("roles"))
        looks = "Where it looks" if roles is None else f"Where it looks: {role_note(roles, layer, head)}"
        self._lists.lists = [
            self._list(
                "decomposition",
                "Words that add up to it",
                ("word", "weight", "explained"),
                lambda found: word_rows(found, head, position),
            ),
            self._list(
                "effects",
                "If it wrote something else",
                ("in its place", "change", "recovered"),
                effect_rows,
            ),
            self._list(
                "promoted",
                "Words it makes likelier, and less likely",
                ("word", "logit", ""),
                lambda found: promoted_rows(found, head, position),
            ),
            self._list("roles", looks, ("attention to", "share", ""), lambda found: role_rows(found, layer, head)),
        ]

    def _list(
        self, kind: str, title: str, columns: tuple[str, str, str], rows: Callable[[xr.Dataset], list[Row]]
    ) -> dict[str, Any]:
        aspect = self._aspect(kind)
        found = self._state.aspect(aspect)
        return bar_list(title, columns, [] if found is None else rows(found), self._waiting(aspect))

    def __panel__(self) -> pn.Column:
        return pn.Column(self._heading, self._lists, sizing_mode="stretch_width")
