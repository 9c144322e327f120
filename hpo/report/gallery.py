"""Write the gallery: one self-contained HTML page of posters with predictions.

The page is written poster by poster, so that a gallery of thousands takes no more memory than one of ten. What its
filters need to know is what it shows: they read the page, and there is no second copy of anything.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from hpo.data.decoding import whole
from hpo.errors import DataError, disk_cure
from hpo.runtime.atomic import Array, appearing_whole

# Evidence as a picture that is laid over a poster: orange where a region speaks for a label, blue where against it.

_FOR, _AGAINST = (230, 110, 0), (0, 114, 210)  # distinguishable with every kind of colour vision
_FULL = 0.3  # of a logit, at least, for the strongest colour: less is noise that should look like it
_OPAQUE = 200  # of 255, where evidence is strongest
_MENTIONED = 0.25  # of the strongest colour: a paler blue is not worth a word
_THIRDS = (("upper left", "upper middle", "upper right"), ("left", "middle", "right"),
           ("lower left", "lower middle", "lower right"))  # fmt: skip


class EvidenceMap(NamedTuple):
    """A map within a page."""

    source: str  # a data URI of a PNG, one pixel a cell, to be laid over all of the poster
    words: str  # for screen readers


def draw_evidence(evidence: Array) -> EvidenceMap:
    """Draw the evidence (G, G) for one label, top row first."""
    strength = (evidence / max(_FULL, float(np.abs(evidence).max()))).clip(-1, 1)
    pixels = np.empty((*evidence.shape, 4), np.uint8)
    pixels[..., :3] = np.where(evidence[..., None] >= 0, _FOR, _AGAINST)
    pixels[..., 3] = np.round(_OPAQUE * np.abs(strength))
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", optimize=True)
    encoded = base64.b64encode(content.getvalue()).decode("ascii")
    return EvidenceMap(f"data:image/png;base64,{encoded}", _in_words(evidence, strength))


def _in_words(evidence: Array, strength: Array) -> str:
    most, least = _place(evidence), _place(-evidence)
    seen = f"it is seen most in the {most}" if evidence.max() > 0 else "no region speaks for it"
    if strength.min() > -_MENTIONED:
        return seen
    if evidence.max() > 0 and most == least:
        return f"{seen}, beside what speaks most against it"
    return f"{seen}; the {least} speaks most against it"


def _place(evidence: Array) -> str:
    """Name the third of the poster, in each direction, where there is most."""
    row, column = np.unravel_index(int(evidence.argmax()), evidence.shape)
    n_rows, n_columns = evidence.shape
    return _THIRDS[3 * int(row) // n_rows][3 * int(column) // n_columns]


_TALLEST = 1.5  # times the width, as posters of films are
_QUALITY = 75
_ROWS = 8  # bars that are shown at once; of a hundred genres most say nothing
_FEWEST_FOLDED = 3  # less is not worth a click
_EXPLAINED = 4  # genres of a poster, for each model

# What became of one genre → its symbol and its words. Colours are the template's; no meaning rests on colour alone.
_MARKS = {
    "hit": ("✓", "hit"),
    "miss": ("○", "missed"),
    "alarm": ("✕", "false alarm"),
    "said": ("", ""),  # predicted, with unknown truth
    "outside": ("–", "not a genre of this model"),
    "": ("", ""),
}


@dataclass(frozen=True)
class GalleryModel:
    """One of the classifiers of a gallery, as its bundle describes it."""

    name: str
    label_names: tuple[str, ...]  # (L,)
    thresholds: tuple[float, ...]  # (L,), predicted when probability >= threshold
    min_labels: int = 0


@dataclass(frozen=True)
class GalleryEntry:
    """One poster, and what each model says of it; nothing (two empty tuples) where no model could look at it."""

    image: Path
    title: str
    probabilities: tuple[Array, ...]  # (L,) for each model
    labels: tuple[tuple[str, ...], ...]  # predicted, for each model
    truth: frozenset[str] | None  # None where it is not known
    evidence: tuple[Array | None, ...] = ()  # (L, G, G) for each model: what speaks for a label; None: not asked for


class _Mark(NamedTuple):
    kind: str  # of _MARKS
    genre: str
    seen: EvidenceMap | None = None


class _Bar(NamedTuple):
    kind: str
    genre: str
    probability: float
    threshold: float


class _Opinion(NamedTuple):
    """What one model says of one poster."""

    model: GalleryModel
    is_silent: bool  # no genre is predicted
    chips: tuple[_Mark, ...]
    bars: tuple[_Bar, ...]
    folded: tuple[_Bar, ...]


class GalleryPicture(NamedTuple):
    """A poster within the page."""

    source: str  # a data URI
    width: int
    height: int


class _Tile(NamedTuple):
    title: str
    picture: GalleryPicture | None
    reason: str  # why there is no picture
    truth: tuple[str, ...] | None
    opinions: tuple[_Opinion, ...]


def write_gallery(
    out: Path,
    models: Sequence[GalleryModel],
    entries: Iterable[GalleryEntry],
    *,
    explained: bool = False,
    force: bool = False,
    thumbnail_px: int = 240,
) -> None:
    """Write the page to ``out``, which appears whole or not at all; ``entries`` are read one by one.

    Posters become JPEGs of at most ``thumbnail_px`` in width and half as much again in height, without the metadata of
    their files. One that cannot be read is shown as a tile with the reason. ``explained`` says that entries come with
    evidence, which a reader sees by pressing a genre.

    Raises: DataError: ``out`` exists and ``force`` is not given, or it cannot be written.
    """
    check_replaceable(out, force=force)
    environment = Environment(
        loader=PackageLoader("hpo.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("gallery.html.j2").generate(
        models=models,
        genres=_genres(models),
        marks=_MARKS,
        explained=explained,
        tiles=(_tile(entry, models, thumbnail_px) for entry in entries),
    )
    with whole_or_absent(out) as file:
        file.writelines(page)


def check_replaceable(out: Path, *, force: bool = False, option: str = "--gallery") -> None:
    """Raise DataError where a page would not be written to ``out``: worth asking before minutes of predictions."""
    try:
        is_there, is_file = out.exists(), out.is_file()
    except OSError as error:  # a name too long, a folder that may not be looked into
        raise _unwritable(out, error, option) from error
    if is_there and not is_file:
        raise DataError(f"Expected a file to write the page to, got {out}: name a file, such as page.html.")
    if is_there and not force:
        raise DataError(f"{out} exists already: give --force to replace it, or another name to {option}.")


@contextmanager
def whole_or_absent(out: Path, option: str = "--gallery") -> Iterator[TextIO]:
    """A text file that gets its name at the end. Raises DataError when the disk refuses."""
    try:
        # A file's name need not be Unicode, so neither need a title that was made of it.
        with appearing_whole(out) as temporary, temporary.open("w", encoding="utf-8", errors="replace") as file:
            yield file
    except OSError as error:
        raise _unwritable(out, error, option) from error


def _unwritable(out: Path, error: OSError, option: str) -> DataError:
    return DataError(
        f"The page could not be written to {out} ({error.strerror or error}): "
        f"{disk_cure(error)} or give another name to {option}."
    )


def _tile(entry: GalleryEntry, models: Sequence[GalleryModel], thumbnail_px: int) -> _Tile:
    title = entry.title.strip() or entry.image.name
    truth = None if entry.truth is None else _sorted_as(_genres(models), entry.truth)
    opinions = _opinions(entry, models)
    try:
        return _Tile(title, thumbnail(entry.image, thumbnail_px), "", truth, opinions)
    except (OSError, ValueError) as error:
        return _Tile(title, None, str(error), truth, opinions)


def thumbnail(path: Path, width_px: int) -> GalleryPicture:
    """Return a small JPEG of a poster. Raises OSError or ValueError for a poster that cannot be decoded."""
    poster = whole(path, round(_TALLEST * width_px))
    poster.thumbnail((width_px, poster.height), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    poster.save(content, "JPEG", quality=_QUALITY, optimize=True)
    encoded = base64.b64encode(content.getvalue()).decode("ascii")
    return GalleryPicture(f"data:image/jpeg;base64,{encoded}", *poster.size)


def _opinions(entry: GalleryEntry, models: Sequence[GalleryModel]) -> tuple[_Opinion, ...]:
    """The same genres in the same order for every model, so that bars side by side can be compared."""
    if not entry.probabilities:
        return ()
    found = [
        dict(zip(model.label_names, values.tolist(), strict=True))
        for model, values in zip(models, entry.probabilities, strict=True)
    ]
    shown, folded = _rows(found, entry)
    evidence = entry.evidence or (None,) * len(models)
    return tuple(
        _opinion(model, probabilities, frozenset(labels), entry.truth, (shown, folded), maps)
        for model, probabilities, labels, maps in zip(models, found, entry.labels, evidence, strict=True)
    )


def _rows(found: Sequence[dict[str, float]], entry: GalleryEntry) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the genres whose bars are shown, likeliest first, and those that a click brings forth."""
    known: dict[str, list[float]] = {}
    for probabilities in found:
        for genre, probability in probabilities.items():
            known.setdefault(genre, []).append(probability)
    ranked = sorted(known, key=lambda genre: -sum(known[genre]) / len(known[genre]))
    matters = (entry.truth or frozenset()).union(*entry.labels)
    folded = tuple(genre for genre in ranked[_ROWS:] if genre not in matters)
    if len(folded) < _FEWEST_FOLDED:
        return tuple(ranked), ()
    return tuple(genre for genre in ranked if genre not in folded), folded


