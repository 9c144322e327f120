"""Select and promote the champion: compare leaders pairwise, rerun the top trials on fresh seeds.

The best of many trials is partly the luckiest. While a search runs, the best so far is champion, so that a search that
is killed leaves a usable model. At its end the top trials are trained again on fresh seeds, and the best mean over
these wins. The seed that selected the trials has no part in it: each of them was lucky there. Where an average of
trials is better than that one, it takes the alias (``average.py``), and keeps it until a trial or another average is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean, stdev

from hpo.bundle.model_card import model_card
from hpo.evaluation.bootstrap import ThresholdedPredictions, paired_differences
from hpo.runtime.atomic import Array
from hpo.selection.context import StudyContext
from hpo.study.study import Study
from hpo.study.trial_record import TrialRecord
from hpo.tracking.registry import Version
from hpo.tracking.runs import Tracking
from hpo.tracking.study_report import in_fresh_seeds
from hpo.trial.description import save_trial
from hpo.trial.trial import TrialResult

TOP_TRIALS = 3
FRESH_SEEDS = 2
_SHARE_OF_SEARCH = 0.25  # of the time that the study's trials took, for confirming at most,
_ALWAYS_SECONDS = 60.0  # or so much, where a search is short
DATA_TAG = "hpo.data"  # of a version: the digest of the labels that it was trained on


def take_lead(
    study: Study, tracking: Tracking, value: float, data: str, promote: Callable[[Version | None], object]
) -> bool:
    """Call ``promote`` with the champion there is, if ``value`` is better or it comes from other ``data``; say whether.

    All workers of a study respect one lock, so that of two that lead in one moment the better one ends as champion.
    """
    with study.locked("champion"):
        champion = tracking.registry.champion(study.name)
        if champion is not None and champion.tags.get(DATA_TAG) == data and champion.value >= value:
            return False
        promote(champion)
        return True


def is_ahead(champion: Version, leader: TrialRecord) -> bool:
    """Say whether the champion is an average that is better than the best trial, and so keeps the alias."""
    return champion.is_average and champion.value > (leader.value or 0.0)


class ChampionSelector:
    """Decides which trial of a study has the alias ``champion``. Methods raise TrackingError."""

    def __init__(self, context: StudyContext) -> None:
        self._context = context
        self._study, self._tracking, self._trainer = context.study, context.tracking, context.trainer
        self._labels = context.data.fingerprints["labels"]

    def lead(self, number: int, run_id: str, result: TrialResult) -> None:
        """Make a trial that is better than all before it the champion, until the end of the search."""
        take_lead(
            self._study,
            self._tracking,
            result.value,
            self._labels,
            lambda champion: self._promote(
                number, run_id, result, f"{self._lead_over(champion, number, result)}; to be confirmed"
            ),
        )

    def settle(self) -> None:
        """Give the alias to the study's leader, if another version has it, and say why: after a kill or confirming.

        An average that has the alias keeps it while its value is higher.
        """
        with self._study.locked("champion"):
            self._settle()

    def _settle(self) -> None:
        leader, champion = self._study.leader(), self._tracking.registry.champion(self._study.name)
        run_id = None if leader is None else self._study.run_id(leader)
        if leader is None or run_id is None:
            return  # no trial is complete, or hpo sync has yet to write its run
        if champion is not None and is_ahead(champion, leader) and self._is_usable(champion):
            return
        reason = self._lead_over_others(leader)
        if champion is None or champion.trial_number != leader.number or not self._is_usable(champion):
            self._promote(leader.number, run_id, self._context.train_again(leader), reason)
            return
        self._study.set_champion({"version": champion.version, "run_id": champion.run_id, "reason": reason})
        if self._is_decided_by_fresh_seeds(leader):
            self._tracking.registry.explain(self._study.name, champion.version, reason)

    def confirm(self, notice: Callable[[str], None], seconds_left: float, check: Callable[[], None]) -> None:
        """Run the top trials again on fresh seeds, unless that takes more than a quarter of the search's time.

        What was run before is not run again. ``check`` is called between trainings and may raise to stop.
        """
        share = _SHARE_OF_SEARCH * sum(map(training_seconds, self._study.top(None)))
        limited_by_share = max(_ALWAYS_SECONDS, share) < seconds_left
        seconds_left = min(seconds_left, max(_ALWAYS_SECONDS, share))
        top = self._study.top(TOP_TRIALS)
        if len(top) < 2:
            return
        seed = self._study.seed
        for fresh in range(seed + 1, seed + 1 + FRESH_SEEDS):
            todo = [trial for trial in top if not self._study.is_confirmed(trial, fresh)]
            seconds_left -= sum(map(training_seconds, todo))
            if seconds_left < 0:
                notice(_why_skipped(fresh - seed, limited_by_share))
                break
            for trial in todo:
                check()
                notice(f"Running trial {trial.number} again on seed {fresh}, before the champion is selected.")
                self._study.confirm(trial, fresh, self._context.train_again(trial, fresh).value)
        leader = self._study.leader()
        if leader is not None and self._is_decided_by_fresh_seeds(leader):
            notice(f"Champion: {self._lead_on_fresh_seeds()}.")

    def _promote(self, number: int, run_id: str, result: TrialResult, reason: str) -> None:
        described = self._context.describe(result)
        card = model_card(described)
        with tempfile.TemporaryDirectory() as folder:
            bundle = Path(folder) / "bundle"
            save_trial(bundle, described, result, card, self._context.data)
            version = self._tracking.registry.register(
                self._study.name,
                run_id,
                {number: 1.0},
                bundle,
                tags={
                    "hpo.study": self._study.name,
                    "hpo.metric": self._study.metric,
                    "hpo.value": f"{result.value:.6f}",
                    DATA_TAG: self._labels,
                },
                description=card.split("---\n", 2)[-1].strip(),  # without what only the Hugging Face hub reads
                reason=reason,
            )
        low, high = described.metrics["claim"]["ci95"][self._study.metric]
        self._study.set_champion({"version": version, "run_id": run_id, "reason": reason, "ci95": [low, high]})

    def _is_usable(self, champion: Version) -> bool:
        return self._same_data(champion) and self._tracking.registry.is_whole(champion)

    def _same_data(self, champion: Version) -> bool:
        return champion.tags.get(DATA_TAG) == self._labels

    def _lead_over(self, champion: Version | None, number: int, result: TrialResult) -> str:
        if champion is None:
            return f"trial {number} is the first complete trial"
        if not self._same_data(champion):
            return f"trial {number} was trained on other data than version {champion.version}"
        compared = self._compared(result.val_probabilities, champion.weights)
        return f"trial {number} is ahead of {champion.title}, the champion before{compared}"

    def _lead_over_others(self, leader: TrialRecord) -> str:
        if self._is_decided_by_fresh_seeds(leader):
            return self._lead_on_fresh_seeds()
        others = [trial for trial in self._study.top(TOP_TRIALS) if trial.number != leader.number]
        if not others:
            return f"trial {leader.number} is the first complete trial"
        mine = self._context.probabilities(leader.number)
        compared = "" if mine is None else self._compared(mine, {others[0].number: 1.0})
        return (
            f"trial {leader.number} has the best {self._study.metric}, {leader.value:.3f}; against trial "
            f"{others[0].number}, the runner-up{compared}"
        )

    def _is_decided_by_fresh_seeds(self, leader: TrialRecord) -> bool:
        """Say whether the leader was run again, and others too that it is compared with."""
        again = [trial.number for trial, _ in self._study.run_again()]
        return len(again) > 1 and leader.number in again

    def _lead_on_fresh_seeds(self) -> str:
        """Compare the best two by what decided between them, the means over fresh seeds."""
        again = self._study.run_again()
        (first, values), (second, others) = again[:2]
        spread = f" (spread {stdev(values):.3f})" if len(values) > 1 else ""
        return (
            f"trial {first.number} has the best mean {self._study.metric} over {in_fresh_seeds(len(values))}, "
            f"{fmean(values):.3f}{spread}, of {len(again)} trials that were run again; trial {second.number}, the "
            f"runner-up, has {fmean(others):.3f}"
        )

    def _compared(self, probabilities: Array, weights: Mapping[int, float]) -> str:
        """Say how far ahead of other trials' average one is on the same posters, where they kept probabilities."""
        part, metric = self._trainer.judged_on, self._study.metric
        other = self._context.averaged(weights)
        if other is None:
            return ""
        mine, theirs = self._decided(probabilities), self._decided(other)
        lead = paired_differences(theirs, mine, part.targets, part.groups)[metric]
        return (
            f": {metric} {lead.value:+.3f} [{lead.low:+.3f}, {lead.high:+.3f}] on the same posters, "
            f"better in {100 * lead.share_above_zero:.0f} % of resamples"
        )

    def _decided(self, probabilities: Array) -> ThresholdedPredictions:
        _, judged = self._trainer.objective.judge(probabilities, self._trainer.judged_on.targets)
        return ThresholdedPredictions(probabilities, judged.thresholds.values)


def _why_skipped(number: int, limited_by_share: bool) -> str:
    """Say that the top trials are not run on the fresh seed of that number (from 1 on), and why."""
    limit = (
        f"{100 * _SHARE_OF_SEARCH:.0f} % of the search's time, or a minute"
        if limited_by_share
        else "what --timeout leaves"
    )
    which = "Fresh seeds are" if number == 1 else f"Fresh seed {number} is"
    # The share of the search's time is the same in the next search, unless seeds of this one need no more of it.
    again = "a search of more trials has" if number == 1 and limited_by_share else "the same command may have"
    return f"{which} skipped: running the top trials again is limited to {limit}; {again} time for it."


def training_seconds(trial: TrialRecord) -> float:
    """What training a trial again costs: its features are cached."""
    return sum(taken for stage, taken in trial.seconds.items() if stage not in ("features", "activations"))
