"""The training loop: examples → one EpochResult an epoch, for heads and fine-tuning alike.

Both phases of a trial run through it.

The loop knows nothing of metrics, thresholds or pruning. It yields the validation probabilities after each epoch and
the caller that iterates decides when to stop, which is how one loop serves early stopping, the pruner and the tests.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from hpo.errors import ResourceError
from hpo.model.config import TrialConfig
from hpo.model.heads.head import Head
from hpo.model.training.augment import ImageAugmentation, add_noise, mix
from hpo.model.training.checkpoint import (
    EpochFigures,
    EpochResult,
    Past,
    TrainingNumbers,
    TrainingState,
    beneath,
    optimizer_tensors,
    random_states,
    restore_optimizer,
    restore_random,
    under,
)
from hpo.model.training.dataloader import Examples
from hpo.model.training.device import Device, best_device
from hpo.model.training.finetune import FineTuned, HeadAlone, compiled
from hpo.model.training.losses import Loss
from hpo.model.training.optim import (
    Ema,
    Factor,
    ParameterGroup,
    StateDict,
    build_optimizer,
    build_schedule,
    finetune_groups,
    finetune_schedule,
    head_groups,
    head_schedule,
)
from hpo.runtime.atomic import Array

# How each phase of a trial trains its network: what differs between a head alone and a head with unfrozen stages.


@dataclass(frozen=True)
class PhaseConfig:
    """How one phase trains its network."""

    epochs: int
    batch_size: int
    groups: Sequence[ParameterGroup]
    factor: Factor  # of the learning rates, by progress
    feature_noise: float = 0.0
    augmentations: Sequence[ImageAugmentation] = ()  # for each backbone, where all of it is trained from posters

    def n_steps(self, n_posters: int) -> int:
        """Return the steps of an epoch over ``n_posters``; none has a single poster, unless there is but one."""
        return max(1, min(round(n_posters / self.batch_size), n_posters // 2))


def head_phase(head: Head, config: TrialConfig) -> PhaseConfig:
    """Phase one: the head alone."""
    return PhaseConfig(
        config.epochs, config.batch_size, head_groups(head, config), head_schedule(config), config.feature_noise
    )


def finetune_phase(network: FineTuned, config: TrialConfig, seed: int) -> PhaseConfig:
    """Phase two: head and unfrozen stages."""
    sizes = network.image_sizes if config.unfreeze == "everything" else ()
    return PhaseConfig(
        config.finetune_epochs,
        config.finetune_batch_size,
        finetune_groups(network.head, network.stages(), config),
        finetune_schedule(config),
        augmentations=[ImageAugmentation.of(config, size_px, seed) for size_px in sizes],
    )


# Examples → probabilities, by a network that is being trained or was.
#
# What is in memory is predicted at once, what is read from the cache in chunks.

_CHUNK_POSTERS = 64  # predicted at once where inputs are read from the cache


def predict_probabilities(network: nn.Module, examples: Examples, device: Device | None = None) -> Array:
    """Return float32 probabilities (N, L); where the posters have several views, of the mean of their logits."""
    device = device or best_device()
    rows = torch.arange(len(examples.features))
    batches = torch.split(rows, _CHUNK_POSTERS if examples.stored else len(rows))
    with torch.inference_mode(), device.matmul():
        logits = torch.cat([_predict(network, inputs, device) for _, inputs in examples.batches(batches)])
    mean = logits.view(examples.n_views, examples.n_posters, -1).mean(0)
    return torch.sigmoid(mean).numpy()


def _predict(network: nn.Module, inputs: list[Tensor], device: Device) -> Tensor:
    with device.autocast():
        logits: Tensor = network(*(as_float(device.put(tensor)) for tensor in inputs))
    return logits.float().cpu()


def as_float(tensor: Tensor) -> Tensor:
    """Return cached activations, which are half precision, as float32; posters stay uint8 until a backbone's levels."""
    if tensor.dtype is not torch.float16:
        return tensor
    converted = tensor.float()
    return converted.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else converted


def train_head(
    head: Head, examples: Examples, targets: Tensor, val: Examples, config: TrialConfig, seed: int
) -> Iterator[EpochResult]:
    """Return the training of ``head``, in place, on ``examples`` with ``targets`` (N, L), epoch by epoch.

    ``val`` is only looked at. Deterministic by ``seed`` on one machine.
    """
    plain = examples.features[: examples.n_posters]
    head.fit_statistics(plain, targets)
    with torch.no_grad():
        examples = examples.with_features(head.standardise(examples.features))
        val = val.with_features(head.standardise(val.features))
    return train(HeadAlone(head), examples, targets, val, head_phase(head, config), config, seed)


