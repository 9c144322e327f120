"""Where a new study may begin: the best trials of another one that lie in its search space.

What another study found is a guess, not a result: posters, metric or conditions may differ, so a trial's parameters are
run again here and nothing else of it is taken over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from hpo.errors import StudyError
from hpo.search.space.allowed import Scalar
from hpo.search.space.fitting import fit_into
from hpo.search.space.search_space import SearchSpace

STARTS = 5


def queue_starts(study: optuna.Study, source: str, best_first: Sequence[FrozenTrial], space: SearchSpace) -> None:
    """Queue the ``best_starts`` of study ``source`` that ``study`` has not tried or queued. Raises StudyError."""
    for number, params in best_starts(source, best_first, space).items():
        study.enqueue_trial(params, user_attrs={"warm_start": f"{source} #{number}"}, skip_if_exists=True)


def best_starts(source: str, best_first: Sequence[FrozenTrial], space: SearchSpace) -> dict[int, dict[str, Scalar]]:
    """Return the searched parameters of the best trials of study ``source`` that lie in ``space``, by their number.

    At most ``STARTS`` different ones, best first. Raises StudyError that names the parameter which fits least often
    when none does.
    """
    starts: dict[int, dict[str, Scalar]] = {}
    misfits: Counter[str] = Counter()
    for trial in best_first:
        fit = fit_into(space, configuration(trial))
        misfits.update(fit.misfits)
        if not fit.misfits and fit.params not in starts.values():
            starts[trial.number] = fit.params
        if len(starts) == STARTS:
            break
    if not starts:
        raise StudyError(_nothing_fits(source, len(best_first), misfits, space))
    return starts


def configuration(trial: FrozenTrial) -> dict[str, Any]:
    """Return all that a trial chose, was given or left at its default; its parameters where that was not noted."""
    return dict(trial.user_attrs.get("chosen", trial.params))


def _nothing_fits(source: str, n_trials: int, misfits: Counter[str], space: SearchSpace) -> str:
    if not n_trials:
        return (
            f"Expected trials in study {source!r} to warm-start from, but none of it is complete: "
            "leave --warm-start out, or name another study."
        )
    name, n_misfits = misfits.most_common(1)[0]
    wanted = space.searched[name].in_words() if name in space.searched else space.fixed[name]
    return (
        f"Expected trials of study {source!r} that lie in the search space {space.name}, but none of its {n_trials} "
        f"does: {name} does not fit in {n_misfits} of them (expected {wanted}); leave --warm-start out, or choose "
        "another study or space."
    )
