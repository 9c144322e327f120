"""Write docs/commands.md: ``python docs/reference.py``. A test compares the page with what this script makes.

Commands are read as they are written in ``hpo/cli``: signatures, annotations and docstrings, which are the same in
every version of Typer.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.models import ArgumentInfo, OptionInfo

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))  # for a checkout that is not installed

from hpo.cli.app import app  # noqa: E402

PAGE = DOCS / "commands.md"
# The page of the task that a command is for.
TASKS = {
    "hpo search": "search.md",
    "hpo space": "search-spaces.md",
    "hpo doctor": "doctor.md",
    "hpo status": "follow.md",
    "hpo plan": "follow.md",
    "hpo leaderboard": "follow.md",
    "hpo ensemble": "export.md",
    "hpo export-best": "export.md",
    "hpo evaluate": "compare.md",
    "hpo compare": "compare.md",
    "hpo predict": "predict.md",
    "hpo annotate": "annotate.md",
    "hpo report": "report.md",
    "hpo sync": "mlflow.md",
    "hpo gc": "disk.md",
    "hpo ui": "mlflow.md",
    "hpo data check": "posters.md",
    "hpo data fetch": "fetch-posters.md",
    "hpo data sample": "posters.md",
}
HEAD = """# Commands

Every command, argument and option. Written by `python docs/reference.py`; `hpo COMMAND --help` says the same.
`hpo --version` prints the version.

| command | what it does | its task |
| --- | --- | --- |
"""
PLACEHOLDERS = {int: "N", float: "X", Path: "PATH", str: "TEXT"}


class Parameter(NamedTuple):
    """An argument or an option of a command."""

    name: str  # as Python has it
    kind: Any  # what it is annotated as, None left out
    info: Any  # what Typer knows of it
    default: Any  # inspect.Parameter.empty where it has to be given

    @property
    def is_option(self) -> bool:
        """Say whether it is typed with its name."""
        return isinstance(self.info, OptionInfo)

    @property
    def is_required(self) -> bool:
        """Say whether there is nothing that holds without it."""
        return self.default is inspect.Parameter.empty


def reference() -> str:
    """Return the page."""
    commands = dict(commands_of(app, "hpo"))
    rows = [
        f"| [`{name}`](#{name.replace(' ', '-')}) | {first_sentence(command)} | [{TASKS[name]}]({TASKS[name]}) |\n"
        for name, command in commands.items()
    ]
    return HEAD + "".join(rows) + "".join(section(name, command) for name, command in commands.items())


def commands_of(group: typer.Typer, words: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield every command with the words that call it."""
    for command in group.registered_commands:
        if command.callback is not None:
            yield f"{words} {command.name}", command.callback
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            yield from commands_of(inner.typer_instance, f"{words} {inner.name}")


def section(name: str, command: Callable[..., Any]) -> str:
    """Return what the page says of one command."""
    parameters = list(parameters_of(command))
    arguments = [one for one in parameters if not one.is_option]
    options = [one for one in parameters if one.is_option]
    usage = " ".join([name, *map(in_usage, arguments), "[OPTIONS]"])
    text = f"\n## {name}\n\n{inspect.getdoc(command)}\n\n```text\n{usage}\n```\n"
    for title, shown in (("argument", arguments), ("option", options)):
        if shown:
            text += f"\n| {title} | default | what it is |\n| --- | --- | --- |\n" + "".join(map(row, shown))
    return text


def first_sentence(command: Callable[..., Any]) -> str:
    """Return what a command does in a sentence."""
    text = " ".join((inspect.getdoc(command) or "").split())
    return re.split(r"(?<=\.) ", text)[0]


def parameters_of(command: Callable[..., Any]) -> Iterator[Parameter]:
    """Yield the parameters of a command in their order."""
    hints = typing.get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        annotated = hints[name]
        if typing.get_origin(annotated) in (typing.Union, types.UnionType):  # get_type_hints adds Optional
            [annotated] = (one for one in typing.get_args(annotated) if one is not type(None))
        kind, info = typing.get_args(annotated)[:2]
        if typing.get_origin(kind) in (typing.Union, types.UnionType):
            [kind] = (one for one in typing.get_args(kind) if one is not type(None))
        assert isinstance(info, ArgumentInfo | OptionInfo), (command, name)
        yield Parameter(name, kind, info, parameter.default)


def in_usage(argument: Parameter) -> str:
    """Return an argument as the usage shows it."""
    word = placeholder(argument)
    return word if argument.is_required else f"[{word}]"


def placeholder(parameter: Parameter) -> str:
    """Return what stands for a value: FILE, N, one|other."""
    if not parameter.is_option:
        word = parameter.info.metavar or parameter.name.upper()
        return f"{word}..." if typing.get_origin(parameter.kind) is list and not word.endswith("...") else str(word)
    if parameter.info.metavar:
        return str(parameter.info.metavar)
    kind = typing.get_args(parameter.kind)[0] if typing.get_origin(parameter.kind) is list else parameter.kind
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(typing.get_args(kind))
    return PLACEHOLDERS[kind]


def spelling(parameter: Parameter) -> str:
    """Return an argument or an option as it is typed."""
    if not parameter.is_option:
        return f"`{placeholder(parameter)}`"
    given = (parameter.info.default, *(parameter.info.param_decls or ()))  # Typer takes the first for a default
    declared = [one for one in given if isinstance(one, str)] or [f"--{parameter.name.replace('_', '-')}"]
    if parameter.kind is bool:
        return ", ".join(f"`{word}`" for words in declared for word in words.split("/"))
    return f"`{declared[0]} {placeholder(parameter)}`".replace("|", r"\|")


def row(parameter: Parameter) -> str:
    """Return a row of a table; ``Default: ...`` at the end of a help text is in the column of defaults."""
    help_text, _, given = " ".join((parameter.info.help or "").split()).partition(" Default: ")
    notes = [help_text]
    if typing.get_origin(parameter.kind) is list and parameter.is_option:
        notes.append("May be given several times.")
    if parameter.info.min is not None:
        to = "" if parameter.info.max is None else f" to {parameter.info.max}"
        notes.append(f"From {parameter.info.min}{to or ' on'}.")
    if parameter.info.envvar:
        notes.append(f"Also `{parameter.info.envvar}`.")
    text = " ".join(notes).replace("|", r"\|").replace("<", r"\<")
    return f"| {spelling(parameter)} | {default(parameter, given)} | {text} |\n"


def default(parameter: Parameter, given: str) -> str:
    """Return what holds when a parameter is left out: the value, or the words of its help text."""
    if parameter.is_required:
        return "required"
    if given or parameter.default is None or parameter.default is False:
        return given.removesuffix(".").replace("<", r"\<")
    if parameter.kind is bool:
        return spelling(parameter).partition(",")[0]
    return f"`{parameter.default}`"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
