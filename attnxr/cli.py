"""``attnxr`` in a terminal: serve the page, ask for neighbours, check a model, list the tested families, build corpora.

The exit code is 0 where all is well, 1 where a check failed and 2 where the input was refused, with the reason on
stderr. torch takes seconds to import, so a command imports what it needs when it runs: `attnxr.load_model` does too.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

import click

import attnxr
from attnxr.asked import sentence
from attnxr.cli_corpus import corpus
from attnxr.errors import AttnxrError, InputError
from attnxr.importing import quickly
from attnxr.loading.tested import read_families, read_tried
from attnxr.options import HEAD_SPACES, MEANS, METRICS, HeadSpace, Metric, VocabLayer
from attnxr.terminal import as_json_option, layers_option, positional_option, print_json, table, vocab_layer_option
from attnxr.tokens import label

if TYPE_CHECKING:
    import xarray as xr

_MOST_LISTED = 40  # tokens of a text in a message


class _Refused(click.ClickException):
    exit_code = 2


class _Commands(click.Group):
    """Says what attnxr refuses in its own words. Any other error is a bug, and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AttnxrError as error:
            raise _Refused(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(attnxr.__version__, prog_name="attnxr", message="%(prog)s %(version)s")
def main() -> None:
    """Ask what an attention head wrote, and which words of the vocabulary that is nearest to."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # vocabularies hold characters that not every terminal can show
            stream.reconfigure(errors="backslashreplace")


def _limit(option: str, means: str) -> Callable[[Any], Any]:
    """An option of one of `attnxr.dashboard.session.limits`, which the environment can say too."""
    name = "ATTNXR_" + option.removeprefix("--").replace("-", "_").upper()
    return click.option(option, type=click.IntRange(min=1), envvar=name, show_envvar=True, help=means)


@main.command()
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option("--model", "more", metavar="MODEL", multiple=True, help="The same as MODEL; may be given several times.")
@click.option(
    "--corpus", metavar="STORE", help="A corpus whose heads are to be found and looked at, in a tab of their own."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=5006, show_default=True, help="0 takes any that is free."
)
@click.option("--address", help="Address of this machine to listen on; all of them by default.")
@click.option("--open", "open_browser", is_flag=True, help="Open the page in a browser.")
@click.option(
    "--allow-websocket-origin",
    "origins",
    metavar="HOST[:PORT]",
    multiple=True,
    help="Host under which visitors open the page, where it is another one than --address; may be given several times.",
)
@click.option(
    "--allow-frame",
    "frames",
    metavar="HOST[:PORT]",
    multiple=True,
    help="Host whose pages may have this one in a frame; may be given several times.",
)
@click.option("--prefix", default="", help="What a proxy has before /app in the page's address.")
@click.option("--num-procs", type=click.IntRange(min=1), default=1, show_default=True, help="How many processes serve.")
@_limit("--text-characters", "Of the longest text; 200000 by default.")
@_limit("--answers-at-once", "Threads that compute; 8 by default.")
@_limit("--waiting", "Jobs of a kind that wait for a thread; 100 by default.")
@_limit("--kept-mib", "MiB that kept answers take; 1024 by default.")
@click.option("--use-xheaders", is_flag=True, help="A proxy says scheme and visitor in X-Scheme and X-Real-Ip.")
def serve(
    models: Sequence[str],
    more: Sequence[str],
    corpus: str | None,
    port: int,
    address: str | None,
    open_browser: bool,
    origins: Sequence[str],
    frames: Sequence[str],
    prefix: str,
    num_procs: int,
    use_xheaders: bool,
    **limits: int | None,
) -> None:
    """Serve the page.

    MODEL is a hub id, a local folder or a .gguf file; the first one is shown first. Without any, those of
    ATTNXR_MODELS are offered, or "minilm" (of the demo extra) and roberta-base. Visitors can choose among these models
    only.
    """
    for name, limit in limits.items():
        if limit is not None:  # where `panel serve app` has them too
            os.environ[f"ATTNXR_{name.upper()}"] = str(limit)
    with quickly("attnxr.dashboard"):
        from attnxr.dashboard.served.server import serve

    serve(
        [*models, *more, *([] if corpus is None else ["--corpus", corpus])],
        port=port,
        address=address,
        open_browser=open_browser,
        origins=origins,
        frames=frames,
        prefix=prefix,
        num_procs=num_procs,
        use_xheaders=use_xheaders,
    )


@main.command()
@click.argument("text")
@click.option("--layer", type=int, required=True, help="Number of the layer, from 0.")
@click.option("--head", type=int, required=True, help="Number of the head, from 0.")
@click.option("--token", help="A token of the text, such as flies; wherever it stands.")
@click.option("--position", type=int, help="In place of --token: the position of a token, from 0.")
@click.option("--model", default="minilm", show_default=True, help=MEANS["name"])
@click.option("--k", type=click.IntRange(min=1), default=15, show_default=True, help=MEANS["k"])
@click.option("--metric", type=click.Choice(METRICS), default="cosine", show_default=True, help=MEANS["metric"])
@click.option("--space", type=click.Choice(HEAD_SPACES), default="value", show_default=True, help=MEANS["space"])
@vocab_layer_option
@positional_option
@click.option("--causal/--no-causal", default=None, help=MEANS["causal"])
@layers_option
@as_json_option
def neighbors(
    text: str,
    layer: int,
    head: int,
    token: str | None,
    position: int | None,
    model: str,
    k: int,
    metric: Metric,
    space: HeadSpace,
    vocab_layer: VocabLayer,
    positional: bool,
    causal: bool | None,
    looked_into: list[int] | None,
    as_json: bool,
) -> None:
    """Print the tokens nearest to what a head wrote.

    The head is read at a token of TEXT, which --token or --position says, and compared with the whole vocabulary.
    """
    from attnxr.checking import whole_number  # which wants xarray

    if (token is None) == (position is None):
        raise click.UsageError("Expected one of --token and --position.")
    loaded = attnxr.load_model(model, layers=looked_into)
    encodings = loaded.encode(text, causal=causal)
    there = encodings.layer.values.tolist()
    if layer not in there:
        raise InputError(f"layer={layer} was given; expected one of {', '.join(map(str, there))}.")
    whole_number("head", head, 0, loaded.n_heads - 1)
    if token is not None:
        positions = _positions_of(token, encodings)
    else:
        positions = [whole_number("position", position, 0, encodings.sizes["position"] - 1)]
    near = loaded.neighbors(
        encodings.sel(layer=[layer], head=[head], position=positions),
        k=k,
        metric=metric,
        space=space,
        vocab_layer=vocab_layer,
        positional=positional,
    ).sel(layer=layer, head=head)
    found = [_at(near.sel(position=each)) for each in positions]
    if as_json:
        asked = ("model", "fingerprint", "text", "truncated", "metric", "of", "space", "vocab_layer", "k")
        told: dict[str, Any] = {name: near.attrs[name] for name in asked}
        told |= {name: bool(near.attrs[name]) for name in ("positional", "causal")}
        print_json({**told, "layer": layer, "head": head, "positions": found})
        return
    click.echo(f"{sentence(near.attrs)}\n")
    for here in found:
        click.echo(f"{_label(here)} at position {here['position']}, layer {layer}, head {head} of {loaded.name}\n")
        rows = [
            (str(one["rank"]), _label(one), f"{one['distance']:.4f}", _note(one, here)) for one in here["neighbors"]
        ]
        click.echo(table([("rank", "token", "distance", ""), *rows], right={0, 2}))
        click.echo(f"own rank {here['own_rank']:,}, distance {here['own_distance']:.4f}\n")


@main.command()
@click.argument("model")
@layers_option
@as_json_option
@click.pass_context
def verify(ctx: click.Context, model: str, looked_into: list[int] | None, as_json: bool) -> None:
    """Check a model, and exit with 1 where it fails.

    The three checks hold what attnxr says of MODEL against what it computes: W_O of the head encodings against the
    output of the attention, the vocabulary encodings against what the model makes of its own tokens, and the model's
    output with capture against that without.
    """
    loaded = attnxr.load_model(model, layers=looked_into)
    checked = loaded.verify()
    tolerance, passed = checked.attrs["tolerance"], bool(checked.attrs["passed"])
    if as_json:
        told = {"model": loaded.name, "fingerprint": loaded.fingerprint, "passed": passed, "tolerance": tolerance}
        print_json({**told, "path": json.loads(checked.attrs["path"]), **_as_lists(checked)})
    else:
        errors = {name: float(error.max()) for name, error in checked.data_vars.items()}
        rows = [
            (str(name), f"{error:.1e}", "passed" if error <= tolerance else "failed") for name, error in errors.items()
        ]
        click.echo(table([("check", "largest error", ""), *rows], right={1}))
        click.echo(
            f"{loaded.name}: {'passed' if passed else 'failed'}; relative errors up to {tolerance:.0e} are allowed"
        )
    ctx.exit(0 if passed else 1)


@main.command()
@click.option("--others", is_flag=True, help="List the other model types of transformers, and what came of each.")
@as_json_option
def families(others: bool, as_json: bool) -> None:
    """List the families of models that are tested.

    The last columns say by which way the vocabulary's values, keys and queries are had: from factors, from one table
    that all positions share, or from the model itself as reference.

    With --others, list the model types that are not tested, and whether a small random model of each was looked into
    when it was tried, or the reason why not.
    """
    listed = read_tried() if others else read_families()
    if as_json:
        print_json([one._asdict() for one in listed])
    else:
        click.echo(table([tuple(listed[0]._asdict()), *listed]))


main.add_command(corpus)


def _positions_of(token: str, encodings: xr.Dataset) -> list[int]:
    """Where a token stands, named as its tokenizer names it, or as it is written in the text or shown on the page."""
    text = encodings.attrs["text"]
    columns = [encodings[name].values.tolist() for name in ("token", "text", "char_start", "char_end")]
    labels = [label(name, means) for name, means in zip(*columns[:2], strict=True)]
    found = [
        position
        for position, (name, means, start, end) in enumerate(zip(*columns, strict=True))
        if token in (name, means, means.strip(), labels[position]) or (end > start and token == text[start:end].strip())
    ]
    if not found:
        listed = ", ".join(f"{position} {shown}" for position, shown in enumerate(labels[:_MOST_LISTED]))
        more = ", …" if len(labels) > _MOST_LISTED else ""
        raise InputError(
            f"token={token!r} was given, and the text has no such token. Expected one of its tokens, or --position "
            f"with the number of one: {listed}{more}."
        )
    return found


def _at(near: xr.Dataset) -> dict[str, Any]:
    """Neighbours of one vector, as numbers and words."""
    names = {
        "rank": "rank",
        "token_id": "neighbor_id",
        "token": "neighbor",
        "text": "neighbor_text",
        "distance": "distance",
        "in_sequence": "in_sequence",
    }
    columns = [near[name].values.tolist() for name in names.values()]
    own = {name: near[name].item() for name in ("position", "token_id", "token", "text", "own_rank", "own_distance")}
    return {**own, "neighbors": [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]}


def _label(one: dict[str, Any]) -> str:
    return label(one["token"], one["text"])


def _note(one: dict[str, Any], here: dict[str, Any]) -> str:
    if one["token_id"] == here["token_id"]:
        return "own"
    return "in the text" if one["in_sequence"] else ""


def _as_lists(checked: xr.Dataset) -> dict[str, Any]:
    """Errors by layer or space where there are several."""
    return {
        str(name): dict(zip(map(str, error[error.dims[0]].values), error.values.tolist(), strict=True))
        if error.dims
        else error.item()
        for name, error in checked.data_vars.items()
    }
