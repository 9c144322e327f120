from __future__ import annotations

import os
import resource
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hpo.model.heads.head import Head
from hpo.model.training.checkpoint import (
    Checkpoint,
    Checkpoints,
    EpochResult,
    Past,
    content_key,
    optimizer_tensors,
    restore_optimizer,
)
from hpo.model.training.dataloader import Examples
from hpo.model.training.finetune import HeadAlone
from hpo.model.training.loop import head_phase, train

N_POSTERS, N_FEATURES, N_LABELS = 120, 12, 3
KEY = "0123abcd"


@pytest.fixture(scope="module")
def drawing(config):
    """Hyperparameters of a training that draws from every generator and whose learning rate moves."""
    update = {
        "epochs": 4, "dropout": 0.3, "mixup": 0.4, "feature_noise": 0.1, "schedule": "one_cycle", "averaging": "ema",
        "clip_norm": 1.0,
    }  # fmt: skip
    return config.model_copy(update=update)


def training(config, past: Past | None = None) -> Iterator[EpochResult]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(N_POSTERS, N_FEATURES, generator=generator)
    targets = (features[:, :N_LABELS] + torch.randn(N_POSTERS, N_LABELS, generator=generator) > 1).float()
    torch.manual_seed(0)
    network = HeadAlone(Head(N_FEATURES, N_LABELS, config))
    examples = Examples(N_POSTERS, features)
    return train(network, examples, targets, examples, head_phase(network.head, config), config, 0, past)


def stopped_after(epochs: int, file: Path, config) -> EpochResult:
    """Train so many epochs, keep each, and return the last."""
    checkpoint = Checkpoint(file)
    for result in islice(training(config), epochs):
        checkpoint.keep(result, {result.epoch: result.weights()})
    return result


@pytest.fixture
def file(tmp_path, drawing) -> Path:
    """The checkpoint of a training that was stopped after two epochs of four."""
    path = tmp_path / "checkpoints" / f"{KEY}.safetensors"
    stopped_after(2, path, drawing)
    return path


@pytest.mark.parametrize("averaging", ["none", "ema"])
@pytest.mark.parametrize("n_before", [1, 3, 4])
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, drawing, n_before, averaging):
    config = drawing.model_copy(update={"averaging": averaging})
    whole = [(r.train_loss, r.learning_rate, r.val_probabilities, r.weights()) for r in training(config)]
    stopped_after(n_before, tmp_path / "x.safetensors", config)
    again = list(training(config, Checkpoint(tmp_path / "x.safetensors").past))
    assert [result.epoch for result in again] == [1, 2, 3, 4]
    for (loss, rate, probabilities, _), result in zip(whole, again, strict=True):
        assert (result.train_loss, result.learning_rate) == (loss, rate)
        np.testing.assert_array_equal(result.val_probabilities, probabilities)
    last_weights = whole[-1][3]
    assert all(torch.equal(tensor, last_weights[name]) for name, tensor in again[-1].weights().items())


def test_epochs_of_the_past_are_told_and_not_trained(file, drawing):
    past = Checkpoint(file).past
    resumed = training(drawing, past)
    first = next(resumed)
    at_the_stop = {name: tensor.clone() for name, tensor in first.evaluated.state_dict().items()}
    assert first.weights() == {}  # only the weights of the second were kept
    second = next(resumed)
    assert all(torch.equal(tensor, at_the_stop[name]) for name, tensor in second.evaluated.state_dict().items())
    assert all(torch.equal(tensor, at_the_stop[name]) for name, tensor in second.weights().items())
    np.testing.assert_array_equal(second.predict_val(), second.val_probabilities)
    third = next(resumed)
    assert not all(torch.equal(tensor, at_the_stop[name]) for name, tensor in third.evaluated.state_dict().items())


def test_the_seconds_of_the_past_count_towards_the_limit_of_a_phase(file, drawing):
    limited = drawing.model_copy(update={"max_seconds": 1e-9})
    assert [result.epoch for result in training(limited, Checkpoint(file).past)] == [1, 2]


def test_moments_keep_the_memory_layout_of_their_parameters():
    # Fused AdamW would pair the wrong numbers without a word; only in a convolution's kernel do layouts differ.
    kernels = [torch.nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last) for _ in range(2)]
    optimizers = [torch.optim.AdamW(kernel.parameters(), lr=0.1, fused=True) for kernel in kernels]
    posters = torch.randn(1, 4, 10, 10, generator=torch.Generator().manual_seed(0))

    def step(at: int) -> None:
        optimizers[at].zero_grad()
        kernels[at](posters).square().mean().backward()
        optimizers[at].step()

    step(0)
    kernels[1].load_state_dict(kernels[0].state_dict())
    moments = optimizer_tensors(optimizers[0]).items()
    restore_optimizer(optimizers[1], {n: t.clone(memory_format=torch.contiguous_format) for n, t in moments})
    step(0)
    step(1)
    assert torch.equal(kernels[0].weight, kernels[1].weight)


