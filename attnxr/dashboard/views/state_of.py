"""What a view is given: a State, or Datasets to make one of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from attnxr import schema
from attnxr.dashboard.compute.answering import nearest_positions
from attnxr.dashboard.compute.worker import Worker
from attnxr.dashboard.session.answer import Answer
from attnxr.dashboard.session.state import State
from attnxr.errors import InputError
from attnxr.model import Model
from attnxr.texts import OF_TEXTS, same_attr, token_ids

_WAYS = {
    "neighbors": ("neighbor_id", "what model.neighbors returns"),
    "encodings": ("head_encoding", "what model.encode returns"),
    "sequence": ("neighbor_position", "what model.encode returns"),
}


def state_of(*datasets: xr.Dataset, model: Model | None = None) -> State:
    """Make a State of Datasets that are there already; views that are given the same State are linked.

    Parameters
    ----------
    *datasets : xarray.Dataset
        What ``model.encode`` and ``model.neighbors`` returned for one text, one of them or both, in any order.
    model : Model, optional
        The model they are of. Without it, views that compute something more say that they need it.

    Returns
    -------
    State
        With an answer that holds the Datasets.

    Raises
    ------
    InputError
        If something else is given, the Datasets are of different texts or models, or are selections.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> near = model.neighbors(enc, k=5)
    >>> from attnxr.dashboard import NeighborTable, TokenStrip, state_of
    >>> state = state_of(near, enc)
    >>> strip, table = TokenStrip(state), NeighborTable(state)
    >>> state.select(layer=3, position=2)
    >>> table.state.layer
    3
    """
    encodings, near = _sorted(datasets)
    whole = [each for each in (encodings, near) if each is not None]
    for each in whole:
        _check(each)
    tokens = whole[0]
    for name in ("fingerprint", *OF_TEXTS, "causal"):
        if not all(same_attr(tokens, each, name) for each in whole):
            found = " and ".join(f"{each.attrs.get(name)!s:.80}" for each in whole)
            raise InputError(
                f"Two Datasets were given whose {name!r} differs: {found}. Expected neighbours of these very "
                "encodings: model.neighbors(encodings)."
            )
    if len({tuple(each["layer"].values) for each in whole}) > 1:
        listed = " and ".join(f"{', '.join(map(str, each['layer'].values))}" for each in whole)
        raise InputError(f"Two Datasets were given of different layers: {listed}. Expected the same of both.")
    stack = tokens.attrs.get("stack")
    if stack == "cross":
        raise InputError(
            "Encodings with stack='cross' were given, whose attention is to the tokens of another text; the views "
            "speak of attention of a text to itself: stack='encoder' or 'decoder'."
        )
    if model is not None and stack in model.stacks:
        model = model.of_stack(stack)
    if model is not None and model.fingerprint != tokens.attrs["fingerprint"]:
        raise InputError(
            f"The Datasets are of the model {tokens.attrs['model']!r} (fingerprint {tokens.attrs['fingerprint']}); "
            f"{model.name!r} ({model.fingerprint}) was given. Give the model that they were made with."
        )
    asked = {} if near is None else {name: near.attrs[name] for name in ("metric", "of", "space", "vocab_layer")}
    if near is not None:
        asked |= {"positional": bool(near.attrs["positional"]), "k": near.sizes["rank"]}
    given = {"text": tokens.attrs["text"]}
    if stack == "decoder":
        given = {"text": tokens.attrs.get("encoder_text", ""), "target": tokens.attrs["text"], "stack": stack}
    state = State([tokens.attrs["model"]], **given, **asked)
    # What is not there stays without its variables; who needs them finds out by `state_for`.
    bare = tokens.drop_vars([*tokens.data_vars, "rank"], errors="ignore")
    state.land(
        Answer(
            request=state.request,
            encodings=bare if encodings is None else encodings,
            neighbors=bare if near is None else near,
            sequence=xr.Dataset() if encodings is None else nearest_positions(encodings, state.metric),
            vocab_size=0 if near is None else int(near.attrs["vocab_size"]),
            checks=xr.Dataset(),
        )
    )

    def load(_name: str) -> Model:
        if model is None:
            raise InputError("This needs the model too: attnxr.dashboard.state_of(…, model=model).")
        return model

    Worker(state, load)
    return state


def state_for(view: str, needs: Sequence[str], given: State | xr.Dataset) -> State:
    """Give a view the State to follow, after a look at whether it holds what the view shows.

    Parameters
    ----------
    view : str
        Name of the view, for the message.
    needs : sequence of {"neighbors", "encodings", "sequence"}
        Which Datasets of an answer it shows.
    given : State or xarray.Dataset
        What the view was given: a State, or the one Dataset to make it of.

    Returns
    -------
    State
        The given one, or a new one.

    Raises
    ------
    InputError
        As `state_of`, or if what the view needs is not there.
    """
    state = given if isinstance(given, State) else state_of(given)
    if state.answer is not None:
        for need in needs:
            variable, way = _WAYS[need]
            if variable not in getattr(state.answer, need):
                what = "encodings" if need == "sequence" else need
                raise InputError(
                    f"{view} needs {what.replace('bors', 'bours')}, and was given none: give {way}. A view that needs "
                    f"both takes attnxr.dashboard.state_of(near, encodings)."
                )
    return state


def _sorted(datasets: Sequence[xr.Dataset]) -> tuple[xr.Dataset | None, xr.Dataset | None]:
    """Encodings and neighbours, told apart by what is in them."""
    found: dict[str, xr.Dataset] = {}
    for dataset in datasets:
        variables = dataset.variables if isinstance(dataset, xr.Dataset) else ()
        kind = next((kind for kind in ("encodings", "neighbors") if _WAYS[kind][0] in variables), None)
        if kind is None or kind in found:
            raise InputError(
                f"{_described(dataset)} was given{' beside another one of its kind' if kind else ''}; expected what "
                "model.encode or model.neighbors returned, one of each at most, or a State made of them."
            )
        found[kind] = dataset
    if not found:
        raise InputError("No Dataset was given; expected what model.encode or model.neighbors returned.")
    return found.get("encodings"), found.get("neighbors")


def _check(dataset: xr.Dataset) -> None:
    """Fail unless a Dataset holds layers with all heads and positions of one text: the views count these from 0."""
    near = "neighbor_id" in dataset
    specs, variable, source = (
        (schema.NEIGHBORS, "neighbor_id", "model.neighbors")
        if near
        else (schema.ENCODINGS, "head_encoding", "model.encode")
    )
    of = (dataset.attrs.get("of"), dataset.attrs.get("space"))
    if near and of != ("encoding", "value"):
        raise InputError(
            f"Neighbours with of={of[0]!r}, space={of[1]!r} were given; the views speak of what heads wrote, compared "
            "with values: of='encoding', space='value'."
        )
    of_texts = token_ids(dataset)
    if len(of_texts) != 1:
        raise InputError(
            f"A Dataset of {len(of_texts)} texts was given; a view shows one text. Encode it by itself: "
            "model.encode(text)."
        )
    for dim in specs[variable].dims[:3]:
        labels = dataset[dim].values if dim in dataset.dims else None
        if (
            labels is None
            or (dim != "layer" and not np.array_equal(labels, np.arange(len(labels))))
            or (dim == "position" and len(labels) != len(of_texts[0]))
        ):
            found = "none is left" if labels is None else f"they are {_few(labels)}"
            raise InputError(
                f"A Dataset without all of its {dim}s was given ({found}), which a view would count wrongly. Give all "
                f"that {source} returned, and select in the view: view.state.select(layer=3, head=1, position=2)."
            )
    schema.validate(dataset, specs, required=(*schema.TOKEN_COORDS, variable))


def _few(labels: np.ndarray) -> str:
    listed = ", ".join(map(str, labels[:6]))
    return f"{listed}, …" if len(labels) > 6 else listed


def _described(given: object) -> str:
    if isinstance(given, xr.Dataset):
        return f"A Dataset of {sorted(map(str, given.data_vars))}"
    return f"A {type(given).__name__}"
