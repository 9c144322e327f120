"""The documentation as a user takes it: what is to be typed is parsed and run, and links lead somewhere.

A fenced block is ``sh`` (a command a line), ``python``, ``yaml``, ``json``, or ``text``, which is not typed. Every
command and every Python block is run in a folder with the files that the examples name, on one small search, unless it
is listed here with the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main
from PIL import Image
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.cli.search import parse_duration, parse_trials
from hpo.data.sample.sample import write_sample
from hpo.space import document as documents
from tests.test_many_workers import SPACE

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PAGES = (REPOSITORY / "README.md", *sorted(DOCS.glob("*.md")))
HPO = typer.main.get_command(app)

# Commands of ours that are parsed and not run, by words in them, and why.
NOT_RUN = {
    "hpo data fetch": "asks the network: tests/data/fetch",
    "--allow-urls": "asks the network: tests/cli/test_predict.py",
    "hpo ui": "serves until Ctrl-C: tests/report/test_ui.py, test_browser.py",
    "hpo search": "takes seconds each, or minutes: one is in SET_UP, tests/search has the others",
    "hpo doctor --space": "trains for a minute: tests/cli/test_doctor.py",
    "hpo doctor --storage": "asks servers: tests/search/health",
    "docker compose run": "needs an engine: tests/test_compose.py",
}
# Other programs in the examples, and why they are not run.
OTHERS = {
    "make": "installs; `make test` is what runs this",
    "pip": "installs",
    "docker": "needs an engine: tests/test_compose.py",
    "cp": "the set-up of Docker Compose: tests/test_compose.py",
    "install": "the set-up of Docker Compose: tests/test_compose.py",
    "export": "the shell's",
    "ssh": "asks the network",
    "mlflow": "serves until Ctrl-C: tests/test_five_ways.py",
    "curl": "asks that server: tests/test_five_ways.py",
}
# What the others need is run first, and once.
SET_UP = (
    "hpo search --data movies.csv --images posters/",
    "hpo export-best --out best/",
    "hpo export-best --ensemble --out ensemble/",
)
# Every search of the examples is made as small as this; the last of a repeated option holds.
SMALL = ("--trials", "2", "--folds", "1", "--labels", "4", "--no-confirm")
MAY_WARN = {"doctor": (0, 1)}  # 1 where this machine has little memory or disk


class Block(NamedTuple):
    """What stands between two fences."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        language, first, inside = None, 0, []
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            if not line.startswith("```"):
                inside.append(line)
            elif language is None:
                language, first, inside = line.removeprefix("```"), number + 1, []
            else:
                yield Block(page, first, language, "\n".join(inside))
                language = None
        assert language is None, f"{page}: a block does not end"


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


BLOCKS = list(blocks())
LINES = {  # without their comments, so that each is run once
    re.sub(r"\s+# .*", "", line): block.place
    for block in BLOCKS
    if block.language == "sh"
    for line in block.text.splitlines()
}


def words_of(line: str) -> list[str] | None:
    """The words that hpo is given in a line of a shell, or None where it is another program's line."""
    ours = re.search(r"^(?:.* \| )?hpo (.*)|^docker compose run --rm (?:--volume \S+ )?search (.*)", line)
    return None if ours is None else shlex.split(ours[1] or ours[2])


OURS = {line: words for line in LINES if (words := words_of(line)) is not None}
RUN = {line: words for line, words in OURS.items() if line not in SET_UP and not any(told in line for told in NOT_RUN)}


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words call, and the words after its name."""
    command: Any = HPO
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


# Every command of every page


@pytest.mark.parametrize(("line", "words"), OURS.items(), ids=OURS)
def test_a_command_is_one_that_hpo_takes(line: str, words: list[str]) -> None:
    command, rest = command_of(words)
    assert not hasattr(command, "commands") or rest[0].startswith("-"), f"{LINES[line]}: no such command"
    given = command.make_context("hpo", list(rest)).params  # raises for what does not exist, fit or is missing
    for name, reads in {"trials": parse_trials, "timeout": parse_duration}.items():
        if given.get(name) is not None:
            reads(given[name])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_within_sentences_exist(page: Path) -> None:
    for told in re.findall(r"`hpo ([^`]*)`", prose(page)):
        command, rest = command_of(told.split())
        known = {spelling for parameter in command.params for spelling in (*parameter.opts, *parameter.secondary_opts)}
        assert not hasattr(command, "commands") or told.split()[0] in ("COMMAND", "--version"), told
        assert {word for word in rest if word.startswith("--")} <= known | {"--help"}, told


def test_other_programs_are_known() -> None:
    programs = {line.split()[0] for line in LINES if line not in OURS}
    assert programs - set(OTHERS) == set()


def test_nothing_is_excused_that_is_not_there() -> None:
    assert [told for told in NOT_RUN if not any(told in line for line in OURS)] == []
    assert [name for name in OTHERS if not any(line.startswith(f"{name} ") for line in LINES)] == []


def test_every_block_says_what_it_is() -> None:
    known = {"sh", "text", "python", "yaml", "json"}
    assert [block.place for block in BLOCKS if block.language not in known] == []


def test_every_command_has_an_example() -> None:
    reference = runpy.run_path(str(DOCS / "reference.py"))
    for name, page in reference["TASKS"].items():
        lines = [line for block in BLOCKS if block.page == DOCS / page for line in block.text.splitlines()]
        assert any(re.search(rf"(^|\| ){name}\b", line) for line in lines), f"no example of {name} in {page}"


def test_the_reference_is_what_its_script_writes() -> None:
    written = runpy.run_path(str(DOCS / "reference.py"))["reference"]()
    assert (DOCS / "commands.md").read_text(encoding="utf-8") == written, "type python docs/reference.py"


# The examples at work


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which the examples can be typed: their files, a search that has ended, and two bundles."""
    folder = tmp_path_factory.mktemp("docs")
    lay_out(folder)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("HPO_CACHE_DIR", str(folder / "cache"))
        for name in ("MLFLOW_TRACKING_URI", "HPO_STORAGE"):
            patch.delenv(name, raising=False)
        patch.setattr(documents, "SHIPPED_SPACES", folder / "spaces")
        for line in SET_UP:
            typed(OURS[line])
        yield folder


