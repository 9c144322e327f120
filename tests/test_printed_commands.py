"""Every command that hpo prints works as it is printed: it is read by Bash, and run."""

from __future__ import annotations

import html
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.test_end_to_end import HPO, SPACE, CommandLine

_SHELL = 'hpo() { printf "%s\\0" "$@"; }; '  # what a shell makes of the words of a command


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

    table, images = "my sample/anime.csv", "my sample/images"
    named = hpo.here("annotate", "bundle-s (1)", table, "--images", images, "--out", "filled in.csv")
    assert printed(named) == []  # nothing is left to do
    assert printed(hpo.here("status")) == []
    run(search, *small, *parts, "--trials", "3", "--timeout", "0.01")
    [further] = printed(hpo.here("status"))
    assert "--trials 3" in further
    typed_into_bash(hpo, further, 0)
    status = hpo.status("s (1)")
    assert (status["budget"], status["trials"]["complete"] + status["trials"]["pruned"]) == (3, 3)


def typed_into_bash(hpo: CommandLine, line: str, code: int) -> str:
    """Run a command as it is printed, in a shell of its own, and return what it prints."""
    function = f'hpo() {{ {shlex.join(HPO)} "$@"; }}; '
    done = subprocess.run(
        ["bash", "-c", function + line], cwd=hpo.folder, env=hpo.env, text=True, capture_output=True, check=False
    )
    assert done.returncode == code, (line, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout


class Forbidding(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(403)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    """The address of a web server of this machine that refuses everything for now."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Forbidding) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("allowed", "leads"),
    [(True, ["To continue"]), (False, ["Next", "To ask for the missing ones once more"])],
    ids=["refused for now", "refused for good"],
)
def test_f10_data_fetch_prints_how_to_continue(tmp_path: Path, site: str, allowed: bool, leads: list[str]) -> None:
    hpo = CommandLine(tmp_path / "it's my folder (1)")
    rows = "".join(f"{n},Drama|Comedy,TV,{site}/{n}.jpg\n" for n in range(5))
    (hpo.folder / "my table.csv").write_text(f"id,genres,type,where it lies\n{rows}")
    words = ["--csv", "my table.csv", "--url-column", "where it lies", "--limit", "3", "--rate", "0"]
    done = hpo._in_this_process("data", "fetch", "out (1)", *words, *(["--allow-private"] if allowed else []))
    assert done.exit_code == 2
    assert [line.partition(": ")[0] for line in done.output.splitlines() if ": hpo " in line] == leads
    again = printed(done.output)[-1]
    assert again.split()[:3] == ["hpo", "data", "fetch"]
    told = typed_into_bash(hpo, again, 2)
    assert told.startswith("3 posters wanted: 0 were there, 0 were fetched ")
    assert printed(told)[-1] == again


def test_f10_the_cures_of_doctor_are_commands_that_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")  # and none is broken
    hpo = CommandLine(tmp_path / "it's my folder (1)")
    hpo.here("data", "sample", "my sample", "--posters", "60")
    (hpo.folder / "no posters").mkdir()

    def fixes(*words: str) -> list[str]:
        lines = hpo._in_this_process("doctor", *words).output.splitlines()
        return [found[1] for line in lines if (found := re.search(r"→ .*?(hpo .*?)(?: says why$|, or )", line))]

    [check] = fixes("--data", "my sample/anime.csv", "--images", "no posters")
    assert "no posters" in hpo.refused(*read_by_bash(hpo, check))
    weights = SPACE.replace("test_resnet: random", "test_resnet: nowhere.pth")
    (hpo.folder / "a space.yaml").write_text(weights)
    given = ("--data", "my sample/anime.csv", "--space", "a space.yaml", "--trials", "2")
    [search] = fixes(*given, "--configurations", "1", "--folds", "1")
    told = hpo._in_this_process(
        *read_by_bash(hpo, search), "--timeout", "0.01", "--val-size", "15", "--test-size", "15"
    )
    assert (told.exit_code, "Left out test_resnet" in told.output) == (0, True), told.output
