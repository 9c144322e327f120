"""One trial, independent of Optuna and MLflow: configuration → trained classifier, thresholds and scores.

Phase one trains a head on cached features of the frozen backbones; phase two, where ``unfreeze`` asks for it, trains
that head and the unfrozen stages from cached activations. Thresholds are part of the trial. After every epoch the
objective (``hpo.trial.objective``) is the chosen metric at thresholds fitted there, because F1 at 0.5 ranks trials
almost at random; the best epoch of either phase is kept, and every threshold strategy is scored on it. A trial on one
val part so chooses its epoch on the posters that it is judged on, which is optimistic; folds
(``cross_validation.py``) are judged at epochs that other posters chose, for which the probabilities of every epoch are
returned.

Phase two takes minutes and leaves a checkpoint after every epoch. A trial that is run again after a kill trains phase
one again, which takes seconds and comes out the same, and continues after the last epoch that phase two had finished.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from hpo.data.dataset import Part
from hpo.evaluation.metrics import Scores
from hpo.evaluation.thresholds import STRATEGIES
from hpo.model.classifier import Classifier, Ensemble, Network, build_head
from hpo.model.config import TrialConfig
from hpo.model.heads.head import Head
from hpo.model.training.checkpoint import Checkpoint, Checkpoints, EpochResult, content_key
from hpo.model.training.dataloader import Examples
from hpo.model.training.finetune import FineTuned
from hpo.model.training.loop import finetune_phase, train, train_head
from hpo.model.training.optim import StateDict, greedy_soup
from hpo.runtime import profiling as timeline
from hpo.runtime.atomic import Array
from hpo.trial.features import FeatureSource, predicted_views, train_views
from hpo.trial.objective import FINETUNE_STEP, EvaluationResult, Objective, judge


class Pruned(Exception):
    """The study stopped a trial ``where`` it was clearly behind: after epoch 7, or after fold 3."""

    def __init__(self, where: str) -> None:
        super().__init__(f"clearly behind other trials after {where}")
        self.where = where


# Which epochs of a phase may become its outcome: the best one, the newest where its length was given, or a soup.

SOUP_EPOCHS = 5  # candidates for a soup


@dataclass(frozen=True, eq=False)
class JudgedEpoch:
    """What an epoch is worth on the posters that it is judged on, and its probabilities of them."""

    value: float  # of the objective
    probabilities: Array  # (N_val, L)


@dataclass(frozen=True, eq=False)
class KeptEpoch:
    """An epoch with its weights."""

    value: float = -1.0  # of the objective
    epoch: int = 0  # from 1, in its phase
    probabilities: Array = field(default_factory=lambda: np.empty(0))  # (N_val, L)
    weights: StateDict = field(default_factory=dict)


class BestEpochs:
    """The epochs of a phase in progress whose weights are kept.

    Made of values alone, so that the epochs before a stop, reported again, lead to the same choice.
    """

    def __init__(self, *, soup: bool, newest: bool) -> None:
        self._newest, self._n_candidates = newest, SOUP_EPOCHS if soup and not newest else 0
        self.best = KeptEpoch()
        self.judged: list[JudgedEpoch] = []  # every epoch, in order
        self._candidates: list[KeptEpoch] = []  # of a soup, best first

    def take(self, value: float, result: EpochResult) -> None:
        """Note what ``result`` is worth, and keep its weights if they may be wanted."""
        self.judged.append(JudgedEpoch(value, result.val_probabilities))
        better = value > self.best.value or self._newest
        if not better and not self._n_candidates:
            return
        kept = KeptEpoch(value, result.epoch, result.val_probabilities, result.weights())
        if better:
            self.best = kept
        if self._n_candidates:
            ranked = sorted([*self._candidates, kept], key=lambda candidate: -candidate.value)
            self._candidates = ranked[: self._n_candidates]

    def weights(self) -> Mapping[int, StateDict]:
        """Return those that are kept, by epoch."""
        return {kept.epoch: kept.weights for kept in (self.best, *self._candidates)}

    def outcome(self, last: EpochResult, value_of: Callable[[Array], float]) -> KeptEpoch:
        """Put the weights of the best epoch, or of the soup, into ``last.evaluated`` and return them."""
        best = self._soup(last, value_of) if self._candidates else self.best
        last.evaluated.load_state_dict(best.weights)
        return best

    def _soup(self, last: EpochResult, value_of: Callable[[Array], float]) -> KeptEpoch:
        """Average the best epochs for as long as that helps on val."""

        def value_with(weights: StateDict) -> float:
            last.evaluated.load_state_dict(weights)
            return value_of(last.predict_val())

        ingredients = [(candidate.value, candidate.weights) for candidate in self._candidates]
        value, weights, _ = greedy_soup(ingredients, value_with)
        last.evaluated.load_state_dict(weights)
        return replace(self.best, value=value, probabilities=last.predict_val(), weights=weights)


PhaseName = Literal["frozen", "finetune"]


@dataclass(frozen=True)
class EpochReport:
    """What callbacks, the pruner and MLflow learn of one epoch."""

    phase: PhaseName
    epoch: int  # from 1, through both phases
    step: int  # the same for equal epochs of equal phases
    value: float  # the objective after this epoch
    train_loss: float
    scores: Scores  # on val, at the thresholds of this epoch
    learning_rate: float
    micro_batch: int  # posters at once; less than the batch where memory ran out
    fold: int = 0  # of cross-validation


Report = Callable[[EpochReport], None]  # raises to stop the trial, which is how a study prunes
ReportFold = Callable[[int, float], None]  # of a fold, from 0, its value at its own best epoch; raises likewise
Epochs = Mapping[PhaseName, int]  # how long each phase is trained; a phase that is not named is left out


@dataclass(frozen=True, eq=False)
class TrialInputs:
    """All that a trial needs besides its configuration.

    ``epochs`` gives each phase its length, and then no validation poster has a say in when to stop. ``checkpoints``
    are written in phase two, and are the caller's to discard when the trial has ended for good; by default none are.
    """

    train: Part
    val: Part
    source: FeatureSource
    objective: Objective
    seed: int
    report: Report = lambda _: None  # called after every epoch
    report_fold: ReportFold = lambda *_: None  # called after every fold of cross-validation
    epochs: Epochs | None = None
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    fold: int = 0  # that this trial is, of cross-validation


@dataclass(frozen=True, eq=False)
class TrialResult:
    """A finished trial: everything that is logged, kept or deployed of it."""

    config: TrialConfig
    objective: Objective
    value: float  # of the objective: of the best epoch, or of those that the other folds chose
    phase: PhaseName  # of the best epoch
    best_epoch: int
    n_epochs: int
    epochs: Epochs  # that lead to the best one
    judged_on: Part  # val; for folds, train and val out of fold
    val_probabilities: Array  # (N, L) of these posters
    judged_epochs: Mapping[PhaseName, Sequence[JudgedEpoch]]  # every epoch on these posters; of folds none
    classifiers: tuple[Classifier, ...]  # several where folds are averaged
    seconds: dict[str, float]  # features, training, activations, finetuning
    micro_batch: int

    @cached_property
    def strategies(self) -> dict[str, EvaluationResult]:
        """Every threshold strategy on the posters that the trial is judged on, fitted when first asked for."""
        probabilities, targets = self.val_probabilities, self.judged_on.targets
        return {name: judge(name, probabilities, targets, self.objective.metric) for name in STRATEGIES}

    @property
    def judged(self) -> EvaluationResult:
        """The strategy that the objective and a bundle use."""
        return self.strategies[self.objective.strategy]

    @property
    def network(self) -> Network:
        """What is deployed: the classifier, or the mean of several."""
        if len(self.classifiers) == 1:
            return self.classifiers[0]
        return Ensemble.of([(classifier, 1.0) for classifier in self.classifiers])


class _Trial:
    """A trial in progress: its phases one after the other, and how long each took."""

    def __init__(self, config: TrialConfig, inputs: TrialInputs) -> None:
        self.config, self.inputs = config, inputs
        self.source, self.objective, self.seed = inputs.source, inputs.objective, inputs.seed
        self.train_part, self.val_part, self.fixed_epochs = inputs.train, inputs.val, inputs.epochs
        self.targets = torch.from_numpy(self.train_part.targets.astype(np.float32))
        self.backbones = self.source.backbones(config)
        self.seconds: dict[str, float] = {}
        self.judged_epochs: dict[PhaseName, list[JudgedEpoch]] = {}
        self.n_epochs, self.micro_batch = 0, config.batch_size

    def has_second_phase(self) -> bool:
        if self.fixed_epochs is not None:
            return "finetune" in self.fixed_epochs
        return self.config.unfreeze != "none"

    def second_head(self, trained: Head) -> Head:
        """Return the head that phase two begins with: never the one of phase one itself, which may be the better.

        One that was trained to the end has learned the training posters by heart and leaves the stages little to
        learn from; a new one, whose output layer says nothing but the labels' frequencies, does not.
        """
        if self.config.finetune_start == "trained":
            return copy.deepcopy(trained)
        torch.manual_seed(self.seed)
        new = build_head(self.backbones, self.targets.shape[1], self.config)
        new.standardise.load_state_dict(trained.standardise.state_dict())
        new.start_at_frequencies(self.targets)
        return new

    def prepare_finetuning(
        self, head: Head, features: Tensor, val_features: Tensor
    ) -> tuple[FineTuned, Examples, Examples]:
        """Return the network of phase two with ``head``, and its examples of train and of val."""
        config = self.config
        with self.stage("activations"):
            points = [self.source.freeze_point(backbone, config.unfreeze) for backbone in self.backbones]
            # Where all of a backbone is trained, posters are augmented afresh, and stored views are not needed.
            views = train_views(config)[: 1 if config.unfreeze == "everything" else None]
            network = FineTuned(self.backbones, points, head, config)
            examples = self.source.stored(config, self.train_part, views, features)
            val = self.source.stored(config, self.val_part, predicted_views(config), val_features)
        return network, examples, val

    def key(self, network: FineTuned, first_best: int) -> str:
        """Name phase two by all that decides how it goes.

        What phase one gave is named by its epochs, and not by its weights, which another number of threads rounds
        otherwise.
        """
        facts = {
            "config": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "objective": asdict(self.objective),
            "epochs": self.fixed_epochs and dict(self.fixed_epochs),
            "phase one": [first_best, self.n_epochs],
            "backbones": [backbone.fingerprint() for backbone in self.backbones],
            "network": {name: list(tensor.shape) for name, tensor in network.state_dict().items()},
        }
        parts = (self.train_part, self.val_part)
        digests = [b"".join(part.posters.digests) for part in parts]
        return content_key(facts, [*digests, *(part.targets.tobytes() for part in parts)])

    def run_phase(
        self, phase: PhaseName, epochs: Iterator[EpochResult], checkpoint: Checkpoint
    ) -> tuple[KeptEpoch, nn.Module]:
        """Run a phase until it ends or patience does; return its best epoch and the network with those weights.

        Where its length is given, the last epoch is what was asked for, whatever it is worth. Epochs of before a stop
        are reported again, since the pruner and MLflow see a trial of their own, which would begin in the middle.
        """
        length, before = None if self.fixed_epochs is None else self.fixed_epochs[phase], self.n_epochs
        found = BestEpochs(soup=self.config.averaging == "soup", newest=length is not None)
        for result in epochs:
            value, judged = self.objective.judge(result.val_probabilities, self.val_part.targets)
            found.take(value, result)
            checkpoint.keep(result, found.weights())
            self.n_epochs, self.micro_batch = before + result.epoch, result.micro_batch
            self.inputs.report(self._report_of(phase, result, value, judged.scores))
            if result.epoch == length or result.epoch - found.best.epoch >= self.config.patience:
                break
        self.judged_epochs[phase] = found.judged
        best = found.outcome(result, lambda rows: self.objective.judge(rows, self.val_part.targets)[0])
        return replace(best, epoch=before + best.epoch), result.evaluated.cpu()  # where backbones and bundles are

    def _report_of(self, phase: PhaseName, result: EpochResult, value: float, scores: Scores) -> EpochReport:
        return EpochReport(
            phase,
            self.n_epochs,
            result.epoch + (FINETUNE_STEP if phase == "finetune" else 0),
            value,
            result.train_loss,
            scores,
            result.learning_rate,
            result.micro_batch,
            self.inputs.fold,
        )

    def result(
        self,
        phase: PhaseName,
        best: KeptEpoch,
        lengths: Epochs,
        classifier: Classifier,
    ) -> TrialResult:
        return TrialResult(
            config=self.config,
            objective=self.objective,
            value=best.value,
            phase=phase,
            best_epoch=best.epoch,
            n_epochs=self.n_epochs,
            epochs=lengths,
            judged_on=self.val_part,
            val_probabilities=best.probabilities,
            judged_epochs=self.judged_epochs,
            classifiers=(classifier,),
            seconds=self.seconds,
            micro_batch=self.micro_batch,
        )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the seconds inside as those of a stage."""
        began = time.perf_counter()
        with timeline.stage(name):
            yield
        self.seconds[name] = time.perf_counter() - began


