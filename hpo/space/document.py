"""Read a space file and its includes into one document that remembers the origin of each key.

An included file comes first and the including one overrides it key by key, in the place where the key already stands.
What the including file has decided is not held against what it inherits: a parameter that it fixes disappears from the
inherited recipes, ``recipe: null`` takes a recipe out, and ``recipes: null`` all that are inherited.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hpo.errors import SpaceError, did_you_mean
from hpo.escaping import shortened

_PLACES = (Path(__file__).parents[2] / "search_spaces", Path(__file__).parents[1] / "search_spaces")
SHIPPED_SPACES = next(place for place in _PLACES if place.is_dir())  # beside the package in a checkout, else inside it
_SECTIONS = ("parameters", "recipes", "weights", "stages")
_MOST_BYTES = 200_000  # of a file; those that ship have up to 5,000
_MOST_VALUES = 20_000  # keys included
_MOST_DEPTH = 12  # levels; five are needed
_MOST_INCLUDES = 100
_LARGEST = 10**18  # whole number, which is also read as a float
_MOST_CHARACTERS = 300  # of a path or of what a parser says
_WORDS = ("include", *_SECTIONS)


class Mistake(NamedTuple):
    """What is wrong, and where it is written."""

    file: Path
    key: str  # dotted: parameters.width.when
    text: str

    def located(self, main: Path) -> str:
        """Return ``mine.yaml: parameters.width: ...``, the file as seen from the folder of ``main``."""
        shipped = self.file.parent == SHIPPED_SPACES
        file = self.file.name if shipped else os.path.relpath(self.file, main.parent)
        return f"{file}: {shortened(self.key, _MOST_CHARACTERS)}: {shortened(self.text, 2 * _MOST_CHARACTERS)}"


@dataclass
class Document:
    """The sections of a space file with all that it includes, and the mistakes found so far."""

    path: Path
    sections: dict[str, dict[str, Any]] = field(default_factory=lambda: {section: {} for section in _SECTIONS})
    files: dict[tuple[str, ...], Path] = field(default_factory=dict)  # (section, key) → where it is written
    mistakes: list[Mistake] = field(default_factory=list)

    @property
    def parameters(self) -> dict[str, Any]:
        """What is written of each parameter."""
        return self.sections["parameters"]

    def file_of(self, section: str, key: str) -> Path:
        """Return the file in which a key is written."""
        return self.files.get((section, key), self.path)

    def inherits(self, section: str, key: str) -> bool:
        """Return whether a key comes from an included file."""
        return self.file_of(section, key) != self.path

    def mistake(self, text: str, *where: str) -> Mistake:
        """Return a mistake at ``where`` (section, key, ...)."""
        return Mistake(self.file_of(*where[:2]), ".".join(where), text)

    def include(self, other: Document) -> None:
        """Take over all of ``other``, on top of what is here."""
        for section, written in other.sections.items():
            self.sections[section] |= written
        self.files |= other.files
        self.mistakes += other.mistakes

    def override(self, section: str, written: dict[str, Any]) -> None:
        """Put this file's own words in place of those it inherits."""
        here = self.sections[section]
        for key, value in ((str(key), value) for key, value in written.items()):
            if section == "recipes" and value is None and key in here:
                del here[key]
                continue
            if section == "parameters" and not isinstance(value, dict):
                self._decide(key)
            here[key] = value
            self.files[section, key] = self.path

    def _decide(self, parameter: str) -> None:
        for name, recipe in self.sections["recipes"].items():
            if isinstance(recipe, dict):
                self.sections["recipes"][name] = {key: value for key, value in recipe.items() if key != parameter}


def find_space(name: Path, folder: Path) -> Path:
    """Return the file ``name`` as seen from ``folder``, or the space of that name that ships.

    Raises SpaceError when there is neither.
    """
    shipped = SHIPPED_SPACES / f"{name}.yaml"
    with suppress(OSError, ValueError):  # a name that no file system takes
        if (folder / name).is_file():
            return folder / name
        if shipped.is_file():
            return shipped
    names = sorted(file.stem for file in SHIPPED_SPACES.glob("*.yaml"))
    place = shortened(str(folder / name), _MOST_CHARACTERS)
    raise SpaceError(
        f"Expected a search space at {place}, found no such file{did_you_mean(str(name), names)}: "
        f"name a YAML file or one of those that ship ({', '.join(names)})."
    )


