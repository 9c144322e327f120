"""What a user of Optuna or of Ray Tune writes either way: data set, network and epochs, as PyTorch's and timm's pages.

The recipe is the write-up's: five epochs with the backbone frozen, then all of it at a tenth of the learning rate,
until F1 on val has not risen for five epochs; focal loss, AdamW, one threshold for all labels, chosen on val.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import timm.utils
import torch
from PIL import Image
from sklearn.metrics import f1_score
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.ops import sigmoid_focal_loss

BACKBONES = ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"]
FROZEN_EPOCHS, MAX_EPOCHS, PATIENCE, BATCH_SIZE = 5, 30, 5, 32
TRUNK = ["conv_stem", "bn1", "blocks", "conv_head", "bn2"]


class Posters(Dataset):
    """The posters of one part."""

    def __init__(self, table: pd.DataFrame, part: str, transform: transforms.Compose) -> None:
        table = table[table["part"] == part]
        self.paths = table["path"].tolist()
        self.targets = table.drop(columns=["path", "part"]).to_numpy("float32")
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, np.ndarray]:
        return self.transform(Image.open(self.paths[row]).convert("RGB")), self.targets[row]


@dataclass
class Epoch:
    """What an epoch has come to."""

    number: int
    f1: float
    threshold: float
    val: np.ndarray
    network: torch.nn.Module


def create_network(settings: dict, n_labels: int, weights: Path) -> torch.nn.Module:
    name = settings["backbone"]
    file = {"file": str(weights / f"{name}.safetensors")}
    return timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay=file, num_classes=n_labels, drop_rate=settings["dropout"]
    )


def create_loader(table: pd.DataFrame, part: str, network: torch.nn.Module) -> DataLoader:
    config = timm.data.resolve_model_data_config(network)
    flip = [transforms.RandomHorizontalFlip()] if part == "train" else []
    resize = transforms.Resize(config["input_size"][1:])
    normalize = transforms.Normalize(config["mean"], config["std"])
    posters = Posters(table, part, transforms.Compose([resize, *flip, transforms.ToTensor(), normalize]))
    return DataLoader(posters, BATCH_SIZE, shuffle=part == "train", num_workers=2)


def train(settings: dict, table: pd.DataFrame, weights: Path, check: Callable[[], None]) -> Iterator[Epoch]:
    torch.manual_seed(0)
    network = create_network(settings, table.shape[1] - 2, weights)
    loaders = {part: create_loader(table, part, network) for part in ("train", "val")}
    targets = loaders["val"].dataset.targets
    timm.utils.freeze(network, TRUNK)
    optimizer = create_optimizer(network, settings, settings["lr"])
    best, since_best = 0.0, 0
    for number in range(1, MAX_EPOCHS + 1):
        if number == FROZEN_EPOCHS + 1:
            timm.utils.unfreeze(network, TRUNK)
            optimizer = create_optimizer(network, settings, settings["lr"] / 10)
        train_epoch(network, loaders["train"], optimizer, settings, check)
        probabilities = predict(network, loaders["val"], check)
        f1, threshold = best_threshold(probabilities, targets)
        yield Epoch(number, f1, threshold, probabilities, network)
        best, since_best = (f1, 0) if f1 > best else (best, since_best + 1)
        if since_best == PATIENCE:
            return


def create_optimizer(network: torch.nn.Module, settings: dict, lr: float) -> torch.optim.Optimizer:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=lr, weight_decay=settings["weight_decay"])


def train_epoch(
    network: torch.nn.Module,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    settings: dict,
    check: Callable[[], None],
) -> None:
    network.train()
    for images, targets in loader:
        check()  # measured
        loss = sigmoid_focal_loss(network(images), targets, settings["alpha"], settings["gamma"], reduction="mean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.inference_mode()
def predict(network: torch.nn.Module, loader: DataLoader, check: Callable[[], None]) -> np.ndarray:
    network.eval()
    outputs = []
    for images, _ in loader:
        check()  # measured
        outputs.append(network(images).sigmoid())
    return torch.cat(outputs).numpy()


def best_threshold(probabilities: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    scores = {
        float(threshold): f1_score(targets, probabilities >= threshold, average="macro", zero_division=0)
        for threshold in np.arange(0.01, 1.0, 0.01)
    }
    threshold = max(scores, key=scores.get)
    return scores[threshold], threshold
