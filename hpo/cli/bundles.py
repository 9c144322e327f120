"""``hpo evaluate``: a bundle on posters with known labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpo.cli.options import AsJson, IdColumn, ImageColumn, LabelsColumn, LabelSeparator, parse_types
from hpo.printable import to_json

if TYPE_CHECKING:
    from hpo.bundle.description import Description
    from hpo.data.catalogue.rules import CatalogueRules

Bundle = Annotated[Path, typer.Argument(help="A folder that hpo export-best wrote.")]


def evaluate(
    bundle: Bundle,
    data: Annotated[Path, typer.Option(help="A table of posters with known labels.")],
    images: Annotated[Path, typer.Option(help="The folder of the posters.")],
    as_json: AsJson = False,
    types: Annotated[
        str | None, typer.Option(help="As in hpo search. Default: as in the search that made the bundle.")
    ] = None,
    id_column: IdColumn = None,
    labels_column: LabelsColumn = None,
    image_column: ImageColumn = None,
    label_separator: LabelSeparator = None,
    min_labels: Annotated[
        int | None, typer.Option(min=0, help="As in hpo export-best. Default: what the bundle says.")
    ] = None,
) -> None:
    """Score a bundle on posters with known labels: all averages with 95 % intervals, and each label."""
    from hpo.bundle.predictor import Predictor
    from hpo.cli.watch import RichWatch
    from hpo.data.catalogue.catalogue import read_catalogue
    from hpo.decision.baselines import baseline_averages
    from hpo.report.tables import print_evaluation
    from hpo.search.judgement import evaluate as judge

    predictor = Predictor.load(bundle)
    columns = {
        "id_column": id_column,
        "labels_column": labels_column,
        "image_column": image_column,
        "label_separator": label_separator,
    }
    catalogue, _ = read_catalogue(data, images, rules_for(predictor.description, types, columns))
    with RichWatch() as watch:
        found, broken = judge(predictor, catalogue, watch.phase, min_labels)
        for path in broken:
            watch.notice(f"broken poster left out: {path}")
    if as_json:
        typer.echo(to_json(found))
    else:
        print_evaluation(found, baseline_averages(catalogue.targets, catalogue.targets))


def rules_for(described: Description, types: str | None, columns: dict[str, str | None]) -> CatalogueRules:
    """The rules of the search with the columns of this CSV: its names are found anew unless they are given."""
    changed: dict[str, Any] = {**columns, "label_names": described.label_names}
    if types is not None:
        changed["types"] = parse_types(types)
    return described.data.model_copy(update=changed)
