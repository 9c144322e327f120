from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SETUPTOOLS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
MACHINE_PATH = re.compile(r"(?<![\w.~>}-])/(work|tmp|home|root|Users|mnt|var)(/|\b)")


def package_folders() -> set[Path]:
    return {file.parent for file in (REPOSITORY / "hpo").rglob("*.py")}


def test_every_package_folder_is_installed():
    folders = {".".join(folder.relative_to(REPOSITORY).parts) for folder in package_folders()}
    elsewhere = SETUPTOOLS["package-dir"]
    assert set(SETUPTOOLS["packages"]) == folders | set(elsewhere)
    assert all((folder / "__init__.py").is_file() for folder in package_folders())


def test_the_search_spaces_that_ship_are_installed():
    shipped = REPOSITORY / SETUPTOOLS["package-dir"]["hpo.search_spaces"]
    assert (shipped / "default.yaml").is_file()
    [pattern] = SETUPTOOLS["package-data"]["hpo.search_spaces"]
    assert set(shipped.glob(pattern)) == {file for file in shipped.iterdir() if file.suffix not in (".py", "")}


def committed_texts() -> list[Path]:
    folders = ("hpo", "docs", "search_spaces")
    files = [file for folder in folders for file in (REPOSITORY / folder).rglob("*") if file.is_file()]
    return [
        REPOSITORY / "README.md",
        *(file for file in files if "__pycache__" not in file.parts and file.suffix != ".png"),
    ]


def test_no_path_of_one_machine_is_named():
    found = {
        f"{file.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for file in committed_texts()
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if MACHINE_PATH.search(line)
    }
    assert found == set()


@pytest.mark.parametrize("text", ["/tmp/x", "in /tmp", "'/home/me'", "file:///tmp/x", "cd /root;"])
def test_a_machine_path_is_recognised(text):
    assert MACHINE_PATH.search(text)


@pytest.mark.parametrize("text", ["mlruns/workers/", "hpo/work", "a/tmp", "/workers", "./work", "https://x.org/home/"])
def test_other_paths_are_not_taken_for_one(text):
    assert not MACHINE_PATH.search(text)
