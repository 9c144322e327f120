"""`hpo data`: check, fetch and sample posters."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo.cli.arguments import Command
from hpo.cli.options import (
    DEFAULT_TYPES,
    MOST_SEED,
    Adult,
    AsJson,
    CacheDir,
    GroupColumn,
    GroupingOption,
    IdColumn,
    ImageColumn,
    LabelsColumn,
    LabelSeparator,
    LabelsOption,
    SplitOption,
    TestSize,
    Types,
    ValSize,
    parse_types,
)
from hpo.errors import DataError
from hpo.runtime.commands import command

# ``hpo data check``.


def check(
    csv: Annotated[Path, typer.Argument(help="The table of posters, CSV or Parquet.", metavar="CSV")],
    images: Annotated[
        Path | None, typer.Option(help="The folder of posters. Default: those in the table, or none.")
    ] = None,
    as_json: AsJson = False,
    labels: LabelsOption = 10,
    types: Types = DEFAULT_TYPES,
    adult: Adult = False,
    id_column: IdColumn = None,
    labels_column: LabelsColumn = None,
    image_column: ImageColumn = None,
    group_column: GroupColumn = None,
    label_separator: LabelSeparator = None,
    val_size: ValSize = "0.1",
    test_size: TestSize = "0.1",
    split: SplitOption = None,
    grouping: GroupingOption = "all",
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of the split.")] = 0,
    cache_dir: CacheDir = None,
) -> None:
    """Show what a search would use: rows and why others are dropped, labels, images, groups and the split.

    The split and a picture of it are written to `mlruns/splits`; a search with the same options uses the same one.
    """
    from hpo.cli.rich_progress import RichProgress
    from hpo.data.dataset import DataOptions, prepare_data, save_split
    from hpo.data.splits.split import parse_size
    from hpo.data.summary import account_of
    from hpo.data.table.packed_images import packed_column
    from hpo.data.table.rules import CatalogueRules
    from hpo.report.tables import print_check
    from hpo.settings import Paths

    rules = CatalogueRules(
        id_column=id_column,
        labels_column=labels_column,
        image_column=image_column,
        group_column=group_column,
        label_separator=label_separator,
        types=parse_types(types),
        keep_adult=adult,
        top_labels=labels,
    )
    own = csv if images is None and packed_column(csv, image_column) else None
    options = DataOptions(
        csv=csv,
        images=images or own,
        rules=rules,
        val_size=parse_size(val_size, "--val-size"),
        test_size=parse_size(test_size, "--test-size"),
        seed=seed,
        grouping=grouping,
        split_file=split,
    )
    paths = Paths.of(None, None, cache_dir)
    with RichProgress() as display:
        data = prepare_data(options, paths.cache_dir, display.bar)
    saved = save_split(data, paths.splits)
    account = account_of(data)
    account["split"] |= {"file": str(saved.file), "picture": str(saved.picture)}
    if as_json:
        typer.echo(json.dumps(account, ensure_ascii=False))
        return
    from hpo.runtime.terminal import Plain

    print_check(data, account, Plain())
    typer.echo(f"The split: {saved.file}\nIts picture: {saved.picture}")
    if images is None and own is None and not (csv.parent / "images").is_dir():
        typer.echo(f"Next: {command('data check', csv)} --images FOLDER")
        return
    typer.echo(f"Next: {command('search', data=csv, images=images, split=saved.file)}")


# ``hpo data fetch``.

if TYPE_CHECKING:
    from hpo.data.download.downloader import FetchReport, Wanted
    from hpo.data.table.rules import CatalogueRules


def fetch(
    out: Annotated[Path, typer.Argument(help="The folder to write: images, a copy of the catalogue, a record.")],
    csv: Annotated[
        Path | None, typer.Option(help="A catalogue with a column of addresses. Default: the one on Kaggle.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=1_000_000_000, help="Only the first so many posters of the catalogue.")
    ] = None,
    types: Types = DEFAULT_TYPES,
    adult: Adult = False,
    id_column: IdColumn = None,
    labels_column: LabelsColumn = None,
    url_column: Annotated[
        str | None, typer.Option(help="The column of poster addresses. Default: found by name.", metavar="COLUMN")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Requests under way at once.")] = 8,
    rate: Annotated[float, typer.Option(min=0, max=1_000, help="Requests a second to one host; 0 is no limit.")] = 3.0,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again for what is known to be missing for good.")
    ] = False,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Connect to loopback and private addresses too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Download the posters of a catalogue, politely. The same command continues where the last one stopped.

    Exit code 2 says that some posters are missing; the report says why.
    """
    from hpo.cli.rich_progress import RichProgress
    from hpo.data.download.client import FetchOptions
    from hpo.data.download.downloader import copy_catalogue, fetch_posters
    from hpo.data.table.rules import CatalogueRules

    rules = CatalogueRules(
        id_column=id_column,
        labels_column=labels_column,
        image_url_column=url_column,
        types=parse_types(types),
        keep_adult=adult,
        top_labels=sys.maxsize,
    )
    options = FetchOptions(
        concurrency=concurrency, per_second=rate, retry_failed=retry_failed, allow_private=allow_private
    )
    csv = csv or _catalogue_for(out)
    wanted = _wanted(csv, rules)[:limit]
    csv = copy_catalogue(csv, out)
    with RichProgress() as display, display.bar("fetching", len(wanted)) as progress:
        report = fetch_posters(wanted, out, options, progress)
    if as_json:
        paths = {"csv": str(csv), "images": str(out / "images"), "record": str(out / "fetch.jsonl")}
        typer.echo(json.dumps({**report.as_dict(), **paths}, ensure_ascii=False))
    else:
        for line in report_lines(report, out):
            typer.echo(line)
        for line in _advice(report, out, csv, limit):
            typer.echo(line)
    if report.interrupted or report.n_missing:
        raise typer.Exit(130 if report.interrupted else 2)


