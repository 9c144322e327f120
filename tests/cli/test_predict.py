"""``hpo predict``: every way of naming posters, every way of saying what is on them."""

from __future__ import annotations

import csv
import functools
import http.server
import io
import json
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpo.bundle.predictor import Predictor
from hpo.cli.app import app
from hpo.data.sources import named_posters
from hpo.data.table.lookup import Known
from hpo.data.table.rules import CatalogueRules
from hpo.errors import HpoError


def run(*words: object, stdin: str | None = None):
    return CliRunner().invoke(app, ["predict", *map(str, words)], input=stdin, catch_exceptions=True)


@pytest.fixture
def folder(drawn, tmp_path) -> Path:
    """Three posters, one of them deeper, and a file that is none."""
    out = tmp_path / "posters"
    (out / "more").mkdir(parents=True)
    for at, name in enumerate(("b.jpg", "a.png", "more/c.webp")):
        (out / name).write_bytes(drawn.posters.paths[at].read_bytes())
    (out / "notes.txt").write_text("no poster")
    return out


def test_folders_patterns_and_lists_name_the_same_posters(bundle, folder):
    names = [str(folder / name) for name in ("a.png", "b.jpg", "more/c.webp")]
    ways = [
        (bundle, folder, "--jsonl"),
        (bundle, f"{folder}/**/*.[jpw]*", "--jsonl"),
        (bundle, "-", "--jsonl"),
        (bundle, *names, "--jsonl"),
    ]
    said = [run(*way, stdin="\n".join(names) + "\n\n") for way in ways]
    for done in said:
        assert done.exit_code == 0, done.output
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert sorted(line["image"] for line in lines) == names
    expected = Predictor.load(bundle).probabilities([Path(names[0])])[0]
    first = next(line for line in map(json.loads, said[0].stdout.splitlines()) if line["image"] == names[0])
    assert list(first["probabilities"].values()) == pytest.approx(expected, abs=1e-4)
    assert set(first["sure"]) == {"Warm", "Moon", "Bars"}


def test_json_is_one_object_with_thresholds(bundle, folder):
    answer = json.loads(run(bundle, folder, "--json").stdout)
    assert [set(each) for each in answer["predictions"]] == [{"image", "labels", "probabilities", "sure"}] * 3
    assert answer["thresholds"].keys() == {"Warm", "Moon", "Bars"}


def test_csv_has_a_column_a_label(bundle, folder):
    rows = list(csv.DictReader(io.StringIO(run(bundle, folder, "--csv").stdout)))
    assert [Path(row["image"]).name for row in rows] == ["a.png", "b.jpg", "c.webp"]
    assert 0 <= float(rows[0]["Moon"]) <= 1


def test_broken_posters_are_skipped_and_the_others_answered(bundle, folder):
    (folder / "broken.jpg").write_bytes(b"no image")
    done = run(bundle, folder, folder / "absent.jpg", "x" * 300, "--json")
    assert done.exit_code == 2
    assert len(json.loads(done.stdout)["predictions"]) == 3
    assert "broken.jpg was skipped" in done.stderr
    assert "absent.jpg was skipped" in done.stderr
    assert "x was skipped, it is not an image that can be read (file name too long)" in done.stderr
    only = run(bundle, folder / "absent.jpg", "--json")
    assert (only.exit_code, json.loads(only.stdout)["predictions"]) == (2, [])


@pytest.mark.parametrize(("words", "told"), [
    (["https://example.org/a.jpg"], "only fetched with --allow-urls"),
    (["nothing*.jpg"], "got none: check the pattern"),
    (["a.jpg", "--json", "--csv"], "choose one"),
    (["a.jpg", "--force"], "for the --gallery"),
    ([""], "got an empty one"),
])  # fmt: skip
def test_what_cannot_be_done_is_one_sentence(bundle, words, told):
    done = run(bundle, *words)
    assert isinstance(done.exception, HpoError)
    assert told in str(done.exception)


def test_a_folder_without_posters(tmp_path):
    with pytest.raises(HpoError, match="got none"):
        list(named_posters([str(tmp_path)]))


def test_addresses_are_fetched_where_that_is_allowed(bundle, folder):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        done = run(bundle, f"{address}/a.png", f"{address}/absent.png", "--allow-urls", "--json")
        server.shutdown()
    assert done.exit_code == 2
    assert [each["image"] for each in json.loads(done.stdout)["predictions"]] == [f"{address}/a.png"]
    assert "absent.png was skipped" in done.stderr


def test_a_gallery_shows_two_models_and_what_is_known(bundle, drawn, folder, tmp_path):
    rows = ["id,name,labels", 'b,"<b>Bee</b>","Warm, Moon"', "a,Ay,Bars"]
    (tmp_path / "known.csv").write_text("\n".join(rows) + "\n")
    page = tmp_path / "gallery.html"
    words = (bundle, folder, "--gallery", page, "--against", bundle, "--data", tmp_path / "known.csv")
    done = run(*words)
    assert done.exit_code == 0, done.output
    text = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;Bee&lt;/b&gt;" in text
    assert "<b>Bee</b>" not in text
    assert text.count("data:image/jpeg") == 3
    again = run(*words)
    assert "give --force to replace it" in str(again.exception)
    assert run(*words, "--force").exit_code == 0


