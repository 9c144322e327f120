"""Words on the command line: any value for every option of every command, in a folder of traps."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from random import Random
from typing import Any

import typer.main

from hpo.cli.app import app
from hpo.cli.search import parse_duration, parse_trials
from hpo.data.splits.split import parse_size
from hpo.search.executors.processes import parse_workers
from tests.fuzzing import mutate

# Their work takes minutes, a network or the whole machine: only their words are read.
_LONG = ("search", "doctor", "ui", "data fetch", "data sample", "sync", "gc")
_WORDS = (
    "auto",
    "none",
    "all",
    "default",
    "0",
    "1",
    "-1",
    "+20",
    "50",
    "0.1",
    "1.5",
    "90s",
    "2h",
    "1e3",
    "٣",
    "½",
    "１０",
)
_TEXTS = tuple(text for text in mutate.TEXTS if not text.startswith(("/", "..", "file:")))  # it writes anywhere
_TRAPS = ("missing", "empty", "text.csv", "t.csv", "folder", "pipe", "broken", "loop", "secret", "bundle")


def _traps(folder: Path) -> None:
    """Lay out what a path may lead to."""
    for name in ("folder", "bundle"):
        (folder / name).mkdir()
    (folder / "empty").touch()
    (folder / "bundle" / "bundle.json").write_text("{}")
    (folder / "text.csv").write_text("no table")
    (folder / "t.csv").write_text("id,Genres\n" + "".join(f'{at},"Drama, Action"\n' for at in range(30)))
    os.mkfifo(folder / "pipe")
    (folder / "broken").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "secret").touch(mode=0o000)


def _commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*words, name))
        else:
            yield (*words, name), command


def _value(rng: Random, parameter: Any) -> str:
    choices = getattr(getattr(parameter, "type", None), "choices", None)
    if choices and rng.random() < 0.7:
        return f"{rng.choice([getattr(choice, 'value', choice) for choice in choices])}"
    if rng.random() < 0.1:
        return f"sqlite:///{rng.choice(_TRAPS)}"
    pools: tuple[tuple[Any, ...], ...] = (_TRAPS, _TRAPS, _WORDS, _TEXTS, mutate.INTEGERS, mutate.FLOATS)
    text = f"{rng.choice(rng.choice(pools))}"
    return text.replace("\x00", "\udcff")  # no word may hold the one, and names of files may hold the other


def _typed(rng: Random, command: Any) -> list[str]:
    typed = []
    options = [each for each in command.params if each.param_type_name == "option"]
    for parameter in command.params:
        if parameter.param_type_name == "argument" and rng.random() < 0.95:
            typed.append(_value(rng, parameter))
    for parameter in rng.sample(options, min(len(options), rng.randint(0, 4))):
        typed.append(rng.choice((*parameter.opts, *parameter.secondary_opts)))
        if not getattr(parameter, "is_flag", False):
            typed.append(_value(rng, parameter))
    if rng.random() < 0.05:
        typed.insert(rng.randrange(len(typed) + 1), rng.choice(("--", "-x", "--nosuch", *_TEXTS)))
    return [word.replace("\x00", "\udcff") for word in typed]


def _only_words(**given: Any) -> None:
    """Do what a long command does with its words before its work."""
    readers = {"timeout": parse_duration, "trials": parse_trials, "workers": parse_workers}
    for name, read in readers.items():
        if given.get(name) is not None and isinstance(given[name], str):
            read(given[name])
    for name in ("val_size", "test_size"):
        if given.get(name) is not None:
            parse_size(given[name], f"--{name.replace('_', '-')}")


def prepare(folder: Path) -> Callable[[Random], object]:
    """Type commands of which any option has any value."""
    root = typer.main.get_command(app)
    commands = dict(_commands(root))
    for words, command in commands.items():
        if " ".join(words) in _LONG:
            command.callback = _only_words
    _traps(folder)

    def attempt(rng: Random) -> None:
        words = rng.choice(list(commands))
        out, err = TextIOWrapper(BytesIO(), errors="backslashreplace"), TextIOWrapper(BytesIO(), errors="replace")
        stdin, sys.stdin = sys.stdin, TextIOWrapper(BytesIO(b"missing.jpg\n\xff\n"), errors="surrogateescape")
        try:
            with redirect_stdout(out), redirect_stderr(err):
                root.main([*words, *_typed(rng, commands[words])], prog_name="hpo")
        except SystemExit as ended:
            if ended.code not in (None, 0, 1, 2):
                raise AssertionError(f"exit code {ended.code}") from ended
        finally:
            sys.stdin = stdin

    return attempt