def _opinion(
    model: GalleryModel,
    probabilities: dict[str, float],
    predicted: frozenset[str],
    truth: frozenset[str] | None,
    rows: tuple[Sequence[str], Sequence[str]],
    evidence: Array | None,
) -> _Opinion:
    thresholds = dict(zip(model.label_names, model.thresholds, strict=True))

    def kind(genre: str) -> str:
        return _kind(genre, genre in predicted, truth) if genre in thresholds else "outside"

    def bar(genre: str) -> _Bar:
        return _Bar(kind(genre), genre, probabilities.get(genre, 0.0), thresholds.get(genre, 1.0))

    chips = _chips({*predicted, *(truth or ())}, predicted, kind, probabilities)
    if evidence is not None:
        chips = _explained(chips, dict(zip(model.label_names, evidence, strict=True)))
    shown, folded = rows
    return _Opinion(model, not predicted, chips, tuple(map(bar, shown)), tuple(map(bar, folded)))


def _chips(
    genres: set[str], predicted: frozenset[str], kind: Callable[[str], str], probabilities: dict[str, float]
) -> tuple[_Mark, ...]:
    """What was predicted, likeliest first, and then what was not although it is true."""

    def rank(genre: str) -> tuple[bool, float, str]:
        return genre not in predicted, -probabilities.get(genre, 0.0), genre

    return tuple(_Mark(kind(genre), genre) for genre in sorted(genres, key=rank))


