"""What a trial may choose: every hyperparameter, its range, and what it does.

The names are the keys of ``search_spaces/*.yaml``, of Optuna's trials, of MLflow's params and of ``bundle.json``, so
there is one spelling of each in the whole project.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hpo.data.decoding import Fit


class Hyperparameters(BaseModel):
    """One point of a search space, ready to be trained. Pydantic raises ValidationError outside the ranges."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str = Field(description="name of a timm model")
    image_size: Annotated[int, Field(ge=32, le=1024)] | Literal["native"] = Field(
        description="posters become a square of this side, in px; native is the backbone's own"
    )
    fit: Fit = Field("squash", description="how a poster becomes the square; pad puts all of it between grey bars")
    features: Literal["final", "last_stage", "last_two_stages", "all_stages", "stages_and_final"] = Field(
        description="which depths of the backbone feed the head: its final vector, or pooled stages"
    )
    pooling: Literal["avg", "max", "avg+max"] = Field(
        "avg", description="statistics by which a stage's feature map becomes a vector"
    )
    hidden_layers: int = Field(ge=0, le=3, description="dense layers before the output layer")
    width: int = Field(256, ge=8, le=8192, description="units of each hidden layer")
    activation: Literal["relu", "gelu", "silu"] = Field("relu", description="after each hidden layer")
    norm: Literal["none", "batch", "layer"] = Field("none", description="before each activation")
    dropout: float = Field(0.0, ge=0, lt=1, description="before every dense layer but the first")
    input_dropout: float = Field(ge=0, lt=1, description="on the features")
    weight_decay: float = Field(ge=0, le=10, description="decoupled (AdamW); none on biases and norms")
    label_smoothing: float = Field(ge=0, lt=0.5, description="targets become s/2 and 1 - s/2")
    focal_gamma: float = Field(ge=0, le=8, description="0 is cross-entropy; more looks harder at hard posters")
    focal_alpha: float = Field(gt=0, lt=1, description="weight of positives; negatives weigh 1 - alpha")
    learning_rate: float = Field(gt=0, le=1, description="AdamW's peak learning rate")
    schedule: Literal["constant", "cosine", "one_cycle"] = Field(description="of the learning rate, over epochs")
    batch_size: int = Field(ge=2, le=65536, description="posters a step")
    epochs: int = Field(ge=1, le=10_000, description="at most; patience usually ends a trial sooner")
    patience: int = Field(ge=1, le=10_000, description="epochs without a better metric before a trial stops")
