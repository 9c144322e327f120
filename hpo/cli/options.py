"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hpo.errors import UsageError, did_you_mean
from hpo.escaping import shortened

MOST_SEED = 2**31 - 1  # fresh seeds lie above it, and NumPy takes 32 bits
Seed = Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of the split, the sampler and the training.")]
# As in the registries of hpo.evaluation and hpo.study, which take seconds to import; a test compares them.
Thresholds = Literal["fixed", "global", "per_label", "calibrated"]
Sampler = Literal["tpe", "gp", "cmaes", "qmc", "random"]
Pruner = Literal["halving", "hyperband", "median", "none"]


def _known_metric(name: str) -> str:
    from hpo.evaluation.metrics import METRICS

    if name not in METRICS:
        hint = did_you_mean(name, METRICS)
        raise UsageError(f"--metric expects one of {', '.join(METRICS)}, got {shortened(name)!r}{hint}.")
    return name


Metric = Annotated[
    str,
    typer.Option(
        help="What to maximise: f1_macro, f1_micro, f1_samples, mean_ap, or a metric that was added to these.",
        metavar="METRIC",
        callback=_known_metric,
    ),
]
Folds = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=100,
        help="Judge trials by so many folds of train + val; 1: on val. "
        "Default: 5; 1 for 20,000 posters and more, or where stages are fine-tuned.",
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        envvar="HPO_STORAGE",
        help="Optuna's database. Default: sqlite:///mlruns/optuna.db",
        metavar="URL",
        show_default=False,
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        envvar="MLFLOW_TRACKING_URI",
        help="MLflow's server or database. Default: sqlite:///mlruns/mlflow.db",
        metavar="URL",
        show_default=False,
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        envvar="HPO_CACHE_DIR",
        help="The folder of decoded posters and features. Default: the user's cache folder",
        show_default=False,
    ),
]
StudyName = Annotated[
    str | None,
    typer.Option(
        "--study", help="The study. Default: the only one, or the latest.", metavar="NAME", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
IdColumn = Annotated[
    str | None, typer.Option(help="The CSV's column of ids. Default: found by name.", metavar="COLUMN")
]
LabelsColumn = Annotated[
    str | None,
    typer.Option(
        help="The column of label lists, or one-hot columns separated by commas. Default: found by name.",
        metavar="COLUMN",
    ),
]
ImageColumn = Annotated[
    str | None,
    typer.Option(
        help="A column of image file names, relative to --images. Default: images are called by id, as in 26.jpg.",
        metavar="COLUMN",
    ),
]
LabelSeparator = Annotated[str | None, typer.Option(help="What stands between labels. Default: guessed.")]
Types = Annotated[
    str,
    typer.Option(help="Keep these types, separated by commas, where the CSV has a Type column; all keeps all of them."),
]

LabelsOption = Annotated[int, typer.Option(min=2, max=100_000, help="Keep this many of the commonest labels.")]
Adult = Annotated[bool, typer.Option("--adult", help="Keep adult titles, recognised by genre and rating.")]
ValSize = Annotated[str, typer.Option(help="Validation posters: a share or a number.", metavar="X|N")]
TestSize = Annotated[str, typer.Option(help="Test posters, never looked at: a share or a number.", metavar="X|N")]
GroupColumn = Annotated[
    str | None,
    typer.Option(
        help="A column of what belongs together, such as a franchise. Default: found by name.", metavar="COLUMN"
    ),
]
GroupingOption = Annotated[
    Literal["all", "titles", "posters", "none"],
    typer.Option(
        help="What stays in one part: titles of one franchise, posters that look alike, all of these or none."
    ),
]
SplitOption = Annotated[
    Path | None,
    typer.Option(help="Reuse the split in this file, as hpo data check and every search write one.", metavar="FILE"),
]

MaxMembers = Annotated[int, typer.Option(min=1, max=1_000, help="Average at most this many trials.")]
MaxCost = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1_000_000,
        help="Let the ensemble cost at most so many forward passes of the best trial.",
        show_default=False,
    ),
]
MinLabels = Annotated[
    int,
    typer.Option(
        min=0, max=100_000, help="Give every poster at least this many labels, its likeliest, whatever the thresholds."
    ),
]

DEFAULT_MAX_MEMBERS = 12  # as hpo.evaluation.ensemble_selection has it, which takes NumPy to load
DEFAULT_TYPES = "TV,Movie"


def parse_types(text: str) -> tuple[str, ...] | None:
    """Read ``TV,Movie`` as a tuple, ``all`` as None."""
    return None if text.strip().lower() == "all" else tuple(name.strip() for name in text.split(",") if name.strip())
