from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpo.data.decoding import Framing, decode
from hpo.data.images import SHARD_POSTERS, DecodedImages, read_posters
from hpo.errors import DataError

SIZE = 32
SQUASHED = Framing(SIZE)


def write_posters(folder: Path, n_posters: int, n_broken: int = 0) -> list[Path]:
    paths = [folder / f"{at:03}.png" for at in range(n_posters)]
    for at, path in enumerate(paths):
        Image.new("RGB", (16, 24), (at % 256, at // 256, 160)).save(path)
    for path in paths[:n_broken]:
        path.write_bytes(b"broken " + path.name.encode())
    return paths


def ensured(images: DecodedImages, paths: list[Path]) -> int:
    """How many posters were decoded now."""
    finished: list[int] = []
    images.ensure(read_posters(paths), finished.append)
    return sum(finished)


# What the cache keeps


def test_posters_come_back_in_order_as_they_were_decoded(tmp_path, drawn):
    images = DecodedImages(tmp_path, SQUASHED)
    assert images.missing(drawn.posters) == 60
    assert images.ensure(drawn.posters) == {}
    assert images.missing(drawn.posters) == 0
    backwards = drawn.posters.take(range(59, -1, -1))
    assert np.array_equal(images.load(backwards), [decode(path, SQUASHED) for path in backwards.paths])


def test_a_poster_is_decoded_once_per_framing(tmp_path):
    paths = write_posters(tmp_path, 10)
    assert ensured(DecodedImages(tmp_path / "cache", SQUASHED), paths) == 10
    assert ensured(DecodedImages(tmp_path / "cache", SQUASHED), paths) == 0
    assert ensured(DecodedImages(tmp_path / "cache", SQUASHED), [*paths, *write_posters(tmp_path, 12)[10:]]) == 2
    assert ensured(DecodedImages(tmp_path / "cache", Framing(2 * SIZE)), paths) == 10


def test_every_framing_and_every_way_of_decoding_has_its_own(tmp_path, monkeypatch):
    paths = write_posters(tmp_path, 3)
    for fit in ("squash", "crop", "pad", "native"):
        assert ensured(DecodedImages(tmp_path / "cache", Framing(SIZE, fit, crop_share=0.9)), paths) == 3
    assert ensured(DecodedImages(tmp_path / "cache", Framing(SIZE, interpolation="bilinear")), paths) == 3
    monkeypatch.setattr("hpo.data.images.DECODING_VERSION", -1)
    assert ensured(DecodedImages(tmp_path / "cache", SQUASHED), paths) == 3


def test_more_posters_than_one_shard_holds(tmp_path):
    paths = write_posters(tmp_path, 2 * SHARD_POSTERS + 1, n_broken=1)
    Image.new("RGB", (16, 24), "white").save(paths[-1])
    posters = read_posters(paths)
    images = DecodedImages(tmp_path / "cache", SQUASHED)
    finished: list[int] = []
    assert images.ensure(posters, finished.append).keys() == {0}
    assert finished == [SHARD_POSTERS, SHARD_POSTERS, 1]
    assert (images.load(posters.take([2 * SHARD_POSTERS])) >= 251).all()  # white


def test_the_key_is_the_content_rather_than_the_name(tmp_path):
    original, other = write_posters(tmp_path, 2)
    images = DecodedImages(tmp_path / "cache", SQUASHED)
    ensured(images, [original])
    renamed = Path(shutil.copy(original, tmp_path / "renamed.png"))
    assert ensured(images, [renamed]) == 0
    shutil.copy(other, original)
    assert ensured(images, [original]) == 1


def test_equal_posters_are_decoded_once(tmp_path):
    path = write_posters(tmp_path, 1)[0]
    copies = [path, *(Path(shutil.copy(path, tmp_path / f"copy {at}.png")) for at in range(3))]
    images = DecodedImages(tmp_path / "cache", SQUASHED)
    assert ensured(images, copies) == 1
    assert images.load(read_posters(copies)).shape == (4, SIZE, SIZE, 3)


def test_a_tenth_of_broken_posters_is_left_out_and_the_rest_decoded(tmp_path):
    paths = write_posters(tmp_path, 20, n_broken=2)
    posters = read_posters(paths)
    images = DecodedImages(tmp_path / "cache", SQUASHED)
    assert images.ensure(posters) == {0: "not an image", 1: "not an image"}
    whole = posters.take(range(2, 20))
    assert np.array_equal(images.load(whole), [decode(path, SQUASHED) for path in whole.paths])


def test_each_broken_poster_comes_with_its_reason(tmp_path):
    paths = write_posters(tmp_path, 60)
    paths[3] = tmp_path / "nowhere.png"
    paths[5] = tmp_path
    os.mkfifo(paths[7].with_suffix(".jpg"))
    paths[7] = paths[7].with_suffix(".jpg")
    Image.new("RGB", (1, 1)).save(paths[8])
    shutil.copy(paths[8], paths[9])
    assert DecodedImages(tmp_path / "cache", SQUASHED).ensure(read_posters(paths)) == {
        3: "no such file or directory",
        5: "a directory, not a file",
        7: "not a regular file",
        8: "1 × 1 px, too small to be a poster",
        9: "1 × 1 px, too small to be a poster",
    }


def test_more_than_a_tenth_broken_stops_with_one_of_them(tmp_path):
    paths = write_posters(tmp_path, 20, n_broken=3)
    with pytest.raises(
        DataError, match=r"got 3 broken ones among 20 \(the first is .*000\.png: not an image\): fix or"
    ):
        DecodedImages(tmp_path / "cache", SQUASHED).ensure(read_posters(paths))


ENSURE = """
import sys
from pathlib import Path
from hpo.data.decoding import Framing
from hpo.data.images import DecodedImages, read_posters

posters = read_posters(sorted(Path(sys.argv[1]).glob("*.png")))
images = DecodedImages(Path(sys.argv[2]), Framing(64))
print("ready", flush=True)
sys.stdin.readline()
finished = []
images.ensure(posters, finished.append)
print(sum(finished), len(images.load(posters)))
"""


def test_two_processes_that_want_the_same_posters_decode_them_once(tmp_path):
    write_posters(tmp_path, 250)
    command = [sys.executable, "-c", ENSURE, str(tmp_path), str(tmp_path / "cache")]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in "12"]
    assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * 2  # both saw an empty cache
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    answers = [worker.communicate(timeout=600)[0].split() for worker in workers]
    assert sorted(int(decoded) for decoded, _ in answers) == [0, 250]
    assert [int(found) for _, found in answers] == [250, 250]
