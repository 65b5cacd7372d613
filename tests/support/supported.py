"""The families that are tested, as a file of the package, which the documentation's table is made from.

``python -m tests.support.supported`` writes it, from what the tests look into.
"""

from __future__ import annotations

import csv
import io

import attnxr
from attnxr.loading.tested import FILE, Family
from tests.support import families
from tests.support.families import FAMILIES


def looked_into() -> list[Family]:
    """Each family that tests/test_families.py holds to the three checks, with what its model says of itself."""
    return [of_family(family) for family in FAMILIES.values()]


def of_family(family: families.Family) -> Family:
    """One of them."""
    model, stack = attnxr.Model(family.build(), layers=family.layers or None), family.stack or None
    assert model.verify(stack=stack).attrs["passed"], f"{family.name} does not pass its own checks"
    paths = model._look(stack).vocabulary.verification.paths
    mask = "causal" if model.encode(**family.given([5, 6])).attrs["causal"] else "both ways"
    said = (family.name, family.model_type, "second" if family.seen else "first", mask, family.positions)
    return Family(*said, paths["value"], paths["key"], paths["query"])


def as_csv(families: list[Family]) -> str:
    """The package's file."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(Family._fields)
    writer.writerows(families)
    return file.getvalue()


def main() -> None:
    FILE.write_text(as_csv(looked_into()), encoding="utf-8")


if __name__ == "__main__":
    main()
