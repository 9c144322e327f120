"""Ray Tune with its Optuna searcher and ASHA: the training function of `loop`, a checkpoint an epoch.

A trial has one CPU, Ray's own default, so as many trials run side by side as there are cores.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from loop import BACKBONES, FROZEN_EPOCHS, MAX_EPOCHS, create_loader, create_network, predict, train
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from record import Record, asked  # measured
from safetensors.torch import load_file, save_file

SPACE = {
    "backbone": tune.choice(BACKBONES),
    "lr": tune.loguniform(1e-4, 1e-2),
    "dropout": tune.uniform(0.0, 0.5),
    "weight_decay": tune.loguniform(1e-5, 1e-1),
    "gamma": tune.uniform(0.0, 3.0),
    "alpha": tune.uniform(0.25, 0.75),
}
WEIGHTS = "model.safetensors"


def trainable(settings: dict, table: pd.DataFrame, weights: Path, record: Record) -> None:
    for epoch in train(settings, table, weights, lambda: None):
        with tempfile.TemporaryDirectory() as folder:
            save_file(epoch.network.state_dict(), Path(folder) / WEIGHTS)
            np.save(Path(folder) / "val.npy", epoch.val)  # measured
            tune.report(
                {
                    "f1": epoch.f1,
                    "threshold": epoch.threshold,
                    "seconds": record.seconds(),  # measured
                },
                checkpoint=tune.Checkpoint.from_directory(folder),
            )


def predict_test(settings: dict, weights: Path) -> np.ndarray:
    network = create_network(settings, table.shape[1] - 2, given.weights)
    network.load_state_dict(load_file(weights))
    return predict(network, create_loader(table, "test", network), lambda: None)


def keep(results: tune.ResultGrid) -> None:  # measured
    for result in results:  # measured
        for checkpoint, metrics in result.best_checkpoints or []:  # measured
            val = np.load(Path(checkpoint.path) / "val.npy")  # measured
            said = {"settings": result.config, "threshold": metrics["threshold"], "val": val}  # measured
            weights = Path(checkpoint.path) / WEIGHTS  # measured
            record.keep_file(weights, metrics["seconds"], metrics["f1"], **said)  # measured


class Ended(tune.Callback):  # measured
    def on_trial_complete(self, iteration: int, trials: list, trial: object, **info: object) -> None:  # measured
        record.trial()  # measured


if __name__ == "__main__":
    given = asked()  # measured
    record = Record(given)  # measured
    table = pd.read_csv(given.posters)
    tuner = tune.Tuner(
        tune.with_parameters(trainable, table=table, weights=given.weights, record=record),
        param_space=SPACE,
        tune_config=tune.TuneConfig(
            metric="f1",
            mode="max",
            search_alg=OptunaSearch(),
            scheduler=ASHAScheduler(max_t=MAX_EPOCHS, grace_period=FROZEN_EPOCHS),
            num_samples=-1,
            time_budget_s=record.left(),
        ),
        run_config=tune.RunConfig(
            callbacks=[Ended()],  # measured
        ),
    )
    results = tuner.fit()
    keep(results)  # measured
    record.finish(predict_test)
