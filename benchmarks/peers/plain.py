"""Plain Optuna + timm + DataLoader + MLflow, as the public examples of each do it.

A study of `optuna.create_study` with a pruner that hears of every epoch; a nested MLflow run a trial; the best weights
of a trial as its artifact.
"""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import optuna
import pandas as pd
from loop import BACKBONES, create_loader, create_network, predict, train
from record import Record, TimeUp, asked  # measured
from safetensors.torch import load_file, save_file

given = asked()  # measured
record = Record(given)  # measured
table = pd.read_csv(given.posters)


def objective(trial: optuna.Trial) -> float:
    settings = {
        "backbone": trial.suggest_categorical("backbone", BACKBONES),
        "lr": trial.suggest_float("lr", 1e-4, 1e-2, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "weight_decay": trial.suggest_float("weight_decay", 1e-5, 1e-1, log=True),
        "gamma": trial.suggest_float("gamma", 0.0, 3.0),
        "alpha": trial.suggest_float("alpha", 0.25, 0.75),
    }
    best = 0.0
    with mlflow.start_run(run_name=f"trial {trial.number}", nested=True):
        mlflow.log_params(settings)
        for epoch in train(settings, table, given.weights, record.check):
            said = {"settings": settings, "threshold": epoch.threshold, "val": epoch.val}  # measured
            record.keep(epoch.network, epoch.f1, **said)  # measured
            mlflow.log_metrics({"val_f1_macro": epoch.f1, "threshold": epoch.threshold}, step=epoch.number)
            if epoch.f1 > best:
                best = epoch.f1
                save_file(epoch.network.state_dict(), "best.safetensors")
            trial.report(epoch.f1, epoch.number)
            if trial.should_prune():
                raise optuna.TrialPruned
        mlflow.log_metric("best_val_f1_macro", best)
        mlflow.log_artifact("best.safetensors")
    return best


def predict_test(settings: dict, weights: Path) -> np.ndarray:
    network = create_network(settings, table.shape[1] - 2, given.weights)
    network.load_state_dict(load_file(weights))
    return predict(network, create_loader(table, "test", network), lambda: None)


if __name__ == "__main__":
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    mlflow.set_experiment("posters")
    pruner = optuna.pruners.MedianPruner(n_warmup_steps=5)
    study = optuna.create_study(direction="maximize", pruner=pruner, storage="sqlite:///optuna.db")
    try:  # measured
        with mlflow.start_run(run_name="study"):
            note = [lambda study, trial: record.trial()]  # measured
            study.optimize(objective, timeout=given.minutes * 60, callbacks=note)
    except TimeUp:  # measured
        pass  # measured
    record.finish(predict_test)
