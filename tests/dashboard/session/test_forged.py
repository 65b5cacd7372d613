"""Files that are well formed and wrong are refused with the reason, or shown: nothing fails later, somewhere inside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import attnxr
from attnxr import saved
from attnxr.dashboard.compute import aspects
from attnxr.dashboard.compute.answering import answer_request
from attnxr.dashboard.files import exports
from attnxr.dashboard.rows.neighbors import neighbor_table, sequence_table
from attnxr.dashboard.session.answer import Answer, Aspect
from attnxr.dashboard.session.opened import open_file
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.controls import notices, summary
from attnxr.errors import AttnxrError, InputError
from attnxr.plots import MEASURES

Pair = tuple[xr.Dataset, xr.Dataset]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading in a process of its own takes seconds each time; tests/test_saved.py and the browser tests do it."""
    monkeypatch.setattr("attnxr.dashboard.session.opened.read_apart", saved.read)


@pytest.fixture(scope="module")
def good(shelf: dict[str, attnxr.Model]) -> Pair:
    encodings = shelf["bert"].encode("Time flies like an arrow.", include=["key_vector", "hidden"])
    return encodings, shelf["bert"].neighbors(encodings, k=4)


def write(folder: Path, encodings: xr.Dataset | None, near: xr.Dataset | None) -> Path:
    groups = {"encodings": encodings, "neighbors": near}
    tree = xr.DataTree.from_dict({name: each.drop_encoding() for name, each in groups.items() if each is not None})
    path = folder / "forged.nc"
    path.write_bytes(bytes(tree.to_netcdf(engine="h5netcdf")))
    return path


def with_value(name: str, value: Any) -> Callable[[xr.Dataset], xr.Dataset]:
    """Put a value in one place of a variable."""

    def change(dataset: xr.Dataset) -> xr.Dataset:
        changed = dataset.copy(deep=True)
        variable = changed.variables[name]
        values = variable.values.copy()
        values[(0,) * values.ndim] = value
        new = xr.Variable(variable.dims, values, variable.attrs)
        return changed.assign_coords({name: new}) if name in changed.coords else changed.assign({name: new})

    return change


def with_attr(**attrs: Any) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda dataset: dataset.assign_attrs(attrs)


