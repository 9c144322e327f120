"""Promote an average of a study's trials to champion where it is better than the best trial alone.

Unlike models err differently, so their average is better than each of them (`benchmarks/LOG.md`). It takes the alias
where it is better in nearly all resamples of the posters that trials are judged on, each poster decided by members and
thresholds that were chosen without it. Its size is bounded, since a champion is there to be used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from hpo.bundle.bundle import save_bundle
from hpo.bundle.model_card import model_card
from hpo.errors import BackboneError, DataError, StudyError
from hpo.runtime.progress import ProgressFactory
from hpo.selection.champion import DATA_TAG, training_seconds
from hpo.selection.context import StudyContext
from hpo.selection.ensemble import Selected, assemble, describe_ensemble, select_members
from hpo.study.trial_record import title_of
from hpo.trial.description import digests_of

MAX_MEMBERS = 5
MAX_COST = 10.0  # forward passes of the best trial, for a poster
MIN_SHARE = 0.9  # of resamples, in which an average must be better
_SELECTING_SECONDS = 10.0


def reserve_seconds(context: StudyContext) -> float:
    """Return about how long an average takes: choosing it, and training again the best trials that are not at hand."""
    best, seed = context.study.top(MAX_MEMBERS), context.study.seed
    if len(best) < 2:
        return 0.0
    again = [trial for trial in best if not context.trainer.holds(trial.hyperparameters, seed, trial.threads)]
    return _SELECTING_SECONDS + sum(map(training_seconds, again))


def promote_average(
    context: StudyContext,
    parent_run_id: str,
    phase: ProgressFactory,
    notice: Callable[[str], None],
    min_share: float = MIN_SHARE,
) -> None:
    """Give the alias to the best average of the study's trials, if it is better than the best trial alone.

    That is in at least ``min_share`` (0..1) of resamples. Raises TrackingError.
    """
    study, registry = context.study, context.tracking.registry
    try:
        selected = select_members(context, MAX_MEMBERS, MAX_COST)
    except (StudyError, DataError, BackboneError) as error:
        notice(f"No average of trials was considered: {error}")
        return
    if len(selected.trials) < 2:
        return
    reason, value = _reason(selected, study.metric), float(selected.claim[study.metric])
    if selected.lead.share_above_zero < min_share:
        notice(f"The best single trial stays champion: {reason}.")
        return
    weights = {trial.number: weight for trial, weight in zip(selected.trials, selected.weights, strict=True)}
    champion = registry.champion(study.name)
    if champion is not None and champion.weights == _rounded(weights) and registry.is_whole(champion):
        return
    assembled = assemble(selected, context, phase)
    described = describe_ensemble(context, selected, assembled)
    card = model_card(described)
    with tempfile.TemporaryDirectory() as folder, study.locked("champion"):
        bundle = Path(folder) / "bundle"
        save_bundle(bundle, described, assembled.network, card, digests_of(context.data))
        version = registry.register(
            study.name,
            parent_run_id,
            weights,
            bundle,
            tags={
                "hpo.study": study.name,
                "hpo.metric": study.metric,
                "hpo.value": f"{value:.6f}",
                DATA_TAG: context.data.fingerprints["labels"],
            },
            description=card.split("---\n", 2)[-1].strip(),
            reason=reason,
        )
        study.set_champion(
            {
                "version": version,
                "run_id": parent_run_id,
                "reason": reason,
                "ci95": selected.claim["ci95"][study.metric],
                "trials": list(weights),
                "value": value,
            }
        )
    notice(f"Champion: {reason}.")


def _rounded(weights: Mapping[int, float]) -> dict[int, float]:
    """As a version's tags hold them."""
    return {trial: round(weight, 6) for trial, weight in weights.items()}


def _reason(selected: Selected, metric: str) -> str:
    lead, numbers = selected.lead, [trial.number for trial in selected.trials]
    return (
        f"{title_of(numbers)} has {metric} {selected.claim[metric]:.3f}, the best trial alone "
        f"{selected.best_single[metric]:.3f}, on posters that took no part in choosing either: {lead.value:+.3f} "
        f"[{lead.low:+.3f}, {lead.high:+.3f}], better in {100 * lead.share_above_zero:.0f} % of resamples"
    )
