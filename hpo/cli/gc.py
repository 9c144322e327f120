"""``hpo gc``: the disk that a study no longer needs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hpo.cli.options import AsJson, CacheDir, Storage, StudyName, TrackingUri


def gc(
    study: StudyName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,
    keep: Annotated[
        int,
        typer.Option(
            min=0, max=1_000_000, help="Keep the weights of this many best trials, beside champion and ensemble."
        ),
    ] = 5,
    now: Annotated[
        bool, typer.Option("--now", help="Free also what is younger than an hour, which somebody may be reading.")
    ] = False,
    as_json: AsJson = False,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    cache_dir: CacheDir = None,
) -> None:
    """Free what a study no longer needs: overtaken versions, spare networks, deleted runs. Safe at any time."""
    from hpo.cli.results import open_places, open_study_of
    from hpo.cli.watch import RichWatch
    from hpo.report.gc import gc_account, print_gc
    from hpo.search.freeing import collect_garbage
    from hpo.search.tracking import open_tracking

    places = open_places(storage, tracking_uri, cache_dir)
    opened = open_study_of(study, places)
    tracking = open_tracking(places.tracking_uri, places.artifacts)
    with RichWatch() as watch:
        freed = collect_garbage(opened, tracking, places, watch.phase, keep=keep, now=now, dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps(gc_account(opened, freed, dry_run), ensure_ascii=False))
    else:
        print_gc(opened, freed, dry_run)
