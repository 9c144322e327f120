from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from hpo.data.decoding import MIN_SIDE_PX, Fit, Framing, Interpolation, UnreadablePoster, decode, whole

SIZE = 32
SQUASHED = Framing(SIZE)
RED, GREEN, BLUE, WHITE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (128, 128, 128)
LOSSLESS = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}  # or as good as


def encoded(image: Image.Image, image_format: str, **more: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **{**LOSSLESS.get(image_format, {}), **more})
    return stream.getvalue()


def plain(colour: object, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (20, 30), colour)


def halves(left: tuple[int, ...], right: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, (60, 40), left)
    image.paste(right, (30, 0, 60, 40))
    return image


def assert_colour(pixels: np.ndarray, colour: tuple[int, int, int], tolerance: int = 4) -> None:
    assert pixels.size > 0
    assert np.abs(pixels.astype(int) - colour).max() <= tolerance


# What decoding makes of a file


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_every_format_becomes_a_square_of_rgb(image_format):
    pixels = decode(encoded(halves(RED, BLUE), image_format), SQUASHED)
    assert (pixels.shape, pixels.dtype) == ((SIZE, SIZE, 3), np.uint8)
    assert_colour(pixels[:, :13], RED)
    assert_colour(pixels[:, -13:], BLUE)


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG"])
def test_a_film_is_its_first_picture(image_format):
    film = encoded(halves(RED, BLUE), image_format, save_all=True, append_images=[plain(GREEN).resize((60, 40))])
    pixels = decode(film, SQUASHED)
    assert_colour(pixels[:, :13], RED)
    assert_colour(pixels[:, -13:], BLUE)


def test_a_path_bytes_and_an_open_image_are_decoded_alike(tmp_path):
    image = halves(RED, BLUE)
    image.save(tmp_path / "poster.png")
    expected = decode(image, SQUASHED)
    assert np.array_equal(decode(tmp_path / "poster.png", SQUASHED), expected)
    assert np.array_equal(decode((tmp_path / "poster.png").read_bytes(), SQUASHED), expected)


def test_all_of_a_poster_keeps_its_proportions_and_bars_that_are_its_own():
    framed = Image.new("RGB", (120, 60), GREY)
    framed.paste(RED, (40, 0, 80, 60))
    assert whole(framed, 60).size == (60, 30)
    pixels = np.asarray(whole(encoded(framed, "PNG"), 60))
    assert_colour(pixels[:, :15], GREY)
    assert_colour(pixels[:, 25:35], RED)


def test_all_of_a_poster_is_upright_and_can_be_decoded_once_more():
    exif = Image.Exif()
    exif[0x0112] = 3  # it lies upside down
    upright = whole(encoded(halves(RED, BLUE), "PNG", exif=exif), 60)
    for pixels in (np.asarray(upright), decode(upright, SQUASHED)):
        assert_colour(pixels[:, :10], BLUE)
        assert_colour(pixels[:, -10:], RED)


def test_an_image_in_hand_is_not_altered():
    image = Image.open(io.BytesIO(encoded(Image.new("RGB", (600, 900), RED), "JPEG")))
    decode(image, SQUASHED)
    assert (image.size, image.mode) == ((600, 900), "RGB")


