"""Every command that hpo prints works as it is printed: it is read by Bash, and run."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hpo.runtime import commands
from tests.test_end_to_end import SPACE, CommandLine

_SHELL = 'hpo() { printf "%s\\0" "$@"; }; '  # what a shell makes of the words of a command


@pytest.fixture(autouse=True)
def _forget():
    yield
    commands.remember({}, {})


def printed(text: str) -> list[str]:
    """The commands in what was printed, from the word hpo to the end of the line."""
    found = (re.match(r"\s*(?:[A-Z][\w ]*: )?(hpo (?!:).*)$", line) for line in text.splitlines())
    return [match[1] for match in found if match]


def read_by_bash(hpo: CommandLine, line: str) -> list[str]:
    done = subprocess.run(["bash", "-c", _SHELL + line], cwd=hpo.folder, env=hpo.env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b""), line
    return done.stdout.decode().split("\0")[:-1]


def test_f10_every_printed_command_works_as_printed(tmp_path: Path) -> None:
    hpo = CommandLine(tmp_path / "it's my folder (1)")
    (hpo.folder / "a space.yaml").write_text(SPACE)
    small = ["--space", "a space.yaml", "--trials", "2", "--folds", "1", "--study", "s (1)", "--no-confirm"]
    parts = ["--labels", "4", "--val-size", "30", "--test-size", "30"]

    def run(line: str, *more: str) -> str:
        done = hpo._in_this_process(*read_by_bash(hpo, line), *more)
        assert done.exit_code == 0, (line, done.output)
        return done.output

    [search] = printed(hpo.here("data", "sample", "my sample", "--posters", "120", "--seed", "3"))
    told = printed(run(search, *small, *parts))
    assert [line.split()[1] for line in told] == ["export-best", "leaderboard", "ui"]
    [again] = printed(hpo.here("data", "check", "my sample/anime.csv", *parts))
    assert told == printed(run(again, *small))  # the split is the same, and so nothing is left to do
    export, leaderboard, _ui = told
    run(leaderboard)
    [predict] = printed(run(export))
    shutil.copy(next((hpo.folder / "my sample" / "images").glob("*.jpg")), hpo.folder / "POSTER.jpg")
    run(predict)
    shutil.rmtree(hpo.folder / "bundle-s (1)")
    [together] = printed(hpo.here("ensemble", "--max-members", "2"))
    assert "--max-members 2" in together
    run(together)
    hpo.here("report", "--out", "page.html")
    page = html.unescape((hpo.folder / "page.html").read_text())
    [reproduce] = dict.fromkeys(re.findall(r"<pre>(hpo search .*?)</pre>", page))
    run(reproduce)
