from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpo.data.images import SHARD_POSTERS, DecodedImages, decode, read_posters
from hpo.errors import DataError

SIZE = 32
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, image_format: str, **more: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **more)
    return stream.getvalue()


def halves(left: tuple[int, ...], right: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, (60, 40), left)
    image.paste(right, (30, 0, 60, 40))
    return image


def assert_colour(pixels: np.ndarray, colour: tuple[int, int, int], tolerance: int = 4) -> None:
    assert np.abs(pixels.astype(int) - colour).max() <= tolerance


def write_posters(folder: Path, n_posters: int, n_broken: int = 0) -> list[Path]:
    paths = [folder / f"{at:03}.png" for at in range(n_posters)]
    for at, path in enumerate(paths):
        Image.new("RGB", (6, 9), (at % 256, 80, 160)).save(path)
    for path in paths[:n_broken]:
        path.write_bytes(b"broken " + path.name.encode())
    return paths


def ensured(images: DecodedImages, paths: list[Path]) -> int:
    """How many posters were decoded now."""
    finished: list[int] = []
    images.ensure(read_posters(paths), finished.append)
    return sum(finished)


# What decoding makes of a file


@pytest.mark.parametrize(
    ("image_format", "more"),
    [("JPEG", {"quality": 95, "subsampling": 0}), ("PNG", {}), ("WEBP", {"lossless": True})],
)
def test_the_three_formats_are_squashed_to_a_square_of_rgb(image_format, more):
    pixels = decode(encoded(halves(RED, BLUE), image_format, **more), SIZE)
    assert (pixels.shape, pixels.dtype) == ((SIZE, SIZE, 3), np.uint8)
    assert_colour(pixels[:, :13], RED)
    assert_colour(pixels[:, -13:], BLUE)


def test_a_path_bytes_and_an_open_image_are_decoded_alike(tmp_path):
    image = halves(RED, BLUE)
    image.save(tmp_path / "poster.png")
    expected = decode(image, SIZE)
    assert np.array_equal(decode(tmp_path / "poster.png", SIZE), expected)
    assert np.array_equal(decode((tmp_path / "poster.png").read_bytes(), SIZE), expected)


def test_a_palette_and_grey_become_rgb():
    palette = halves(RED, BLUE).quantize(4)
    assert_colour(decode(encoded(palette, "PNG"), SIZE)[:, :13], RED)
    assert_colour(decode(encoded(Image.new("L", (9, 9), 90), "PNG"), SIZE), (90, 90, 90))


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
def test_transparency_is_seen_on_white(image_format):
    image = halves((*RED, 255), (0, 0, 0, 0), "RGBA")
    pixels = decode(encoded(image, image_format, **({"lossless": True} if image_format == "WEBP" else {})), SIZE)
    assert_colour(pixels[:, :13], RED)
    assert_colour(pixels[:, -13:], WHITE)


def test_a_transparent_palette_colour_is_seen_on_white():
    image = halves(RED, BLUE).quantize(2)
    blue = image.getpixel((59, 0))
    assert_colour(decode(encoded(image, "PNG", transparency=blue), SIZE)[:, -13:], WHITE)


def test_half_transparent_is_half_white():
    assert_colour(decode(Image.new("RGBA", (8, 8), (0, 0, 0, 128)), SIZE), (127, 127, 127))


def test_cmyk_as_printers_deliver_it():
    cyan_magenta_yellow_black = Image.new("CMYK", (40, 40), (0, 255, 255, 0))
    assert_colour(decode(encoded(cyan_magenta_yellow_black, "JPEG", quality=95), SIZE), RED)


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # as a phone held upright writes it: what is stored left belongs on top
    pixels = decode(encoded(halves(RED, BLUE), "JPEG", quality=95, subsampling=0, exif=exif), SIZE)
    assert_colour(pixels[:13], RED)
    assert_colour(pixels[-13:], BLUE)


def test_a_large_jpeg_is_drafted_without_a_visible_difference():
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (9, 6, 3), dtype=np.uint8)).resize((600, 900))
    drafted = decode(encoded(smooth, "JPEG", quality=95), SIZE)
    whole = decode(smooth, SIZE)
    assert np.abs(drafted.astype(int) - whole).mean() < 2


def truncated_jpeg() -> bytes:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8))
    content = encoded(noise, "JPEG")
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>not an image</html>", truncated_jpeg(), encoded(halves(RED, BLUE), "PNG")[:-40], b"\xff\xd8\xff"],
    ids=["empty", "text", "truncated JPEG", "truncated PNG", "only the first bytes of a JPEG"],
)
def test_what_is_not_a_whole_image_is_refused(content):
    with pytest.raises((OSError, ValueError)):
        decode(content, SIZE)


