"""What commands print: JSON for programs, tables for people."""

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

import click

from attnxr.options import MEANS, NAMED_LAYERS

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def _layers(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[int] | None:
    try:
        return None if value is None else [int(each) for each in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of layers, such as 5,11.") from None


layers_option = click.option(
    "--layers",
    "looked_into",
    metavar="LAYER,…",
    callback=_layers,
    help="Which layers of the model to look into, where they are of different shapes, such as 5,11; by default all.",
)


def _vocab_layer(_ctx: click.Context, _param: click.Parameter, value: str) -> int | str:
    if value in NAMED_LAYERS:
        return value
    try:
        return int(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is none of 'input', 'same' and the number of a layer.") from None


vocab_layer_option = click.option(
    "--vocab-layer", default="input", show_default=True, callback=_vocab_layer, help=MEANS["vocab_layer"]
)
positional_option = click.option(
    "--positional/--no-positional", default=True, show_default=True, help=MEANS["positional"]
)


def print_json(told: Any) -> None:
    """Print what JSON can hold."""
    click.echo(json.dumps(told, indent=2))


def table(rows: Sequence[Sequence[str]], right: Sequence[int] | set[int] = ()) -> str:
    """Columns of equal width in a terminal; those in `right` end together, the others begin together."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        gaps = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = (gap + cell if i in right else cell + gap for i, (cell, gap) in enumerate(zip(row, gaps, strict=True)))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _width(text: str) -> int:
    """Columns that a text takes in a terminal: two for each wide character of East Asia, none for accents."""
    wide = sum(unicodedata.east_asian_width(each) in "WF" for each in text)
    return len(text) + wide - sum(unicodedata.combining(each) > 0 for each in text)
