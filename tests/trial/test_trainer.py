from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hpo.model.training.checkpoint import Checkpoint
from hpo.trial.objective import Objective
from hpo.trial.trainer import MOST_HELD, Trainer
from hpo.trial.trial import EpochReport, Pruned


@pytest.fixture
def tuned(config):
    """A trial of one epoch of phase one and two of phase two."""
    update = {"epochs": 1, "unfreeze": "last_stage", "finetune_epochs": 2, "finetune_batch_size": 8}
    return config.model_copy(update=update)


@pytest.fixture
def trainer(tmp_path, parts, source) -> Trainer:
    return Trainer(*parts, source, Objective("mean_ap"), checkpoint_folder=tmp_path)


def raising(error: BaseException, *, fold: int = 0, epoch: int = 2):
    """Return a report that raises in one epoch of one fold."""

    def report(told: EpochReport) -> None:
        if (told.fold, told.epoch) == (fold, epoch):
            raise error

    return report


def left_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ConnectionError("the server is away")])
def test_a_trial_that_may_be_tried_again_keeps_its_checkpoint_until_it_completes(tmp_path, trainer, tuned, error):
    with pytest.raises(type(error)):
        trainer.run(tuned, 0, raising(error))
    (left,) = left_in(tmp_path)
    assert len(Checkpoint(left).past.figures) == 1
    trainer.run(tuned, 0)
    assert [*tmp_path.iterdir()]  # killed in this moment, before Optuna knows, it would be run again
    trainer.forget()
    assert not left_in(tmp_path)


def test_a_pruned_trial_leaves_no_checkpoint(tmp_path, trainer, tuned):
    with pytest.raises(Pruned):
        trainer.run(tuned, 0, raising(Pruned("epoch 2")))
    assert not left_in(tmp_path)


def test_finished_folds_are_kept_until_the_trial_ends(tmp_path, parts, source, tuned):
    def folds(folder: Path | None) -> Trainer:
        return Trainer(*parts, source, Objective("mean_ap"), 2, "refit", folder)

    with pytest.raises(KeyboardInterrupt):
        folds(tmp_path).run(tuned, 0, raising(KeyboardInterrupt(), fold=1))
    assert sorted(len(Checkpoint(left).past.figures) for left in left_in(tmp_path)) == [1, 2]
    resumed = folds(tmp_path)
    again, whole = resumed.run(tuned, 0), folds(None).run(tuned, 0)
    resumed.forget()
    np.testing.assert_array_equal(again.val_probabilities, whole.val_probabilities)
    assert (again.value, again.epochs) == (whole.value, whole.epochs)
    assert not left_in(tmp_path)


class Counting(Trainer):
    """Says on how many threads it was asked to train."""

    def run(self, config, seed, *reports):
        n_threads.append(torch.get_num_threads())
        return super().run(config, seed, *reports)


n_threads: list[int] = []


def test_a_trial_is_repeated_on_as_many_threads_as_it_had(parts, source, config):
    trainer, before = Counting(*parts, source, Objective("mean_ap")), torch.get_num_threads()
    other = 1 if before > 1 else 2
    torch.set_num_threads(other)
    first = trainer.run(config, 0)
    torch.set_num_threads(before)
    again = Counting(*parts, source, Objective("mean_ap")).repeat(config, 0, other)  # as another process would
    assert (n_threads, torch.get_num_threads()) == ([other, other], before)
    np.testing.assert_array_equal(again.val_probabilities, first.val_probabilities)
    assert trainer.holds(config, 0, other)
    assert not trainer.holds(config, 0, before)
    assert trainer.repeat(config, 0, other) is first  # which is at hand
    assert len(n_threads) == 2


def test_the_best_results_are_held_and_no_more(parts, source, config):
    trainer = Trainer(*parts, source, Objective("mean_ap"))
    configs = [config.model_copy(update={"epochs": 1, "dropout": 0.01 * at}) for at in range(MOST_HELD + 2)]
    values = {one.dropout: trainer.run(one, 0).value for one in configs}
    held = {one.dropout for one in configs if trainer.holds(one, 0, None)}
    assert len(held) == MOST_HELD
    assert min(values[dropout] for dropout in held) >= sorted(values.values())[1]
