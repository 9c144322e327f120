"""A picture of a split: each label's share in train, val and test, beside its share of all posters."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from hpo.data.shards import write_whole
from hpo.data.splits.splits import PARTS, Distribution
from hpo.errors import DataError, disk_cure
from hpo.picture import Picture

_COLOURS = {"train": "#4c72b0", "val": "#dd8452", "test": "#55a868"}
_MARKERS = {"train": "o", "val": "s", "test": "D"}
_INCHES_A_LABEL = 0.34
_MOST_LABELS = 200  # a picture has fewer than 65,536 px each way


def picture_of(distribution: Distribution) -> Figure:
    """Draw a row a label: the bar is its share of all posters, the marks are its shares in the parts.

    Of more labels than can be read those with the most posters are drawn.
    """
    labels = sorted(distribution.labels, key=lambda shares: -shares.n_posters)[:_MOST_LABELS]
    labels = [shares for shares in distribution.labels if shares in labels]
    figure = Picture(figsize=(8, 1.6 + _INCHES_A_LABEL * len(labels)), layout="constrained")
    axes = figure.add_subplot()
    rows = range(len(labels))
    axes.barh(rows, [100 * shares.overall for shares in labels], color="#e8e8ee", height=0.7, label="all posters")
    for part in PARTS:
        size = distribution.sizes[part]
        axes.plot(
            [100 * getattr(shares, part) for shares in labels],
            rows,
            _MARKERS[part],
            color=_COLOURS[part],
            markersize=5,
            alpha=0.85,
            label=f"{part} ({size:,})",
        )
    axes.set_yticks(rows, [f"{shares.label} ({shares.n_posters:,})" for shares in labels])
    axes.invert_yaxis()
    axes.set_xlabel("share of posters, %")
    drawn = f"The {len(labels)} commonest labels" if len(labels) < len(distribution.labels) else "Labels"
    axes.set_title(
        f"{drawn} by part; the largest deviation is {100 * distribution.largest_deviation:.2f} percentage points",
        loc="left",
        fontsize=10,
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    return figure


def save_picture(distribution: Distribution, path: Path) -> None:
    """Write the picture as PNG. Raises DataError when the disk refuses."""
    try:
        png = io.BytesIO()
        picture_of(distribution).savefig(png, format="png", dpi=110)
        write_whole(path, png.getvalue())
    except OSError as error:
        raise DataError(f"the picture could not be written to {path} ({error.strerror}): {disk_cure(error)}") from error
