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
        int | None, typer.Option(min=0, max=100_000, help="As in hpo export-best. Default: what the bundle says.")
    ] = None,
) -> None:
    """Score a bundle on posters with known labels: all averages with 95 % intervals, and each label."""
    from hpo.bundle.predictor import Predictor
    from hpo.bundle.trained_on import read_digests
    from hpo.cli.watch import RichWatch
    from hpo.decision.baselines import baseline_averages
    from hpo.report.tables import print_evaluation, trained_on_line
    from hpo.search.judgement import baselines_over_supported, evaluate_table
    from hpo.search.labelled import Labelled

    predictor, digests = Predictor.load(bundle), read_digests(bundle)
    columns = {
        "id_column": id_column,
        "labels_column": labels_column,
        "image_column": image_column,
        "label_separator": label_separator,
    }
    labelled = Labelled.read(data, images, rules_for(predictor.description, types, columns))
    with RichWatch() as watch:
        found = evaluate_table(predictor, labelled, digests, watch.phase, min_labels)
        for line in (*labelled.lines(), *trained_on_line(found)):
            watch.notice(line)
    if as_json:
        typer.echo(to_json(found))
    else:
        targets = labelled.catalogue.targets
        print_evaluation(found, baselines_over_supported(baseline_averages, targets, targets))


def rules_for(described: Description, types: str | None, columns: dict[str, str | None]) -> CatalogueRules:
    """The rules of the search with the columns of this CSV: its names are found anew unless they are given."""
    changed: dict[str, Any] = {**columns, "label_names": described.label_names}
    if types is not None:
        changed["types"] = parse_types(types)
    return described.data.model_copy(update=changed)
