"""``attnxr corpus`` in a terminal: build a corpus, look at what it holds, check its files, export it, read of one head.

Exit codes are those of all commands; 1 also says that a build was interrupted, or that a disk failed: the same command
goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

import attnxr
from attnxr.errors import AttnxrError, InputError
from attnxr.options import MEANS, METRICS, SPLITS, Split
from attnxr.terminal import as_json_option, layers_option, positional_option, print_json, table, vocab_layer_option
from attnxr.tokens import in_text, label, mark_spaces

if TYPE_CHECKING:
    import xarray as xr

_GOES_ON = "What is done stays: the same command goes on where it was."
_DEMO = {"limit": 200, "sample": 4, "unit_tokens": 1024}
_SHOWN = 16  # tokens of an example around the two that it is about
_MARKS = {(True, False): "<{}>", (False, True): "[{}]", (True, True): "<[{}]>"}  # looks, is looked at, both


@click.group()
def corpus() -> None:
    """Run many texts through a model, and see what each of its heads does in them."""


def _several(name: str, kind: Any, help: str) -> Callable:
    return click.option(name, type=kind, multiple=True, help=f"{help} May be given several times.")


@corpus.command()
@click.argument("texts")
@click.argument("store")
@click.option("--model", default="minilm", show_default=True, help=MEANS["name"])
@click.option("--dtype", help=MEANS["dtype"])
@click.option("--device", help=MEANS["device"])
@click.option("--field", default="text", show_default=True, help=MEANS["field"])
@click.option("--split", type=click.Choice(SPLITS), default="line", show_default=True, help=MEANS["split"])
@click.option("--limit", type=click.IntRange(min=1), help=MEANS["limit"])
@click.option("--workers", type=click.IntRange(min=1), help="Have so many processes on this machine.")
@click.option("--scheduler", help="Address of a dask.distributed scheduler, whose workers are to do it.")
@click.option("--threads", type=click.IntRange(min=1), help=MEANS["threads"] + " 1 by default.")
@_several("--measure", str, MEANS["measures"])
@_several("--keep", str, MEANS["keep"])
@_several("--layer", int, MEANS["layers"])
@_several("--head", int, MEANS["heads"])
@_several("--keep-layer", int, MEANS["keep_layers"])
@_several("--keep-head", int, MEANS["keep_heads"])
@click.option("--k", type=click.IntRange(min=1), help=MEANS["k"] + " 15 by default.")
@click.option("--metric", type=click.Choice(METRICS), help=MEANS["metric"] + " cosine by default.")
@vocab_layer_option
@positional_option
@click.option("--causal/--no-causal", default=None, help=MEANS["causal"])
@click.option("--sample", type=click.IntRange(min=0), help=MEANS["sample"] + " 16 by default.")
@click.option("--seed", type=click.IntRange(min=0), help=MEANS["seed"] + " 0 by default.")
@click.option("--truncate/--no-truncate", default=None, help=MEANS["truncate"] + " By default they are cut.")
@click.option("--unit-tokens", type=click.IntRange(min=1), help=MEANS["unit_tokens"])
@click.option("--batch-bytes", type=click.IntRange(min=1), help=MEANS["batch_bytes"])
@layers_option
@click.option("--quiet", is_flag=True, help="No progress bars.")
@as_json_option
def build(
    texts: str,
    store: str,
    model: str,
    dtype: str | None,
    device: str | None,
    field: str,
    split: Split,
    limit: int | None,
    workers: int | None,
    scheduler: str | None,
    measure: Sequence[str],
    keep: Sequence[str],
    layer: Sequence[int],
    head: Sequence[int],
    keep_layer: Sequence[int],
    keep_head: Sequence[int],
    looked_into: list[int] | None,
    quiet: bool,
    as_json: bool,
    **more: Any,
) -> None:
    """Build a corpus, or go on with one that was interrupted.

    TEXTS is a text file (.txt, .md), JSON lines (.jsonl) or Parquet, compressed or not, a pattern such as
    'shards/*.jsonl.gz', a URL, or "pydoc", the language reference that comes with Python. STORE is a folder or a URL.
    """
    if workers is not None and scheduler is not None:
        raise click.UsageError("Expected one of --workers and --scheduler.")
    source = attnxr.texts_of(texts, field=field, split=split, limit=limit)
    loaded = attnxr.load_model(model, dtype=dtype or "auto", device=device, layers=looked_into)  # type: ignore[arg-type]
    lists = {"measures": measure, "layers": layer, "heads": head, "keep_layers": keep_layer, "keep_heads": keep_head}
    options: dict[str, Any] = {name: value for name, value in more.items() if value is not None}
    options |= {name: list(values) for name, values in lists.items() if values}
    try:
        with _client(workers, scheduler) as client, _progress(store, quiet) as told:
            attnxr.build_corpus(source, store, loaded, keep=list(keep), client=client, **told, **options)
    except AttnxrError:
        raise
    except KeyboardInterrupt:
        raise click.ClickException(f"Interrupted. {_GOES_ON}") from None
    except OSError as error:
        raise click.ClickException(f"{error}. {_GOES_ON}") from error
    _tell(store, as_json)


@corpus.command()
@click.argument("store", required=False)
@click.option("--quiet", is_flag=True, help="No progress bars.")
@as_json_option
@click.pass_context
def demo(ctx: click.Context, store: str | None, quiet: bool, as_json: bool) -> None:
    """Build a small corpus to try things with.

    It takes a minute or two on two cores. The model is the small one of the extra demo; the texts are the first 200
    paragraphs of the language reference that comes with Python. It is what "attnxr corpus build pydoc STORE --limit 200
    --sample 4 --unit-tokens 1024" makes, with as many workers as there are cores, 4 at most. Without STORE it is put
    where "attnxr serve" finds it, which then shows its heads unless it is given another corpus.
    """
    from attnxr.corpus.demo import demo_store

    workers = min(4, os.cpu_count() or 1)
    store = store or str(demo_store())
    ctx.invoke(build, texts="pydoc", store=store, workers=workers, quiet=quiet, as_json=as_json, **_DEMO)


@corpus.command()
@click.argument("store")
@as_json_option
def info(store: str, as_json: bool) -> None:
    """Say what a corpus holds, finished or not."""
    _tell(store, as_json)


@corpus.command()
@click.argument("store")
@as_json_option
@click.pass_context
def verify(ctx: click.Context, store: str, as_json: bool) -> None:
    """Read every file of a corpus, compare it with its checksum, and exit with 1 where one is not as it was written."""
    from attnxr.corpus.opened import verify

    found = verify(store)
    if as_json:
        print_json(found)
    else:
        for kind in ("missing", "changed"):
            for name in found[kind]:
                click.echo(f"{kind}: {name}")
        rest = "" if found["finished"] else "; not all of it is built yet"
        click.echo(f"{store}: {'passed' if found['passed'] else 'failed'}; {found['files']:,} files were read{rest}")
    ctx.exit(0 if found["passed"] else 1)


@corpus.command()
@click.argument("store")
@click.argument("folder")
@click.option("--format", "form", type=click.Choice(["headvis"]), default="headvis", show_default=True)
@click.option("--model", help="Where the corpus' model is now; by default where it was.")
@layers_option
def export(store: str, folder: str, form: str, model: str | None, looked_into: list[int] | None) -> None:
    """Write the atlas of a corpus to FOLDER, as the JSON that HeadVis' front end reads."""
    from attnxr.corpus.headvis import export_headvis
    from attnxr.corpus.opened import info

    atlas = attnxr.atlas(attnxr.open_corpus(store))
    was = info(store)["settings"]["model"]
    loaded = attnxr.load_model(model or was["name"], dtype=was["dtype"], layers=looked_into)
    try:
        export_headvis(atlas, folder, loaded)
    except OSError as error:
        raise click.ClickException(f"{folder!r} cannot be written: {error}.") from error
    heads = atlas.sizes["layer"] * atlas.sizes["head"]
    click.echo(f"{folder}: {heads:,} heads of {loaded.name}, as {form} has them")