# The file


def test_the_file_holds_tensors_and_json_alone(file):
    with safe_open(file, "pt") as opened:
        assert set(opened.metadata()) == {"key", "numbers", "figures", "epochs"}
    assert {name.partition(".")[0] for name in load_file(file)} == {"state", "probabilities", "weights"}
    assert [path.name for path in file.parent.iterdir()] == [file.name]  # no temporary left


def test_a_new_file_is_no_past(tmp_path):
    assert Checkpoint(tmp_path / "absent.safetensors").past is None
    assert Checkpoint().past is None


@pytest.mark.parametrize("n_bytes", [0, 7, 500, -1])
def test_a_torn_file_counts_as_absent_and_is_replaced(file, drawing, n_bytes):
    file.write_bytes(file.read_bytes()[:n_bytes])
    assert Checkpoint(file).past is None
    stopped_after(1, file, drawing)
    assert len(Checkpoint(file).past.figures) == 1


def test_a_file_of_another_training_or_format_counts_as_absent(file):
    other = file.with_stem("another")
    other.write_bytes(file.read_bytes())
    assert Checkpoint(other).past is None
    save_file(load_file(file), file, {"key": KEY, "numbers": "{}", "figures": "[]", "epochs": "[]"})
    assert Checkpoint(file).past is None
    save_file(load_file(file), file)
    assert Checkpoint(file).past is None


def test_epochs_of_the_past_are_not_written_again(file, drawing):
    before = file.read_bytes()
    checkpoint = Checkpoint(file)
    resumed = training(drawing, checkpoint.past)
    for result in islice(resumed, 2):
        checkpoint.keep(result, {})
    assert file.read_bytes() == before
    third = next(resumed)
    checkpoint.keep(third, {3: third.weights()})
    past = Checkpoint(file).past
    assert len(past.figures) == len(past.probabilities) == 3
    assert past.seconds == pytest.approx(sum(figures.seconds for figures in past.figures))
    assert list(past.weights) == [3]


@contextmanager
def at_most(n_bytes: int):
    """Let the operating system refuse larger files, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_the_checkpoint_and_not_the_trial(file, drawing):
    before = file.read_bytes()
    checkpoint = Checkpoint(file)
    results = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for result in training(drawing, checkpoint.past):
            with at_most(1000):
                checkpoint.keep(result, {result.epoch: result.weights()})
            results.append(result.epoch)
    assert results == [1, 2, 3, 4]
    assert [str(warning.message).count("could not be written") for warning in caught] == [1]
    assert file.read_bytes() == before  # still good for the second epoch
    assert list(file.parent.iterdir()) == [file]


def test_what_was_left_behind_is_removed_when_a_new_one_begins(tmp_path, drawing):
    old, fresh, torn = (tmp_path / name for name in ("old.safetensors", "fresh.safetensors", "x.tmp"))
    for path in (old, fresh, torn):
        path.touch()
    for path in (old, torn):
        os.utime(path, (time.time() - 15 * 24 * 3600,) * 2)
    stopped_after(1, tmp_path / "new.safetensors", drawing)
    assert {path.name for path in tmp_path.iterdir()} == {"fresh.safetensors", "new.safetensors"}


def test_the_checkpoints_of_a_trial_are_discarded_together(tmp_path, drawing):
    checkpoints = Checkpoints(tmp_path)
    opened = [checkpoints.open(key) for key in ("one", "two", "never_written")]
    (tmp_path / "another_trials.safetensors").touch()
    result = next(training(drawing))
    for checkpoint in opened[:2]:
        checkpoint.keep(result, {})
    assert len(list(tmp_path.iterdir())) == 3
    checkpoints.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["another_trials.safetensors"]


def test_without_a_folder_nothing_is_written(drawing):
    checkpoints = Checkpoints()
    checkpoint = checkpoints.open(KEY)
    checkpoint.keep(next(training(drawing)), {})
    checkpoints.discard()
    assert checkpoint.past is None


def test_a_key_is_made_of_facts_and_contents():
    key = content_key({"seed": 0}, [b"train", b"val"])
    assert content_key({"seed": 0}, [b"train", b"val"]) == key
    others = [({"seed": 1}, [b"train", b"val"]), ({"seed": 0}, [b"trainv", b"al"]), ({"seed": 0}, [b"val", b"train"])]
    assert len({key, *(content_key(*other) for other in others)}) == 4