def _head_of(trained: nn.Module) -> Head:
    head = trained.head
    if not isinstance(head, Head):
        raise TypeError(f"expected a network around a Head, got {type(head).__name__}")
    return head


def run_trial(config: TrialConfig, inputs: TrialInputs) -> TrialResult:
    """Train one classifier and evaluate it. Whatever ``inputs.report`` raises stops the trial and is raised here."""
    trial = _Trial(config, inputs)
    phase: PhaseName = "frozen"
    with trial.stage("features"):
        examples = inputs.source.examples(config, inputs.train, train_views(config))
        val = inputs.source.examples(config, inputs.val, predicted_views(config))
    with trial.stage("training"):
        torch.manual_seed(inputs.seed)  # the same start for every trial: what differs is the configuration
        head = build_head(trial.backbones, trial.targets.shape[1], config)
        epochs = train_head(head, examples, trial.targets, val, config, inputs.seed)
        best, trained = trial.run_phase("frozen", epochs, Checkpoint())
        head = _head_of(trained)
    classifier = Classifier(trial.backbones, head, config)
    lengths: dict[PhaseName, int] = {"frozen": best.epoch}
    first_epochs = trial.n_epochs
    if trial.has_second_phase():
        network, examples, val = trial.prepare_finetuning(trial.second_head(head), examples.features, val.features)
        with trial.stage("finetuning"):
            how = finetune_phase(network, config, inputs.seed)
            checkpoint = inputs.checkpoints.open(trial.key(network, best.epoch))
            epochs = train(network, examples, trial.targets, val, how, config, inputs.seed, checkpoint.past)
            tuned, trained = trial.run_phase("finetune", epochs, checkpoint)
            network.cpu().load_state_dict(trained.state_dict())
        trial.seconds["finetuning"] += checkpoint.past_seconds  # before a kill: a part of what the trial costs
        if tuned.value > best.value or inputs.epochs is not None:
            lengths["finetune"] = tuned.epoch - first_epochs
            phase, best, classifier = "finetune", tuned, network.classifier()
    return trial.result(phase, best, lengths, classifier)
