"""`hpo search`: options → SearchOptions → search."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hpo.cli.options import (
    DEFAULT_TYPES,
    Adult,
    CacheDir,
    Folds,
    GroupColumn,
    GroupingOption,
    IdColumn,
    ImageColumn,
    LabelsColumn,
    LabelSeparator,
    LabelsOption,
    Metric,
    Pruner,
    Sampler,
    Seed,
    SplitOption,
    Storage,
    TestSize,
    Thresholds,
    TrackingUri,
    Types,
    ValSize,
    parse_types,
)
from hpo.errors import UsageError
from hpo.escaping import shortened
from hpo.space.document import SHIPPED_SPACES, find_space

if TYPE_CHECKING:
    from hpo.cli.rich_progress import RichProgress
    from hpo.settings import Paths

_DEFAULT_SECONDS = 900.0
_MOST_DIGITS = 9  # of a number of trials or seconds
_UNITS_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def search(
    data: Annotated[
        Path | None, typer.Option(help="The table of posters, CSV or Parquet. Default: the built-in sample.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="The folder of posters. Default: those in the table, or 'images' beside it.")
    ] = None,
    space: Annotated[
        Path,
        typer.Option(
            help="A search-space file, or one that ships by name. auto begins with frozen backbones and fine-tunes "
            "where that pays."
        ),
    ] = Path("auto"),
    trials: Annotated[
        str | None,
        typer.Option(
            help="The study's budget of finished trials, resumes included; +20 adds 20 to what there is. Default: as "
            "many as --timeout allows.",
            metavar="N|+N",
        ),
    ] = None,
    workers: Annotated[
        str,
        typer.Option(
            help="Processes on this machine; auto: as many as cores, memory and GPUs are good for.", metavar="N|auto"
        ),
    ] = "1",
    study: Annotated[
        str | None,
        typer.Option(help="A name to resume by. Default: made of the CSV's and the space's names.", metavar="NAME"),
    ] = None,
    metric: Metric = "f1_macro",
    objective: Annotated[
        Literal["calibrated", "cross_fitted"],
        typer.Option(
            help="Score trials at thresholds fitted on the posters that are scored (calibrated), or on others."
        ),
    ] = "calibrated",
    thresholds: Annotated[
        Thresholds,
        typer.Option(help="How they are chosen: fixed, global, per_label or calibrated."),
    ] = "calibrated",
    folds: Folds = None,
    fold_model: Annotated[
        Literal["average", "refit"],
        typer.Option(help="With folds, the model is the average of theirs, or one trained again on all posters."),
    ] = "average",
    confirm: Annotated[
        bool,
        typer.Option("--confirm/--no-confirm", help="Run the top trials again on fresh seeds before one is promoted."),
    ] = True,
    sampler: Annotated[
        Sampler, typer.Option(help="Who proposes trials: tpe, gp, cmaes, qmc or random. May change between searches.")
    ] = "tpe",
    pruner: Annotated[
        Pruner | None,
        typer.Option(
            help="Who stops trials early: halving, hyperband, median or none. Default: median; with folds, a test of "
            "the trial's folds against the best trial's."
        ),
    ] = None,
    warm_start: Annotated[
        str | None,
        typer.Option(
            help="Try the five best trials of this other study first, those that lie in the space.", metavar="STUDY"
        ),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            help="Start no trial that would not end in time: 90s, 30m, 2h; a bare number is seconds. Default: 15m "
            "without --trials, no limit with it.",
            metavar="TIME",
        ),
    ] = None,
    system_metrics: Annotated[
        bool, typer.Option("--system-metrics", help="Log cores, memory, disk and network with every trial's run.")
    ] = False,
    profile: Annotated[
        Path | None,
        typer.Option(help="Write a timeline of all workers that ui.perfetto.dev opens.", metavar="FILE.json"),
    ] = None,
    skip_unavailable: Annotated[
        bool, typer.Option("--skip-unavailable", help="Leave out backbones whose weights cannot be had.")
    ] = False,
    val_size: ValSize = "0.1",
    test_size: TestSize = "0.1",
    split: SplitOption = None,
    grouping: GroupingOption = "all",
    seed: Seed = 0,
    labels: LabelsOption = 10,
    types: Types = DEFAULT_TYPES,
    adult: Adult = False,
    id_column: IdColumn = None,
    labels_column: LabelsColumn = None,
    image_column: ImageColumn = None,
    group_column: GroupColumn = None,
    label_separator: LabelSeparator = None,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    cache_dir: CacheDir = None,
) -> None:
    """Search for the best classifier of your posters, or continue with a search that was begun.

    Every trial trains a head, and where the space says so the last stages of its backbone, and optimises a threshold
    per label; MLflow logs each, and the best is registered under the alias `champion`. Ctrl-C stops cleanly; the same
    command continues.
    """
    n_trials, adds_trials = (None, False) if trials is None else parse_trials(trials)
    limit = _DEFAULT_SECONDS if trials is None else None
    timeout_seconds = limit if timeout is None else parse_duration(timeout)
    space_file = find_space(space, Path()).resolve()  # before seconds of imports
    from hpo.cli.rich_progress import RichProgress, start_heavy_imports
    from hpo.data.splits.split import parse_size
    from hpo.settings import Paths

    sizes = parse_size(val_size, "--val-size"), parse_size(test_size, "--test-size")
    paths = Paths.of(storage, tracking_uri, cache_dir)
    paths.check_writable()
    with start_heavy_imports():
        from hpo.data.dataset import DataOptions
        from hpo.data.table.rules import CatalogueRules
        from hpo.model.backbones.architectures import check_known
        from hpo.report.tables import print_outcome
        from hpo.search.config import SearchOptions
        from hpo.search.executors.processes import parse_workers
        from hpo.search.search import search as run_search
        from hpo.space.load import load_space
        from hpo.study.attributes import UNLIMITED_TRIALS
        from hpo.trial.objective import Objective
    n_workers = parse_workers(workers)
    loaded = load_space(space, check_known)
    rules = CatalogueRules(
        id_column=id_column,
        labels_column=labels_column,
        image_column=image_column,
        label_separator=label_separator,
        group_column=group_column,
        types=parse_types(types),
        keep_adult=adult,
        top_labels=labels,
    )
    with RichProgress(metric, timeout_seconds if trials is None else None) as display:
        csv, folder = _posters(data, images, image_column, paths, display)
        options = SearchOptions(
            data=DataOptions(
                csv=csv.resolve(),
                images=folder.resolve(),
                rules=rules,
                val_size=sizes[0],
                test_size=sizes[1],
                seed=seed,
                grouping=grouping,
                split_file=split,
            ),
            space=loaded,
            space_file=None if space_file.parent == SHIPPED_SPACES else space_file,
            study=study or default_study_name(data, loaded.name),
            objective=Objective(metric, objective, thresholds),
            n_folds=folds,
            fold_model=fold_model,
            confirm=confirm,
            trials=UNLIMITED_TRIALS if n_trials is None else n_trials,
            adds_trials=adds_trials,
            workers=n_workers,
            timeout_seconds=timeout_seconds,
            paths=paths,
            sampler=sampler,
            pruner=pruner,
            warm_start=warm_start,
            system_metrics=system_metrics,
            skip_unavailable=skip_unavailable or loaded.name == "auto",
            profile=None if profile is None else profile.resolve(),
            synthetic=data is None,
        )
        outcome = run_search(options, display)
    print_outcome(outcome, display.console)
    if outcome.interrupted:
        raise typer.Exit(130)


def default_study_name(data: Path | None, space_name: str) -> str:
    """Return a name that the same command gives again, so that typing it twice continues."""
    stem = "sample" if data is None else re.sub(r"[^\w-]+", "-", data.stem).strip("-")
    return f"{stem}-{space_name}"


def parse_trials(text: str) -> tuple[int, bool]:
    """Read 50 as a budget, +20 as so many more: the number, and whether it is added."""
    match = re.fullmatch(rf"\s*(\+?)\s*(\d{{1,{_MOST_DIGITS}}})\s*", text)
    if match is None or int(match[2]) < 1:
        raise UsageError(f"--trials expects a number from 1 on, or +20 for 20 more, got {shortened(text)!r}.")
    return int(match[2]), bool(match[1])


def parse_duration(text: str) -> float:
    """Read 90s, 30m, 2h or a bare number of seconds as seconds."""
    match = re.fullmatch(rf"\s*(\d{{1,{_MOST_DIGITS}}}(?:\.\d{{1,{_MOST_DIGITS}}})?)\s*([smhd]?)\s*", text)
    if match is None or float(match[1]) == 0:
        raise UsageError(f"--timeout expects a duration such as 90s, 30m or 2h, got {shortened(text)!r}.")
    return float(match[1]) * _UNITS_SECONDS[match[2]]


def _posters(
    data: Path | None, images: Path | None, image_column: str | None, paths: Paths, display: RichProgress
) -> tuple[Path, Path]:
    """Return the table and where its images are, drawing the built-in sample when no table is given."""
    if data is not None:
        from hpo.data.table.packed_images import packed_column

        return data, images or (data if packed_column(data, image_column) else data.parent / "images")
    if images is not None:
        raise UsageError("--images was given without a CSV of its posters: name one with --data.")
    from hpo.data.sample.sample import DEFAULT_POSTERS, VERSION, write_sample

    display.notice(
        "No --data: searching the built-in sample. Its posters are synthetic (drawn), and so are its numbers."
    )
    out = paths.cache_dir / f"sample-{VERSION}"
    with display.bar("drawing the sample", DEFAULT_POSTERS) as progress:
        csv = write_sample(out, progress=progress)
    return csv, out / "images"
