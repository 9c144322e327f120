"""Printed commands do what was meant when they are typed."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main

from hpo.cli.app import app
from hpo.cli.arguments import _given, _taken
from hpo.runtime import commands

ROOT = typer.main.get_command(app)


def typed(words: list[str]) -> dict[str, object]:
    """The parameters that a command reads from these words."""
    command = ROOT
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command.make_context("hpo", list(words)).params


def given(name: str, *words: str) -> None:
    context = ROOT.commands[name].make_context(name, list(words))
    commands.remember(_given(context), _taken(ROOT))


def test_f10_options_that_were_given_are_carried_over_and_quoted():
    given("search", "--storage", "sqlite:///my folder/o.db", "--cache-dir", "c d", "--labels", "6", "--timeout", "3m")
    words = shlex.split(commands.command("export-best", study="it's <b>"))
    params = typed(words[1:])
    assert (params["study"], params["storage"]) == ("it's <b>", "sqlite:///my folder/o.db")
    assert params["cache_dir"] == Path("c d")
    assert "--labels" not in words


def test_f10_a_flag_that_was_turned_off_stays_off():
    given("search", "--no-confirm", "--adult")
    params = typed(shlex.split(commands.command("search", study="s"))[1:])
    assert (params["confirm"], params["adult"]) == (False, True)


def test_f10_no_password_is_printed():
    given("search", "--storage", "postgresql://bob:secret@host/db")
    assert "secret" not in commands.command("status", study="s")


@pytest.mark.parametrize(
    "name", ["a b", "$HOME", "`id`", "a'b\"c", "*", "-x", "tab\there", "line\nend", "映画", "\udcff"]
)
def test_f10_a_shell_gets_the_name_as_it_was(name):
    shown = commands.command("x", name).removeprefix("hpo x ")
    said = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True).stdout
    assert said == os.fsencode(f"./{name}" if name.startswith("-") else name)
