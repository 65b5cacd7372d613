"""The text box, the choices beside it, and the line that says what is going on."""

from __future__ import annotations

from typing import Any

import panel as pn
from panel.viewable import Viewer

from attnxr.dashboard.parts import Choices, Status, TextBox
from attnxr.dashboard.rows.neighbors import fidelity
from attnxr.dashboard.rows.reading import fewer
from attnxr.dashboard.session.answer import Answer
from attnxr.dashboard.session.state import READING, REQUEST, State
from attnxr.dashboard.views.fields import choice_field
from attnxr.dashboard.views.question import choose, k_field, question_fields, reading_fields, stack_fields

_FROM_FILE = "\0from the file"  # no model's name
_OF_ENCODER, _OF_DECODER = "Text, which the encoder reads", "Target, which the decoder reads"
_CHOICES = ("positional", "causal", "k", *READING)


class Controls(Viewer):
    """What a visitor asks with.

    Parameters
    ----------
    state : State
        What to change, and what to follow.
    beside : Viewer
        What stands beside the choices, where there is room.
    """

    def __init__(self, state: State, beside: Viewer) -> None:
        super().__init__()
        self._state = state
        self._beside = beside
        self._text = TextBox(lambda data: self._run("text", data), text=state.text)
        self._target = TextBox(lambda data: self._run("target", data), label="Target", text=state.target)
        self._choices = Choices(self._choose)
        self._question = Choices(self._ask)
        state.param.watch(self._show, [*REQUEST, "answer", "layer", "error"])
        self._show()

    def _show(self, *_events: object) -> None:
        state = self._state
        known = state.answer or state.last
        layers = {str(number): index for index, number in enumerate(known.layers if known else [0])}
        of_two = state.stack is not None
        self._text.param.update(text=state.text, caption=_OF_ENCODER if of_two else "")
        self._target.param.update(text=state.target, caption=_OF_DECODER, visible=of_two)
        self._choices.fields = [
            self._model_field(),
            *stack_fields(state),
            choice_field(state, "causal", "Causal mask"),
            self._field("layer", "Layer", layers),
            k_field(state),
            *reading_fields(state),
            self._field("positional", "Positional embedding in the vocabulary"),
        ]
        self._question.fields = [*question_fields(state), choice_field(state, "metric", "Distance")]

    def _model_field(self) -> dict[str, Any]:
        opened, offered = self._state.opened, self._state.param["model"].objects
        field = self._field("model", "Model", {name: name for name in offered})
        if opened is not None and opened.model not in offered:
            field["options"] = [[_FROM_FILE, f"{opened.model} (from the file)"], *field["options"]]
            field["value"] = _FROM_FILE
        return field

    def _field(self, name: str, label: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
        return {
            "name": name,
            "label": label,
            "help": self._state.param[name].doc,
            "value": getattr(self._state, name),
            "options": options and [[value, shown] for shown, value in options.items()],
            # There is nothing to select in while there is no answer.
            "disabled": name == "layer" and self._state.answer is None,
        }

    def _run(self, name: str, data: dict[str, str]) -> None:
        # The same text again is a request too: what failed before may work now, and a file is left for it.
        said = {name: data["text"]}
        if self._state.opened is not None:
            self._state.param.update(**said, opened=None)
        elif data["text"] == getattr(self._state, name):
            self._state.param.trigger(name)
        else:
            self._state.param.update(**said)

    def _choose(self, data: dict[str, Any]) -> None:
        if data["name"] == "layer":
            self._state.select(layer=data["value"])
        elif data["name"] == "model":
            if data["value"] != _FROM_FILE:
                # How a text is read is a choice of the tokenizer's, and another model may write nothing.
                self._state.param.update(**self._as_new(), model=data["value"], opened=None)
        elif data["name"] == "stack":
            self._state.param.update(**self._as_new() | {"stack": data["value"]})
        elif data["name"] == "continued":
            self._state.param.update(continued=data["value"], seed=self._state.seed if data["value"] else None)
        elif data["name"] in _CHOICES:
            self._state.param.update({data["name"]: data["value"]})

    def _as_new(self) -> dict[str, Any]:
        return {name: self._state.param[name].default for name in READING}

    def _ask(self, data: dict[str, Any]) -> None:
        if data["name"] == "metric":
            self._state.metric = data["value"]
        else:
            choose(self._state, **data)

    def __panel__(self) -> pn.Column:
        columns = [
            pn.Column(each, styles={"flex": f"{share} 1 {width}px", "min-width": "0"})
            for each, share, width in ((self._choices, 6, 920), (self._beside, 1, 160))
        ]
        row = pn.Row(*columns, styles={"flex-wrap": "wrap", "gap": "0 22px"}, sizing_mode="stretch_width")
        return pn.Column(
            self._text,
            self._target,
            self._question,
            row,
            sizing_mode="stretch_width",
            visible=self._state.param.controls,
        )


class Progress(Viewer):
    """What is being done, or what was found and how exactly it agrees with the model; errors and notices below it.

    Parameters
    ----------
    state : State
        What to follow.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state
        self._status = Status(lambda _data: state.cancel())
        state.param.watch(self._show, ["answer", "activity", "error", "cancelled", "background", "notices"])
        self._show()

    def _show(self, *_events: object) -> None:
        answer = self._state.answer
        activity = self._state.activity or self._state.background
        if activity:
            message = activity.message + " …"
        elif self._state.cancelled:
            message = "Cancelled. Run asks again."
        else:
            message = summary(answer) if answer else ""
        self._status.param.update(
            message=message,
            busy=activity is not None,
            cancellable=self._state.activity is not None,
            fraction=activity.fraction if activity else None,
            error=self._state.error,
            notices=[*self._state.notices, *(notices(answer) if answer else [])],
            check=fidelity(answer.checks) if answer and answer.checks else {},
        )

    def __panel__(self) -> Status:
        return self._status


def summary(answer: Answer) -> str:
    """One line on an answer: the model and its size."""
    return (
        f"{answer.encodings.attrs['model']} · {answer.n_layers} layers × {answer.n_heads} heads · "
        f"{answer.vocab_size:,} vocabulary entries"
    )


def notices(answer: Answer) -> list[str]:
    """What a reader must know about an answer before trusting what it seems to say."""
    found = []
    opened = answer.request.opened
    if opened is not None:
        found.append(
            f"Opened from the file {opened.name}: what the model {opened.model} (fingerprint {opened.fingerprint}) "
            "made of this text. Run the text, or choose a model, to leave the file."
        )
    cut = int(answer.encodings.attrs["truncated"])
    if cut and answer.request.stack is not None:
        found.append(
            f"The text, the target, or each of them, is longer than {answer.request.model} can take: {cut:,} "
            f"token{'s were' if cut > 1 else ' was'} cut from the end."
        )
    elif cut:
        found.append(
            f"The text is longer than {answer.request.model} can take: its last {cut:,} "
            f"token{'s were' if cut > 1 else ' was'} cut, and what follows is about the first "
            f"{answer.n_positions:,} tokens."
        )
    found += filter(None, [fewer(answer)])
    special = typed_special_tokens(answer)
    if special:
        found.append(f"Read as the model's own special tokens, not as plain text: {', '.join(special)}")
    return found


def typed_special_tokens(answer: Answer) -> list[str]:
    """Pieces of the text that the tokenizer took for special tokens, each once, as typed and as what.

    Those of a chat's template, and those that the model wrote, nobody has typed.
    """
    encodings = answer.encodings
    text = str(encodings.attrs["text"])
    typed = answer.request.own_text
    first = max(text.find(typed.strip()), 0)
    n_own = answer.n_positions - int(encodings.attrs.get("generated", 0))
    columns = (encodings[name].values[:n_own] for name in ("is_special", "char_start", "char_end", "token"))
    found = []
    for special, start, end, token in zip(*columns, strict=True):
        piece = text[start:end]
        if special and end > start >= first and end <= first + len(typed):
            found.append(piece if piece == token else f"{piece} (as {token})")
    return list(dict.fromkeys(found))
