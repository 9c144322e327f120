"""`hpo annotate`: fill in a catalogue's missing labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo.cli.options import AsJson, IdColumn, ImageColumn, LabelsColumn, LabelSeparator
from hpo.errors import DataError, UsageError
from hpo.escaping import one_line, shortened, to_json

if TYPE_CHECKING:
    from hpo.bundle.annotation import Annotation

_SHOWN = 10  # doubtful entries, unless --doubtful says how many
_MOST_DIGITS = 9


def annotate(
    bundle: Annotated[Path, typer.Argument(help="A folder that hpo export-best wrote.")],
    csv: Annotated[Path, typer.Argument(help="The catalogue, as CSV.", metavar="CSV")],
    images: Annotated[Path, typer.Option(help="The folder of its posters.")],
    out: Annotated[Path, typer.Option(help="The CSV to write.")],
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Append a column p:LABEL for each of the bundle's labels.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that exist, also the catalogue itself.")
    ] = False,
    doubtful: Annotated[
        str | None,
        typer.Option(
            help="A .csv file to write all doubtful entries to, or how many of them to show. Default: 10 are shown.",
            metavar="FILE.csv|N",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    id_column: IdColumn = None,
    labels_column: LabelsColumn = None,
    image_column: ImageColumn = None,
    label_separator: LabelSeparator = None,
) -> None:
    """Fill in the labels of the entries that have none, keep all else, and list the known ones that look doubtful.

    Exit code 2 says that some posters are broken.
    """
    n_shown, doubtful_file = _parse_doubtful(doubtful)
    _check_places(csv, out, doubtful_file, force=force)
    from hpo.bundle.annotation import annotate as ask
    from hpo.bundle.annotation import column_names
    from hpo.bundle.description import load_description
    from hpo.bundle.predictor import Predictor
    from hpo.cli.rich_progress import RichProgress
    from hpo.data.completion.csv_edit import check_new_columns, write_completed
    from hpo.data.completion.entries import read_listing
    from hpo.data.table.rules import ColumnNames
    from hpo.report.tables import print_annotation

    label_names = load_description(bundle).label_names  # mistakes in the table are reported before the network loads
    names = ColumnNames(id_column, labels_column, image_column)
    listing = read_listing(csv, images, label_names, names, label_separator)
    check_new_columns(listing, column_names(label_names) if probabilities else ())
    predictor = Predictor.load(bundle)
    with RichProgress() as display:
        annotation = ask(predictor, listing, display.bar)
    write_completed(listing, out, annotation.filled, annotation.columns() if probabilities else None)
    if doubtful_file is not None:
        _write_doubtful(doubtful_file, annotation, csv)
    for path, reason in annotation.broken.items():
        typer.echo(f"hpo: {one_line(str(path))} was skipped, it is not an image that can be read ({reason})", err=True)
    account = {
        "out": str(out),
        **annotation.counts(),
        "n_doubtful": len(annotation.doubtful),
        "doubtful_file": None if doubtful_file is None else str(doubtful_file),
        "doubtful": [annotation.doubt(at) for at in annotation.doubtful[:n_shown]],
    }
    if as_json:
        typer.echo(to_json(account))
    else:
        print_annotation(account, listing.odd_lines)
        if doubtful_file is not None:
            typer.echo(f"All of them: {doubtful_file}")
    if annotation.broken:
        raise typer.Exit(2)


def _write_doubtful(path: Path, annotation: Annotation, csv: Path) -> None:
    from hpo.data.completion.csv_edit import appearing_whole
    from hpo.report.tables import doubtful_csv

    with appearing_whole(path, like=csv) as file:
        file.write(doubtful_csv(map(annotation.doubt, annotation.doubtful)))


def _parse_doubtful(text: str | None) -> tuple[int, Path | None]:
    """Return how many doubtful entries are shown, and the file that all of them are written to."""
    if text is None:
        return _SHOWN, None
    if text.isdecimal() and len(text) <= _MOST_DIGITS:
        return int(text), None
    if Path(text).suffix.lower() != ".csv":
        raise UsageError(
            f"Expected a number or a .csv file for --doubtful, got {shortened(text)!r}: type --doubtful doubtful.csv."
        )
    return _SHOWN, Path(text)


def _check_places(csv: Path, out: Path, doubtful_file: Path | None, *, force: bool) -> None:
    """Raise DataError where something would be overwritten that should not be, or nothing can be written."""
    if doubtful_file is not None and doubtful_file.resolve() in (csv.resolve(), out.resolve()):
        raise DataError(
            f"Expected a file of its own for --doubtful, got {doubtful_file}, which is the catalogue or --out: "
            "name another one."
        )
    for option, place in (("--out", out), ("--doubtful", doubtful_file)):
        if place is not None:
            _check_place(option, place, csv, force=force)


def _check_place(option: str, place: Path, csv: Path, *, force: bool) -> None:
    try:
        place.stat()
    except FileNotFoundError:
        pass
    except OSError as error:  # a name too long, a folder that may not be looked into, a file for one
        raise DataError(
            f"Expected a file that can be written for {option}, got {place} ({error.strerror}): name another place."
        ) from error
    if place.is_dir():
        raise DataError(f"Expected a file to write for {option}, got the folder {place}: name a file in it.")
    if place.exists() and not force:
        which = "the catalogue itself" if place.resolve() == csv.resolve() else "which exists"
        raise DataError(
            f"Expected a new file for {option}, got {place}, {which}: name another file, or add --force to replace it."
        )
    folder = next(parent for parent in place.resolve().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise DataError(f"Expected a folder that can be written for {option}, got {folder}: name another place.")
