"""Decode a poster into an RGB square, identically in training and prediction.

RGB as a person sees it (orientation applied, transparency on white, an embedded colour profile obeyed), brought to a
square with antialiasing, as its ``Framing`` says. Whatever can wait until the poster is small does: turning it and
converting its colours cost as little for a scan as for a thumbnail, at the price of resampling in the file's own
colours.

Orientation: Exif 2.32, section 4.6.4; colour profiles: ICC.1:2010, by LittleCMS in the perceptual intent.
"""

from __future__ import annotations

import io
import math
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from hpo.runtime.atomic import Array

Source: TypeAlias = Path | bytes | Image.Image
Fit = Literal["squash", "crop", "pad", "native"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]  # as timm names them

# Caches are keyed by a file's bytes, so only this number distinguishes what an older version decoded from what this one
# would: raise it with every change of a poster's pixels, and decoded images and features are made again.
DECODING_VERSION = 2

MIN_SIDE_PX = 16  # shorter is a tracking pixel, an icon or a rule
MAX_PIXELS = 64_000_000  # 6,500 × 9,800; a WebP of so many takes a gigabyte to decode
MAX_FILE_BYTES = 2**27  # a file is read as a whole
MAX_SCANS = 100  # of a progressive JPEG, each of which passes over all pixels; encoders write about ten
MAX_SCANNED_PIXELS = 2_000_000_000  # pixels × scans: ten seconds

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF")  # Pillow's others include PostScript, which runs code
_GREYS = ("1", "L", "LA", "La")
_LARGE_PIXELS = 8_000_000
_one_large_image = threading.Lock()
PADDING = (128, 128, 128)  # what networks see as 0, as their own padding; repeating the edge lost 0.008 f1_macro
_RESAMPLING: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_LEAST_VISIBLE = 2  # of 255: a profile that changes less is sRGB by another name
_TURNS = {  # Exif orientation → what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Missing:
    """A poster that is not there to be decoded, such as one that could not be fetched, and why."""

    reason: str


class UnreadablePoster(OSError):
    """A file or an image that cannot be used; the text is the reason, as a report would put it."""


@dataclass(frozen=True)
class Framing:
    """How a poster becomes a square: what decoded images, features and bundles are distinguished by.

    ``squash`` ignores the poster's proportions, ``crop`` keeps its central square, ``pad`` shows all of it between grey
    bars, and ``native`` does as ImageNet networks are evaluated: the shorter side is scaled to size / ``crop_share``,
    of which the central square is kept. The share means nothing to the other fits, and is 1 there.
    """

    size_px: int
    fit: Fit = "squash"
    interpolation: Interpolation = "bicubic"
    crop_share: float = 1.0  # (0, 1]

    def __post_init__(self) -> None:
        if self.fit != "native":
            object.__setattr__(self, "crop_share", 1.0)

    @property
    def key(self) -> str:
        """A name for folders, one for each framing: ``squash-224``, ``native-224-0.875-bilinear``."""
        share = f"-{self.crop_share:g}" if self.fit == "native" else ""
        interpolation = f"-{self.interpolation}" if self.interpolation != "bicubic" else ""
        return f"{self.fit}-{self.size_px}{share}{interpolation}"

    @property
    def short_side_px(self) -> int:
        """What a poster's shorter side is scaled to by ``crop`` and ``native``: all of it, or more than is kept."""
        return math.floor(self.size_px / self.crop_share)  # rounded as timm does


def decode(source: Source, framing: Framing) -> Array:
    """Return one poster as uint8 (framing.size_px, framing.size_px, 3).

    Raises UnreadablePoster for what is not a whole image in a regular file, and for one that is too small or too large.
    """
    rgb = _framed(source, framing)
    return np.asarray(_padded(rgb, framing.size_px) if framing.fit == "pad" else rgb)


def whole(source: Source, longest_px: int) -> Image.Image:
    """Return all of a poster upright, in RGB: what ``pad`` shows of it, ``longest_px`` in its longer direction.

    Raises UnreadablePoster as ``decode`` does.
    """
    # Not the image itself: it still holds its file's orientation and profile, which decoding would apply once more.
    return Image.fromarray(np.asarray(_framed(source, Framing(longest_px, fit="pad"))))


def _framed(source: Source, framing: Framing) -> Image.Image:
    """Return a square of a poster in RGB, or for ``pad`` all of it, without its bars yet."""
    image = source if isinstance(source, Image.Image) else _open(source)
    _check_size(image)
    upright = _upright if image.width * image.height <= _LARGE_PIXELS else _upright_alone
    if image is not source:
        enough_px = 2 * framing.short_side_px
        image.draft(None, (enough_px, enough_px))  # JPEG only: skips detail that is thrown away anyway
    return upright(image, framing)


def _upright_alone(image: Image.Image, framing: Framing) -> Image.Image:
    """Take large images one at a time, or a gigabyte for each core could be needed at once.

    In a thread that then ends, since the allocator keeps for a thread what that thread has freed.
    """
    with _one_large_image, ThreadPoolExecutor(1) as alone:
        return alone.submit(_upright, image, framing).result()


def _upright(image: Image.Image, framing: Framing) -> Image.Image:
    with _one_reason():
        image.load()
    scaled = _scaled(_opaque(image), framing)
    turn = _TURNS.get(_orientation(image))
    upright = scaled if turn is None else scaled.transpose(turn)
    return _in_srgb(upright, image.info.get("icc_profile"))


def _open(source: Path | bytes) -> Image.Image:
    """Read the header, which says how large the image would be."""
    with _one_reason():
        content = source if isinstance(source, bytes) else content_of(source)
        if not content:
            raise UnreadablePoster("an empty file")
        image = Image.open(io.BytesIO(content), formats=_formats())
        check_scans(image, content)
        return image


def check_scans(image: Image.Image, content: bytes) -> None:
    """Raise UnreadablePoster for a JPEG whose scans would take minutes: its size in pixels does not show that."""
    if image.format not in ("JPEG", "MPO"):
        return
    n_scans = content.count(b"\xff\xda")  # in coded data every ff is followed by 00 or a restart
    if n_scans > MAX_SCANS or n_scans * image.width * image.height > MAX_SCANNED_PIXELS:
        raise UnreadablePoster(f"{n_scans:,} scans of {image.width:,} × {image.height:,} px, too slow to decode")


@contextmanager
def _one_reason() -> Iterator[None]:
    """Turn what Pillow raises for a damaged file, which can be anything, into an UnreadablePoster."""
    try:
        yield
    except UnreadablePoster:
        raise
    except Exception as error:
        raise UnreadablePoster(_reason(error)) from error


def content_of(path: Path) -> bytes:
    """Read a regular file: a pipe would wait for ever and a device never end."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise UnreadablePoster("a directory, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadablePoster("not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise UnreadablePoster(f"{status.st_size:,} bytes, too large to be a poster")
    return path.read_bytes()


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)  # AVIF came with Pillow 11.3


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE_PX:
        raise UnreadablePoster(f"{width:,} × {height:,} px, too small to be a poster")
    if width * height > MAX_PIXELS:
        raise UnreadablePoster(f"{width:,} × {height:,} px, too large to be a poster")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than any poster has, a decompression bomb"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    first_line = next(iter(str(error).splitlines()), type(error).__name__)
    return f"damaged ({first_line})"


def _opaque(image: Image.Image) -> Image.Image:
    """Return the image in 8 bits as L, RGB or CMYK, with its transparency on white."""
    if image.mode[0] in "IF":
        image = _in_8_bits(image)
    is_grey = image.mode in _GREYS
    if image.has_transparency_data:
        layer = image if image.mode in ("LA", "RGBA") else image.convert("LA" if is_grey else "RGBA")
        ground = Image.new("L" if is_grey else "RGB", image.size, "white")
        ground.paste(layer, mask=layer)
        return ground
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if is_grey else "RGB")


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Return a grey of 16 bits, or of floats between 0 and 1, as L or LA: Pillow would clip it at 255."""
    values: Array = np.asarray(image)
    grey: Array = 255 * np.nan_to_num(values).clip(0, 1) if image.mode == "F" else values.clip(0, 2**16 - 1) >> 8
    converted = Image.fromarray(grey.astype(np.uint8))
    if "transparency" in image.info:
        converted.putalpha(Image.fromarray(values != image.info["transparency"]))
    return converted


def _scaled(image: Image.Image, framing: Framing) -> Image.Image:
    """Return the poster as a square; for ``pad`` with its own proportions, so that it goes into one."""
    width, height = image.size
    size, box = (framing.size_px, framing.size_px), (0.0, 0.0, float(width), float(height))
    if framing.fit in ("crop", "native"):
        side = min(width, height) * framing.size_px / framing.short_side_px
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    elif framing.fit == "pad":
        scale = framing.size_px / max(width, height)
        size = (max(1, round(scale * width)), max(1, round(scale * height)))
    return image.resize(size, _RESAMPLING[framing.interpolation], box)


def _padded(image: Image.Image, size_px: int) -> Image.Image:
    square = Image.new("RGB", (size_px, size_px), PADDING)
    square.paste(image, ((size_px - image.width) // 2, (size_px - image.height) // 2))
    return square


def _orientation(image: Image.Image) -> Any:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged metadata, which raises anything, does not spoil the poster
        return None
    return orientation if isinstance(orientation, int) else None


def _in_srgb(image: Image.Image, profile: object) -> Image.Image:
    # A TIFF's profile has the type that its tag names: text, numbers.
    transform = _transform_to_srgb(profile, image.mode) if isinstance(profile, bytes) and profile else None
    if transform is None:
        return image.convert("RGB") if image.mode != "RGB" else image
    return ImageCms.applyTransform(image, transform) or image


@lru_cache(maxsize=16)  # a catalogue's files share a few profiles; one for printing takes half a megabyte
def _transform_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the way from ``profile`` to sRGB, None where that changes nothing or the profile cannot be used."""
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(embedded, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):  # broken, or of another kind of image
        return None
    n_bytes = 64 * 64 * Image.getmodebands(mode)
    colours = Image.frombytes(mode, (64, 64), np.random.default_rng(0).bytes(n_bytes))
    unchanged = np.asarray(colours.convert("RGB"), np.int16)
    changed = np.asarray(ImageCms.applyTransform(colours, transform), np.int16)
    return transform if np.abs(changed - unchanged).max() > _LEAST_VISIBLE else None
