"""The options that several commands share, so that each is spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Storage = Annotated[
    str | None,
    typer.Option(
        envvar="HPO_STORAGE",
        help="Optuna's database, as a URL. Default: sqlite:///mlruns/optuna.db",
        show_default=False,
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        envvar="MLFLOW_TRACKING_URI",
        help="MLflow's server or database. Default: sqlite:///mlruns/mlflow.db",
        show_default=False,
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        envvar="HPO_CACHE_DIR",
        help="Decoded posters and features. Default: the user's cache folder",
        show_default=False,
    ),
]
StudyName = Annotated[
    str | None,
    typer.Option("--study", help="The study. Default: the only one, or the latest.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
IdColumn = Annotated[str | None, typer.Option(help="The CSV's column of ids. Found by name when left out.")]
LabelsColumn = Annotated[
    str | None,
    typer.Option(help="The column of label lists, or one-hot columns separated by commas. Found by name."),
]
ImageColumn = Annotated[
    str | None,
    typer.Option(help="A column of image file names, relative to --images. Default: the image is <id>.jpg, .png ..."),
]
LabelSeparator = Annotated[str | None, typer.Option(help="What stands between labels. Guessed when left out.")]
Types = Annotated[
    str,
    typer.Option(help="Keep these types, separated by commas, where the CSV has a Type column; 'all' keeps all."),
]

Labels = Annotated[int, typer.Option(min=2, help="Keep this many of the commonest labels.")]
Adult = Annotated[bool, typer.Option("--adult", help="Keep adult titles, which genre and rating tell.")]
ValSize = Annotated[str, typer.Option(help="Validation posters: a share or a number.")]
TestSize = Annotated[str, typer.Option(help="Test posters, never looked at: a share or a number.")]
GroupColumn = Annotated[
    str | None,
    typer.Option(help="A column of what belongs together, such as a franchise. Found by name when left out."),
]
Grouping = Annotated[
    Literal["all", "titles", "posters", "none"],
    typer.Option(help="What stays in one part: titles of one franchise, posters that look alike, both or neither."),
]
Split = Annotated[
    Path | None,
    typer.Option(help="Reuse the split in this file, as hpo data check and every search write one."),
]

MaxMembers = Annotated[int, typer.Option(min=1, help="Average at most this many trials.")]
MaxCost = Annotated[
    float | None,
    typer.Option(
        min=0, help="Let the ensemble cost at most so many forward passes of the best trial.", show_default=False
    ),
]
MinLabels = Annotated[
    int,
    typer.Option(min=0, help="Give every poster at least this many labels, its likeliest, whatever the thresholds."),
]

DEFAULT_MAX_MEMBERS = 12  # as hpo.decision.ensemble has it, which takes NumPy to load
DEFAULT_TYPES = "TV,Movie"


def parse_types(text: str) -> tuple[str, ...] | None:
    """Read ``TV,Movie`` as a tuple, ``all`` as None."""
    return None if text.strip().lower() == "all" else tuple(name.strip() for name in text.split(",") if name.strip())