def of_no_position(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.isel(key_position=slice(0))


FORGED: dict[str, tuple[str, Callable[[xr.Dataset], xr.Dataset], str]] = {
    "own rank below 1": ("near", with_value("own_rank", -1), "'own_rank' runs from -1"),
    "own rank 0": ("near", with_value("own_rank", 0), "'own_rank' runs from 0"),
    "own rank beyond the vocabulary": ("near", with_value("own_rank", 1 << 20), "expected 1 to 205"),
    "a vocabulary of 2^31": ("near", with_attr(vocab_size=1 << 31), r"attrs\['vocab_size'\]"),
    "a negative vocabulary": ("near", with_attr(vocab_size=-1), r"attrs\['vocab_size'\]"),
    "a vocabulary smaller than its ids": ("near", with_attr(vocab_size=5), "expected 0 to 4"),
    "a neighbour id of 2^31 - 1": ("near", with_value("neighbor_id", (1 << 31) - 1), "'neighbor_id' runs"),
    "a negative neighbour id": ("near", with_value("neighbor_id", -7), "'neighbor_id' runs from -7"),
    "one head beside four": ("enc", lambda enc: enc.isel(head=[0]), "differ in 'head'"),
    "other layers": ("enc", lambda enc: enc.isel(layer=[0, 1]), "differ in 'layer'"),
    "other heads of the same number": (
        "near",
        lambda near: near.assign_coords(head=near["head"] + 1),
        "differ in 'head'",
    ),
    "attention to nothing": ("enc", of_no_position, "nothing along 'key_position'"),
    "attention to a part of the text": ("enc", lambda enc: enc.isel(key_position=[0, 1]), "attention to 2 of"),
    "attention beyond the text": (
        "enc",
        lambda enc: enc.pad(key_position=(0, 3), constant_values=0.0, keep_attrs=True),
        "positions of a text of",
    ),
    "negative attention": ("enc", with_value("attention", -0.5), "'attention' runs from -0.5"),
    "attention of more than all": ("enc", with_value("attention", 7.0), "add up to"),
    "no neighbours": ("near", lambda near: near.isel(rank=slice(0)), "nothing along|dtype float64"),
    "a token beyond its text": ("both", with_value("char_end", 1000), "characters 0 to 1000|characters -1 to 1000"),
    "a token that ends before it begins": ("both", with_value("char_start", 5), "characters 5 to"),
    "a word far away": ("both", with_value("word", 1 << 40), "'word' runs"),
    "a layer twice": ("both", lambda each: each.assign_coords(layer=[0, 0, 1]), "each once"),
    "a layer below 0": ("both", lambda each: each.assign_coords(layer=[-1, 0, 1]), "'layer' runs from -1"),
    "layers that are words": ("both", lambda each: each.assign_coords(layer=["a", "b", "c"]), "layers"),
    "heads without labels": ("both", lambda each: each.drop_vars("head"), "no labels along 'head'"),
    "a mask that is 2": ("both", with_attr(causal=2), r"attrs\['causal'\] 2|attrs\['causal'\] np.int64\(2\)"),
    "a negative cut": ("both", with_attr(truncated=-1), r"attrs\['truncated'\]"),
    "neighbours without distances": ("near", lambda near: near.drop_vars("distance"), "no 'distance'"),
    "encodings without attention": ("enc", lambda enc: enc.drop_vars("attention"), "no 'attention'"),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_file_is_refused_and_says_why(good: Pair, tmp_path: Path, kind: str) -> None:
    where, change, message = FORGED[kind]
    encodings, near = good
    path = write(
        tmp_path,
        change(encodings) if where in ("enc", "both") else encodings,
        change(near) if where in ("near", "both") else near,
    )
    with pytest.raises(InputError, match=message):
        open_file(path, "forged.nc")


def test_negative_token_ids_are_refused(good: Pair, tmp_path: Path) -> None:
    encodings, near = (with_value("token_id", -3)(each) for each in good)
    for each in (encodings, near):
        each.attrs["token_ids"] = each["token_id"].values
    with pytest.raises(InputError, match="none below 0"):
        open_file(write(tmp_path, encodings, near), "forged.nc")


@pytest.mark.parametrize(
    "change",
    [
        lambda each: xr.concat([each, each.isel(layer=[0]).assign_coords(layer=[3])], "layer", data_vars="minimal"),
        lambda each: each.isel(head=[0]),
        lambda each: each.assign_attrs(vocab_size=9_999),
    ],
)
def test_what_cannot_be_of_the_model_that_it_names_is_refused_when_that_is_asked(
    good: Pair, tmp_path: Path, shelf: dict[str, attnxr.Model], change: Callable[[xr.Dataset], xr.Dataset]
) -> None:
    opened = open_file(write(tmp_path, *map(change, good)), "forged.nc")
    state = State(["bert"])
    state.open(opened)
    answer = answer_request(state.request, no_model, silent)  # what it holds is shown
    look_at(answer)
    state.metric = "dot"
    with pytest.raises(InputError, match=r"model that it names|'layer' runs"):
        answer_request(state.request, shelf.__getitem__, silent)


def no_model(name: str) -> attnxr.Model:
    raise AssertionError(f"{name} was loaded")


def silent(_message: str, _fraction: float | None) -> None:
    pass


def look_at(answer: Answer) -> None:
    """Have all that the page makes of an answer without its model, which may be refused."""
    summary(answer)
    notices(answer)
    last = {name: size - 1 for name, size in answer.sizes.items()}
    for place in (dict.fromkeys(last, 0), last):
        neighbor_table(answer, place["layer"], place["position"])
        sequence_table(answer, place["layer"], place["position"])
    for measure in MEASURES.values():
        measure.limits(answer.neighbors)
    for kind in ("origins", "overlap", "hubness", "roles"):
        if kind == "overlap" and answer.overlap is None:
            continue
        with contextlib.suppress(AttnxrError):
            aspects.compute(answer, None, Aspect(kind, last["layer"]), silent)  # type: ignore[arg-type]
    exports.neighbors_csv(answer)
    exports.netcdf(answer)


NUMBERS = st.one_of(
    st.sampled_from([-(1 << 63), -(1 << 31), -2, -1, 0, 1, 2, 5, 204, 205, (1 << 31) - 1, 1 << 31, (1 << 63) - 1]),
    st.integers(-300, 300),
)
FLOATS = st.one_of(st.sampled_from([-1.0, 0.0, 1.0, 2.0, np.inf, -np.inf, np.nan, 3e38, 1e-45]), st.floats(width=32))
TEXTS = st.text(max_size=8)


@st.composite
def mutation(draw: st.DrawFn) -> Callable[[xr.Dataset], xr.Dataset]:
    """One change of a Dataset: of a value, a dtype, a shape, a label or an attr, or of what is there at all."""
    kind = draw(st.sampled_from(["value", "dtype", "shape", "labels", "attr", "variable attr", "drop", "order"]))
    pick, number = draw(st.integers(0, 1000)), draw(NUMBERS)

    def change(dataset: xr.Dataset) -> xr.Dataset:
        names = sorted(map(str, dataset.variables))
        name = names[pick % len(names)]
        variable = dataset.variables[name]
        dims = sorted(map(str, dataset.sizes))
        dim = dims[pick % len(dims)]
        if kind == "value":
            values = variable.values.copy()
            place = pick % max(1, values.size)
            new = {"f": floating, "i": number, "b": bool(number % 2), "O": words, "U": words}[values.dtype.kind]
            if values.dtype.kind == "i":
                info = np.iinfo(values.dtype)
                new = min(max(number, info.min), info.max)
            values.reshape(-1)[place] = new
            return replaced(dataset, name, variable.dims, values)
        if kind == "dtype":
            if variable.dtype.kind in "OU":
                return replaced(dataset, name, variable.dims, np.zeros(variable.shape, dtype))
            return replaced(dataset, name, variable.dims, variable.values.astype(dtype))
        if kind == "shape":
            size = dataset.sizes[dim]
            return dataset.isel({dim: [0] * (size + 1) if number % 2 else slice(abs(number) % (size + 1))})
        if kind == "labels":
            return dataset.assign_coords({dim: np.arange(dataset.sizes[dim]) + number % 7 - 3})
        if kind == "attr":
            attrs = sorted(dataset.attrs)
            return dataset.assign_attrs({[*attrs, "other"][pick % (len(attrs) + 1)]: value})
        if kind == "variable attr":
            changed = dataset.copy()
            changed[name].attrs[["units", "long_name", "calendar", "scale", "grid_mapping"][pick % 5]] = value
            return changed
        if kind == "drop":
            return dataset.drop_vars(name)
        return dataset.isel({dim: slice(None, None, -1)})

    floating, words = draw(FLOATS), draw(TEXTS.filter(lambda text: "\0" not in text))
    dtype = draw(st.sampled_from(["int8", "int32", "int64", "uint64", "float32", "float64", "bool"]))
    value = draw(st.one_of(NUMBERS, st.floats(), TEXTS.filter(lambda text: "\0" not in text), st.just(np.arange(3))))
    return change


def replaced(dataset: xr.Dataset, name: str, dims: Any, values: np.ndarray) -> xr.Dataset:
    new = {name: (dims, values)}
    return dataset.assign_coords(new) if name in dataset.coords else dataset.assign(new)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(change=mutation(), where=st.sampled_from(["enc", "near", "both"]))
def test_a_file_with_anything_changed_is_refused_or_shown(
    good: Pair, tmp_path: Path, change: Callable[[xr.Dataset], xr.Dataset], where: str
) -> None:
    encodings, near = good
    try:
        path = write(
            tmp_path,
            change(encodings) if where in ("enc", "both") else encodings,
            change(near) if where in ("near", "both") else near,
        )
    except (ValueError, TypeError, KeyError, OverflowError, UnicodeEncodeError, RuntimeWarning, NotImplementedError):
        return  # no such file can be written
    try:
        opened = open_file(path, "forged.nc")
        state = State(["another"])
        state.open(opened)
        answer = answer_request(state.request, no_model, silent)
    except InputError:
        return
    look_at(answer)
