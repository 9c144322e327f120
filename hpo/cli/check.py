"""``hpo data check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hpo.cli.options import (
    DEFAULT_TYPES,
    MOST_SEED,
    Adult,
    AsJson,
    CacheDir,
    GroupColumn,
    Grouping,
    IdColumn,
    ImageColumn,
    Labels,
    LabelsColumn,
    LabelSeparator,
    Split,
    TestSize,
    Types,
    ValSize,
    parse_types,
)
from hpo.commands import command


def check(
    csv: Annotated[Path, typer.Argument(help="The table of posters, CSV or Parquet.", metavar="CSV")],
    images: Annotated[Path | None, typer.Option(help="The folder of posters. Default: only the table.")] = None,
    as_json: AsJson = False,
    labels: Labels = 10,
    types: Types = DEFAULT_TYPES,
    adult: Adult = False,
    id_column: IdColumn = None,
    labels_column: LabelsColumn = None,
    image_column: ImageColumn = None,
    group_column: GroupColumn = None,
    label_separator: LabelSeparator = None,
    val_size: ValSize = "0.1",
    test_size: TestSize = "0.1",
    split: Split = None,
    grouping: Grouping = "all",
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of the split.")] = 0,
    cache_dir: CacheDir = None,
) -> None:
    """Show what a search would use: rows and why others are dropped, labels, images, groups and the split.

    The split and a picture of it are written to `mlruns/splits`; a search with the same options uses the same one.
    """
    from hpo.cli.watch import RichWatch
    from hpo.data.account import account_of
    from hpo.data.catalogue.rules import CatalogueRules
    from hpo.data.options import DataOptions
    from hpo.data.prepare import prepare_data, save_split
    from hpo.data.splits.splits import parse_size
    from hpo.report.check import print_check
    from hpo.search.places import Places

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
    options = DataOptions(
        csv=csv,
        images=images,
        rules=rules,
        val_size=parse_size(val_size, "--val-size"),
        test_size=parse_size(test_size, "--test-size"),
        seed=seed,
        grouping=grouping,
        split_file=split,
    )
    places = Places.of(None, None, cache_dir)
    with RichWatch() as watch:
        data = prepare_data(options, places.cache_dir, watch.phase)
    saved = save_split(data, places.splits)
    account = account_of(data)
    account["split"] |= {"file": str(saved.file), "picture": str(saved.picture)}
    if as_json:
        typer.echo(json.dumps(account, ensure_ascii=False))
        return
    from hpo.report.terminal import Plain

    print_check(data, account, Plain())
    typer.echo(f"The split: {saved.file}\nIts picture: {saved.picture}")
    if images is None and not (csv.parent / "images").is_dir():
        typer.echo(f"Next: {command('data check', csv)} --images FOLDER")
        return
    typer.echo(f"Next: {command('search', data=csv, images=images, split=saved.file)}")
