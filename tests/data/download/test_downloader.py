from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hpo.data.download.client import FetchOptions
from hpo.data.download.downloader import FetchReport, MissingPosters, Wanted, copy_catalogue, fetch_posters
from hpo.data.download.folder import PosterFolder
from hpo.data.table.cleaning import SHARED_BY
from hpo.errors import DataError

QUICK = FetchOptions(per_second=0, first_backoff=0.01, timeout=120, allow_private=True)
OWN_FILES = {"images", "fetch.jsonl", "fetch.lock"}


def files_in(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("images/*")}


def everything_under(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.fixture
def wanted(server, draw) -> list[Wanted]:
    """Twelve posters that can be had."""
    return [Wanted(str(n), server.tell(f"/{n}.jpg", draw(n))) for n in range(12)]


def test_posters_are_fetched_once(server, draw, wanted, tmp_path):
    finished: list[int] = []
    report = fetch_posters(wanted, tmp_path, QUICK, finished.append)
    assert files_in(tmp_path) == {f"{n}.jpg": draw(n) for n in range(12)}
    assert everything_under(tmp_path) == OWN_FILES | {f"images/{n}.jpg" for n in range(12)}
    assert report == FetchReport(12, 0, 12, sum(len(draw(n)) for n in range(12)), {}, False)
    assert sum(finished) == 12
    again = fetch_posters(wanted, tmp_path, QUICK)
    assert (again.n_there, again.n_fetched, again.n_missing) == (12, 0, 0)
    assert set(server.times_asked.values()) == {1}


def test_a_second_run_fetches_what_was_added_changed_or_deleted(server, draw, wanted, tmp_path):
    fetch_posters(wanted[:10], tmp_path, QUICK)
    server.asked.clear()
    (tmp_path / "images" / "3.jpg").unlink()
    (tmp_path / "images" / "4.jpg").rename(tmp_path / "images" / "4.webp")  # still there
    report = fetch_posters(wanted, tmp_path, QUICK)
    assert set(server.times_asked) == {"/3.jpg", "/10.jpg", "/11.jpg"}
    assert (report.n_there, report.n_fetched) == (9, 3)


def test_what_is_missing_for_good_is_remembered(server, draw, wanted, tmp_path):
    wanted += [Wanted("gone", server.url("/gone")), Wanted("page", server.tell("/page", b"", content_type="text/html"))]
    wanted += [Wanted("none", ""), Wanted("local", "file:///etc/passwd")]
    first, second = (fetch_posters(wanted, tmp_path, QUICK) for _ in range(2))
    assert first.missing == second.missing
    assert first.missing == {
        "not found": MissingPosters(1, ("gone",), True),
        "not said to be an image": MissingPosters(1, ("page",), True),
        "no address": MissingPosters(1, ("none",), True),
        "address refused": MissingPosters(1, ("local",), True),
    }
    assert (second.n_missing, second.n_to_try) == (4, 0)
    assert set(server.times_asked.values()) == {1}
    server.answers["/gone"].clear()
    server.tell("/gone", draw(50))
    third = fetch_posters(wanted, tmp_path, replace(QUICK, retry_failed=True))
    assert (third.n_fetched, third.n_missing) == (1, 3)
    assert (server.times_asked["/gone"], server.times_asked["/page"]) == (2, 2)


def test_a_server_may_say_what_is_no_text(server, tmp_path):
    wanted = [Wanted("1", server.redirect("/a.jpg", "ftp://\xff/"))]
    first, second = (fetch_posters(wanted, tmp_path, QUICK) for _ in range(2))
    assert first.missing == second.missing == {"address refused": MissingPosters(1, ("1",), True)}
    assert len(server.asked) == 1


def test_another_address_for_the_same_id_is_asked(server, draw, tmp_path):
    fetch_posters([Wanted("1", server.url("/gone"))], tmp_path, QUICK)
    assert fetch_posters([Wanted("1", server.tell("/moved", draw(1)))], tmp_path, QUICK).n_fetched == 1


def test_what_is_missing_for_now_is_tried_by_the_next_run(server, draw, tmp_path):
    for _ in range(QUICK.tries):
        server.tell("/a.jpg", status=503)
    wanted = [Wanted("a", server.tell("/a.jpg", draw(1)))]
    report = fetch_posters(wanted, tmp_path, QUICK)
    assert (report.missing, report.n_to_try) == ({"server error": MissingPosters(1, ("a",), False)}, 1)
    assert fetch_posters(wanted, tmp_path, QUICK).n_fetched == 1


def test_a_file_of_ones_own_counts_and_stays(server, draw, tmp_path):
    (tmp_path / "images").mkdir()
    for n in range(SHARED_BY + 1):
        (tmp_path / "images" / f"{n}.png").write_bytes(b"mine")
    report = fetch_posters([Wanted(str(n), server.url(f"/{n}")) for n in range(SHARED_BY + 1)], tmp_path, QUICK)
    assert (report.n_there, report.n_missing, server.asked) == (SHARED_BY + 1, 0, [])
    assert set(files_in(tmp_path).values()) == {b"mine"}


@pytest.mark.parametrize("runs", [[SHARED_BY], [SHARED_BY - 1, SHARED_BY], [SHARED_BY, SHARED_BY + 3]])
def test_a_picture_of_many_titles_is_kept_by_none(server, draw, wanted, tmp_path, runs):
    icon = [Wanted(f"icon-{n}", server.tell(f"/icon-{n}.jpg", draw(99))) for n in range(SHARED_BY + 3)]
    for n_icons in runs:
        report = fetch_posters([*wanted, *icon[:n_icons]], tmp_path, QUICK)
    assert set(files_in(tmp_path)) == {f"{n}.jpg" for n in range(12)}
    assert report.missing["placeholder"].n_posters == runs[-1]
    assert report.n_there + report.n_fetched == 12
    assert set(server.times_asked.values()) == {1}


def test_a_picture_of_few_titles_is_kept(server, draw, tmp_path):
    wanted = [Wanted(str(n), server.tell(f"/{n}.jpg", draw(99))) for n in range(SHARED_BY - 1)]
    assert fetch_posters(wanted, tmp_path, QUICK).n_fetched == SHARED_BY - 1


def test_a_placeholder_that_was_replaced_by_hand_stays(server, draw, tmp_path):
    wanted = [Wanted(str(n), server.tell(f"/{n}.jpg", draw(99))) for n in range(SHARED_BY)]
    fetch_posters(wanted, tmp_path, QUICK)
    (tmp_path / "images" / "2.jpg").write_bytes(b"mine")
    assert fetch_posters(wanted, tmp_path, QUICK).n_there == 1
    assert files_in(tmp_path) == {"2.jpg": b"mine"}


@pytest.mark.parametrize(
    "poster_id", ["../evil", "..", "a/b", "a\\b", "/etc/evil", "C:evil", "", " ", "a\0b", "x" * 252]
)
def test_no_id_leads_out_of_the_folder(server, draw, tmp_path, poster_id):
    report = fetch_posters([Wanted(poster_id, server.tell("/a.jpg", draw(1)))], tmp_path / "out", QUICK)
    assert report.missing == {"id that cannot name a file": MissingPosters(1, (poster_id,), True)}
    assert everything_under(tmp_path) == {"out", *(f"out/{name}" for name in OWN_FILES)}
    assert server.asked == []


@pytest.mark.parametrize("poster_id", ["26", "tt0111161", "26.0", "映画 1", "x" * 250, ".hidden", "-rf", "a'b\"c"])
def test_other_ids_name_their_file(server, draw, tmp_path, poster_id):
    assert fetch_posters([Wanted(poster_id, server.tell("/a.jpg", draw(1)))], tmp_path, QUICK).n_fetched == 1
    assert set(files_in(tmp_path)) == {f"{poster_id}.jpg"}
    assert fetch_posters([Wanted(poster_id, server.url("/a.jpg"))], tmp_path, QUICK).n_there == 1


def test_of_two_with_one_id_the_first_counts(server, draw, tmp_path):
    wanted = [Wanted("1", server.tell(f"/{n}.jpg", draw(n))) for n in range(3)]
    assert fetch_posters(wanted, tmp_path, QUICK).n_wanted == 1
    assert files_in(tmp_path) == {"1.jpg": draw(0)}


def test_a_host_that_is_down_is_soon_given_up(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    wanted = [Wanted(str(n), f"http://127.0.0.1:{port}/{n}.jpg") for n in range(500)]
    report = fetch_posters(wanted, tmp_path, replace(QUICK, first_backoff=0.1))
    assert report.missing["host given up"].n_posters > 450
    assert report.n_to_try == 500


def test_a_host_that_asks_for_a_pause_holds_up_no_other(server, draw, wanted, tmp_path):
    there = f"http://localhost:{server.server_port}"
    server.tell("/pause-0.jpg", status=429, headers={"Retry-After": "3"})
    paused = [Wanted(f"pause-{n}", there + f"/pause-{n}.jpg") for n in range(4)]
    for n in range(4):
        server.tell(f"/pause-{n}.jpg", draw(100 + n), seconds=0.05 * (n > 0))
    report = fetch_posters([*paused, *wanted], tmp_path, replace(QUICK, concurrency=2))
    assert report.n_missing == 0
    [first, *_, last] = [moment for path, moment in server.asked if "pause" in path]
    assert last - first >= 3
    assert max(moment for path, moment in server.asked if "pause" not in path) < last


def test_two_at_once_in_one_folder_are_refused(tmp_path):
    with PosterFolder.open(tmp_path), pytest.raises(DataError, match="another hpo data fetch is writing to"):
        fetch_posters([], tmp_path, QUICK)


@pytest.mark.parametrize("name", ["images", ".fetching"])
def test_nothing_is_written_through_a_link(server, draw, wanted, tmp_path, name):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / name).symlink_to(elsewhere)
    with pytest.raises(DataError, match="nothing is written outside of"):
        fetch_posters(wanted, out, QUICK)
    assert list(elsewhere.iterdir()) == []


def test_a_link_in_a_posters_place_is_replaced(server, draw, tmp_path):
    target = tmp_path / "secret"
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "images" / "1.jpg").symlink_to(target)  # leads nowhere yet
    fetch_posters([Wanted("1", server.tell("/a.jpg", draw(1)))], tmp_path / "out", QUICK)
    assert files_in(tmp_path / "out") == {"1.jpg": draw(1)}
    assert not target.exists()


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match=r"out cannot be written \(File exists\)"):
        fetch_posters([], tmp_path / "out", QUICK)