def test_a_gallery_shows_which_regions_speak_for_a_label(bundle, folder, tmp_path):
    page = tmp_path / "gallery.html"
    assert run(bundle, folder, "--gallery", page).exit_code == 0
    assert "data-map" not in page.read_text(encoding="utf-8")
    assert run(bundle, folder, "--gallery", page, "--explain", "--against", bundle, "--force").exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert text.count('class="why"') == text.count("data-words") == text.count("data:image/png")
    assert text.count('class="why"') > 0
    assert "--explain and --force are for the --gallery" in str(run(bundle, folder, "--explain").exception)


def test_nothing_is_asked_of_a_poster_without_a_genre(bundle, folder, tmp_path, monkeypatch):
    described = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**described, "thresholds": [1.0, 1.0, 1.0]}))
    monkeypatch.setattr("hpo.bundle.occlusion.evidence", lambda *_: pytest.fail("asked"))
    done = run(bundle, folder, "--gallery", tmp_path / "gallery.html", "--explain")
    assert done.exit_code == 0, done.output


def test_titles_are_found_for_posters_of_several_folders(bundle, drawn, tmp_path):
    for at, name in enumerate(("one/1.jpg", "two/deep/2.png", "two/3.webp", "two/9.jpg")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(drawn.posters.paths[at].read_bytes())
    rows = ["id,title,labels", "1,First,Warm", '2,Second,"Moon, Bars"', "3,Third,"]
    (tmp_path / "known.csv").write_text("\n".join(rows) + "\n")
    known = Known.read(tmp_path / "known.csv", CatalogueRules(labels_column="Genres"), ("Warm", "Moon"))
    said = [known.of(tmp_path / name) for name in ("one/1.jpg", "two/deep/2.png", "two/3.webp", "two/9.jpg")]
    assert said == [("First", {"Warm"}), ("Second", {"Moon"}), ("Third", None), ("9", None)]
    words = (tmp_path / "one", tmp_path / "two", "--gallery", tmp_path / "g.html", "--data", tmp_path / "known.csv")
    assert run(bundle, *words).exit_code == 0
    page = (tmp_path / "g.html").read_text(encoding="utf-8")
    assert all(title in page for title in ("First", "Second", "Third"))


def test_a_poster_is_found_by_the_column_of_images(tmp_path):
    (tmp_path / "t.csv").write_text("id,title,labels,file\n7,Seven,Warm,a/x.jpg\n8,Eight,Moon,b/x.jpg\n")
    known = Known.read(tmp_path / "t.csv", CatalogueRules(image_column="file"), ("Warm", "Moon"))
    assert known.of(tmp_path / "b" / "x.jpg") == ("Eight", {"Moon"})


@pytest.mark.parametrize("command", ["evaluate", "compare", "annotate", "predict"])
def test_a_table_of_other_labels_is_one_sentence_before_anything_is_predicted(bundle, folder, tmp_path, command):
    (tmp_path / "west.csv").write_text('id,name,labels\na,Ay,"Western, Noir"\nb,Bee,Noir\n')
    data = ("--data", tmp_path / "west.csv", "--images", folder)
    words = {
        "evaluate": (bundle, *data),
        "compare": (bundle, bundle, *data, "--storage", f"sqlite:///{tmp_path}/no.db"),
        "annotate": (bundle, tmp_path / "west.csv", "--images", folder, "--out", tmp_path / "out.csv"),
        "predict": (bundle, folder, "--gallery", tmp_path / "g.html", "--data", tmp_path / "west.csv"),
    }
    done = CliRunner().invoke(app, [command, *map(str, words[command])])
    assert isinstance(done.exception, HpoError)
    assert "expected at least one of the" in str(done.exception)
    assert done.stdout == ""
    assert not (tmp_path / "g.html").exists()
    assert not (tmp_path / "out.csv").exists()


def test_names_command_no_terminal_and_are_no_markup(bundle, drawn, tmp_path):
    names = ["a\x1b[31m.jpg", "[bold]b[", "[", "c\x9b31m:smile:.jpg", "new\nline.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(drawn.posters.paths[0].read_bytes())
    (tmp_path / "bro\x1b[31m\nken.jpg").write_bytes(b"")
    table = run(bundle, *(tmp_path / name for name in names), tmp_path / "bro\x1b[31m\nken.jpg")
    assert table.exit_code == 2
    assert not set("\x1b\x9b") & set(table.output)
    assert "[bold]b[" in table.stdout
    assert table.stderr.count("\n") == 1
    lines = run(bundle, *(tmp_path / name for name in names), "--jsonl").stdout
    assert not set("\x1b\x9b") & set(lines)
    assert [Path(json.loads(line)["image"]).name for line in lines.splitlines()] == names
