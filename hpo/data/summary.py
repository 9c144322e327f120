"""Report of a prepared dataset: rows kept and dropped with reasons, labels, images, split and groups.

`account_of` is the JSON of `hpo data check`; the tables of a search, of its MLflow run and of the check are made of
the same rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from hpo.data.dataset import PreparedData
from hpo.data.table.catalogue import Catalogue, CleaningReport
from hpo.runtime.progress import n_cores

_BROKEN_SHOWN = 5


def account_of(data: PreparedData) -> dict[str, Any]:
    """Return everything about the posters as plain JSON values; `images` is None when prepared without them."""
    cleaning = data.cleaning.as_dict()
    shadowed, unclaimed = cleaning.pop("shadowed_images"), cleaning.pop("unclaimed_images")
    images = None
    if data.catalogue.image_paths:
        broken = {str(path): reason for path, reason in data.broken.items()}
        images = {**image_sizes(data.posters.paths), "broken": broken, "shadowed": shadowed, "unclaimed": unclaimed}
    return {
        **cleaning,
        "n_posters": len(data.catalogue),
        "labels": label_statistics(data.catalogue),
        "images": images,
        "groups": {
            "n_groups": len(data.groups.shared),
            "n_posters": data.groups.n_shared_posters,
            "by_reason": data.groups.posters_by_reason(),
            "straddling": data.n_straddling,
            "together": group_rows(data),
        },
        "split": data.distribution.as_dict(),
        "fingerprints": data.fingerprints,
    }


def label_statistics(catalogue: Catalogue) -> dict[str, Any]:
    """Return counts, cardinality (labels a poster, mean), distinct label sets, and co-occurrence by label and label."""
    targets = catalogue.targets.astype(np.int64)  # (N, L)
    together = (targets.T @ targets).tolist()  # (L, L), the diagonal is each label's count
    names = catalogue.label_names
    return {
        "counts": {name: together[at][at] for at, name in enumerate(names)},
        "cardinality": float(targets.sum(axis=1).mean()),
        "density": float(targets.mean()),
        "distinct_label_sets": len(np.unique(np.packbits(catalogue.targets, axis=1), axis=0)),
        "cooccurrence": {name: dict(zip(names, row, strict=True)) for name, row in zip(names, together, strict=True)},
    }


def image_sizes(paths: Sequence[Path]) -> dict[str, Any]:
    """Return formats, and the least, middle and largest width and height in px, from the headers of whole images."""
    with ThreadPoolExecutor(n_cores()) as pool:
        headers = list(pool.map(_header, paths))
    sizes = np.array([size for _, size in headers])  # (N, 2)
    formats = Counter(name for name, _ in headers)
    found: dict[str, Any] = {"formats": dict(formats.most_common())}
    for axis, name in enumerate(("width_px", "height_px")):
        least, middle, largest = np.percentile(sizes[:, axis], [0, 50, 100]).astype(int).tolist()
        found[name] = {"min": least, "median": middle, "max": largest}
    return found


def _header(path: Path) -> tuple[str, tuple[int, int]]:
    with Image.open(path) as image:
        return str(image.format), image.size


class Cleaned(Protocol):
    """Posters of which it is known what became of every row."""

    @property
    def cleaning(self) -> CleaningReport: ...  # noqa: D102

    @property
    def broken(self) -> Mapping[Path, str]: ...  # noqa: D102


def cleaning_lines(data: Cleaned) -> list[str]:
    """Say in words what became of every row, and which files are broken or passed over."""
    report = data.cleaning
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in report.dropped.items() if count)
    posters = f" as {report.n_posters:,} posters" if report.n_posters != report.rows_kept else ""
    lines = [
        f"{report.csv_path.name}: {report.rows_read:,} rows, {report.rows_kept:,} kept{posters}"
        + (f" ({dropped})" if dropped else "")
    ]
    if data.broken:
        shown = ", ".join(f"{path.name} ({reason})" for path, reason in list(data.broken.items())[:_BROKEN_SHOWN])
        lines.append(f"{len(data.broken):,} broken posters left out: {shown}{_more(len(data.broken))}")
    if report.several_images:
        reasons = ", ".join(f"{count:,} by {reason}" for reason, count in report.several_images.items())
        lines.append(f"{sum(report.several_images.values()):,} titles have several images ({reasons})")
    if report.images_found_by:
        ways = ", ".join(f"{count:,} by the {way}" for way, count in report.images_found_by.items())
        lines.append(f"Images that are not named as the table writes them: {ways}")
    if report.refused_images:
        refused = ", ".join(f"{count:,} × {reason}" for reason, count in report.refused_images.items())
        lines.append(f"Not used in the folder of images: {refused}")
    if report.shadowed_images:
        pairs = list(report.shadowed_images.items())[:_BROKEN_SHOWN]
        shown = ", ".join(f"{used} is used, not {other}" for other, used in pairs)
        lines.append(f"Two files for one id: {shown}{_more(len(report.shadowed_images))}")
    return [*lines, *report.notes]


def _more(count: int) -> str:
    return f" and {count - _BROKEN_SHOWN:,} more" if count > _BROKEN_SHOWN else ""


def kept_together(data: PreparedData) -> str:
    """Say how many posters share a part with others by intent, and for which reasons."""
    groups = data.groups.shared
    if not groups:
        return "No posters had to be kept together."
    reasons = ", ".join(f"{n:,} by {reason}" for reason, n in data.groups.posters_by_reason().items() if n)
    sentence = f"{data.groups.n_shared_posters:,} posters are kept together in {_n_groups(len(groups))} ({reasons})."
    straddling = data.n_straddling
    return sentence + (
        f" {straddling:,} of these groups lie in several parts of the given split." if straddling else ""
    )


def _n_groups(n: int) -> str:
    return "one group" if n == 1 else f"{n:,} groups"


def split_rows(data: PreparedData) -> list[dict[str, Any]]:
    """Return the share of each label in each part, a row a label."""
    return [
        {
            "label": shares.label,
            "posters": shares.n_posters,
            **{part: round(getattr(shares, part), 4) for part in ("overall", "train", "val", "test")},
            "largest deviation": round(shares.largest_deviation, 4),
        }
        for shares in data.distribution.labels
    ]


def group_rows(data: PreparedData) -> list[dict[str, Any]]:
    """Return the posters that were kept together, a row a group, largest first."""
    ids, titles = data.catalogue.ids, data.catalogue.titles
    return [
        {
            "posters": len(group.rows),
            "because of": ", ".join(group.reasons),
            "ids": ", ".join(ids[row] for row in group.rows),
            "titles": " · ".join(dict.fromkeys(titles[row] for row in group.rows if titles[row])),
        }
        for group in data.groups.shared
    ]
