"""Checkpoints of fine-tuning, so that a trial that was killed loses an epoch and not an hour.

    <cache>/checkpoints/<key>.safetensors    the state of the training, its epochs so far, and the best weights

One file a phase, written anew after every epoch and renamed into place, so that it is whole or absent; tensors and
JSON, no pickle. The key is made of everything that decides how the training goes, so a checkpoint is never asked
whether it fits: one that was made otherwise has another name. The price is a file of three to eight times the network
while a trial runs, and a moment an epoch to write it.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import hpo
from hpo.data.shards import Array
from hpo.model.averaging import StateDict
from hpo.model.device import best_device
from hpo.model.epochs import EpochFigures, EpochResult, Past
from hpo.model.training_state import TrainingNumbers, TrainingState, beneath, under

_FORMAT = 1
_SUFFIX, _TEMPORARY = ".safetensors", ".tmp"
_LEFT_BEHIND_SECONDS = 14 * 24 * 3600.0  # untouched for so long, a file belongs to a trial that nobody will run again


def content_key(facts: Mapping[str, Any], contents: Iterable[bytes]) -> str:
    """Name a training by JSON ``facts``, by ``contents``, and by the software and device that it runs on."""
    software = {name: version(name) for name in ("torch", "timm", "numpy")}
    where = {"format": _FORMAT, "hpo": hpo.__version__, "device": best_device().device.type, **software}
    digest = blake2b(json.dumps([where, facts], sort_keys=True).encode(), digest_size=16)
    for content in contents:
        digest.update(blake2b(content).digest())
    return digest.hexdigest()


class Checkpoints:
    """The checkpoints of one trial, of which folds have one each. Without a folder none are kept."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._opened: list[Checkpoint] = []

    def open(self, key: str) -> Checkpoint:
        """Return the checkpoint of that name, with the past of the same training if it was stopped."""
        checkpoint = Checkpoint(None if self._folder is None else self._folder / f"{key}{_SUFFIX}")
        self._opened.append(checkpoint)
        return checkpoint

    def discard(self) -> None:
        """Remove all of them: the trial has ended for good."""
        for checkpoint in self._opened:
            checkpoint.discard()


class Checkpoint:
    """The file of one training in progress; without a file nothing is kept."""

    def __init__(self, file: Path | None = None) -> None:
        self._file, self._writes = file, file is not None
        self.past = None if file is None else _read(file)
        self._figures: list[EpochFigures] = [] if self.past is None else list(self.past.figures)
        self._probabilities: list[Array] = [] if self.past is None else list(self.past.probabilities)

    @property
    def past_seconds(self) -> float:
        """How long the epochs took that are not trained again."""
        return 0.0 if self.past is None else self.past.seconds

    def keep(self, result: EpochResult, weights: Mapping[int, StateDict]) -> None:
        """Write the training as it is after ``result``, unless that is an epoch of the past.

        ``weights`` are those, by epoch, that may be the outcome. A disk that refuses costs the checkpoint, not the
        trial: a warning says so, once.
        """
        if not self._writes or self._file is None or result.epoch <= len(self._figures):
            return
        self._figures.append(
            EpochFigures(
                train_loss=result.train_loss,
                learning_rate=result.learning_rate,
                seconds=result.seconds,
                micro_batch=result.micro_batch,
            )
        )
        self._probabilities.append(result.val_probabilities)
        past = Past(result.state(), tuple(self._figures), np.stack(self._probabilities), weights)
        try:
            _write(self._file, past)
        except (OSError, SafetensorError) as error:
            self._writes = False
            warnings.warn(
                f"The checkpoint {self._file} could not be written ({error}), so this trial goes on without one and "
                "would begin its fine-tuning again after a kill: free some space, or choose another --cache-dir.",
                stacklevel=2,
            )

    def discard(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)


def _write(file: Path, past: Past) -> None:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        _sweep(file.parent)
    tensors = {**under("state", past.state.tensors), "probabilities": torch.from_numpy(past.probabilities)}
    for epoch, weights in past.weights.items():
        tensors |= under(f"weights.{epoch}", weights)
    metadata = {
        "key": file.stem,
        "numbers": past.state.numbers.model_dump_json(),
        "figures": json.dumps([figures.model_dump() for figures in past.figures]),
        "epochs": json.dumps(list(past.weights)),
    }
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=_TEMPORARY)
    os.close(handle)
    temporary = Path(name)
    try:
        save_file({name: _apart(tensor) for name, tensor in tensors.items()}, temporary, metadata)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _apart(tensor: Tensor) -> Tensor:
    """Safetensors wants each tensor contiguous and in memory of its own."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _read(file: Path) -> Past | None:
    """Return what ``file`` holds. One that is torn, or that says it is another, counts as absent."""
    try:
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
            if metadata["key"] != file.stem:
                return None
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
        return Past(
            TrainingState(beneath("state", tensors), TrainingNumbers.model_validate_json(metadata["numbers"])),
            tuple(EpochFigures.model_validate(figures) for figures in json.loads(metadata["figures"])),
            tensors["probabilities"].numpy(),
            {epoch: beneath(f"weights.{epoch}", tensors) for epoch in json.loads(metadata["epochs"])},
        )
    except (OSError, SafetensorError, KeyError, ValueError):  # pydantic's and JSON's errors are ValueErrors
        return None


def _sweep(folder: Path) -> None:
    """Remove what was left behind by trials that were killed and never run again."""
    for file in folder.iterdir():
        try:
            if time.time() - file.stat().st_mtime > _LEFT_BEHIND_SECONDS:
                file.unlink()
        except FileNotFoundError:  # another worker sweeps too
            continue
