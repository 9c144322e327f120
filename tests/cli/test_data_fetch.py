from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import typer.main
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.data.table.catalogue import read_catalogue
from hpo.data.table.rules import CatalogueRules
from hpo.errors import DataError


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address of a web server that has posters 1, 2 and 3."""
    folder = tmp_path / "site"
    folder.mkdir()
    for n in (1, 2, 3):
        clouds = np.random.default_rng(n).integers(0, 255, (4, 3, 3), np.uint8)
        Image.fromarray(clouds).resize((90, 128)).save(folder / f"{n}.jpg")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if "forbidden" in self.path:
            self.send_error(403)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def csv(site: str, tmp_path: Path) -> Path:
    """Three TV shows, one of them for adults, and a film whose poster is not there."""
    path = tmp_path / "my shows.csv"
    path.write_text(
        "anime_id,Name,Genres,Type,Image URL\n"
        f'1,One,"Action, Drama",TV,{site}/1.jpg\n'
        f'2,Two,"Action, Hentai",TV,{site}/2.jpg\n'
        f"3,Three,Drama,TV,{site}/3.jpg\n"
        f"4,Four,Drama,Movie,{site}/4.jpg\n"
        f"5,Five,Drama,TV,{site}/images/qm_50.gif\n"
    )
    return path


@pytest.fixture
def fetch() -> Callable[..., Result]:
    def run(*words: object) -> Result:
        return CliRunner().invoke(app, ["data", "fetch", *map(str, words)], catch_exceptions=False)

    return run


def parameters(words: list[str]) -> dict[str, object]:
    """What these words give to hpo data fetch."""
    command = typer.main.get_command(app).commands["data"].commands["fetch"]
    return command.make_context("fetch", list(words)).params


def test_fetching_tells_how_to_search(csv, fetch, tmp_path):
    out = tmp_path / "out"
    done = fetch(out, "--csv", csv, "--types", "TV", "--rate", 0, "--allow-private")
    assert done.exit_code == 0
    assert {path.name for path in (out / "images").iterdir()} == {"1.jpg", "3.jpg"}
    assert (out / "my shows.csv").read_bytes() == csv.read_bytes()
    first, last = done.stdout.splitlines()
    assert first.startswith("2 posters wanted: 0 were there, 2 were fetched (0.0 MB), 0 are missing.")
    assert shlex.split(last)[1:] == [
        *("hpo", "search", "--data", str(out / "my shows.csv"), "--images", str(out / "images"), "--types", "TV")
    ]


def test_what_is_missing_is_named_with_exit_code_2(csv, fetch, tmp_path):
    words = tmp_path / "out", "--csv", csv, "--adult", "--allow-private", "--concurrency", 2
    done = fetch(*words)
    assert done.exit_code == 2
    assert "4 posters wanted: 0 were there, 3 were fetched" in done.stdout
    assert "  1 not found (4); not asked for again" in done.stdout
    again = next(
        line for line in done.stdout.splitlines() if line.startswith("To ask for the missing ones once more: ")
    )
    typed = shlex.split(again.partition(": ")[2])
    assert typed[:4] == ["hpo", "data", "fetch", str(tmp_path / "out")]
    assert parameters(typed[3:]) == parameters([*map(str, words), "--retry-failed"])
    assert fetch(*typed[3:]).exit_code == 2
    assert shlex.split(fetch(*typed[3:]).stdout.splitlines()[-1].partition(": ")[2]) == typed


def test_what_is_missing_for_now_is_continued_by_the_same_command(csv, fetch, tmp_path):
    csv.write_text(csv.read_text().replace("/1.jpg", "/forbidden.jpg"))
    typed = ["--csv", str(csv), "--limit", "1", "--allow-private"]
    done = fetch(tmp_path / "out", *typed)
    assert done.exit_code == 2
    assert "  1 refused by the server (1)\n" in done.stdout
    lead, _, again = done.stdout.splitlines()[-1].partition(": ")
    words = shlex.split(again)
    assert (lead, words[:3]) == ("To continue", ["hpo", "data", "fetch"])
    assert parameters(words[3:]) == parameters([str(tmp_path / "out"), *typed])


def test_json_is_one_object_on_stdout(csv, fetch, tmp_path):
    out = tmp_path / "out"
    done = fetch(out, "--csv", csv, "--json", "--allow-private", "--rate", 0)
    told = json.loads(done.stdout)
    assert (told["n_wanted"], told["n_there"], told["n_fetched"], told["n_missing"]) == (3, 0, 2, 1)
    assert told["missing"] == {"not found": {"n_posters": 1, "examples": ["4"], "permanent": True}}
    assert (told["csv"], told["images"]) == (str(out / "my shows.csv"), str(out / "images"))


def test_private_addresses_are_refused_unless_allowed(csv, fetch, tmp_path):
    assert "  3 address refused (1, 3, 4)" in fetch(tmp_path / "out", "--csv", csv).stdout


def test_an_earlier_copy_of_the_catalogue_needs_no_kaggle(csv, fetch, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    csv.rename(out / "anime-dataset-2023.csv")
    assert fetch(out, "--types", "TV", "--allow-private").exit_code == 0


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("id,genres\n1,A\n2,B\n", "names no poster's address: .* but there is none"),
        ("id,genres,image_url\n1,A,\n2,B,\n", "names no poster's address: .* but 'image_url' is empty"),
        ("", "expected a table with a header"),
        ("id,image_url\n1,http://x/1.jpg\n", "--labels-column"),
    ],
)
def test_a_catalogue_that_cannot_be_used_writes_nothing(fetch, tmp_path, table, sentence):
    (tmp_path / "x.csv").write_text(table)
    with pytest.raises(DataError, match=sentence):
        fetch(tmp_path / "out", "--csv", tmp_path / "x.csv")
    assert not (tmp_path / "out").exists()


def test_the_real_catalogue_is_understood(shared_data, fetch, tmp_path):
    """Nothing is asked for: the first posters are there, and the host is none."""
    csv, images = tmp_path / "sample.csv", tmp_path / "images"
    real = shared_data / "mal-catalogue" / "anime-dataset-2023-sample.csv"
    csv.write_text(real.read_text().replace("https://cdn.myanimelist.net", "https://nowhere.invalid"))
    images.mkdir()
    for poster_id in read_catalogue(csv, None, CatalogueRules(top_labels=100))[0].ids[:50]:
        (images / f"{poster_id}.jpg").write_bytes(b"mine")
    done = fetch(tmp_path, "--csv", csv, "--limit", 50)
    assert done.exit_code == 0
    assert "50 posters wanted: 50 were there" in done.stdout


def test_f19_the_column_of_addresses_can_be_named(csv, fetch, tmp_path):
    csv.write_text(csv.read_text().replace("Image URL", "where it lies"))
    refused = CliRunner().invoke(app, ["data", "fetch", str(tmp_path / "out"), "--csv", str(csv)])
    assert "name the column of addresses with --url-column" in str(refused.exception)
    done = fetch(tmp_path / "out", "--csv", csv, "--url-column", "where it lies", "--types", "TV", "--allow-private")
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "out" / "images").iterdir()} == {"1.jpg", "3.jpg"}
