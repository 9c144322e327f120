"""Posters of every format that is read, damaged."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, get_args

import numpy as np
from PIL import Image, ImageCms, ImageDraw, features

from hpo.data.decoding import Fit, Framing, Interpolation, decode
from tests.fuzzing import mutate

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", *(["AVIF"] if features.check("avif") else []))
_MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "L", "P", "RGBA", "LA", "1", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("P", "L", "RGB"),
    "TIFF": ("RGB", "L", "CMYK", "I;16", "F", "RGBA", "1", "LAB"),
    "BMP": ("RGB", "L", "P", "1"),
    "AVIF": ("RGB", "RGBA"),
}


def _image(rng: Random, mode: str) -> Image.Image:
    image = Image.new("RGB", (rng.choice((16, 40, 61)), rng.choice((15, 60, 90, 120))), rng.choice(("red", "navy")))
    ImageDraw.Draw(image).ellipse((2, 2, rng.randint(9, 40), 30), fill="white")
    if mode in ("I;16", "F"):
        grey = np.asarray(image.convert("L"), np.float32) / 255
        return Image.fromarray(grey if mode == "F" else (grey * 65535).astype(np.uint16))
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(image, *profiles, outputMode="LAB") or image
    return image.convert(mode)


def drawn(rng: Random, kind: str) -> bytes:
    """Return a tiny poster as a file, with any of what such files may hold besides pixels."""
    image, how = _image(rng, rng.choice(_MODES[kind])), dict[str, Any]()
    exif = Image.Exif()
    exif[0x0112] = rng.randrange(10)
    if kind in ("JPEG", "PNG", "WEBP", "TIFF") and rng.random() < 0.5:
        how["exif"] = exif
    if kind in ("JPEG", "PNG", "WEBP", "TIFF") and image.mode == "RGB" and rng.random() < 0.3:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        how["icc_profile"] = mutate.bytes_of(rng, profile) if rng.random() < 0.7 else profile
    if kind == "JPEG":
        how["progressive"] = rng.random() < 0.5
    if kind == "TIFF" and image.mode in ("RGB", "L"):
        how = {"compression": rng.choice((None, "tiff_lzw", "tiff_deflate", "jpeg", "packbits"))}
    if kind in ("GIF", "WEBP", "PNG") and rng.random() < 0.3:
        how |= {"save_all": True, "append_images": [image.rotate(180)], "duration": 10}
    if kind == "PNG" and image.mode in ("L", "P", "I;16") and rng.random() < 0.5:
        how["transparency"] = rng.choice((0, 3))
    file = io.BytesIO()
    image.save(file, kind, **{key: value for key, value in how.items() if value is not None})
    return file.getvalue()


def prepare(folder: Path) -> Callable[[Random], object]:
    """Decode posters whose files were changed."""

    def attempt(rng: Random) -> None:
        content = drawn(rng, rng.choice(_FORMATS))
        if rng.random() < 0.95:
            content = mutate.bytes_of(rng, content, most=2, header=rng.choice((200, None)))
        framing = Framing(rng.choice((16, 64)), rng.choice(get_args(Fit)), rng.choice(get_args(Interpolation)), 0.875)
        source: Path | bytes = content
        if rng.random() < 0.2:
            source = folder / "poster"
            source.write_bytes(content)
        pixels = decode(source, framing)
        assert (pixels.shape, pixels.dtype) == ((framing.size_px, framing.size_px, 3), np.uint8)

    return attempt
