"""``hpo data fetch``."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo.cli.options import DEFAULT_TYPES, Adult, AsJson, IdColumn, LabelsColumn, Types, parse_types
from hpo.commands import command
from hpo.errors import DataError

if TYPE_CHECKING:
    from hpo.data.catalogue.rules import CatalogueRules
    from hpo.data.fetch.fetch import FetchReport, Wanted

_RETRY_FAILED = "--retry-failed"


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
        bool, typer.Option(_RETRY_FAILED, help="Ask again for what is known to be missing for good.")
    ] = False,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Connect to loopback and private addresses too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Download the posters of a catalogue, politely. The same command goes on where the last one stopped.

    Exit code 2 says that some posters are missing; the report says why.
    """
    from hpo.cli.watch import RichWatch
    from hpo.data.catalogue.rules import CatalogueRules
    from hpo.data.fetch.download import FetchOptions
    from hpo.data.fetch.fetch import copy_catalogue, fetch_posters

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
    with RichWatch() as watch, watch.phase("fetching", len(wanted)) as progress:
        report = fetch_posters(wanted, out, options, progress)
    if as_json:
        places = {"csv": str(csv), "images": str(out / "images"), "record": str(out / "fetch.jsonl")}
        typer.echo(json.dumps({**report.as_dict(), **places}, ensure_ascii=False))
    else:
        for line in report_lines(report, out):
            typer.echo(line)
        for line in _advice(report, command("search", data=csv, images=out / "images")):
            typer.echo(line)
    if report.interrupted or report.n_missing:
        raise typer.Exit(130 if report.interrupted else 2)


def _catalogue_for(out: Path) -> Path:
    """Return the catalogue that an earlier run left in OUT, or get it from Kaggle."""
    from hpo.data.fetch.kaggle import CATALOGUE, DATASET, download_catalogue

    if (out / CATALOGUE).is_file():
        return out / CATALOGUE
    typer.echo(f"Getting {CATALOGUE} of {DATASET} from Kaggle ...", err=True)
    return download_catalogue()


def _wanted(csv: Path, rules: CatalogueRules) -> list[Wanted]:
    from hpo.data.catalogue.catalogue import read_catalogue
    from hpo.data.fetch.fetch import Wanted

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


def _advice(report: FetchReport, search: str) -> list[str]:
    """Return what to type next."""
    typed = ["hpo", *(word for word in sys.argv[1:] if word != _RETRY_FAILED)]
    if report.n_to_try:
        return [f"To go on: {shlex.join(typed)}"]
    again = [f"To ask for the missing ones once more: {shlex.join([*typed, _RETRY_FAILED])}"]
    return [f"Next: {search}", *(again if report.n_missing else [])]
