"""Predict labels for a catalogue's unlabelled entries and list the labelled ones that the model disagrees with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from hpo.data.completion.csv_edit import Added
from hpo.evaluation.counts import Bools, Floats
from hpo.evaluation.label_errors import entry_issue_scores, label_issue_scores

if TYPE_CHECKING:
    from hpo.bundle.predictor import Predictor
    from hpo.data.completion.entries import Entry, Listing
    from hpo.runtime.progress import ProgressFactory

_NAMED_LINES = 5

Doubt = Mapping[str, Any]  # what `Annotation.doubt` says of an entry


@dataclass(frozen=True, eq=False)
class Annotation:
    """The answer for the N entries of a catalogue; L labels."""

    listing: Listing
    label_names: tuple[str, ...]  # (L,)
    thresholds: Floats  # (L,)
    answered: tuple[int, ...]  # (M,) the entries with a poster that can be decoded
    probabilities: Floats  # (M, L), the average over an entry's posters
    predicted: tuple[tuple[str, ...], ...]  # (M,) likeliest first
    broken: Mapping[Path, str]  # poster → why it cannot be decoded

    @cached_property
    def filled(self) -> dict[int, tuple[str, ...]]:
        """What is written for the entries without labels: {entry: labels, likeliest first}."""
        found = {}
        for entry, predicted in zip(self.answered, self.predicted, strict=True):
            labels = tuple(label for label in predicted if self.listing.labels.takes(label))
            if labels and not self.listing.entries[entry].labels:
                found[entry] = labels
        return found

    def columns(self) -> Added:
        """Return a column of probabilities for each label, with an empty cell for each entry without an answer."""
        row_of = {entry: at for at, entry in enumerate(self.answered)}
        empty = [""] * len(self.label_names)

        def cells(entry: int) -> list[str]:
            at = row_of.get(entry)
            return empty if at is None else [f"{probability:.4f}" for probability in self.probabilities[at].tolist()]

        return Added(column_names(self.label_names), cells)

    @cached_property
    def doubtful(self) -> list[int]:
        """The answers (of 0..M) about known entries that the bundle would label otherwise, most doubtful first."""
        otherwise = (self._written != _marks(self.predicted, self.label_names)).any(axis=1)
        order = np.argsort(-self._entry_doubts, kind="stable").tolist()
        return [at for at in order if otherwise[at] and self._entry(at).labels]

    def doubt(self, at: int) -> dict[str, Any]:
        """Return what is doubted about the entry of an answer, in plain values."""
        entry, worst = self._entry(at), int(self._doubts[at].argmax())
        return {
            "id": entry.id,
            "title": entry.title,
            "labels": list(entry.labels),
            "predicted": list(self.predicted[at]),
            "doubt": float(self._entry_doubts[at]),
            "worst_label": self.label_names[worst],
            "probability": float(self.probabilities[at, worst]),
            "threshold": float(self.thresholds[worst]),
            "image": str(entry.images[0]),
        }

    def _entry(self, at: int) -> Entry:
        return self.listing.entries[self.answered[at]]

    @cached_property
    def _written(self) -> Bools:  # (M, L)
        return _marks([self._entry(at).labels for at in range(len(self.answered))], self.label_names)

    @cached_property
    def _doubts(self) -> Floats:  # (M, L)
        return label_issue_scores(self.probabilities, self._written, self.thresholds)

    @cached_property
    def _entry_doubts(self) -> Floats:  # (M,)
        return entry_issue_scores(self._doubts)

    def counts(self) -> dict[str, int]:
        """Count the entries by what became of them."""
        entries, answered = self.listing.entries, set(self.answered)
        gaps = sum(not entry.labels for entry in entries)
        n_filled = len(self.filled)
        return {
            "entries": len(entries),
            "filled": n_filled,
            "still_without_labels": gaps - n_filled,
            "known": len(entries) - gaps,
            "without_poster": sum(not entry.images for entry in entries),
            "broken": sum(bool(entry.images) and at not in answered for at, entry in enumerate(entries)),
            "odd_rows": len(self.listing.odd_lines),
        }


def column_names(label_names: Sequence[str]) -> list[str]:
    """Return the names of the columns that hold probabilities."""
    return [f"p:{label}" for label in label_names]


def _marks(labels: Sequence[Sequence[str]], label_names: Sequence[str]) -> Bools:
    """Return (N, L): who carries which label, in any case."""
    folded = [{label.casefold() for label in found} for found in labels]
    marks = [[name.casefold() in found for name in label_names] for found in folded]
    return np.array(marks, bool).reshape(len(labels), len(label_names))


def annotate(predictor: Predictor, listing: Listing, phase: ProgressFactory) -> Annotation:
    """Ask the bundle about every entry that has a poster."""
    paths = list(dict.fromkeys(path for entry in listing.entries for path in entry.images))
    with phase("predicting", len(paths)) as progress:
        predicted = predictor.predict(paths, progress)
    row_of = {paths[row]: at for at, row in enumerate(predicted.rows)}
    rows = [[row_of[path] for path in entry.images if path in row_of] for entry in listing.entries]
    answered = tuple(at for at, found in enumerate(rows) if found)
    described = predictor.description
    probabilities = np.empty((len(answered), len(described.label_names)), np.float32)
    for at, entry in enumerate(answered):
        probabilities[at] = predicted.probabilities[rows[entry]].mean(axis=0)
    return Annotation(
        listing,
        described.label_names,
        np.array(described.thresholds),
        answered,
        probabilities,
        _ranked(predictor.labels(probabilities), probabilities, described.label_names),
        {paths[row]: reason for row, reason in predicted.broken.items()},
    )


def _ranked(
    labels: Sequence[Sequence[str]], probabilities: Floats, label_names: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Return each row's labels, likeliest first."""
    ranked = []
    for found, row in zip(labels, probabilities.tolist(), strict=True):
        of = dict(zip(label_names, row, strict=True))
        ranked.append(tuple(sorted(found, key=of.__getitem__, reverse=True)))
    return tuple(ranked)


def _counts_line(account: Mapping[str, Any]) -> str:
    left = account["still_without_labels"]
    rest = f" ({left:,} still without labels)" if left else ""
    return (
        f"Wrote {account['out']}: {account['filled']:,} filled{rest}, {account['known']:,} known, "
        f"{account['without_poster']:,} without a poster, {account['broken']:,} with a broken one."
    )


def _odd_line(lines: Sequence[int]) -> str:
    if not lines:
        return ""
    where = ", ".join(str(line) for line in lines[:_NAMED_LINES]) + (", ..." if len(lines) > _NAMED_LINES else "")
    return f"Rows that are broken or of another width stay as they are: {len(lines):,} (line {where})."


def _doubtful_table(rows: Sequence[Doubt], n_doubtful: int) -> Table:
    title = f"Known entries that the bundle would label otherwise: {n_doubtful:,}, most doubtful first"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("id", no_wrap=True)
    for name in ("title", "written", "predicted", "most in doubt"):
        table.add_column(name, overflow="fold")
    table.add_column("doubt", justify="right", no_wrap=True)
    for row in rows:
        lists = (", ".join(row[name]) or "none" for name in ("labels", "predicted"))
        worst = f"{row['worst_label']} ({row['probability']:.2f}, threshold {row['threshold']:.2f})"
        cells = row["id"], row["title"], *lists, worst, f"{row['doubt']:.3f}"
        table.add_row(*cells)
    return table
