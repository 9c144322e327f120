"""Stored predictions: the probabilities that each complete trial leaves for ensembles and comparisons.

    pool/probabilities.safetensors    float32 (N, L) of the posters that the trial was judged on, and whose they are
    pool/bundle/                      the trained network, where training it again would take minutes

Both lie among the artifacts of the trial's run. A head on cached features is trained again in seconds, and comes out
the same; its network is not kept. Where a version was registered of the run, its bundle is the same network, and
``garbage_collection.py`` keeps one of the two.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hpo.data.dataset import Part
from hpo.errors import StudyError
from hpo.runtime.atomic import Array
from hpo.study.study import Study
from hpo.study.trial_record import TrialRecord
from hpo.tracking.runs import Tracking
from hpo.trial.trial import TrialResult

POOL, BUNDLE = "pool", "pool/bundle"
VERSION_BUNDLE = "model/artifacts/bundle"  # where a registered version has it (tracking.py)
_FILE, _TENSOR, _POSTERS = "probabilities.safetensors", "probabilities", "posters"
_LONG_SECONDS = 60.0  # of training, from which the network is kept


@dataclass(frozen=True, eq=False)
class Pool:
    """The complete trials whose probabilities are at hand, best first."""

    trials: tuple[TrialRecord, ...]
    probabilities: Array  # (K, N, L)


def save_probabilities(folder: Path, result: TrialResult) -> None:
    """Write a trial's probabilities into ``folder``."""
    table = {_TENSOR: np.ascontiguousarray(result.val_probabilities, np.float32)}
    save_file(table, folder / _FILE, metadata={_POSTERS: _digest(result.judged_on)})


def is_worth_keeping(result: TrialResult) -> bool:
    """Say whether a trial's network takes so long to train that it is kept."""
    return result.seconds["training"] + result.seconds.get("finetuning", 0.0) > _LONG_SECONDS


def load_pool(study: Study, tracking: Tracking, judged_on: Part) -> Pool:
    """Return the probabilities of the study's complete trials on ``judged_on``.

    Trials of before probabilities were kept are left out. Raises StudyError where there are no others.
    """
    found = [
        (trial, probabilities)
        for trial in study.top(None)
        if (probabilities := load_probabilities(tracking, study.run_id(trial), judged_on)) is not None
    ]
    if not found:
        raise StudyError(
            f"Expected complete trials of study {study.name!r} that kept their probabilities, got none: "
            "run a few with hpo search."
        )
    return Pool(tuple(trial for trial, _ in found), np.stack([probabilities for _, probabilities in found]))


def load_probabilities(tracking: Tracking, run_id: str | None, part: Part) -> Array | None:
    """Return a trial's probabilities (N, L) of the posters of ``part``; None where its run has none, or of others.

    A trial that ended while MLflow was away has no run until ``hpo sync``.
    """
    if run_id is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = tracking.download(run_id, f"{POOL}/{_FILE}", Path(folder))
        if file is None:
            return None
        try:
            with safe_open(file, "numpy") as tensors:
                same = (tensors.metadata() or {}).get(_POSTERS) == _digest(part)
                probabilities: Array = tensors.get_tensor(_TENSOR)
        except (SafetensorError, OSError):
            return None  # cut short by a full disk: as good as none
    return probabilities if same and probabilities.shape == part.targets.shape else None


def download_network(tracking: Tracking, run_id: str, out: Path) -> Path | None:
    """Copy the bundle of a trial's network into ``out``, be it the pool's or that of a version; None without one."""
    for path in (BUNDLE, VERSION_BUNDLE):
        kept = tracking.download(run_id, path, out)
        if kept is not None:
            return kept
    return None


def _digest(part: Part) -> str:
    """Name the posters, in their order."""
    return blake2b(b"".join(part.posters.digests), digest_size=12).hexdigest()