def train(
    network: HeadAlone | FineTuned,
    examples: Examples,
    targets: Tensor,
    val: Examples,
    phase: PhaseConfig,
    config: TrialConfig,
    seed: int,
    past: Past | None = None,
) -> Iterator[EpochResult]:
    """Train ``network`` in place and yield after every epoch; the network is then in evaluation mode.

    Every poster comes once an epoch, in one of its views. With the ``past`` of a training that was stopped, its epochs
    are yielded again without being trained, and the others follow as if it had not been. Only the weights that it
    kept are there for these, and ``evaluated`` is as after the last of them. Raises ResourceError when a single poster
    is too much for the memory.
    """
    torch.manual_seed(seed)  # dropout draws from the global generator
    training = _Training(network, examples, targets, phase, config, seed)
    began, n_past = time.perf_counter(), 0
    if past is not None:
        began, n_past = began - past.seconds, len(past.figures)
        training.restore(past.state)
        for epoch, (figures, probabilities) in enumerate(zip(past.figures, past.probabilities, strict=True), start=1):
            weights = partial(training.on_device, past.weights.get(epoch, {}))
            yield training.result(epoch, figures, probabilities, val, weights)
    for epoch in range(n_past + 1, phase.epochs + 1):
        if config.max_seconds and epoch > 1 and time.perf_counter() - began > config.max_seconds:
            return
        started = time.perf_counter()
        loss = training.train_epoch()
        probabilities, rate = training.predict(val), training.optimizer.param_groups[-1]["lr"]
        seconds = time.perf_counter() - started
        figures = EpochFigures(train_loss=loss, learning_rate=rate, seconds=seconds, micro_batch=training.micro_batch)
        yield training.result(epoch, figures, probabilities, val, training.copied)