def png_of(bit_depth: int, colour_type: int, pixel: bytes) -> bytes:
    """A PNG of the same byte or pixel in 16 × 16 places, written by the book (RFC 2083): Pillow cannot write them."""
    rows = (b"\0" + pixel * 16) * 16
    header = struct.pack(">IIBBBBB", 16 * max(1, 8 // bit_depth), 16, bit_depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)),
                                                                 (b"IEND", b"")))  # fmt: skip


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def shorts(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def ycck_jpeg(red: int, green: int, blue: int) -> bytes:
    """A JPEG as Adobe's programs write it: inverted inks, as YCbCr and K (Adobe TN 5116; JFIF's equations)."""
    inverted = np.array([255 - red, 255 - green, 255 - blue])  # what is stored is the inverse of the inverse inks
    luma = inverted @ [0.299, 0.587, 0.114]
    stored = [luma, 128 + (inverted[2] - luma) / 1.772, 128 + (inverted[0] - luma) / 1.402, 255]
    content = bytearray(encoded(plain(tuple(255 - round(value) for value in stored), "CMYK"), "JPEG"))
    content[content.index(b"Adobe") + 11] = 2  # the marker's word for YCCK
    return bytes(content)


SEEN = {  # what is in the file → what a person sees
    "grey": (encoded(plain(90, "L"), "PNG"), (90, 90, 90)),
    "grey JPEG": (encoded(plain(90, "L"), "JPEG"), (90, 90, 90)),
    "grey of 2 bits": (png_of(2, 0, b"\x55"), (85, 85, 85)),
    "1 bit": (encoded(plain(1, "1"), "PNG"), WHITE),
    "grey of 16 bits": (png_of(16, 0, shorts(0x40FF)), (64, 64, 64)),
    "grey of 16 bits, big-endian TIFF": (encoded(Image.new("I;16B", (20, 30), 0x4000), "TIFF"), (64, 64, 64)),
    "integers": (encoded(plain(0x4000, "I"), "TIFF"), (64, 64, 64)),
    "floats": (encoded(plain(0.5, "F"), "TIFF"), (127, 127, 127)),
    "colour of 16 bits": (png_of(16, 2, shorts(0x4000, 0x8000, 0xC000)), (64, 128, 192)),
    "half-transparent colour of 16 bits": (png_of(16, 6, shorts(0, 0, 0xFFFF, 0x8000)), (127, 127, 255)),
    "half-transparent grey of 16 bits": (png_of(16, 4, shorts(0, 0x8000)), (127, 127, 127)),
    "half-transparent grey": (encoded(plain((0, 128), "LA"), "PNG"), (127, 127, 127)),
    "half-transparent black": (encoded(plain((0, 0, 0, 128), "RGBA"), "WEBP"), (127, 127, 127)),
    "palette": (encoded(plain(RED).quantize(2), "PNG"), RED),
    "palette with a transparent colour": (encoded(plain(7, "P"), "GIF", transparency=7), WHITE),
    "palette with a half-transparent colour": (encoded(plain(0, "P"), "PNG", transparency=b"\x80"), (127, 127, 127)),
    "a transparent grey": (encoded(plain(7, "L"), "PNG", transparency=7), WHITE),
    "a transparent grey of 16 bits": (encoded(plain(0x4000, "I;16"), "PNG", transparency=0x4000), WHITE),
    "a transparent colour": (encoded(plain((1, 2, 3)), "PNG", transparency=(1, 2, 3)), WHITE),
    "CMYK": (encoded(plain((0, 255, 255, 0), "CMYK"), "JPEG"), RED),
    "CMYK with half of black": (encoded(plain((0, 0, 0, 127), "CMYK"), "JPEG"), GREY),
    "CMYK TIFF": (encoded(plain((0, 255, 255, 0), "CMYK"), "TIFF"), RED),
    "YCCK": (ycck_jpeg(200, 100, 50), (200, 100, 50)),
    "Lab": (encoded(plain((255, 128, 128), "LAB"), "TIFF"), WHITE),
}


@pytest.mark.parametrize("content", SEEN.values(), ids=SEEN)
def test_it_becomes_rgb_as_a_person_sees_it(content):
    file, expected = content
    assert_colour(decode(file, SQUASHED), expected)


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
def test_transparency_is_seen_on_white(image_format):
    pixels = decode(encoded(halves((*RED, 255), (0, 0, 0, 0), "RGBA"), image_format), SQUASHED)
    assert_colour(pixels[:, :13], RED)
    assert_colour(pixels[:, -13:], WHITE)


# Where the first row and the first column of what is stored belong (Exif 2.32, section 4.6.4)
ORIENTATIONS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_applied(orientation, image_format):
    upright = np.asarray(Image.fromarray(np.arange(0, 240, 40, np.uint8).reshape(3, 2)).resize((40, 60), 0))
    first_row, first_column = ORIENTATIONS[orientation]
    stored = upright.T if first_row in ("left", "right") else upright
    stored = stored[::-1] if first_row in ("bottom", "right") else stored
    stored = stored[:, ::-1] if first_column in ("bottom", "right") else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    for fit in get_args(Fit):
        turned = decode(encoded(Image.fromarray(stored), image_format, exif=exif), Framing(60, fit))
        assert_colour(turned, decode(Image.fromarray(upright), Framing(60, fit)))


def test_damaged_metadata_does_not_spoil_a_poster():
    file = encoded(plain(RED), "JPEG", exif=b"Exif\0\0no such thing", icc_profile=b"nor this")
    assert_colour(decode(file, SQUASHED), RED)


def test_a_large_jpeg_is_drafted_without_a_visible_difference():
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (9, 6, 3), dtype=np.uint8)).resize((600, 900))
    drafted = decode(encoded(smooth, "JPEG"), SQUASHED)
    whole = decode(smooth, SQUASHED)
    assert np.abs(drafted.astype(int) - whole).mean() < 2