@corpus.command()
@click.argument("store")
@click.option("--layer", type=int, required=True, help="Number of the layer.")
@click.option("--head", type=int, required=True, help="Number of the head.")
@click.option("-n", "count", type=click.IntRange(min=1), default=10, show_default=True, help="How many of each list.")
@as_json_option
def top(store: str, layer: int, head: int, count: int, as_json: bool) -> None:
    """Say of one head which words it writes, which tokens attend and are attended to, and where it is most active."""
    atlas = attnxr.atlas(attnxr.open_corpus(store))
    for name, asked in (("layer", layer), ("head", head)):
        there = atlas[name].values.tolist()
        if asked not in there:
            raise InputError(f"{name}={asked} was given; expected one of {', '.join(map(str, there))}.")
    one = atlas.sel(layer=layer, head=head)
    lists = {
        kind: found
        for kind in ("written", "distinctive", "key", "query")
        if f"{kind}_id" in one and (found := _listed(one, kind, count)) is not None
    }
    of_head = [name for name, found in atlas.data_vars.items() if found.dims == ("layer", "head")]
    numbers = {str(name): one[name].item() for name in of_head}
    examples = _examples(one, count) if "example_text_id" in one else []
    if as_json:
        print_json({"store": store, "layer": layer, "head": head, "numbers": numbers, **lists, "examples": examples})
        return
    click.echo(f"layer {layer}, head {head} of {one.attrs['model']}, {one.attrs['n_tokens']:,} tokens\n")
    if numbers:
        told = [(_long_name(one, name), f"{value:.3f}") for name, value in numbers.items()]
        click.echo(table(told, right={1}) + "\n")
    for kind, found in lists.items():
        last = "mass" if kind in ("key", "query") else "count"
        rows = [(label(each["token"], each["text"]), f"{each[last]:,.6g}", f"{each['lift']:.1f}") for each in found]
        click.echo(table([(_long_name(one, f"{kind}_token"), last, "lift"), *rows], right={1, 2}) + "\n")
    if examples:
        click.echo("examples, the largest activation first: <a token> looks at [another]")
    for each in examples:
        click.echo(f"{each['activation']:.3f}  {each['shown']}")


