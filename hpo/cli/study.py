"""Commands about a study: status, leaderboard, ensemble, export-best, report, sync, gc and ui."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hpo.cli.options import (
    DEFAULT_MAX_MEMBERS,
    AsJson,
    CacheDir,
    MaxCost,
    MaxMembers,
    MinLabels,
    Storage,
    StudyName,
    TrackingUri,
)
from hpo.errors import HpoError, StudyError, UsageError

if TYPE_CHECKING:
    from hpo.settings import Paths
    from hpo.study.attributes import ChampionRef
    from hpo.study.study import Study


def status(
    study: StudyName = None,
    as_json: AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every two seconds, until the budget has finished.")
    ] = False,
    storage: Storage = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            help="Ask this MLflow which version is the champion. Default: the study knows which one it promoted.",
            metavar="URL",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Say how far a study is, who works on it, what its best trial is, and which version is the champion."""
    paths = open_places(storage, tracking_uri)
    opened = open_study_of(study, paths)
    from hpo.report.status import print_status, status_of, watch_status

    champion = opened.champion_ref if tracking_uri is None else _champion_at(paths, opened.name)
    if watch:
        watch_status(opened, champion, typer.echo if as_json else None)
    elif as_json:
        typer.echo(json.dumps(status_of(opened, champion()), ensure_ascii=False))
    else:
        print_status(opened, status_of(opened, champion()))


def plan(study: StudyName = None, as_json: AsJson = False, storage: Storage = None) -> None:
    """Say how far each stage of a search is, what its next trial should gain, and why the latest one was chosen."""
    opened = open_study_of(study, open_places(storage, None))
    from hpo.report.plan_table import plan_account, print_plan

    account = plan_account(opened)
    if as_json:
        typer.echo(json.dumps(account, ensure_ascii=False))
    else:
        print_plan(account)


def _champion_at(paths: Paths, name: str) -> Callable[[], ChampionRef | None]:
    from hpo.tracking.runs import open_tracking

    tracking = open_tracking(paths.tracking_uri, paths.artifacts)

    def ask() -> ChampionRef | None:
        champion = tracking.registry.champion(name)
        return None if champion is None else {"version": champion.version, "run_id": champion.run_id}

    return ask


def leaderboard(
    study: StudyName = None,
    by: Annotated[
        Literal["trial", "backbone"],
        typer.Option(help="One row a trial, or the best trial of each backbone."),
    ] = "trial",
    top: Annotated[int, typer.Option(min=1, max=1_000_000, help="Show this many rows.")] = 20,
    storage: Storage = None,
) -> None:
    """Rank a study's complete trials on the posters that it judges them on."""
    opened = open_study_of(study, open_places(storage, None))
    from hpo.report.tables import best_by_backbone, complete_trials, trial_table
    from hpo.runtime.terminal import Plain
    from hpo.study.reproduction import command_of
    from hpo.trial.objective import judged_posters

    trials = complete_trials(opened)
    if not trials:
        raise StudyError(f"Study {opened.name!r} has no complete trial yet: continue with {command_of(opened)}.")
    shown = best_by_backbone(trials) if by == "backbone" else trials
    judged_on = judged_posters(opened.attributes.folds)
    Plain().print(trial_table(shown[:top], opened.metric, judged_on, opened.champion_trials()))


def export_best(
    study: StudyName = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write. Default: bundle-STUDY.", show_default=False)
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Average several of the study's trials instead of taking its champion.")
    ] = False,
    single: Annotated[
        bool, typer.Option("--single", help="Take the best single trial where the champion is an average of trials.")
    ] = False,
    max_members: MaxMembers = DEFAULT_MAX_MEMBERS,
    max_cost: MaxCost = None,
    flip_average: Annotated[
        bool, typer.Option("--flip-average", help="Members of an ensemble also look at every poster mirrored.")
    ] = False,
    min_labels: MinLabels = 0,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also write the network as model.onnx, compared with PyTorch on posters.")
    ] = False,
    onnx_precision: Annotated[
        Literal["fp32", "fp16"], typer.Option(help="Of --onnx; fp16 is half as large, and its cost is measured.")
    ] = "fp32",
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle in --out.")] = False,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    cache_dir: CacheDir = None,
) -> None:
    """Write the champion, or an ensemble, as a bundle, judged on the test posters that no search has looked at.

    The champion is the best single trial, or an average of trials where that is clearly better.
    """
    if single and ensemble:
        raise UsageError("--single and --ensemble exclude each other: give one of them.")
    paths = open_places(storage, tracking_uri, cache_dir)
    opened = open_study_of(study, paths)
    from hpo.cli.rich_progress import RichProgress
    from hpo.report.tables import export_lines
    from hpo.selection.context import StudyContext
    from hpo.selection.export import check_replaceable, export_ensemble
    from hpo.selection.export import export_best as export
    from hpo.tracking.runs import open_tracking

    folder, precision = out or Path(f"bundle-{opened.name}"), onnx_precision if onnx else None
    check_replaceable(folder, force=force)
    tracking = open_tracking(paths.tracking_uri, paths.artifacts)
    with RichProgress(opened.metric) as display:
        if ensemble:
            context = StudyContext.reopen(opened, tracking, paths, display.bar)
            exported = export_ensemble(
                context, folder, display.bar, max_members, max_cost, min_labels, flip_average, precision
            )
        else:
            exported = export(opened, tracking, paths, folder, display.bar, min_labels, precision, single=single)
    for line in export_lines(exported):
        typer.echo(line)