def _explained(chips: tuple[_Mark, ...], evidence: Mapping[str, Array]) -> tuple[_Mark, ...]:
    """Give a few chips of genres that the model knows a map of where they are seen.

    What was missed has up to half of the maps: "why not" is asked as often as "why".
    """
    known = [chip for chip in chips if chip.genre in evidence]
    missed = [chip for chip in known if chip.kind == "miss"]
    said = [chip for chip in known if chip.kind != "miss"][: _EXPLAINED - min(len(missed), _EXPLAINED // 2)]
    asked = [*said, *missed[: _EXPLAINED - len(said)]]
    return tuple(chip._replace(seen=draw_evidence(evidence[chip.genre])) if chip in asked else chip for chip in chips)


def _kind(genre: str, is_predicted: bool, truth: frozenset[str] | None) -> str:
    if truth is None:
        return "said" if is_predicted else ""
    if is_predicted:
        return "hit" if genre in truth else "alarm"
    return "miss" if genre in truth else ""


def _genres(models: Sequence[GalleryModel]) -> tuple[str, ...]:
    """Those of all models, in the order of the first model that has each."""
    return tuple(dict.fromkeys(name for model in models for name in model.label_names))


def _sorted_as(order: Sequence[str], names: Iterable[str]) -> tuple[str, ...]:
    place = {name: at for at, name in enumerate(order)}
    return tuple(sorted(names, key=lambda name: (place.get(name, len(place)), name)))
