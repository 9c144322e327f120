"""The look of every figure that a search logs: few lines, muted colours, no frame."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpo.picture import Picture

BLUE, ORANGE, GREY, PALE = "#4c72b0", "#dd8452", "#8c8c94", "#e8e8ee"
COLUMNS = 5  # of a grid of labels
_INCHES = 2.3  # of one panel


def clean(axes: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """Give axes the common look."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)
    axes.set_title(title, loc="left", fontsize=9)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    return axes


def grid(n_panels: int, title: str) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each label, in rows of five."""
    n_columns = min(COLUMNS, n_panels)
    n_rows = -(-n_panels // n_columns)
    figure = Picture(figsize=(_INCHES * n_columns, 0.5 + _INCHES * n_rows), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure, [figure.add_subplot(n_rows, n_columns, at + 1) for at in range(n_panels)]