# Colour profiles, written by the book (ICC.1:2010)

ADOBE_RGB = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A version 2 profile: header, table of tags, tags."""
    at, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        table += name + struct.pack(">II", at + len(body), len(tag))
        body += tag + b"\0" * (-len(tag) % 4)
    header = struct.pack(">I4xI4s4s4s12x4s28x", at + len(body), 0x02400000, kind, space, connection, b"acsp")
    return header + fixed(0.9642, 1, 0.8249) + b"\0" * 48 + table + body


def fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(65536 * value) for value in values))


def gamma(exponent: float) -> bytes:
    return b"curv" + struct.pack(">4xIH", 1, round(256 * exponent))


def screen_profile(primaries: np.ndarray, exponent: float) -> bytes:
    """Three primaries, the columns of ``primaries``, in XYZ as seen under D50."""
    colourants = {
        name + b"XYZ": b"XYZ \0\0\0\0" + fixed(*column)
        for name, column in zip((b"r", b"g", b"b"), primaries.T, strict=True)
    }
    return profile(
        b"mntr", b"RGB ", b"XYZ ", {**colourants, **{name + b"TRC": gamma(exponent) for name in (b"r", b"g", b"b")}}
    )


def printer_profile() -> bytes:
    """Inks that look unlike their names: magenta is a middle grey, everything else but bare paper black."""
    lightness = np.zeros((2, 2, 2, 2), np.uint8)  # by ink
    lightness[0, 0, 0, 0], lightness[0, 1, 0, 0] = 255, 128
    colours = np.stack([lightness, np.full_like(lightness, 128), np.full_like(lightness, 128)], axis=-1)
    ramp = bytes(range(256))
    table = (
        b"mft1"
        + struct.pack(">4xBBBx", 4, 3, 2)
        + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
        + 4 * ramp
        + colours.tobytes()
        + 3 * ramp
    )
    return profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


def srgb_of(linear: np.ndarray) -> tuple[int, ...]:
    """IEC 61966-2-1."""
    linear = linear.clip(0, 1)
    return tuple((255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)).round())


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("colour", [(200, 100, 50), (60, 130, 90), (255, 255, 255)])
def test_the_colours_of_another_screen_become_those_of_srgb(image_format, colour):
    file = encoded(plain(colour), image_format, icc_profile=screen_profile(ADOBE_RGB, 563 / 256))
    seen = np.linalg.solve(SRGB, ADOBE_RGB @ (np.array(colour) / 255) ** (563 / 256))
    assert_colour(decode(file, SQUASHED), srgb_of(seen), tolerance=6 if image_format == "JPEG" else 2)
    assert_colour(decode(encoded(plain(colour), image_format), SQUASHED), colour)


def test_the_profile_holds_for_what_lies_under_transparency():
    file = encoded(plain((200, 100, 50, 255), "RGBA"), "PNG", icc_profile=screen_profile(ADOBE_RGB, 563 / 256))
    opaque = encoded(plain((200, 100, 50)), "PNG", icc_profile=screen_profile(ADOBE_RGB, 563 / 256))
    assert np.array_equal(decode(file, SQUASHED), decode(opaque, SQUASHED))


def test_a_grey_of_another_gamma():
    file = encoded(plain(128, "L"), "PNG", icc_profile=profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": gamma(1)}))
    assert_colour(decode(file, SQUASHED), srgb_of(np.full(3, 128 / 255)), tolerance=2)


@pytest.mark.parametrize(
    ("inks", "seen"), [((0, 0, 0, 0), WHITE), ((0, 255, 0, 0), (119, 119, 119)), ((0, 0, 0, 255), (0, 0, 0))]
)
def test_inks_look_as_their_profile_says(inks, seen):
    for image_format in ("JPEG", "TIFF"):
        assert_colour(decode(encoded(plain(inks, "CMYK"), image_format, icc_profile=printer_profile()), SQUASHED), seen)


def test_a_profile_of_another_kind_of_image_is_ignored():
    for wrong in (printer_profile(), profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": gamma(1)})):
        assert_colour(decode(encoded(plain((200, 100, 50)), "PNG", icc_profile=wrong), SQUASHED), (200, 100, 50))


@pytest.mark.parametrize(
    ("kind", "value"), [(2, "text"), (3, 5000), (4, 7), (12, 1.5), (5, 7.5), (1, b"bytes"), (7, b"x")]
)
@pytest.mark.parametrize("tag", [34675, 274])
def test_a8_a_tag_of_a_tiff_that_has_another_type_does_not_spoil_it(kind, value, tag):
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory.tagtype[tag] = kind
    directory[tag] = value
    file = io.BytesIO()
    plain((200, 100, 50)).save(file, "TIFF", tiffinfo=directory)
    assert_colour(decode(file.getvalue(), SQUASHED), (200, 100, 50))


def test_grey_bars_are_grey_under_any_profile():
    file = encoded(plain(WHITE), "PNG", icc_profile=screen_profile(ADOBE_RGB, 1))
    assert_colour(decode(file, Framing(SIZE, "pad"))[:, :4], GREY, tolerance=0)


# How a poster becomes a square

THIRDS = np.repeat(np.array([[RED, GREEN, BLUE]], np.uint8), 30, axis=1).repeat(30, axis=0)  # (30, 90, 3)


@pytest.mark.parametrize("is_upright", [True, False])
def test_squash_shows_all_of_it_crop_the_middle_and_pad_all_between_bars(is_upright):
    image = Image.fromarray(THIRDS.swapaxes(0, 1) if is_upright else THIRDS)
    squashed, cropped, padded = (decode(image, Framing(36, fit)) for fit in ("squash", "crop", "pad"))
    if is_upright:
        squashed, cropped, padded = (pixels.swapaxes(0, 1) for pixels in (squashed, cropped, padded))
    for third, colour in enumerate((RED, GREEN, BLUE)):
        columns = slice(12 * third + 3, 12 * third + 9)
        assert_colour(squashed[:, columns], colour)
        assert_colour(padded[13:23, columns], colour, tolerance=8)
    assert_colour(cropped[:, 1:-1], GREEN)
    assert_colour(padded[[*range(12), *range(24, 36)]], GREY, tolerance=0)


sides = st.integers(MIN_SIDE_PX, 300)


@given(width=sides, height=sides, size_px=st.integers(32, 96), share=st.floats(0.5, 1))
@settings(max_examples=60, deadline=None)
def test_any_proportions_fit(width, height, size_px, share):
    red = Image.new("RGB", (width, height), RED)
    for fit in get_args(Fit):
        assert decode(red, Framing(size_px, fit, crop_share=share)).shape == (size_px, size_px, 3)
    for fit in ("squash", "crop", "native"):
        assert_colour(decode(red, Framing(size_px, fit, crop_share=share)), RED, tolerance=0)
    is_poster = (decode(red, Framing(size_px, "pad")) == RED).all(axis=2)
    scale = size_px / max(width, height)
    assert is_poster.any(axis=0).sum() == max(1, round(scale * width))
    assert is_poster.any(axis=1).sum() == max(1, round(scale * height))


@given(width=sides, height=sides)
@settings(max_examples=30, deadline=None)
def test_a_square_is_the_same_in_every_fit(width, height):
    square = Image.effect_noise((width, width), 60)
    assert np.array_equal(decode(square, Framing(SIZE, "crop")), decode(square, SQUASHED))
    assert np.array_equal(decode(square, Framing(SIZE, "pad")), decode(square, SQUASHED))


def test_native_keeps_the_middle_of_what_crop_keeps():
    rings = np.full((90, 90, 3), BLUE, np.uint8)
    rings[15:75, 15:75] = RED  # two thirds of each side
    assert_colour(decode(Image.fromarray(rings), Framing(30, "native", "nearest", crop_share=2 / 3)), RED)
    whole = decode(Image.fromarray(rings), Framing(30, "native", crop_share=1))
    assert np.array_equal(whole, decode(Image.fromarray(rings), Framing(30, "crop")))


def test_every_interpolation_is_its_own():
    sharp = halves((0, 0, 0), WHITE)
    rows = {name: decode(sharp, Framing(90, interpolation=name))[0, :, 0] for name in get_args(Interpolation)}
    assert set(rows["nearest"]) == {0, 255}
    assert (np.diff(rows["bilinear"].astype(int)) >= 0).all()  # no overshoot
    assert len({row.tobytes() for row in rows.values()}) == 4
    assert np.array_equal(rows["bicubic"], decode(sharp, Framing(90))[0, :, 0])


def test_framings_that_differ_have_folders_that_do():
    framings = [
        Framing(size_px, fit, interpolation, share)
        for size_px in (64, 224)
        for fit in get_args(Fit)
        for interpolation in get_args(Interpolation)
        for share in (0.875, 1.0)
    ]
    assert len({framing.key for framing in framings}) == len(set(framings)) == 2 * 4 * (3 + 2)  # no share but native's
    assert Framing(224).key == "squash-224"  # what folders were called before there was a choice
    assert Framing(299, "native", "bilinear", 0.9).key == "native-299-0.9-bilinear"


def test_a_strip_that_scales_to_less_than_a_pixel_is_still_there():
    strip = decode(Image.new("RGB", (30_000, 16), RED), Framing(SIZE, "pad"))
    assert (strip == RED).all(axis=2).sum() == SIZE


# What is refused


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8))


def half_of(image_format: str) -> bytes:
    content = encoded(noise(), image_format)
    return content[: len(content) // 2]


def png_header(width: int, height: int) -> bytes:
    """The first bytes of a PNG, which promise an image and hold none."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


