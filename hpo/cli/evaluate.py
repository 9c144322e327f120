"""`hpo evaluate` and `hpo compare`: score bundles on posters with known labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpo.cli.options import (
    AsJson,
    CacheDir,
    IdColumn,
    ImageColumn,
    LabelsColumn,
    LabelSeparator,
    Storage,
    StudyName,
    TrackingUri,
    parse_types,
)
from hpo.errors import StudyError, UsageError
from hpo.escaping import to_json

if TYPE_CHECKING:
    from hpo.bundle.description import Description
    from hpo.data.table.rules import CatalogueRules

Bundle = Annotated[Path, typer.Argument(help="A folder that hpo export-best wrote.")]


def evaluate(
    bundle: Bundle,
    data: Annotated[Path, typer.Option(help="A table of posters with known labels.")],
    images: Annotated[Path, typer.Option(help="The folder of the posters, or the table where it holds them.")],
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
    from hpo.cli.rich_progress import RichProgress
    from hpo.data.table.packed_images import images_of
    from hpo.evaluation.baselines import baseline_averages
    from hpo.report.tables import print_evaluation, trained_on_line
    from hpo.selection.evaluate import baselines_over_supported, evaluate_table
    from hpo.selection.labelled import Labelled
    from hpo.settings import Paths

    predictor, digests = Predictor.load(bundle), read_digests(bundle)
    columns = {
        "id_column": id_column,
        "labels_column": labels_column,
        "image_column": image_column,
        "label_separator": label_separator,
    }
    cache_dir = Paths.of(None, None, None).cache_dir
    with RichProgress() as display:
        source = images_of(data, images, image_column, cache_dir, display.bar)
        labelled = Labelled.read(data, source, rules_for(predictor.description, types, columns))
        found = evaluate_table(predictor, labelled, digests, display.bar, min_labels)
        for line in (*labelled.lines(), *trained_on_line(found)):
            display.notice(line)
    if as_json:
        typer.echo(to_json(found))
    else:
        targets = labelled.catalogue.targets
        print_evaluation(found, baselines_over_supported(baseline_averages, targets, targets))


def rules_for(described: Description, types: str | None, columns: dict[str, str | None]) -> CatalogueRules:
    """The rules of the search with the columns of this CSV: its names are found again unless they are given."""
    changed: dict[str, Any] = {**columns, "label_names": described.label_names}
    if types is not None:
        changed["types"] = parse_types(types)
    return described.data.model_copy(update=changed)


# ``hpo compare``: two models on the same posters.

if TYPE_CHECKING:
    from hpo.bundle.description import Description
    from hpo.selection.labelled import Labelled
    from hpo.settings import Paths
    from hpo.study.study import Study

ModelArgument = Annotated[
    str,
    typer.Argument(help="A bundle's folder, models:/NAME@champion, models:/NAME/3, or the number of a trial."),
]


def compare(
    a: ModelArgument,
    b: ModelArgument,
    data: Annotated[
        Path | None,
        typer.Option(help="A table of posters with known labels. Default: the posters that the study judged on."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="The folder of the posters, or the table where it holds them.")
    ] = None,
    study: StudyName = None,
    top: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="List so many posters that the two see most differently.")
    ] = 10,
    as_json: AsJson = False,
    types: Annotated[str | None, typer.Option(help="As in hpo search. Default: as in the search that made A.")] = None,
    id_column: IdColumn = None,
    labels_column: LabelsColumn = None,
    image_column: ImageColumn = None,
    label_separator: LabelSeparator = None,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    cache_dir: CacheDir = None,
) -> None:
    """Compare two models pairwise: every average with the interval of its difference, labels, and posters."""
    if (data is None) != (images is None):
        raise UsageError("Expected --data and --images together, got one of them: name both, or neither.")
    columns = {
        "id_column": id_column,
        "labels_column": labels_column,
        "image_column": image_column,
        "label_separator": label_separator,
    }
    if types is not None:
        parse_types(types)  # a mistake is reported before anything loads
    from hpo.cli.rich_progress import RichProgress
    from hpo.data.table.packed_images import images_of
    from hpo.report.tables import print_comparison, table_lines
    from hpo.selection.compare import Contest
    from hpo.selection.labelled import Labelled
    from hpo.settings import Paths
    from hpo.tracking.runs import open_tracking

    def read(described: Description) -> Labelled:
        if data is None or images is None:
            raise UsageError("Expected --data and --images, got neither.")
        rules = rules_for(described, types, columns)
        return Labelled.read(data, images_of(data, images, rules.image_column, paths.cache_dir, display.bar), rules)

    paths = Paths.of(storage, tracking_uri, cache_dir)
    tracking = open_tracking(paths.tracking_uri, paths.artifacts)
    with RichProgress() as display:
        contest = Contest(tracking, paths, _study(study, paths), display.bar)
        compared = contest.on_the_study((a, b)) if data is None else contest.on_posters((a, b), read)
        account = compared.account(top)
        for line in () if compared.labelled is None else (*compared.labelled.lines(), *table_lines(account)):
            display.notice(line)
    if as_json:
        typer.echo(to_json(account))
    else:
        print_comparison(account)


def _study(name: str | None, paths: Paths) -> Study | None:
    """Open the study of that name; without one the latest, or none where there is none."""
    from hpo.study.storage import latest_study_name
    from hpo.study.study import open_study

    try:
        found = name or latest_study_name(paths.storage)
    except StudyError:
        return None
    opened = open_study(paths.storage, found, paths.locks, seed=0, create=False)
    opened.check_begun()
    return opened