class _Training:
    """One phase in progress."""

    def __init__(
        self,
        network: HeadAlone | FineTuned,
        examples: Examples,
        targets: Tensor,
        phase: PhaseConfig,
        config: TrialConfig,
        seed: int,
    ) -> None:
        self.device = best_device()
        self.network = network.to(self.device.device).to(memory_format=torch.channels_last)
        self.examples, self.targets, self.phase, self.config = examples, targets, phase, config
        self.call: Callable[..., Tensor] = compiled(network, config) if isinstance(network, FineTuned) else network
        self.loss = Loss.of(config, targets)
        self.n_steps = phase.n_steps(examples.n_posters)
        self.optimizer = build_optimizer(phase.groups)
        self.schedule = build_schedule(self.optimizer, phase.factor, phase.epochs * self.n_steps)
        self.scaler = self.device.gradient_scaler()
        self.ema: Ema | None = None  # begins after the first step
        self.generator = torch.Generator().manual_seed(seed)
        self.micro_batch = math.ceil(examples.n_posters / self.n_steps)
        self.step = 0

    @property
    def evaluated(self) -> nn.Module:
        """What an epoch is judged by."""
        return self.network if self.ema is None else self.ema.module

    def predict(self, val: Examples) -> Array:
        """Return the probabilities (N_val, L) that an epoch is judged by."""
        return predict_probabilities(self.evaluated, val, self.device)

    def result(
        self, epoch: int, figures: EpochFigures, probabilities: Array, val: Examples, weights: Callable[[], StateDict]
    ) -> EpochResult:
        """Return what the caller of ``train`` learns of an epoch."""
        return EpochResult(
            epoch,
            figures.train_loss,
            probabilities,
            figures.learning_rate,
            figures.seconds,
            self.evaluated,
            figures.micro_batch,
            partial(self.predict, val),
            weights,
            self.state,
        )

    def copied(self) -> StateDict:
        """Return a copy of the weights that an epoch is evaluated with."""
        return copy.deepcopy(self.evaluated.state_dict())

    def on_device(self, weights: StateDict) -> StateDict:
        """Return ``weights`` where the network is trained."""
        return {name: self.device.put(tensor) for name, tensor in weights.items()}

    def state(self) -> TrainingState:
        """Return all that the steps so far have changed."""
        tensors = {
            **under("network", self.network.state_dict()),
            **under("average", {} if self.ema is None else self.ema.state_dict()),
            **under("optimizer", optimizer_tensors(self.optimizer)),
            **under("random", random_states(self.generator, self.device.device)),
        }
        rates = [group["lr"] for group in self.optimizer.param_groups]
        numbers = TrainingNumbers(
            step=self.step, micro_batch=self.micro_batch, learning_rates=rates, scaler=self.scaler.state_dict()
        )
        return TrainingState(tensors, numbers)

    def restore(self, state: TrainingState) -> None:
        """Put back what ``state`` returned after an earlier step."""
        numbers = state.numbers
        self.step, self.micro_batch = numbers.step, numbers.micro_batch
        self.network.load_state_dict(beneath("network", state.tensors))
        if average := beneath("average", state.tensors):
            self.ema = Ema(self.network, self.config.ema_decay)
            self.ema.load_state_dict(average)
        restore_optimizer(self.optimizer, beneath("optimizer", state.tensors))
        self.schedule.last_epoch = numbers.step  # torch's word for what we count in steps
        for group, rate in zip(self.optimizer.param_groups, numbers.learning_rates, strict=True):
            group["lr"] = rate
        self.scaler.load_state_dict(dict(numbers.scaler))
        self.network.eval()
        restore_random(beneath("random", state.tensors), self.generator, self.device.device)

    def train_epoch(self) -> float:
        """Train on every poster once and return the mean loss."""
        self.network.train()
        total = torch.zeros(())
        n = self.examples.n_posters
        order = torch.randperm(n, generator=self.generator)
        if self.examples.n_views > 1:
            order += n * torch.randint(self.examples.n_views, (n,), generator=self.generator)
        with self.device.matmul():
            # Near-equal batches: none is left with one poster, which BatchNorm refuses.
            for rows, inputs in self.examples.batches(order.tensor_split(self.n_steps)):
                total += self.train_step(inputs, self.targets[rows % n]).cpu() * len(rows)
        self.network.eval()
        return float(total) / n

    def train_step(self, inputs: list[Tensor], targets: Tensor) -> Tensor:
        """Update the weights by one batch and return its loss."""
        loss = self._gradient(*self._vary(inputs, targets))
        if self.config.clip_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.config.averaging == "ema":
            if self.ema is None:
                self.ema = Ema(self.network, self.config.ema_decay)
            self.ema.update()
        self.step += 1
        return loss

    def _vary(self, inputs: list[Tensor], targets: Tensor) -> tuple[list[Tensor], Tensor]:
        """Augment, mix and add noise: what a batch looks like this time."""
        if self.phase.augmentations:
            augmented = zip(self.phase.augmentations, inputs[1:], strict=True)
            inputs = [inputs[0], *(augment(posters, self.step) for augment, posters in augmented)]
        if self.phase.feature_noise:
            inputs = [add_noise(inputs[0], self.phase.feature_noise, self.generator), *inputs[1:]]
        if not self.config.mixup:
            return inputs, targets
        return mix([rows.float() for rows in inputs], targets, self.config.mixup, self.generator)

    def _gradient(self, inputs: list[Tensor], targets: Tensor) -> Tensor:
        """Leave the gradient of the batch and return its loss; where memory runs out, of one part after another.

        The gradient is the same, except for what depends on a batch as a whole: soft F1, and BatchNorm in training.
        """
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            total = torch.zeros((), device=self.device.device)
            try:
                # Near-equal parts, as for batches: BatchNorm refuses a remainder of one poster.
                for part in torch.arange(len(targets)).tensor_split(math.ceil(len(targets) / self.micro_batch)):
                    share = len(part) / len(targets)
                    whole = len(part) == len(targets)
                    rows = [self.device.put(tensor if whole else tensor[part]) for tensor in inputs]
                    with self.device.autocast():
                        logits = self.call(*(as_float(tensor) for tensor in rows))
                    loss = self.loss(logits, self.device.put(targets if whole else targets[part])) * share
                    self.scaler.scale(loss + self._l1() * share).backward()  # type: ignore[no-untyped-call]
                    total += loss.detach()
                return total
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                self._halve(len(targets), error)

    def _l1(self) -> Tensor | float:
        if not self.config.l1:
            return 0.0
        matrices = [parameter.abs().sum() for parameter in self.network.head.parameters() if parameter.ndim > 1]
        return self.config.l1 * torch.stack(matrices).sum()

    def _halve(self, batch: int, error: BaseException) -> None:
        if self.micro_batch == self._least_posters():
            raise ResourceError(
                f"Expected memory for {self.micro_batch} posters at once, and even that did not fit: choose a smaller "
                "backbone, image_size or width, or unfreeze fewer stages in the search space."
            ) from error
        self.micro_batch = max(self._least_posters(), min(self.micro_batch, batch) // 2)
        if self.device.device.type == "cuda":
            torch.cuda.empty_cache()

    def _least_posters(self) -> int:
        """A BatchNorm in training refuses one poster, which near-equal parts of three and more never are."""
        norms = (module for module in self.network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
        return 3 if any(norm.training for norm in norms) else 1


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return "not enough memory" in str(error) or "out of memory" in str(error) or "can't allocate" in str(error)
