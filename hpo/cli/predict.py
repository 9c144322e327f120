"""`hpo predict`: labels for posters, as a table, JSON, CSV or an HTML page."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpo.cli.options import AsJson
from hpo.errors import UsageError
from hpo.escaping import one_line, to_json

if TYPE_CHECKING:
    from hpo.bundle.predictor import Answer, Predictor
    from hpo.data.sources import Named
    from hpo.data.table.lookup import Known

_MOST_IN_A_TABLE = 1000


def predict(
    bundle: Annotated[Path, typer.Argument(help="A folder that hpo export-best wrote.")],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Posters: files, folders, patterns, addresses with --allow-urls, or - for a list on stdin.",
            metavar="IMAGE...",
        ),
    ],
    as_json: AsJson = False,
    as_lines: Annotated[
        bool, typer.Option("--jsonl", help="Print one JSON object a poster, as soon as its batch is ready.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: a row a poster, a column a label.")] = False,
    allow_urls: Annotated[bool, typer.Option("--allow-urls", help="Fetch posters whose addresses are given.")] = False,
    gallery: Annotated[
        Path | None, typer.Option(help="Also write a page of the posters with what is predicted.", metavar="FILE.html")
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="Other bundles, side by side with the first on the --gallery.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A CSV with titles and known labels, to be shown on the --gallery.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Let the --gallery show which regions of a poster speak for a label.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write the --gallery over a file that exists.")] = False,
) -> None:
    """Predict the labels of posters. Broken ones are reported and skipped, with exit code 2."""
    if as_json + as_lines + as_csv > 1:
        raise UsageError("Expected one of --json, --jsonl and --csv, got several: choose one.")
    if gallery is None and (against or data or explain or force):
        raise UsageError(
            "--against, --data, --explain and --force are for the --gallery, which was not asked for: add it."
        )
    from hpo.bundle.predictor import Predictor
    from hpo.data.sources import named_posters

    if gallery is not None:
        from hpo.report.gallery import check_replaceable

        check_replaceable(gallery, force=force)
    bundles = [bundle, *(against or [])]
    predictors = [Predictor.load(each) for each in bundles]  # all, before the first has looked at a thousand posters
    predictor = predictors[0]
    known = None if data is None else _known(data, predictor)
    printer = _printer(predictor, as_json, as_lines, as_csv)
    kept: list[tuple[Named, Answer | str]] = []  # for the gallery
    n_broken = 0
    with printer:
        for poster, answer in _answers(predictor, named_posters(images, allow_urls=allow_urls)):
            if isinstance(answer, str):
                n_broken += 1
                name = one_line(poster.name)
                typer.echo(f"hpo: {name} was skipped, it is not an image that can be read ({answer})", err=True)
            else:
                printer.add(poster.name, answer)
            if gallery is not None:
                kept.append((poster, answer))
    if gallery is not None:
        _write_gallery(gallery, bundles, predictors, kept, known, explain, force)
    if n_broken:
        raise typer.Exit(2)


def _answers(predictor: Predictor, posters: Iterator[Named]) -> Iterator[tuple[Named, Answer | str]]:
    """Yield each poster with its answer, or with why there is none, in blocks, so that memory stays flat."""
    waiting: list[Named] = []

    def sources() -> Iterator[Any]:
        for named in posters:
            waiting.append(named)
            yield named.source

    for found in predictor.stream(sources()):
        block, waiting[: found.n_posters] = waiting[: found.n_posters], []
        for row, (named, answer) in enumerate(zip(block, predictor.answers(found), strict=True)):
            yield named, found.broken[row] if answer is None else answer


class _Printer:
    """Prints answers as they come."""

    def __enter__(self) -> None:
        """Print what comes before the first."""

    def __exit__(self, *error: object) -> None:
        """Print what comes after the last."""

    def add(self, name: str, answer: Answer) -> None:
        """Print one."""
        raise NotImplementedError


def _printer(predictor: Predictor, as_json: bool, as_lines: bool, as_csv: bool) -> _Printer:
    if as_json:
        return _Json(predictor)
    if as_lines:
        return _Lines(predictor)
    return _Csv(predictor) if as_csv else _Table(predictor)


class _Lines(_Printer):
    """One JSON object a line."""

    def __init__(self, predictor: Predictor) -> None:
        described = predictor.description
        self.thresholds = dict(zip(described.label_names, described.thresholds, strict=True))

    def as_dict(self, name: str, answer: Answer) -> dict[str, Any]:
        sure = {label: round(value, 4) for label, value in answer.sure(self.thresholds).items()}
        return {"image": name, "labels": list(answer.labels), "probabilities": answer.probabilities, "sure": sure}

    def add(self, name: str, answer: Answer) -> None:
        print(to_json(self.as_dict(name, answer)), flush=True)  # noqa: T201


class _Json(_Lines):
    """One JSON object in all, written as answers come; its keys are a contract."""

    def __enter__(self) -> None:
        self._between = '{"predictions": ['

    def add(self, name: str, answer: Answer) -> None:
        sys.stdout.write(self._between + to_json(self.as_dict(name, answer)))
        self._between = ", "

    def __exit__(self, *error: object) -> None:
        opening = self._between if self._between != ", " else ""
        print(f'{opening}], "thresholds": {to_json(self.thresholds)}}}')  # noqa: T201


class _Csv(_Printer):
    """A header, and a row a poster: its name, its labels, the probability of each label."""

    def __init__(self, predictor: Predictor) -> None:
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        self._names = predictor.description.label_names
        self._word = one_line if sys.stdout.isatty() else str  # a file is to hold names as they are

    def __enter__(self) -> None:
        self._writer.writerow(["image", "labels", *map(self._word, self._names)])

    def add(self, name: str, answer: Answer) -> None:
        said = map(self._word, (name, ", ".join(answer.labels)))
        self._writer.writerow([*said, *(f"{p:.4f}" for p in answer.probabilities.values())])


class _Table(_Printer):
    """A table for a person, who would not read more than a thousand rows."""

    def __init__(self, predictor: Predictor) -> None:
        described = predictor.description
        self._thresholds = dict(zip(described.label_names, described.thresholds, strict=True))
        self._answers: list[tuple[str, Answer]] = []
        self._n_more = 0

    def add(self, name: str, answer: Answer) -> None:
        if len(self._answers) < _MOST_IN_A_TABLE:
            self._answers.append((name, answer))
        else:
            self._n_more += 1

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            return
        from hpo.report.tables import prediction_table
        from hpo.runtime.terminal import Plain

        Plain().print(prediction_table(self._answers, self._thresholds))
        if self._n_more:
            typer.echo(f"{self._n_more:,} more posters are not shown: --csv or --jsonl print them all.")


def _write_gallery(
    out: Path,
    bundles: list[Path],
    predictors: list[Predictor],
    answered: list[tuple[Named, Answer | str]],
    known: Known | None,
    explain: bool,
    force: bool,
) -> None:
    """Write the page: what the first bundle has said already, and what the others say now."""
    from hpo.bundle.occlusion import evidence
    from hpo.report.gallery import GalleryEntry, GalleryModel, write_gallery

    files = [(named, answer) for named, answer in answered if isinstance(named.source, Path)]
    posters = [named for named, _ in files]
    models = [
        GalleryModel(
            folder.resolve().name, p.description.label_names, p.description.thresholds, p.description.min_labels
        )
        for folder, p in zip(bundles, predictors, strict=True)
    ]

    def entries() -> Iterator[GalleryEntry]:
        others = [(answer for _, answer in _answers(other, iter(posters))) for other in predictors[1:]]
        for named, *answers in zip(posters, (answer for _, answer in files), *others, strict=True):
            image = Path(str(named.source))
            title, truth = known.of(image) if known else (image.stem, None)
            read = [answer for answer in answers if not isinstance(answer, str)]
            said = read if len(read) == len(answers) else []
            # Where a model says nothing and nothing is known, there is no genre to ask about.
            shown = tuple(
                evidence(each, image, len(posters)) if answer.labels or truth else None
                for each, answer in zip(predictors, said, strict=False)
                if explain
            )
            yield GalleryEntry(
                image, title, tuple(map(_row, said)), tuple(answer.labels for answer in said), truth, shown
            )

    write_gallery(out, models, entries(), explained=explain, force=force)
    typer.echo(f"Wrote {out}: {len(posters):,} posters.", err=True)


def _row(answer: Answer) -> Any:
    import numpy as np

    return np.array(list(answer.probabilities.values()), np.float32)


def _known(data: Path, predictor: Predictor) -> Known:
    from hpo.data.table.lookup import Known

    return Known.read(data, predictor.description.data, predictor.description.label_names)
