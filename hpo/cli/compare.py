"""``hpo compare``: two models on the same posters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo.cli.bundles import rules_for
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
from hpo.printable import to_json

if TYPE_CHECKING:
    from hpo.bundle.description import Description
    from hpo.search.labelled import Labelled
    from hpo.search.places import Places
    from hpo.search.study import Study

Model = Annotated[
    str,
    typer.Argument(help="A bundle's folder, models:/NAME@champion, models:/NAME/3, or the number of a trial."),
]


def compare(
    a: Model,
    b: Model,
    data: Annotated[
        Path | None,
        typer.Option(help="A table of posters with known labels. Default: the posters that the study judged on."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="The folder of the posters.")] = None,
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
        parse_types(types)  # a mistake is told before anything loads
    from hpo.cli.watch import RichWatch
    from hpo.report.comparison import print_comparison, table_lines
    from hpo.search.compare import Contest
    from hpo.search.labelled import Labelled
    from hpo.search.places import Places
    from hpo.search.tracking import open_tracking

    def read(described: Description) -> Labelled:
        if data is None or images is None:
            raise UsageError("Expected --data and --images, got neither.")
        return Labelled.read(data, images, rules_for(described, types, columns))

    places = Places.of(storage, tracking_uri, cache_dir)
    tracking = open_tracking(places.tracking_uri, places.artifacts)
    with RichWatch() as watch:
        contest = Contest(tracking, places, _study(study, places), watch.phase)
        compared = contest.on_the_study((a, b)) if data is None else contest.on_posters((a, b), read)
        account = compared.account(top)
        for line in () if compared.labelled is None else (*compared.labelled.lines(), *table_lines(account)):
            watch.notice(line)
    if as_json:
        typer.echo(to_json(account))
    else:
        print_comparison(account)


def _study(name: str | None, places: Places) -> Study | None:
    """Open the study of that name; without one the latest, or none where there is none."""
    from hpo.search.storage import latest_study_name
    from hpo.search.study import open_study

    try:
        found = name or latest_study_name(places.storage)
    except StudyError:
        return None
    opened = open_study(places.storage, found, places.locks, seed=0, create=False)
    opened.check_begun()
    return opened