def read_document(path: Path, within: tuple[Path, ...] = (), read: list[Path] | None = None) -> Document:
    """Read a space file and, first, those that it includes. ``within`` are the files that are including this one.

    ``read`` are all files that were read so far, each as often as it was included. Raises SpaceError for a file that
    cannot be read, an include that is not there, a circle of includes, and too many of them.
    """
    path, read = path.resolve(), [] if read is None else read
    read.append(path)
    if len(read) > _MOST_INCLUDES:
        raise SpaceError(f"Expected at most {_MOST_INCLUDES} included files, got more in {read[0]}: take some out.")
    if path in within:
        circle = " includes ".join(file.name for file in (*within[within.index(path) :], path))
        raise SpaceError(f"Expected includes that come to an end, got a circle ({circle}): take one of them out.")
    content = _read_yaml(path)
    document = Document(path)
    for name in _included(content, document):
        document.include(read_document(_find_included(name, path), (*within, path), read))
    if "recipes" in content and content["recipes"] is None:
        document.sections["recipes"].clear()
    for section in _SECTIONS:
        document.override(section, _section(content, section, document))
    document.mistakes += _unknown_words(content, path)
    return document


def _included(content: dict[str, Any], document: Document) -> list[str]:
    written = content.get("include") or []
    names = [written] if isinstance(written, str) else written
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return names
    document.mistakes.append(Mistake(document.path, "include", f"expected a file or a list of files, got {written!r}"))
    return []


def _find_included(name: str, including: Path) -> Path:
    try:
        return find_space(Path(name), including.parent)
    except SpaceError as error:
        raise SpaceError(f"{including.name}: include: {error}") from error


def _section(content: dict[str, Any], section: str, document: Document) -> dict[str, Any]:
    written = content.get(section) or {}
    if isinstance(written, dict):
        return written
    document.mistakes.append(Mistake(document.path, section, f"expected a mapping, got {written!r}"))
    return {}


def _unknown_words(content: dict[str, Any], path: Path) -> Iterator[Mistake]:
    for key in map(str, content):
        if key not in _WORDS:
            yield Mistake(path, key, f"expected one of {', '.join(_WORDS)}{did_you_mean(key, _WORDS)}")


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice and ``1e-5`` is a number, which PyYAML writes ``1.0e-5``.

    A stranger may have written it, so there are no tags, dates are text, and depth and size are bounded: an alias
    counts as all that it stands for.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._n_values = 0
        self._sizes: dict[int, int] = {}  # of whole nodes, by identity

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse tags, and what is too deep or too large, before it is built."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        place = event.start_mark
        if getattr(event, "tag", None) is not None:
            raise yaml.constructor.ConstructorError(None, None, "tags (!) are not allowed", place)
        if self._depth == _MOST_DEPTH:
            raise yaml.constructor.ConstructorError(None, None, f"more than {_MOST_DEPTH} levels", place)
        before = self._n_values
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise yaml.constructor.ConstructorError(None, None, "an alias within itself", place)
            self._n_values += self._sizes[id(node)]
        else:
            self._n_values += 1
            self._sizes[id(node)] = self._n_values - before
        if self._n_values > _MOST_VALUES:
            raise yaml.constructor.ConstructorError(None, None, f"more than {_MOST_VALUES:,} values", place)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Say where a value stands that looks like a number and is none, such as ``0x_``."""
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and abs(value) > _LARGEST:
                raise OverflowError
            return value
        except (ValueError, OverflowError) as error:
            text = f"{shortened(str(node.value))!r} is no number that can be used"
            raise yaml.constructor.ConstructorError(None, None, text, node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse what PyYAML would decide in silence: the last of two equal keys."""
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is written twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise SpaceError(
                f"Expected a search space of at most {_MOST_BYTES:,} bytes, got more in {path}: shorten it."
            )
        content = yaml.load(text.decode("utf-8"), _Loader)
    except OSError as error:
        raise SpaceError(
            f"Expected a search space in {path}, which cannot be read ({error.strerror}): check it."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = shortened(" ".join(str(error).split()), _MOST_CHARACTERS)
        raise SpaceError(f"Expected YAML in {path}, got something else ({reason}): correct the file.") from error
    if not isinstance(content, dict):
        raise SpaceError(f"Expected a mapping with 'parameters:' in {path}, got {type(content).__name__}: correct it.")
    return content
