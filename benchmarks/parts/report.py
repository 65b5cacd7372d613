"""Tables and verdicts, as text or as Markdown."""

from dataclasses import dataclass, field

from benchmarks.parts.measure import MIB


@dataclass
class Table:
    """A title, the heads of the columns, and rows of as many cells; numbers stand to the right."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def text(self) -> str:
        """Aligned columns."""
        lines = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        justified = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, "", *justified])

    def markdown(self) -> str:
        """A table of GitHub's Markdown."""
        rule = ("---", *("---:" for _ in self.columns[1:]))
        lines = ["| " + " | ".join(line) + " |" for line in (self.columns, rule, *self.rows)]
        return "\n".join([f"{self.title}:", "", *lines])


@dataclass
class Report:
    """What one part of the comparison found: tables, notes on them, and the verdicts on the targets."""

    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)

    def text(self) -> str:
        """For a terminal."""
        parts = [*(table.text() for table in self.tables), "\n".join(self.notes), "\n".join(self.verdicts)]
        return "\n\n".join(part for part in parts if part)

    def markdown(self) -> str:
        """For docs/cost.md."""
        parts = [table.markdown() for table in self.tables]
        parts += ["\n".join(f"- {line}" for line in lines) for lines in (self.notes, self.verdicts)]
        return "\n\n".join(part for part in parts if part)

    def target(self, name: str, ratios: dict[str, float], limit: float, unit: str, at_most: bool = True) -> None:
        """Add the verdict on one of the targets: every number at most (or at least) the limit.

        Parameters
        ----------
        name : str
            As in ``P1``.
        ratios : dict
            What was measured, by what it was measured of.
        limit : float
        unit : str
            What the numbers count.
        at_most : bool
        """
        reached = all(ratio <= limit if at_most else ratio >= limit for ratio in ratios.values())
        found = "; ".join(f"{of} {_number(ratio)}" for of, ratio in ratios.items())
        sign = "≤" if at_most else "≥"
        self.verdicts.append(f"[{name}] {'reached' if reached else 'MISSED'}: {sign} {limit:g} {unit}: {found}")


def in_seconds(value: float) -> str:
    """A time with three digits, in the unit that suits it."""
    return f"{1e3 * value:.3g} ms" if value < 1 else f"{value:.3g} s" if value < 100 else f"{value:.0f} s"


def times(ratio: float) -> str:
    """A ratio with three digits."""
    return f"{_number(ratio)} ×"


def in_mib(value: int) -> str:
    """An amount of memory."""
    return f"{value / MIB:,.0f} MiB"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