# What the commands share


@contextmanager
def _client(workers: int | None, scheduler: str | None) -> Iterator[Any]:
    """Of the workers that are asked for; None where none are."""
    if workers is None and scheduler is None:
        yield None
        return
    from attnxr.corpus import cluster  # which wants distributed

    if workers is not None:
        with cluster.local(workers) as client:
            yield client
        return
    try:
        client = cluster.Client(scheduler)
    except (OSError, ValueError) as error:
        raise InputError(
            f"There is no scheduler at {scheduler!r} ({error}). Expected the address of one, such as "
            "'tcp://host:8786', as dask-scheduler prints it."
        ) from error
    with client:
        yield client


@contextmanager
def _progress(store: str, quiet: bool) -> Iterator[dict[str, Any]]:
    """What `attnxr.build_corpus` tells of, as bars on stderr, where that is a terminal: texts, then tokens."""
    try:
        from tqdm import tqdm
    except ImportError:  # it comes with the extra, and is no reason not to build
        quiet = True
    if quiet:
        yield {}
        return
    from attnxr.corpus.plan import Plan

    bars: list[Any] = []

    def begin(**options: Any) -> None:
        for bar in bars:
            bar.close()
        bars.append(tqdm(**options, unit_scale=True, disable=None))

    def reading(count: int) -> None:
        if not bars:
            begin(desc="reading", unit=" texts")
        bars[-1].update(count - bars[-1].n)

    def progress(done: float) -> None:
        if len(bars) < 2:
            total = Plan.read(store).n_tokens
            begin(total=total, initial=round(done * total), unit=" tokens")
        bars[-1].update(round(done * (bars[-1].total or 0)) - bars[-1].n)

    try:
        yield {"reading": reading, "progress": progress}
    finally:
        for bar in bars:
            bar.close()


def _tell(store: str, as_json: bool) -> None:
    from attnxr.corpus.opened import info

    found = info(store)
    if as_json:
        print_json(found)
        return
    settings = found["settings"]
    of_model, options, source = settings["model"], settings["options"], settings["texts"]["source"]
    state = "finished" if found["finished"] else "not finished: attnxr corpus build goes on with it"
    rows = [
        ("store", f"{store}, {state}"),
        ("model", f"{of_model['name']}, {of_model['dtype']} on {of_model['device']}"),
        (
            "texts",
            f"{found['texts']:,} ({source['kind']}), {found['texts_cut']:,} cut, {len(found['failed']):,} failed",
        ),
        ("tokens", f"{found['tokens']:,}"),
        ("units", f"{found['units_done']:,} of {found['units']:,} done, {options['unit_tokens']:,} tokens each"),
        ("layers, heads", f"{len(options['layers']):,} layers, {len(options['heads']):,} heads each"),
        ("measured", ", ".join(options["measures"]) or "nothing"),
        ("kept", ", ".join(options["keep"]) or "nothing"),
    ]
    click.echo(table(rows))
    for text, why in list(found["failed"].items())[:_SHOWN]:
        click.echo(f"text {text}: {why}")


def _listed(one: xr.Dataset, kind: str, count: int) -> list[dict[str, Any]] | None:
    columns = ["id", "token", "text", "mass" if f"{kind}_mass" in one else "count", "lift"]
    values = [one[f"{kind}_{name}"].values.tolist() for name in columns]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
    return [row for row in rows if row["id"] >= 0][:count]


def _examples(one: xr.Dataset, count: int) -> list[dict[str, Any]]:
    """The texts with the largest activation, and what stands around it."""
    from attnxr.texts import quoted

    lying = quoted(one)
    columns = [one[f"quoted_{name}"].values.tolist() for name in ("token", "text")]
    spaces_marked = mark_spaces(columns[1])
    names = ("text_id", "activation", "query", "key")
    rows = zip(*(one[f"example_{name}"].values.tolist() for name in names), strict=True)
    found = []
    for row in sorted((row for row in rows if row[0] >= 0), key=lambda row: -row[1])[:count]:  # the others are none
        text, _, query, key = row
        at, stop = lying[text].start, lying[text].stop
        first, last = max(0, min(query, key) - _SHOWN // 2), min(stop - at, max(query, key) + 1 + _SHOWN // 2)
        here = slice(at + first, at + last)
        pieces = in_text(columns[0][here], columns[1][here], spaces_marked)
        shown = [
            " " * spaced + _MARKS.get((i == query, i == key), "{}").format(piece)
            for i, (spaced, piece) in enumerate(pieces, start=first)
        ]
        before, after = "… " * (first > 0), " …" * (last < stop - at)
        found.append({**dict(zip(names, row, strict=True)), "shown": f"{before}{''.join(shown)}{after}"})
    return found


def _long_name(one: xr.Dataset, name: str) -> str:
    return str(one[name].attrs.get("long_name", name))
