from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.errors import StudyError
from hpo.study.study import open_study

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = "\n".join(page.read_text() for page in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))))
HEAVY = ("torch", "timm", "mlflow", "optuna", "pandas", "sklearn")


def walk(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it, groups included."""
    yield words, command
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from walk(subcommand, (*words, name))


COMMANDS = dict(walk(typer.main.get_command(app)))
OPTIONS = {
    spelling
    for command in COMMANDS.values()
    for parameter in command.params
    if parameter.param_type_name == "option"
    for spelling in (*parameter.opts, *parameter.secondary_opts)
}


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True)


def test_every_command_is_documented():
    named = (" ".join(("hpo", *words)) for words in COMMANDS)
    assert [command for command in named if not re.search(rf"\b{command}\b", DOCS)] == []


def test_every_option_is_documented_and_every_documented_one_exists():
    documented = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", DOCS))
    assert sorted(OPTIONS - documented) == []
    assert sorted(documented - OPTIONS - OF_OTHER_PROGRAMS) == []


# In commands that the docs show beside ours: docker compose, mlflow server, mlflow models serve, psql, hpo --help.
OF_OTHER_PROGRAMS = {
    *("--build", "--rm", "--scale", "--volume", "--volumes", "--format", "--username"),
    *("--allowed-hosts", "--env-manager", "--help"),
}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(words):
    shown = CliRunner().invoke(app, [*words, "--help"])
    assert shown.exit_code == 0
    assert "Usage:" in shown.output
    assert COMMANDS[words].help.split()[0] in shown.output


def test_every_option_says_what_it_is_for():
    silent = [
        (words, parameter.name)
        for words, command in COMMANDS.items()
        for parameter in command.params
        if parameter.param_type_name == "option" and not parameter.help
    ]
    assert silent == []


def test_a_wrong_value_is_one_line_on_stderr_and_exit_2(tmp_path):
    done = run("-m", "hpo", "search", "--timeout", "soon", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "hpo: --timeout expects a duration such as 90s, 30m or 2h, got 'soon'.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["status", "leaderboard", "export-best"])
@pytest.mark.parametrize("storage", ["nonsense", "nosuch://place", "sqlite:///{folder}/text/optuna.db", "sqlite://"])
def test_an_unusable_storage_is_named_with_a_cure(tmp_path, command, storage):
    (tmp_path / "text").write_text("no folder")
    place = storage.format(folder=tmp_path)
    with pytest.raises(StudyError, match=r"cannot be used .*: check --storage\.$") as told:
        CliRunner().invoke(app, [command, "--storage", place], catch_exceptions=False)
    assert place in str(told.value)


@pytest.mark.parametrize("words", [["--help"], ["space", "default"]])
def test_f11_an_output_that_is_full_is_one_sentence(words):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hpo", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith("hpo: Could not write its output (No space left on device)")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_f11_a_terminal_that_is_not_utf_8_gets_escapes(tmp_path, encoding):
    url = f"sqlite:///{tmp_path}/optuna.db"
    study = open_study(url, "字", tmp_path, 0, create=True)
    study.bind({"metric": "f1_macro"}, {"metric": "f1_macro", "seed": 0})
    words = [sys.executable, "-m", "hpo", "status", "--storage", url]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(words, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert ("字" if encoding == "utf-8" else "\\u5b57") in done.stdout.decode(encoding)


def test_a_current_folder_that_was_deleted_is_one_sentence(tmp_path):
    script = 'mkdir gone; cd gone; rmdir ../gone; exec "$0" -P -m hpo status'
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        ["/bin/sh", "-c", script, sys.executable], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("hpo: The current folder was deleted: change to a folder")
    assert "Traceback" not in done.stderr


def test_f11_a_name_too_long_for_files_is_one_sentence(tmp_path):
    for name in ("x" * 201, "字" * 70):
        with pytest.raises(StudyError, match="of at most 200 bytes"):
            open_study(f"sqlite:///{tmp_path}/optuna.db", name, tmp_path, 0, create=True)


def test_u1_a_backend_of_a_notebook_is_not_asked_for(tmp_path):
    code = "import sys; sys.argv = ['hpo', '--version']; from hpo.cli.app import main\n"
    code += "try: main()\nexcept SystemExit: pass\nimport matplotlib.pyplot as plt; plt.figure()"
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["hpo", "hpo.cli.app"])
def test_importing_is_light(tmp_path, module):
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    assert run("-c", code, cwd=tmp_path).stdout.strip() == "[]"
