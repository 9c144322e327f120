"""Pruners by name.

A comparison is fair at equal budget only. Trials report at a step that is the epoch within their phase, apart for
either phase (``hpo.trial.trial.FINETUNE_STEP``), or the fold; every pruner here compares values of one step with each
other, so a head after five epochs meets heads after five epochs, and never a fine-tuned backbone. What that cannot make
equal is the schedule: a learning rate that falls over four epochs is further on in the third than one over eight.

Halving is asynchronous (ASHA, Li et al. 2020): no trial waits for others, so the first trials of a study meet lenient
rungs. Hyperband (Li et al. 2018) hedges against curves that cross by giving part of the trials later first rungs.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from statistics import fmean

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from hpo.errors import StudyError, did_you_mean
from hpo.model.config import FUSE
from hpo.study.samplers import STARTUP_TRIALS, comparable, shortened

MIN_EPOCHS, ETA = 2, 3  # rungs after 2, 6, 18 ... epochs of a phase, at each of which a third continues
BRACKETS = 3  # of hyperband: first rungs after 2, 6 and 18 epochs
MEDIAN_WARMUP_STEPS = 3
_FRESH_SECONDS = 1.0  # reading thousands of trials takes some 10 ms, and an epoch of a head no more
_AVERAGING_GAINS = 0.015  # of f1_macro: what the average of two unlike models is above the better one (LOG.md)
_CLEARLY_BEHIND = 0.2  # one-sided p: three folds behind in a row are 0.125


class RecentTrialsPruner(BasePruner):
    """Another pruner, which compares with a study's latest trials.

    They are read for each trial, and again every second of a long one, as those of other workers end meanwhile.
    """

    def __init__(self, pruner: BasePruner) -> None:
        self._pruner = pruner
        self._latest: optuna.Study | None = None
        self._read_for, self._read_at = -1, -math.inf

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether ``trial`` should stop after what it reported last."""
        now = time.monotonic()
        if self._latest is None or self._read_for != trial._trial_id or now - self._read_at > _FRESH_SECONDS:
            self._latest, self._read_for, self._read_at = shortened(study, n_best=0), trial._trial_id, now
        return self._pruner.prune(self._latest, trial)


class PhaseHalving(BasePruner):
    """Asynchronous successive halving on the epochs of each phase, in one or several brackets.

    Bracket b, of the trials whose number is b modulo ``n_brackets``, has rungs after
    ``min_epochs * eta ** (b + k)`` epochs, k = 0, 1, ... A trial at a rung continues if it is among the best 1 /
    ``eta`` of all trials of its bracket that have reported there, whatever became of them, ties included; where fewer
    than ``eta`` have, it continues too. Values are maximised; ``min_epochs`` is at least 1, ``eta`` at least 2.
    """

    def __init__(self, min_epochs: int = MIN_EPOCHS, eta: int = ETA, n_brackets: int = 1) -> None:
        self._min_epochs, self._eta, self._n_brackets = min_epochs, eta, n_brackets

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether ``trial`` should stop after what it reported last."""
        step, bracket = trial.last_step, trial.number % self._n_brackets
        if step is None or not self._is_rung(_epoch_in_phase(step), bracket):
            return False
        others: list[float] = [
            other.intermediate_values[step]
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number
            and other.number % self._n_brackets == bracket
            and step in other.intermediate_values
        ]
        n_go_on = (len(others) + 1) // self._eta
        reached: float = trial.intermediate_values[step]
        n_better = sum(value > reached for value in others)
        return n_go_on > 0 and n_better >= n_go_on

    def _is_rung(self, epoch: int, bracket: int) -> bool:
        rung: int = self._min_epochs * self._eta**bracket
        while rung < epoch:
            rung *= self._eta
        return rung == epoch


def _epoch_in_phase(step: int) -> int:
    from hpo.trial.objective import FINETUNE_STEP  # which imports PyTorch: only a search that runs trials needs it

    return step % FINETUNE_STEP


class LikeWithLikePruner(BasePruner):
    """Let another pruner compare a frozen trial with trials of equally many backbones and equal views of a poster.

    A head on one backbone is behind a head on three from the first fold, and yet may be the best of its kind, from
    which later trials are made. A fine-tuned trial, whose folds take minutes, stops where its mean over the folds so
    far is behind that of the best frozen one, whatever its inputs, by more than averaging the two gains.
    """

    def __init__(self, pruner: BasePruner) -> None:
        self._pruner = pruner

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether ``trial`` should stop after the fold that it reported last."""
        if _is_frozen(trial):
            return self._pruner.prune(comparable(study, lambda other: _inputs(other) == _inputs(trial)), trial)
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        leader = max(filter(_is_frozen, complete), key=lambda other: other.value or 0.0, default=None)
        if leader is None:
            return self._pruner.prune(study, trial)
        folds = trial.intermediate_values.keys() & leader.intermediate_values.keys()
        leads = [trial.intermediate_values[fold] - leader.intermediate_values[fold] for fold in folds]
        return bool(leads) and fmean(leads) < -_AVERAGING_GAINS


def _is_frozen(trial: FrozenTrial) -> bool:
    return bool(trial.params.get("unfreeze", "none") == "none")


def _inputs(trial: FrozenTrial) -> tuple[bool, int, str]:
    """What a head sees: how many backbones, and whether mirrored posters as well."""
    return _is_frozen(trial), str(trial.params.get("backbone", "")).count(FUSE), trial.params.get("flip", "none")


def _median() -> BasePruner:
    return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=MEDIAN_WARMUP_STEPS)


PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "halving": PhaseHalving,
    "hyperband": lambda: PhaseHalving(n_brackets=BRACKETS),
    "median": _median,
    "none": optuna.pruners.NopPruner,
}
BY_EPOCH = ("halving", "hyperband")


def build_pruner(name: str | None, n_folds: int) -> BasePruner:
    """Return the pruner called ``name``, or the one that suits: the median rule, with folds a signed-rank test.

    Raises StudyError for a name that is none, and for pruners by epoch where trials report folds.
    """
    if name is None:
        return _median() if n_folds == 1 else LikeWithLikePruner(_signed_rank())
    if name not in PRUNERS:
        hint = did_you_mean(name, PRUNERS)
        raise StudyError(f"--pruner expects one of {', '.join(PRUNERS)}, got {name!r}{hint}: type one of them.")
    if n_folds > 1 and name in BY_EPOCH:
        raise StudyError(
            f"--pruner {name} compares trials by epoch, and those of --folds {n_folds} report folds: leave --pruner "
            "out, or choose median or none."
        )
    return PRUNERS[name]()


def _signed_rank() -> BasePruner:
    """The same folds for every trial: a signed-rank test against the best one (Wilcoxon 1945)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of Optuna's interface, not of the test
        return optuna.pruners.WilcoxonPruner(p_threshold=_CLEARLY_BEHIND, n_startup_steps=2)