def test_a_folder_is_not_a_poster(tmp_path):
    with pytest.raises(OSError, match="directory"):
        decode(tmp_path, SIZE)


@pytest.mark.parametrize("limit", [20, 35])  # Pillow warns above the limit, and raises above twice the limit
def test_a_decompression_bomb_is_refused(monkeypatch, limit):
    bomb = encoded(Image.new("L", (8, 8)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(OSError, match="decompression bomb"):
        decode(bomb, SIZE)


# What the cache keeps


def test_posters_come_back_in_order_as_they_were_decoded(tmp_path, drawn):
    images = DecodedImages(tmp_path, SIZE)
    assert images.missing(drawn.posters) == 60
    assert images.ensure(drawn.posters) == []
    assert images.missing(drawn.posters) == 0
    backwards = drawn.posters.take(range(59, -1, -1))
    assert np.array_equal(images.load(backwards), [decode(path, SIZE) for path in backwards.paths])


def test_a_poster_is_decoded_once_per_size(tmp_path):
    paths = write_posters(tmp_path, 10)
    assert ensured(DecodedImages(tmp_path / "cache", SIZE), paths) == 10
    assert ensured(DecodedImages(tmp_path / "cache", SIZE), paths) == 0
    assert ensured(DecodedImages(tmp_path / "cache", SIZE), [*paths, *write_posters(tmp_path, 12)[10:]]) == 2
    assert ensured(DecodedImages(tmp_path / "cache", 2 * SIZE), paths) == 10


def test_more_posters_than_one_shard_holds(tmp_path):
    paths = [*write_posters(tmp_path, 256), tmp_path / "last.png"]
    Image.new("RGB", (6, 9), "white").save(paths[-1])
    posters = read_posters(paths)
    assert len(posters) > SHARD_POSTERS
    images = DecodedImages(tmp_path / "cache", SIZE)
    images.ensure(posters)
    assert_colour(images.load(posters.take([256])), WHITE)


def test_the_key_is_the_content_rather_than_the_name(tmp_path):
    original, other = write_posters(tmp_path, 2)
    images = DecodedImages(tmp_path / "cache", SIZE)
    ensured(images, [original])
    renamed = Path(shutil.copy(original, tmp_path / "renamed.png"))
    assert ensured(images, [renamed]) == 0
    shutil.copy(other, original)
    assert ensured(images, [original]) == 1


def test_equal_posters_are_decoded_once(tmp_path):
    path = write_posters(tmp_path, 1)[0]
    copies = [path, *(Path(shutil.copy(path, tmp_path / f"copy {at}.png")) for at in range(3))]
    images = DecodedImages(tmp_path / "cache", SIZE)
    assert ensured(images, copies) == 1
    assert images.load(read_posters(copies)).shape == (4, SIZE, SIZE, 3)


def test_a_tenth_of_broken_posters_is_left_out_and_the_rest_decoded(tmp_path):
    paths = write_posters(tmp_path, 20, n_broken=2)
    posters = read_posters(paths)
    images = DecodedImages(tmp_path / "cache", SIZE)
    assert images.ensure(posters) == [0, 1]
    whole = posters.take(range(2, 20))
    assert np.array_equal(images.load(whole), [decode(path, SIZE) for path in whole.paths])


def test_a_missing_file_and_a_folder_are_broken_posters(tmp_path):
    paths = write_posters(tmp_path, 30)
    paths[3] = tmp_path / "nowhere.png"
    paths[5] = tmp_path
    assert DecodedImages(tmp_path / "cache", SIZE).ensure(read_posters(paths)) == [3, 5]


def test_more_than_a_tenth_broken_stops_with_one_of_them(tmp_path):
    paths = write_posters(tmp_path, 20, n_broken=3)
    with pytest.raises(DataError, match=r"got 3 broken ones among 20 \(the first is .*000\.png\): mend or remove"):
        DecodedImages(tmp_path / "cache", SIZE).ensure(read_posters(paths))


ENSURE = """
import sys
from pathlib import Path
from hpo.data.images import DecodedImages, read_posters

posters = read_posters(sorted(Path(sys.argv[1]).glob("*.png")))
images = DecodedImages(Path(sys.argv[2]), 64)
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
    answers = [worker.communicate(timeout=60)[0].split() for worker in workers]
    assert sorted(int(decoded) for decoded, _ in answers) == [0, 250]
    assert [int(found) for _, found in answers] == [250, 250]
