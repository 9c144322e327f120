"""``hpo report``: a study as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpo.cli.options import CacheDir, Storage, TrackingUri


def report(
    study: Annotated[str | None, typer.Argument(help="The study. Default: the only one, or the latest.")] = None,
    out: Annotated[Path | None, typer.Option(help="The page. Default: report-STUDY.html", metavar="FILE")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a page that exists.")] = False,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    cache_dir: CacheDir = None,
) -> None:
    """Write a study as one page that needs no MLflow and no network: result, leaderboards, charts, examples, cost."""
    from hpo.cli.results import open_places, open_study_of
    from hpo.cli.watch import RichWatch
    from hpo.report.study_page import write_report
    from hpo.search.tracking import open_tracking

    places = open_places(storage, tracking_uri, cache_dir)
    opened = open_study_of(study, places)
    file = out or Path(f"report-{opened.name}.html")
    tracking = open_tracking(places.tracking_uri, places.artifacts)
    with RichWatch(opened.metric) as watch:
        write_report(file, opened, tracking, places, watch.phase, force=force)
    typer.echo(f"Wrote {file}.")