def test_the_catalogue_is_copied(tmp_path):
    csv = tmp_path / "x.csv"
    csv.write_text("id,genres\n")
    copy = copy_catalogue(csv, tmp_path / "out")
    assert copy == tmp_path / "out" / "x.csv"
    assert copy.read_text() == csv.read_text()
    assert copy_catalogue(copy, tmp_path / "out") == copy


FETCH = """
import json, resource, sys
from pathlib import Path
from hpo.data.download.client import FetchOptions
from hpo.data.download.downloader import Wanted, fetch_posters
wanted, out, most_bytes = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
options = FetchOptions(concurrency=4, per_second=0, tries=2, first_backoff=0.01, allow_private=True)
print(json.dumps(fetch_posters([Wanted(*poster) for poster in wanted], out, options).as_dict()))
"""


def start(wanted: Sequence[Wanted], folder: Path, most_bytes: int = 2**30) -> subprocess.Popen[str]:
    """A process of its own that fetches into folder/out and prints its report."""
    (folder / "wanted.json").write_text(json.dumps(wanted))
    words = [sys.executable, "-c", FETCH, str(folder / "wanted.json"), str(folder / "out"), str(most_bytes)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_requests(server, process: subprocess.Popen[str], n_more: int) -> None:
    """Return when so many more have come, or the process has ended."""
    enough = len(server.asked) + n_more
    while len(server.asked) < enough and process.poll() is None:
        time.sleep(0.001)


def test_nothing_is_lost_across_20_kills_at_random_moments(server, draw, tmp_path):
    """Each kill falls some requests and up to 30 ms after the start; every third one while the process is starting."""
    chance = random.Random(0)
    whole = {f"{n}.jpg": draw(n) for n in range(400)}
    wanted = [Wanted(str(n), server.tell(f"/{n}.jpg", whole[f"{n}.jpg"], seconds=0.002)) for n in range(400)]
    wanted += [Wanted(f"gone-{n}", server.url(f"/gone-{n}")) for n in range(20)]
    icon = [Wanted(f"icon-{n}", server.tell(f"/icon-{n}.jpg", draw(999))) for n in range(20)]
    for poster in icon:
        wanted.insert(chance.randrange(len(wanted)), poster)
    icons = {f"{poster.id}.jpg": draw(999) for poster in icon}
    there: set[str] = set()
    for kill in range(20):
        n_asked = len(server.asked)
        with start(wanted, tmp_path) as process:
            wait_for_requests(server, process, 0 if kill % 3 == 0 else chance.randrange(1, 40))
            time.sleep(chance.uniform(0, 0.8 if kill % 3 == 0 else 0.03))
            process.kill()
        time.sleep(0.02)  # for requests that are in flight to be counted
        assert not {path.removeprefix("/") for path, _ in server.asked[n_asked:]} & there
        assert files_in(tmp_path / "out").items() <= (whole | icons).items()
        there = files_in(tmp_path / "out").keys() - icons.keys()
    with start(wanted, tmp_path) as process:
        report = json.loads(process.communicate()[0])
    assert files_in(tmp_path / "out") == whole
    assert {reason: missing["n_posters"] for reason, missing in report["missing"].items()} == {
        "not found": 20,
        "placeholder": 20,
    }
    assert report["n_there"] == len(there) > 50
    assert report["n_there"] + report["n_fetched"] == 400
    assert everything_under(tmp_path / "out") == OWN_FILES | {f"images/{name}" for name in whole}
    records = [json.loads(line) for line in (tmp_path / "out" / "fetch.jsonl").read_text().splitlines()]
    assert {record["id"] for record in records} == {poster.id for poster in wanted}


def test_ctrl_c_ends_with_the_report_of_what_there_is(server, draw, tmp_path):
    wanted = [Wanted(str(n), server.tell(f"/{n}.jpg", draw(n), seconds=0.02)) for n in range(200)]
    with start(wanted, tmp_path) as process:
        wait_for_requests(server, process, 20)
        process.send_signal(signal.SIGINT)
        report = json.loads(process.communicate()[0])
    assert process.returncode == 0
    assert report["interrupted"]
    assert report["n_fetched"] == len(files_in(tmp_path / "out")) >= 10
    assert report["missing"]["not asked for yet"]["n_posters"] == 200 - report["n_fetched"]
    assert not (tmp_path / "out" / ".fetching").exists()


def test_a_full_disk_is_one_sentence_and_tears_nothing(server, draw, tmp_path):
    """No file may become as large as the last poster."""
    whole = {f"{n}.jpg": draw(n) for n in range(5)}
    wanted = [Wanted(str(n), server.tell(f"/{n}.jpg", draw(n))) for n in range(5)]
    wanted.append(Wanted("large", server.tell("/large.jpg", draw(5, size=(2000, 3000)), seconds=0.5)))
    with start(wanted, tmp_path, most_bytes=20_000) as process:
        told = process.communicate()[1]
    assert told.splitlines()[-1].startswith("hpo.errors.DataError: ")
    assert "cannot be written (File too large): free some space or give another folder" in told
    assert files_in(tmp_path / "out") == whole
    assert fetch_posters(wanted, tmp_path / "out", QUICK).n_fetched == 1


def test_a_torn_record_is_read_to_the_tear(server, draw, wanted, tmp_path):
    fetch_posters([*wanted, Wanted("gone", server.url("/gone"))], tmp_path, QUICK)
    record = tmp_path / "fetch.jsonl"
    record.write_bytes(record.read_bytes() + b'\xff\n[]\n{"id": "0", "url": 3}\n{"id": "1", "u')
    server.asked.clear()
    fetch_posters([*wanted, Wanted("gone", server.url("/gone"))], tmp_path, QUICK)
    assert server.asked == []
    assert len([json.loads(line) for line in record.read_text().splitlines()]) == 13