def _catalogue_for(out: Path) -> Path:
    """Return the catalogue that an earlier run left in OUT, or get it from Kaggle."""
    from hpo.data.download.kaggle import CATALOGUE, DATASET, download_catalogue

    if (out / CATALOGUE).is_file():
        return out / CATALOGUE
    typer.echo(f"Getting {CATALOGUE} of {DATASET} from Kaggle ...", err=True)
    return download_catalogue()


def _wanted(csv: Path, rules: CatalogueRules) -> list[Wanted]:
    from hpo.data.download.downloader import Wanted
    from hpo.data.table.catalogue import read_catalogue

    catalogue, cleaning = read_catalogue(csv, None, rules)
    if not any(catalogue.image_urls):
        column = cleaning.columns["image_url"]
        found = "there is none" if column is None else f"{column!r} is empty"
        raise DataError(
            f"{csv} names no poster's address: expected a column such as 'Image URL', but {found}; name the column of "
            "addresses with --url-column"
        )
    return [Wanted(*poster) for poster in zip(catalogue.ids, catalogue.image_urls, strict=True)]


def report_lines(report: FetchReport, out: Path) -> list[str]:
    """Return what became of the posters, a line for the whole and one for each reason why some are missing."""
    lines = [
        f"{report.n_wanted:,} posters wanted: {report.n_there:,} were there, {report.n_fetched:,} were fetched "
        f"({report.n_bytes / 1e6:,.1f} MB), {report.n_missing:,} are missing."
    ]
    for reason, missing in report.missing.items():
        examples = ", ".join(missing.examples) + (", ..." if missing.n_posters > len(missing.examples) else "")
        again = "; not asked for again" if missing.permanent else ""
        lines.append(f"  {missing.n_posters:,} {reason} ({examples}){again}")
    return [*lines, f"  Each by its id: {out / 'fetch.jsonl'}"] if report.missing else lines


def _advice(report: FetchReport, out: Path, csv: Path, limit: int | None) -> list[str]:
    """Return what to type next."""
    if report.n_to_try:
        return [f"To continue: {command('data fetch', out, limit=limit, retry_failed=None)}"]
    lines = [f"Next: {command('search', data=csv, images=out / 'images')}"]
    if report.n_missing:
        again = command("data fetch", out, limit=limit, retry_failed=True)
        lines.append(f"To ask for the missing ones once more: {again}")
    return lines


app = typer.Typer(help="Posters to search on.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Posters to search on."""


app.command("check", cls=Command)(check)
app.command("fetch", cls=Command)(fetch)


@app.command("sample", cls=Command)
def sample(
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    posters: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many usable posters.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Other seeds draw other posters.")] = 0,
) -> None:
    """Draw synthetic posters and their catalogue, deterministically."""
    from hpo.cli.rich_progress import RichProgress
    from hpo.data.sample.sample import write_sample

    with RichProgress() as display, display.bar("drawing", posters) as progress:
        csv = write_sample(out, posters, seed, progress)
    typer.echo(f"Wrote {csv} and {out / 'images'}: {posters} usable posters, synthetic (drawn).")
    typer.echo(f"Next: {command('search', data=csv, images=out / 'images', seed=None)}")
