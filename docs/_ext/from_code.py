"""Pages that are made from the code: the schema, the families, the public names, the command's help, the notebooks."""

import inspect
import shutil
from collections.abc import Iterable
from pathlib import Path

import click
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from attnxr import cli, schema
from attnxr.loading.tested import Family, Tried, read_families, read_tried

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = Path(__file__).parents[1] / "tutorials" / "notebooks"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Lines of a Markdown table."""
    lines = [list(header), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


class SchemaTables(SphinxDirective):
    """Each table of attnxr/schema.py, as a section."""

    def run(self) -> list[nodes.Node]:
        text = []
        for name, specs in vars(schema).items():
            if not (name.isupper() and isinstance(specs, dict) and specs):
                continue
            if not all(isinstance(each, schema.Spec) for each in specs.values()):
                continue
            rows = (
                (f"`{variable}`", ", ".join(each.dims) or "–", each.dtype, each.long_name, each.description)
                for variable, each in specs.items()
            )
            heading = name.replace("_", " ").capitalize()
            text += [f"## {heading}\n", table(["name", "dims", "dtype", "label", "meaning"], rows), ""]
        return self.parse_text_to_nodes("\n".join(text), allow_section_headings=True)


class FamiliesTable(SphinxDirective):
    """What `attnxr families` prints."""

    def run(self) -> list[nodes.Node]:
        rows = (one._replace(model_type=f"`{one.model_type}`") for one in read_families())
        return self.parse_text_to_nodes(table((name.replace("_", " ") for name in Family._fields), rows))


class OthersTable(SphinxDirective):
    """What `attnxr families --others` prints."""

    def run(self) -> list[nodes.Node]:
        rows = (one._replace(model_type=f"`{one.model_type}`", reason=f"`{one.reason}`") for one in read_tried())
        return self.parse_text_to_nodes(table(Tried._fields, rows))


class PublicNames(SphinxDirective):
    """The documentation of every public name of a module, or of those that come from a room of the package."""

    required_arguments = 1
    option_spec = {"from": directives.unchanged_required}  # noqa: RUF012 (docutils' own way)

    def run(self) -> list[nodes.Node]:
        module = __import__(self.arguments[0], fromlist=["_"])
        rooms = tuple(self.options.get("from", self.arguments[0]).split())
        lines = ["```{eval-rst}"]
        for name in sorted(module.__all__, key=str.lower):
            found = getattr(module, name)
            if not getattr(found, "__module__", "").startswith(rooms):
                continue
            if inspect.isclass(found):
                lines += [f".. autoclass:: {module.__name__}.{name}", "   :members:", ""]
            elif inspect.isfunction(found):
                lines += [f".. autofunction:: {module.__name__}.{name}", ""]
        return self.parse_text_to_nodes("\n".join([*lines, "```"]))


class CommandHelp(SphinxDirective):
    """What the command and each of its own commands print for --help."""

    def run(self) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        commands = [("attnxr", cli.main), *((f"attnxr {name}", each) for name, each in cli.main.commands.items())]
        for name, command in commands:
            told = command.get_help(click.Context(command, info_name=name, terminal_width=100))
            found.append(nodes.literal_block(told, f"$ {name} --help\n{told}", language="text"))
        return found


def copy_notebooks(app: Sphinx) -> None:
    """Sphinx reads what lies in its folder; the notebooks lie where who has a checkout looks for them."""
    shutil.rmtree(NOTEBOOKS, ignore_errors=True)
    shutil.copytree(EXAMPLES, NOTEBOOKS, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("schema-tables", SchemaTables)
    app.add_directive("families-table", FamiliesTable)
    app.add_directive("others-table", OthersTable)
    app.add_directive("public-names", PublicNames)
    app.add_directive("command-help", CommandHelp)
    app.connect("builder-inited", copy_notebooks)
    return {"parallel_read_safe": True}
