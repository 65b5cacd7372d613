"""Names that get in nobody's way, and what each variable says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr

import attnxr
from attnxr import schema
from tests.support.cases import Case

DECLARED = {
    name: table
    for name, table in vars(schema).items()
    if name.isupper() and isinstance(table, dict) and all(isinstance(each, schema.Spec) for each in table.values())
}
OF_XARRAY = {*dir(xr.Dataset), *dir(xr.DataArray)}
DIMENSIONS = {"head", "rank"}  # what everybody calls these; README says how to write them


def test_all_tables_are_found() -> None:
    assert {"ENCODINGS", "NEIGHBORS", "SIGNIFICANCE", "MAP", "WORD_COORDS", "AXES"} <= set(DECLARED)


def test_no_variable_is_called_as_a_method_of_xarray() -> None:
    taken = {(table, name) for table, specs in DECLARED.items() for name in specs if name in OF_XARRAY}
    assert taken == {("AXES", "head"), ("AXES", "rank"), ("MAP", "head")}


def test_variables_are_reached_as_attributes(tiny: Case) -> None:
    near = tiny.model.neighbors(tiny.enc, k=3)
    for dataset in (tiny.enc, near, tiny.model.moments(tiny.enc), attnxr.origins(near)):
        for name in dataset.data_vars:
            assert isinstance(getattr(dataset, str(name)), xr.DataArray)
        assert OF_XARRAY & {str(name) for name in dataset.coords} <= DIMENSIONS


def test_the_readme_says_how_to_write_the_two_others() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert all(f'["{name}"]' in readme for name in DIMENSIONS)


@pytest.mark.parametrize("table", DECLARED)
def test_names_fit_an_axis(table: str) -> None:
    for name, spec in DECLARED[table].items():
        assert 0 < len(spec.long_name) <= 40, name
        assert spec.description, name
        measured = spec.dtype.startswith("float") or spec.counts
        assert spec.attrs.get("units") == ("1" if measured else None), name


def test_every_variable_and_coordinate_is_described(tiny: Case) -> None:
    model, enc = tiny.model, tiny.enc
    near = model.neighbors(enc, k=3)
    several = model.encode(["Time flies.", "A dog!"])
    made = {
        "encode": enc,
        "several": several,
        "neighbors": near,
        "distances": model.distances(enc),
        "moments": model.moments(enc, include=["vocabulary_mean", "covariance", "direction"]),
        "verify": model.verify(),
        "vocabulary_encodings": model.vocabulary_encodings(enc, near.neighbor_id),
        "sequence_distances": attnxr.sequence_distances(enc),
        "sequence_neighbors": attnxr.sequence_neighbors(several, k=2),
        "words": attnxr.words(several),
        "words of attention": attnxr.words(enc[["attention"]].assign_attrs(enc.attrs)),
        "origins": attnxr.origins(near, enc),
        "roles": attnxr.roles(enc),
        "overlap of layers": attnxr.overlap(near, n=3, between="layers"),
        "overlap of heads": attnxr.overlap(near, n=3, between="heads"),
        "hubness": attnxr.hubness(near),
        "trajectories": attnxr.trajectories(near),
        "replace": model.replace(several, 0 * several.head_encoding, together=["position"]),
        "effects": attnxr.effects(model, enc, k=2),
        "comparison": attnxr.comparison(near, near, n=3),
        "decompose": attnxr.decompose(model, enc, n=2, draws=2, include="approximation"),
    }
    for what, dataset in made.items():
        for name, variable in dataset.variables.items():
            assert {"long_name", "description"} <= set(variable.attrs), f"{name} of {what}"
            assert len(variable.attrs["long_name"]) <= 40
    assert near["distance"].attrs["units"] == near["own_rank"].attrs["units"] == "1"
    assert "units" not in near["neighbor_id"].attrs
    assert near["head"].attrs["long_name"] == "head"
    assert enc["head_encoding"].attrs == schema.ENCODINGS["head_encoding"].attrs
