"""The options that several commands share, so that each is spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
LabelsColumn = Annotated[str | None, typer.Option(help="The CSV's column of label lists. Found by name.")]
ImageColumn = Annotated[
    str | None,
    typer.Option(help="A column of image file names. Default: the image is <id>.jpg, .png or .webp."),
]
LabelSeparator = Annotated[str | None, typer.Option(help="What stands between labels. Guessed when left out.")]
Types = Annotated[
    str,
    typer.Option(help="Keep these types, separated by commas, where the CSV has a Type column; 'all' keeps all."),
]

DEFAULT_TYPES = "TV,Movie"


def parse_types(text: str) -> tuple[str, ...] | None:
    """Read ``TV,Movie`` as a tuple, ``all`` as None."""
    return None if text.strip().lower() == "all" else tuple(name.strip() for name in text.split(",") if name.strip())