def lay_out(folder: Path) -> None:
    """Put drawn posters under the names that the pages use, and a space of tiny networks in the default's place."""
    for table, images, n_posters, seed in (("movies.csv", "posters", 110, 0), ("other.csv", "others", 40, 1)):
        csv = write_sample(folder / f"drawn-{images}", n_posters, seed)
        csv.rename(folder / table)
        (csv.parent / "images").rename(folder / images)
    shutil.copy(folder / "movies.csv", folder / "anime.csv")
    posters = sorted((folder / "posters").iterdir())
    (folder / "more").mkdir()
    for name, source in zip(("a.jpg", "b.jpg", "poster.jpg", "b.webp", "more/c.png"), posters, strict=False):
        with Image.open(source) as poster:
            poster.save(folder / name)
    shutil.copytree(documents.SHIPPED_SPACES, folder / "spaces")
    (folder / "spaces" / "default.yaml").write_text(SPACE)
    (folder / "spaces" / "auto.yaml").write_text("include: default\n")
    (folder / "mine.yaml").write_text("include: default\nparameters: {batch_size: 16}\n")


def typed(words: list[str], stdin: str | None = None) -> str:
    """Run a command as it is documented, in this process, and return what it printed."""
    given = [*words, *(SMALL if words[0] == "search" else ())]
    done = CliRunner().invoke(app, given, input=stdin, catch_exceptions=False)
    assert done.exit_code in MAY_WARN.get(words[0], (0,)), done.output
    return done.stdout


@pytest.mark.parametrize(("line", "words"), RUN.items(), ids=RUN)
def test_a_command_runs(folder: Path, line: str, words: list[str]) -> None:
    out = Path(words[words.index("--out") + 1]) if "--out" in words else None
    kept = out.rename(folder / "kept") if out is not None and out.exists() and "--force" not in words else None
    there = set(folder.iterdir())
    before, pipe, _ = line.partition(" | hpo ")
    stdin = subprocess.check_output(before, shell=True, text=True) if pipe else None
    try:
        printed = typed([os.path.expandvars(word) for word in words], stdin)
        if "--json" in words:
            json.loads(printed)
        assert printed
    finally:  # what one example writes, another would refuse to write over
        for new in set(folder.iterdir()) - there:
            shutil.rmtree(new) if new.is_dir() else new.unlink()
        if kept is not None and out is not None:
            kept.rename(out)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=lambda b: b.place)
def test_python_runs(folder: Path, block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # which MLflow sets as well when it is given a place
    try:
        exec(compile(block.text, block.place, "exec"), {"__name__": "example"})
    finally:
        mlflow.set_tracking_uri(None)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "json"], ids=lambda b: b.place)
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


# What pages point at


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+://", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} points at {target}"
        headings = re.findall(r"^#+ (.*)", prose(file), re.M) if anchor else []
        assert not anchor or anchor in map(slug, headings), f"{page.name} points at {target}"


def test_every_page_and_picture_is_pointed_at() -> None:
    everything = "".join(map(prose, PAGES))
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in prose(PAGES[0])] == []
    assert [file.name for file in (DOCS / "pictures").iterdir() if f"(pictures/{file.name})" not in everything] == []


def test_the_tree_of_the_readme_is_the_tree() -> None:
    [tree] = [block.text for block in BLOCKS if block.text.startswith("hpo/\n")]
    folders: list[str] = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.match(r"\s*(\S+(?:(?:, |  )\S+\.\w+)*)", line)
        assert names is not None
        for name in re.split(r", |  ", names[1].rstrip(",")):
            if name.endswith("/"):
                folders = [*folders[:depth], name]
            base = REPOSITORY.joinpath(*folders[: depth + name.endswith("/")])
            path = base if name.endswith("/") else base / name
            assert path.exists(), f"{path.relative_to(REPOSITORY)} is in README's tree alone"
