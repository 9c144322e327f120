"""The command class of the CLI: bounds on arguments, and the options that printed commands repeat."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from hpo.errors import UsageError, did_you_mean
from hpo.escaping import shortened
from hpo.runtime import commands

_MOST_BYTES_OF_A_NAME = 255  # of file systems
_MOST_BYTES_OF_A_PATH = 4095  # of Linux
_READ_WHOLE = ("data", "csv", "split", "space", "files")  # a device or a pipe may have no end
_IN_DATABASES = ("study", "warm_start", "storage", "tracking_uri")  # which take UTF-8 alone
_MOST_BYTES_OF_A_STUDY = 200  # files and folders are named after it, and MLflow's models, with up to 255


class Command(TyperCommand):
    """A command of hpo."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Say in one sentence which value an option cannot take."""
        typed = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # Typer's own, whose module has changed from version to version
            parameter, message = getattr(error, "param", None), getattr(error, "message", None)
            if parameter is None or message is None:
                raise
            raise UsageError(_refusal(parameter, str(message), typed)) from error

    def invoke(self, ctx: Any) -> Any:
        """Check and note what was given, then run."""
        for parameter in self.params:
            for value in _values(ctx.params.get(parameter.name or "")):
                _check(parameter, value)
        commands.remember(_given(ctx), _taken(ctx.find_root().command))
        return super().invoke(ctx)


def _refusal(parameter: Any, message: str, typed: list[str]) -> str:
    name, value = _name(parameter), _value_in(typed, parameter.opts)
    if not message:
        return f"{name} is missing: add it, or type --help to see what the command takes."
    got = "" if value is None else f", got {shortened(value)!r}"
    choices = re.findall("'([^']*)'", message.partition(" is not one of ")[2])
    if choices:
        hint = did_you_mean(value or "", choices)
        return f"{name} expects one of {', '.join(choices)}{got}{hint}."
    words = message.partition(", unable to")[0].rstrip(".")
    expected = re.sub("^(?=less|greater)", "a number ", words.removeprefix("Input should be "))
    if expected == words:
        return f"{name} expects a value that can be used ({shortened(words, 200)}){got}: correct it."
    return f"{name} expects {expected}{got}: correct it."


def _value_in(typed: list[str], spellings: list[str]) -> str | None:
    for at, word in enumerate(typed):
        option, given, value = word.partition("=")
        if option in spellings:
            return value if given else next(iter(typed[at + 1 :]), None)
    return None


def _values(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _given(ctx: Any) -> dict[str, Any]:
    """The options that were typed, by parameter."""
    options = [parameter.name for parameter in ctx.command.params if parameter.param_type_name == "option"]
    sources = {name: ctx.get_parameter_source(name) for name in options}
    return {name: ctx.params[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def _taken(root: Any) -> dict[str, dict[str, tuple[str, ...]]]:
    """Every command by the words that call it → parameter → how its option is spelled: on, and off."""
    return {
        name: {
            parameter.name: (parameter.opts[0], *parameter.secondary_opts[:1])
            for parameter in command.params
            if parameter.param_type_name == "option"
        }
        for name, command in _commands(root, ())
    }


def _commands(group: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


def _name(parameter: Any) -> str:
    return str(parameter.opts[0] if parameter.param_type_name == "option" else parameter.name.upper())


def _check(parameter: Any, value: Any) -> None:
    """Refuse names that no file system takes. Raises UsageError."""
    name = _name(parameter)
    if isinstance(value, Path):
        longest = max((len(os.fsencode(part)) for part in value.parts), default=0)
        if longest > _MOST_BYTES_OF_A_NAME or len(os.fsencode(value)) > _MOST_BYTES_OF_A_PATH:
            raise UsageError(
                f"{name} expects a path with names of at most {_MOST_BYTES_OF_A_NAME} bytes, and of "
                f"{_MOST_BYTES_OF_A_PATH:,} in all, got {shortened(str(value))!r}: choose a shorter one."
            )
        if parameter.name in _READ_WHOLE and value.exists() and not value.is_file():
            raise UsageError(f"{name} expects a file, got {value}, which is none: name another one.")
    elif isinstance(value, str) and parameter.name in _IN_DATABASES and not value.isprintable():
        raise UsageError(
            f"{name} expects text that can be printed, got {shortened(value)!r}: leave out control characters "
            "and bytes that are not UTF-8."
        )
    elif isinstance(value, str) and parameter.name in ("study", "warm_start"):
        if len(value.encode(errors="surrogateescape")) > _MOST_BYTES_OF_A_STUDY:
            raise UsageError(
                f"{name} expects a study's name of at most {_MOST_BYTES_OF_A_STUDY} bytes, got {shortened(value)!r}: "
                "choose a shorter one."
            )
    elif isinstance(value, str) and len(value) > _MOST_BYTES_OF_A_PATH:
        raise UsageError(
            f"{name} expects at most {_MOST_BYTES_OF_A_PATH:,} characters, got {len(value):,}: shorten it."
        )
