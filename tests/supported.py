"""The README's table of families, made from what is tested: python -m tests.supported writes it into the README."""

from __future__ import annotations

from pathlib import Path

import attnxr
from tests.families import FAMILIES

README = Path(__file__).parent.parent / "README.md"
START, END = "<!-- families: made by python -m tests.supported -->\n", "<!-- families: end -->\n"


def table() -> str:
    """A row for each family that tests/test_families.py holds to the three checks, as Markdown."""
    lines = [
        "| family | `model_type` | mask | positions | values | keys | queries |",
        "|---|---|---|---|---|---|---|",
    ]
    for family in FAMILIES.values():
        model = attnxr.Model(family.build())
        checked = model.verify()
        assert checked.attrs["passed"], f"{family.name} does not pass its own checks"
        paths = model.verification.paths
        mask = "causal" if model.encode(token_ids=[5, 6]).attrs["causal"] else "both ways"
        cells = (family.name, f"`{family.model_type}`", mask, family.positions)
        lines.append(f"| {' | '.join((*cells, paths['value'], paths['key'], paths['query']))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    before, rest = README.read_text().split(START)
    _, after = rest.split(END)
    README.write_text(f"{before}{START}\n{table()}\n{END}{after}")


if __name__ == "__main__":
    main()
