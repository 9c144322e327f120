"""AutoGluon MultiModal: it has no multi-label problem, so one predictor a label, as its tabular tutorial has it.

Weights: `model.timm_image.checkpoint_name` may be a folder with a `config.json` and a `pytorch_model.bin`, as its own
`dump_model` writes one; anything else is downloaded from a hub. `fit` trains one configuration and searches nothing
unless asked to, so there are no trials to count.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from autogluon.multimodal import MultiModalPredictor
from record import Record, asked  # measured
from safetensors.torch import load_file

BACKBONE = "tf_efficientnet_lite0"


def local_checkpoint(weights: Path) -> str:
    folder = Path(BACKBONE)
    folder.mkdir()
    network = timm.create_model(BACKBONE, num_classes=0)
    network.load_state_dict(load_file(weights / f"{BACKBONE}.safetensors"), strict=False)
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    config = {key: network.pretrained_cfg[key] for key in ("input_size", "mean", "std", "interpolation", "crop_pct")}
    named = {"architecture": BACKBONE, "num_features": network.num_features, "pretrained_cfg": config}
    (folder / "config.json").write_text(json.dumps(named))
    return str(folder.resolve())


if __name__ == "__main__":
    given = asked()  # measured
    record = Record(given)  # measured
    table = pd.read_csv(given.posters)
    train, val, test = (table[table["part"] == part] for part in ("train", "val", "test"))
    labels = list(table.columns[2:])
    hyperparameters = {
        "model.names": ["timm_image"],
        "model.timm_image.checkpoint_name": local_checkpoint(given.weights),
    }
    predictors = []
    for n, label in enumerate(labels):
        columns = ["path", label]
        predictor = MultiModalPredictor(label=label, problem_type="binary", path=f"predictor{n}")
        predictor.fit(
            train[columns],
            tuning_data=val[columns],
            time_limit=given.minutes * 60 / len(labels),
            hyperparameters=hyperparameters,
        )
        predictors.append(predictor)
    seconds = record.seconds()  # measured
    on_val, on_test = (
        np.column_stack([predictor.predict_proba(part[["path"]])[1] for predictor in predictors])
        for part in (val, test)
    )
    record.result(0.5, on_val, on_test, seconds)  # measured
