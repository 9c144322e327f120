"""Networks of trials among the artifacts of their runs, where training them again would take minutes.

A head on cached features is trained again in seconds, to the same result; its network is not kept. Where a version was
registered of the run, its bundle is the same network, and ``garbage_collection.py`` keeps one of the two.
"""

from __future__ import annotations

from pathlib import Path

from hpo.tracking.runs import Tracking
from hpo.trial.trial import TrialResult

BUNDLE = "network"
VERSION_BUNDLE = "model/artifacts/bundle"  # where a registered version has it (registry.py)
_LONG_SECONDS = 60.0  # of training, from which the network is kept


def is_worth_keeping(result: TrialResult) -> bool:
    """Say whether a trial's network takes so long to train that it is kept."""
    return result.seconds["training"] + result.seconds.get("finetuning", 0.0) > _LONG_SECONDS


def download_network(tracking: Tracking, run_id: str, out: Path) -> Path | None:
    """Copy the bundle of a trial's network into ``out``, be it the run's or that of a version; None without one."""
    for path in (BUNDLE, VERSION_BUNDLE):
        kept = tracking.download(run_id, path, out)
        if kept is not None:
            return kept
    return None
