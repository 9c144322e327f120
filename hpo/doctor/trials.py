"""Check the search space and budget: available weights, and enough trials for sampler and pruner."""

from __future__ import annotations

from pathlib import Path

from hpo.data.sample.sample import DEFAULT_POSTERS
from hpo.data.table.image_names import IMAGE_SUFFIXES
from hpo.data.table.packed_images import packed_column
from hpo.data.table.records import read_records
from hpo.doctor.result import CheckResult, PlannedSearch, ok, problem, warning
from hpo.errors import BackboneError, DataError, StudyError
from hpo.model.backbones.backbone import check_image_size, check_weights
from hpo.runtime.commands import command
from hpo.selection.study_config import default_folds
from hpo.study.pruners import MEDIAN_WARMUP_STEPS, build_pruner
from hpo.study.samplers import STARTUP_TRIALS

# How many posters a search would be about: counted, not cleaned: a forecast needs no more.


def count_posters(csv: Path | None, images: Path | None) -> tuple[int, CheckResult]:
    """Return the posters of a table and its folder (``images`` beside it by default), and a word on them.

    Without a table, or where it cannot be read, they are those of the built-in sample.
    """
    if csv is None and images is not None:
        return DEFAULT_POSTERS, problem("posters", "--images without a table of its posters", "name one with --data")
    if csv is None:
        return DEFAULT_POSTERS, ok("posters", f"no --data: the {DEFAULT_POSTERS:,} of the built-in sample")
    packed = (images is None or not images.is_dir()) and packed_column(csv) is not None
    folder = images or csv.parent / "images"
    try:
        rows = sum(1 for _, cells in read_records(csv) if cells is not None) - 1
    except DataError as error:
        message, _, fix = str(error).rstrip(".").rpartition(": ")
        return DEFAULT_POSTERS, problem("posters", message, fix)
    if packed:
        return rows, ok("posters", f"{rows:,} rows in {csv}, which holds their images")
    if not folder.is_dir():
        return rows, problem("posters", f"{rows:,} rows in {csv}, and no folder {folder}", "name it with --images")
    files = sum(file.suffix.lower() in IMAGE_SUFFIXES for file in folder.rglob("*"))
    message = f"{rows:,} rows in {csv}, {files:,} images in {folder}"
    if not min(rows, files):
        return rows, problem("posters", message, f"{command('data check', csv, images=folder)} says why")
    return min(rows, files), ok("posters", message)


_TRAIN_AND_VAL = 0.9  # of all posters, by the default of --test-size


def check_backbones(plan: PlannedSearch) -> CheckResult:
    """Say whether the weights of every backbone can be had, and whether it takes posters of the space's sizes."""
    space = plan.space
    sizes = [size for size in space.values_of("image_size") if isinstance(size, int)]
    missing: dict[str, str] = {}
    for name in space.backbones:
        try:
            check_weights(name, space.weights)
            for size in sizes:
                check_image_size(name, size)
        except BackboneError as error:
            missing[name] = str(error)
    count = f"{len(space.backbones) - len(missing)} of {len(space.backbones)} of {space.name} can be had"
    if not missing:
        return ok("backbones", count)
    typed = command("search", skip_unavailable=True)
    left = "" if len(missing) == len(space.backbones) else f"leave them out with {typed}, or "
    reason, _, fix = next(iter(missing.values())).rpartition(": ")
    others = f" (and so for {', '.join(list(missing)[1:])})" if len(missing) > 1 else ""
    return problem("backbones", f"{count}: {reason}{others}", f"{left}{fix.rstrip('.')}")


def check_budget(plan: PlannedSearch) -> CheckResult:
    """Say whether the budget leaves trials that the sampler proposes from what it has learned."""
    trials = "1 trial" if plan.trials == 1 else f"{plan.trials} trials"
    if plan.workers > plan.trials:
        message = f"{trials} for {plan.workers} workers, of which some find nothing to do"
        return warning("trials", message, f"use --workers {plan.trials}, or more --trials")
    n_recipes = 0 if plan.space.stages else len(plan.space.recipes)
    stages = f"planned in the stages {', '.join(plan.space.stages)}"
    begin = stages if plan.space.stages else _first_trials(n_recipes, plan.trials)
    learning = max(STARTUP_TRIALS, n_recipes)  # trials that are finished before the sampler models any
    if plan.trials <= learning:
        message = f"{trials}, {begin}, and the sampler learns from trial {learning} on"
        return warning(
            "trials", message, f"for a search that learns, ask for more than {learning + STARTUP_TRIALS} --trials"
        )
    return ok("trials", f"{trials}, {begin}; the sampler learns from trial {learning} on")


def _first_trials(n_recipes: int, budget: int) -> str:
    """Say where the trials come from that begin a study, which are numbered from 0: of as many as it will have."""
    n_recipes = min(n_recipes, budget)
    drawn = max(0, min(STARTUP_TRIALS, budget) - n_recipes)
    if not n_recipes:
        return f"the first {drawn} at random"
    recipes = "the first is the space's recipe" if n_recipes == 1 else f"the first {n_recipes} are the space's recipes"
    following = "the next is drawn at random" if drawn == 1 else f"the next {drawn} are drawn at random"
    return f"{recipes} and {following}" if drawn else recipes


def check_pruner(plan: PlannedSearch) -> CheckResult:
    """Say whether trials of this space live long enough for the pruner that suits them to look."""
    tunes = [value != "none" for value in plan.space.values_of("unfreeze")]
    n_judged = int(_TRAIN_AND_VAL * plan.n_posters)
    folds = plan.folds or default_folds(n_judged, plan.space.finetunes_at_once, plan.pruner)
    try:
        build_pruner(plan.pruner, folds)
    except StudyError as error:
        message, _, fix = str(error).rpartition(": ")
        return problem("pruner", message, fix.rstrip("."))
    if plan.pruner is not None and plan.pruner != "median":
        return ok("pruner", f"{plan.pruner}, as asked for")
    if folds > 1:
        return ok("pruner", f"{folds} folds a trial, compared one by one with those of the best")
    epochs, patience = _most(plan, "epochs"), _most(plan, "patience")
    look = f"the pruner looks from epoch {MEDIAN_WARMUP_STEPS} on"
    if epochs <= MEDIAN_WARMUP_STEPS:
        return _too_short(f"{look}, and the space's heads train for {epochs} at most", tunes)
    if 1 + patience < MEDIAN_WARMUP_STEPS:
        message = f"{look}, and with patience {patience} most trials end before"
        return warning("pruner", message, f"let patience be {MEDIAN_WARMUP_STEPS} or more in the space")
    return ok("pruner", f"{look}, of {epochs} at most, once {STARTUP_TRIALS} trials are complete")


def _too_short(message: str, tunes: list[bool]) -> CheckResult:
    """Epochs of phase two count from far beyond the warm-up, so that there every one is looked at."""
    if tunes and all(tunes):
        return ok("pruner", f"{message}: a trial is pruned in phase two alone, when its activations are paid for")
    which = "those that do not fine-tune are" if any(tunes) else "trials are"
    fix = f"let epochs be more than {MEDIAN_WARMUP_STEPS} in the space, or search with --pruner halving or none"
    return warning("pruner", f"{message}: {which} never pruned", fix)


def _most(plan: PlannedSearch, name: str) -> int:
    return max(int(value) for value in plan.space.values_of(name) if isinstance(value, int | float))