def ensemble(
    study: StudyName = None,
    max_members: MaxMembers = DEFAULT_MAX_MEMBERS,
    max_cost: MaxCost = None,
    as_json: AsJson = False,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    cache_dir: CacheDir = None,
) -> None:
    """Say which trials of a study are best averaged, what each adds, and what the average may claim."""
    paths = open_places(storage, tracking_uri, cache_dir)
    opened = open_study_of(study, paths)
    from hpo.cli.rich_progress import RichProgress
    from hpo.report.tables import ensemble_account, print_ensemble
    from hpo.selection.context import StudyContext
    from hpo.selection.ensemble import select_members
    from hpo.tracking.runs import open_tracking

    tracking = open_tracking(paths.tracking_uri, paths.artifacts)
    with RichProgress(opened.metric) as display:
        selected = select_members(StudyContext.reopen(opened, tracking, paths, display.bar), max_members, max_cost)
    if as_json:
        typer.echo(json.dumps(ensemble_account(opened, selected), ensure_ascii=False))
    else:
        print_ensemble(opened, selected)


def sync(
    study: StudyName = None,
    as_json: AsJson = False,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    cache_dir: CacheDir = None,
) -> None:
    """Write every MLflow run that is missing or wrong from Optuna's record; safe at any time, also twice."""
    paths = open_places(storage, tracking_uri, cache_dir)
    opened = open_study_of(study, paths)
    from hpo.cli.rich_progress import RichProgress
    from hpo.report.status import print_sync, sync_account
    from hpo.selection.sync import sync as run_sync
    from hpo.tracking.runs import open_tracking

    tracking = open_tracking(paths.tracking_uri, paths.artifacts)
    with RichProgress() as display:
        done = run_sync(opened, tracking, paths, display.bar, display.notice)
    if as_json:
        typer.echo(json.dumps(sync_account(opened, done), ensure_ascii=False))
    else:
        print_sync(opened, done)


def ui(
    study: StudyName = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="On loopback; 0 takes a free one.")] = 0,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the first link in the browser of this machine.")
    ] = False,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Start MLflow on this machine; print links to a study's trials, report and champion. Ctrl-C stops it."""
    paths = open_places(storage, tracking_uri)
    from hpo.report.mlflow_ui import serve

    try:
        opened = open_study_of(study, paths)
    except HpoError:
        if study is not None:
            raise
        opened = None
    serve(paths, opened, port, typer.echo, open_browser=open_browser)


def open_places(storage: str | None, tracking_uri: str | None, cache_dir: Path | None = None) -> Paths:
    """Return where a study and its MLflow are, by options, environment and default."""
    from hpo.settings import Paths

    paths = Paths.of(storage, tracking_uri, cache_dir)
    paths.check_writable()
    return paths


def open_study_of(name: str | None, paths: Paths) -> Study:
    """Open the study of that name; without one the only one, or the latest."""
    from hpo.study.storage import latest_study_name
    from hpo.study.study import open_study

    opened = open_study(paths.storage, name or latest_study_name(paths.storage), paths.locks, seed=0, create=False)
    opened.check_begun()
    return opened


# ``hpo report``: a study as a page.


def report(
    study: Annotated[str | None, typer.Argument(help="The study. Default: the only one, or the latest.")] = None,
    out: Annotated[Path | None, typer.Option(help="The page. Default: report-STUDY.html", metavar="FILE")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a page that exists.")] = False,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    cache_dir: CacheDir = None,
) -> None:
    """Write a study as one page that needs no MLflow and no network: result, leaderboards, charts, examples, cost."""
    pass
    from hpo.cli.rich_progress import RichProgress
    from hpo.report.study_page import write_report
    from hpo.tracking.runs import open_tracking

    paths = open_places(storage, tracking_uri, cache_dir)
    opened = open_study_of(study, paths)
    file = out or Path(f"report-{opened.name}.html")
    tracking = open_tracking(paths.tracking_uri, paths.artifacts)
    with RichProgress(opened.metric) as display:
        write_report(file, opened, tracking, paths, display.bar, force=force)
    typer.echo(f"Wrote {file}.")


# ``hpo gc``: the disk that a study no longer needs.


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
        bool, typer.Option("--now", help="Free also what is younger than an hour, which may be in use.")
    ] = False,
    as_json: AsJson = False,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    cache_dir: CacheDir = None,
) -> None:
    """Free what a study no longer needs: overtaken versions, spare networks, deleted runs. Safe at any time."""
    pass
    from hpo.cli.rich_progress import RichProgress
    from hpo.report.tables import gc_account, print_gc
    from hpo.selection.garbage_collection import collect_garbage
    from hpo.tracking.runs import open_tracking

    paths = open_places(storage, tracking_uri, cache_dir)
    opened = open_study_of(study, paths)
    tracking = open_tracking(paths.tracking_uri, paths.artifacts)
    with RichProgress() as display:
        freed = collect_garbage(opened, tracking, paths, display.bar, keep=keep, now=now, dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps(gc_account(opened, freed, dry_run), ensure_ascii=False))
    else:
        print_gc(opened, freed, dry_run)