REFUSED = {
    "empty": (b"", "an empty file"),
    "text": (b"<html>not an image</html>", "not an image"),
    "PostScript, which would run code": (encoded(plain(RED), "EPS"), "not an image"),
    "truncated JPEG": (half_of("JPEG"), "damaged (image file is truncated"),
    "truncated PNG": (half_of("PNG"), "damaged (image file is truncated"),
    "truncated WebP": (half_of("WEBP"), "damaged ("),
    "truncated GIF": (half_of("GIF"), "damaged (image file is truncated"),
    "only the first bytes of a JPEG": (b"\xff\xd8\xff", "not an image"),
    "GIF of no size": (b"GIF89a" + bytes(7) + b";", "not an image"),
    "tracking pixel": (encoded(Image.new("RGB", (1, 1)), "GIF"), "1 × 1 px, too small to be a poster"),
    "short side": (encoded(Image.new("RGB", (15, 400)), "PNG"), "15 × 400 px, too small to be a poster"),
    "long rule": (png_header(30_000, 10), "30,000 × 10 px, too small to be a poster"),
    "bomb": (png_header(30_000, 30_000), "more pixels than any poster has, a decompression bomb"),
    "billboard": (png_header(9_000, 9_000), "9,000 × 9,000 px, too large to be a poster"),
}


