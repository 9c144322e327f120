"""Checkpoints of fine-tuning: a killed trial resumes after its last finished epoch.

    <cache>/checkpoints/<key>.safetensors    the state of the training, its epochs so far, and the best weights

One file a phase, written again after every epoch and renamed into place, so that it is whole or absent; tensors and
JSON, no pickle. The key is made of everything that decides how the training goes, so a checkpoint is never asked
whether it fits: one that was made otherwise has another name. The price is a file of three to eight times the network
while a trial runs, and a moment an epoch to write it.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import hpo
from hpo.model.training.device import best_device
from hpo.model.training.optim import StateDict
from hpo.runtime.atomic import Array, appearing_whole

# What a training must remember to continue as if it had never stopped: named tensors and a few numbers.
#
# Weights alone are not enough. AdamW has its moments, the schedule its place, and dropout, shuffling and mixup continue
# drawing from where they were. With all of it the epochs after a stop are those that would have come anyway, bit for
# bit on one machine. The price is about three copies of what is trained.


class TrainingNumbers(BaseModel):
    """The part of a state that is no tensor."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int  # of the optimiser, so many were made
    micro_batch: int  # posters at once
    learning_rates: list[float]  # of each group, for the next step
    scaler: dict[str, int | float]  # of float16 gradients; empty where they need none


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A training between two epochs. The tensors may be those that it trains: copy them before it continues."""

    tensors: Mapping[str, Tensor]
    numbers: TrainingNumbers


def under(name: str, tensors: StateDict) -> dict[str, Tensor]:
    """Return ``tensors`` with ``name.`` before each name."""
    return {f"{name}.{own}": tensor for own, tensor in tensors.items()}


def beneath(name: str, tensors: StateDict) -> dict[str, Tensor]:
    """Return what ``under`` was given for ``name``."""
    start = f"{name}."
    return {full.removeprefix(start): tensor for full, tensor in tensors.items() if full.startswith(start)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the moments and steps of every parameter, as ``<number of the parameter>.<name>``."""
    return {
        f"{number}.{name}": tensor
        for number, parameter in enumerate(_parameters(optimizer))
        for name, tensor in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: StateDict) -> None:
    """Put back what ``optimizer_tensors`` returned.

    Moments get the memory layout of their parameter: fused AdamW walks through both side by side without looking, and
    would pair the wrong numbers of a channels_last kernel with a contiguous moment. So ``load_state_dict`` is no help.
    """
    for number, parameter in enumerate(_parameters(optimizer)):
        optimizer.state[parameter] = {
            name: _laid_out_like(parameter, tensor) for name, tensor in beneath(str(number), tensors).items()
        }


def _laid_out_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    if tensor.shape != parameter.shape:  # the count of steps
        return tensor.to(parameter.device)
    return torch.empty_like(parameter, requires_grad=False).copy_(tensor)


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for group in optimizer.param_groups:
        yield from group["params"]


def random_states(generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
    """Return where ``generator``, torch's global generator and that of a GPU are in their sequences."""
    states = {"own": generator.get_state(), "global": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state()
    return states


def restore_random(states: StateDict, generator: torch.Generator, device: torch.device) -> None:
    """Let all of them continue from where ``random_states`` saw them."""
    generator.set_state(states["own"])
    torch.set_rng_state(states["global"])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[device.type])


# What an epoch of training gave, and what is kept of it for a training that may be stopped and continue.


@dataclass(frozen=True, eq=False)
class EpochResult:
    """What one epoch gave."""

    epoch: int  # from 1, in its phase
    train_loss: float
    val_probabilities: Array  # (N_val, L), of ``evaluated``
    learning_rate: float
    seconds: float
    evaluated: nn.Module  # the network, or the moving average of its weights, in evaluation mode
    micro_batch: int  # posters at once; less than the batch where memory ran out
    predict_val: Callable[[], Array]  # predicts again, after other weights were put into ``evaluated``
    weights: Callable[[], StateDict]  # a copy of those of ``evaluated`` after this epoch
    state: Callable[[], TrainingState]  # what it takes to continue from here, until the next epoch begins


class EpochFigures(BaseModel):
    """The report of an epoch without its probabilities."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_loss: float
    learning_rate: float
    seconds: float
    micro_batch: int


@dataclass(frozen=True, eq=False)
class Past:
    """The E epochs of a phase that were trained before it was stopped, and the state after the last of them."""

    state: TrainingState
    figures: tuple[EpochFigures, ...]  # (E,)
    probabilities: Array  # (E, N_val, L)
    weights: Mapping[int, StateDict]  # by epoch, of those that may still be the phase's outcome

    @property
    def seconds(self) -> float:
        """How long these epochs took."""
        return sum(figures.seconds for figures in self.figures)


_FORMAT = 1
_SUFFIX = ".safetensors"
_LEFT_BEHIND_SECONDS = 14 * 24 * 3600.0  # untouched for so long, a file belongs to an abandoned trial


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
                f"The checkpoint {self._file} could not be written ({error}), so this trial continues without one and "
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
        _requeue_stale(file.parent)
    tensors = {**under("state", past.state.tensors), "probabilities": torch.from_numpy(past.probabilities)}
    for epoch, weights in past.weights.items():
        tensors |= under(f"weights.{epoch}", weights)
    metadata = {
        "key": file.stem,
        "numbers": past.state.numbers.model_dump_json(),
        "figures": json.dumps([figures.model_dump() for figures in past.figures]),
        "epochs": json.dumps(list(past.weights)),
    }
    with appearing_whole(file) as temporary:
        save_file({name: _apart(tensor) for name, tensor in tensors.items()}, temporary, metadata)


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


def _requeue_stale(folder: Path) -> None:
    """Remove what was left behind by trials that were killed and never run again."""
    for file in folder.iterdir():
        try:
            if time.time() - file.stat().st_mtime > _LEFT_BEHIND_SECONDS:
                file.unlink()
        except FileNotFoundError:  # another worker sweeps too
            continue
