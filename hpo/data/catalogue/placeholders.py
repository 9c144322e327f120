"""Pictures that stand where a poster is missing, told by their address and by what they show.

A catalogue names a picture for every title, also where it has none: its own icon, a question mark, a grey page. Left
in, a thousand titles share one picture and the network learns that picture's genres. The address is asked first, as
it saves the download; the picture itself is judged after decoding. What the same host serves for many titles is a
placeholder too, whatever it shows: that needs all posters, so `hpo.data.fetch.fetch` counts it with `SHARED_BY`.

Only names that stand for nothing else are listed: a poster left out by mistake would be a loss nobody sees.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:  # Pillow is not needed to judge addresses
    from PIL import Image

MIN_POSTER_SIDE_PX = 64  # MyAnimeList's question mark has 50
SHARED_BY = 5  # titles; a season and its recap may well share a poster, five titles do not

_FILE_NAMES = re.compile(
    r"""apple-touch-icon (-\d+(x\d+)?)? (-precomposed)?   # MyAnimeList's site icon, in the real catalogue
      | qm_\d+                                            # and its question mark
      | favicon
      | (no|missing|default)[-_]?(image|img|poster|picture|pic|cover|photo|thumbnail)([-_]available)?
      | (image|poster|picture|cover|photo)[-_]?(not[-_]?(found|available)|coming[-_]?soon)
      | nopicture | placeholder | blank | spacer""",
    re.VERBOSE | re.IGNORECASE,
)


def is_placeholder_address(url: str) -> bool:
    """Tell whether the file that the address names is known to stand where a poster is missing.

    Only the file's name counts, without its suffix: hosts, folders and queries (sizes, versions) change.
    An address that is no URL is no placeholder.
    """
    try:
        name = unquote(urlsplit(url.strip()).path).rpartition("/")[2]
    except ValueError:
        return False
    return _FILE_NAMES.fullmatch(name.partition(".")[0]) is not None


def why_placeholder(image: Image.Image) -> str | None:
    """Say why a decoded picture cannot be a poster, or return None: too small, or of one single colour."""
    if min(image.size) < MIN_POSTER_SIDE_PX:
        return f"{image.width} x {image.height} px, where a poster has at least {MIN_POSTER_SIDE_PX} each way"
    plain = image.convert("I") if image.mode.startswith("I;") else image  # Pillow counts no colours in 16 bits
    if plain.getcolors(maxcolors=1) is not None:
        return "one single colour"
    return None