def with_scans(n_more: int, size: tuple[int, int] = (60, 90)) -> bytes:
    """A progressive JPEG whose last scan stands there so many times again."""
    content = encoded(Image.new("RGB", size, RED), "JPEG", progressive=True)
    start = content.rindex(b"\xff\xda")
    return content[:-2] + content[start:-2] * n_more + content[-2:]


def test_a23_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded():
    with pytest.raises(UnreadablePoster, match=r"^3,0\d\d scans of 60 × 90 px, too slow to decode$"):
        decode(with_scans(3000), SQUASHED)
    with pytest.raises(UnreadablePoster, match=r"^5\d scans of 8,000 × 7,000 px, too slow to decode$"):
        decode(with_scans(45, (8000, 7000)), SQUASHED)
    assert_colour(decode(with_scans(20), SQUASHED), RED)


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_what_is_no_poster_is_refused_with_a_reason_in_a_line(content):
    file, reason = content
    with pytest.raises(UnreadablePoster) as refusal:
        decode(file, SQUASHED)
    assert str(refusal.value).startswith(reason)
    assert "\n" not in str(refusal.value)


def test_the_smallest_and_the_widest_poster_are_decoded():
    assert decode(Image.new("RGB", (MIN_SIDE_PX, MIN_SIDE_PX)), SQUASHED).shape == (SIZE, SIZE, 3)
    assert decode(encoded(Image.new("L", (30_000, 45)), "PNG"), Framing(SIZE, "crop")).shape == (SIZE, SIZE, 3)


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    sparse = tmp_path / "film.jpg"
    with sparse.open("wb") as file:
        file.truncate(2**28)
    for path, reason in {
        tmp_path: "a directory, not a file",
        tmp_path / "pipe.jpg": "not a regular file",
        Path("/dev/zero"): "not a regular file",
        tmp_path / "nowhere.jpg": "no such file or directory",
        sparse: "268,435,456 bytes, too large to be a poster",
    }.items():
        with pytest.raises(UnreadablePoster, match=f"^{reason}$"):
            decode(path, SQUASHED)


WHOLE = {name: encoded(noise().resize((20, 30)), name) for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP")}


@given(
    image_format=st.sampled_from(sorted(WHOLE)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
    kept=st.floats(0.1, 1),
)
@settings(max_examples=300, deadline=None)
def test_a_damaged_file_is_decoded_or_refused(image_format, changes, kept):
    damaged = bytearray(WHOLE[image_format])
    for place, value in changes:
        damaged[int(place * len(damaged))] = value
    with suppress(UnreadablePoster):
        assert decode(bytes(damaged[: int(kept * len(damaged))]), SQUASHED).shape == (SIZE, SIZE, 3)


LARGE = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from hpo.data.decoding import Framing, decode

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda path: decode(path, Framing(32)), [Path(sys.argv[1])] * 8))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_large_posters_do_not_add_up_to_gigabytes(tmp_path):
    Image.new("RGBA", (3_000, 4_000), (255, 0, 0, 99)).save(tmp_path / "large.png")  # 48 MB, and again on white
    command = [sys.executable, "-c", LARGE, str(tmp_path / "large.png")]
    grown_kib = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown_kib < 200_000
