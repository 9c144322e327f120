"""Hyperparameters of a trial, with their ranges and meanings.

The names are the keys of ``search_spaces/*.yaml``, of Optuna's trials, of MLflow's params and of ``bundle.json``, so
there is one spelling of each in the whole project. A trial has two phases, as the write-up had: first a head on cached
features of the frozen backbone, then, unless ``unfreeze`` is none, head and unfrozen stages together
(``finetune_...``). Where a default is given it changes nothing: an older file means what it always meant.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from hpo.data.decoding import Fit

Unfreeze: TypeAlias = Literal["none", "last_stage", "last_two_stages", "last_three_stages", "everything"]
FUSE = "+"  # between the names of backbones whose features are concatenated


class TrialConfig(BaseModel):
    """One point of a search space, ready to be trained. Pydantic raises ValidationError outside the ranges."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # posters → features
    backbone: str = Field(description="name of a timm model; a+b fuses two: their features are concatenated")
    image_size: Annotated[int, Field(ge=32, le=1024)] | Literal["native"] = Field(
        description="posters become a square of this side, in px; native is each backbone's own"
    )
    fit: Fit = Field("squash", description="how a poster becomes the square; native is as the backbone was trained")
    flip: Literal["none", "train", "average"] = Field(
        "none", description="mirrored posters: train on them as well, and with average also average both to predict"
    )
    crops: int = Field(0, ge=0, le=8, description="random crops of each poster to train on as well, drawn once")
    crop_scale: float = Field(0.6, gt=0.05, lt=1, description="smallest share of the poster's area in such a crop")
    features: Literal["final", "last_stage", "last_two_stages", "all_stages", "stages_and_final"] = Field(
        description="which depths of the backbone feed the head: its final vector, or pooled stages"
    )
    pooling: Literal["avg", "max", "avg+max", "gem", "attention"] = Field(
        "avg",
        description="how a stage's feature map becomes a vector; gem is the generalised mean (p = 3), attention adds "
        "a learned weighted average over the deepest map to avg",
    )

    # features → logits
    head: Literal["dense", "label_query"] = Field(
        "dense", description="hidden layers on pooled features, or one query per label that attends to the map"
    )
    attention_heads: int = Field(4, ge=1, le=16, description="of a label_query head; must divide width")
    hidden_layers: int = Field(ge=0, le=3, description="dense layers before the output layer")
    width: int = Field(256, ge=8, le=8192, description="units of each hidden layer, or of a label query")
    shape: Literal["constant", "halving"] = Field("constant", description="of the widths, from layer to layer")
    block: Literal["plain", "residual", "gated"] = Field(
        "plain", description="of a hidden layer: x → f(x), x + f(x), or f(x) * sigmoid(g(x))"
    )
    activation: Literal["relu", "gelu", "silu"] = Field("relu", description="after each hidden layer")
    norm: Literal["none", "batch", "layer"] = Field("none", description="before each activation")

    # regularisation
    dropout: float = Field(0.0, ge=0, lt=1, description="after each hidden layer")
    input_dropout: float = Field(ge=0, lt=1, description="on the features")
    weight_decay: float = Field(ge=0, le=10, description="decoupled (AdamW); none on biases and norms")
    l1: float = Field(0.0, ge=0, le=1, description="times the sum of the head's absolute weights, added to the loss")
    feature_noise: float = Field(0.0, ge=0, le=2, description="deviation of noise on the standardised features")
    mixup: float = Field(0.0, ge=0, le=2, description="posters are mixed in pairs, by a share from Beta(m, m)")
    averaging: Literal["none", "ema", "soup"] = Field(
        "none", description="of the weights: a moving average over steps, or the best epochs as long as that helps"
    )
    ema_decay: float = Field(0.99, ge=0.5, lt=1, description="of the moving average, a step")

    # the loss
    label_smoothing: float = Field(ge=0, lt=0.5, description="targets become s/2 and 1 - s/2")
    focal_gamma: float = Field(ge=0, le=8, description="0 is cross-entropy; more looks harder at hard posters")
    focal_gamma_negatives: float | None = Field(
        None, ge=0, le=8, description="gamma of negatives where it differs from that of positives (ASL)"
    )
    focal_alpha: float = Field(gt=0, lt=1, description="weight of positives; negatives weigh 1 - alpha")
    margin: float = Field(0.0, ge=0, lt=0.5, description="negatives of a probability below this weigh nothing (ASL)")
    class_balance: float = Field(
        0.0, ge=0, le=1, description="positives of label l weigh (its negatives / its positives) to this power"
    )
    soft_f1: float = Field(0.0, ge=0, le=1, description="share of the loss that is 1 - F1 on probabilities")

    # phase one: the head alone
    learning_rate: float = Field(gt=0, le=1, description="AdamW's peak learning rate")
    schedule: Literal["constant", "cosine", "one_cycle"] = Field(description="of the learning rate, over epochs")
    batch_size: int = Field(ge=2, le=65536, description="posters a step")
    epochs: int = Field(ge=1, le=10_000, description="at most; patience usually ends a trial sooner")
    patience: int = Field(ge=1, le=10_000, description="epochs without a better metric before a phase stops")
    clip_norm: float = Field(0.0, ge=0, le=1000, description="largest norm of a step's gradient; 0 does not clip")
    max_seconds: float = Field(0.0, ge=0, description="a phase begins no epoch after this long; 0 is no limit")

    # phase two: head and unfrozen stages
    unfreeze: Unfreeze = Field("none", description="which stages of the backbone are trained in phase two")
    finetune_start: Literal["trained", "fresh"] = Field(
        "trained", description="the head that phase two begins with: the one of phase one, or a new one"
    )
    finetune_learning_rate: float = Field(1e-4, gt=0, le=1, description="peak, of the deepest unfrozen stage")
    finetune_head_learning_rate: float = Field(5e-4, gt=0, le=1, description="peak, of the head in phase two")
    layer_decay: float = Field(1.0, gt=0, le=1, description="learning rate of each stage, times that of the next")
    finetune_schedule: Literal["constant", "cosine", "one_cycle"] = Field("one_cycle", description="in phase two")
    warm_up: float = Field(0.1, ge=0, lt=1, description="share of phase two in which the learning rate climbs")
    finetune_batch_size: int = Field(32, ge=2, le=4096, description="posters a step in phase two")
    finetune_epochs: int = Field(5, ge=1, le=1000, description="at most")
    batch_norm: Literal["frozen", "training"] = Field("frozen", description="statistics of unfrozen stages")
    stochastic_depth: float = Field(0.0, ge=0, lt=1, description="share of residual branches dropped, where timm can")
    random_crop: float = Field(1.0, gt=0.05, le=1, description="smallest share of a poster in a fresh crop; 1 is none")
    augment: Literal["none", "trivial", "rand"] = Field("none", description="TrivialAugment or RandAugment")
    augment_strength: int = Field(9, ge=1, le=30, description="of either, of 30")
    erasing: float = Field(0.0, ge=0, le=1, description="share of posters of which a rectangle is erased")
    compile: bool = Field(False, description="torch.compile in phase two; pays on a GPU")
