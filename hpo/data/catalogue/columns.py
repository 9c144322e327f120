"""The columns of a table by name: the names that the best-known sets give theirs, and how a name is looked up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hpo.errors import DataError, did_you_mean

ID_COLUMNS = (
    *("anime_id", "mal_id", "imdb_id", "id", "poster_id", "tconst", "uid", "movie_id", "const", "tmdb_id", "title_id"),
    *("show_id", "*_id", "id_mal", "id_anime", "id_movie", "appid", "isbn13", "isbn", "isbn10", "asin", "uuid", "guid"),
    *("mid", "gid", "imdb", "tmdb", "slug"),
)
URL_COLUMNS = ("image url", "poster url", "poster_link", "img_url", "image_link", "cover_url", "picture_url")
PICTURE_COLUMNS = ("poster", "image", "img", "cover", "cover_image", "main_picture", "picture", "thumbnail")
FILE_COLUMNS = (
    *("file_name", "image_path", "img_path", "poster_path", "poster_file", "image_file", "file", "path", "image_name"),
    *("img_name", "image_filename", "poster_name", "file_path", "img_file", "fname"),
)
LABELS_COLUMNS = ("genres", "genre", "labels", "label", "tags", "tag")
MORE_LABELS_COLUMNS = ("genre_names", "genre_name", "genre_list", "genres_list", "categories", "listed_in", "ジャンル")
LAST_LABELS_COLUMNS = (  # words of many meanings: only where nothing else can be labels
    *("genre(s)", "movie_genres", "movie_genre", "anime_genres", "game_genres", "target", "targets", "class_names"),
    *("classes", "class", "class_name", "category", "category_name", "themes", "topics", "subjects", "shelves"),
    *("popular_tags", "steamspy_tags", "keywords", "annotations", "attributes", "género", "géneros", "genero"),
    *("generos", "gênero", "gêneros", "genere", "generi", "жанр", "жанры", "类型", "類型", "장르", "genre_ids"),
)

_NO_POSTERS_ID = re.compile(r"(genre|label|tag|user|collection|franchise|director|studio|rater|category)s?_?id", re.I)


def first_column(header: Iterable[str], known: Iterable[str]) -> int | None:
    """Return where the earliest of the known names stands, in any case and with any space, hyphen or underscore.

    `*_id` is any name that ends so, or in camel case, unless it is the id of something else than a poster.
    """
    return next(known_columns(header, known), None)


def known_columns(header: Iterable[str], known: Iterable[str]) -> Iterator[int]:
    """Yield where the known names stand, the earliest known first."""
    names = list(header)
    exact, plain = [name.casefold() for name in names], [_plain(name) for name in names]
    for wanted in known:
        if wanted == "*_id":
            yield from (
                at
                for at, n in enumerate(names)
                if (re.search(r"_id$|[a-z]I[dD]$", n) or n.casefold().endswith("_id"))
                and not _NO_POSTERS_ID.fullmatch(names[at])
            )
        elif wanted.casefold() in exact:
            yield exact.index(wanted.casefold())
        elif _plain(wanted) in plain:
            yield plain.index(_plain(wanted))


def required(path: Path, header: list[str], role: str, asked: str | None, known: Sequence[str]) -> int:
    """Return the column that was asked for, or else one of a known name. Raises DataError when there is none."""
    found = first_column(header, known if asked is None else (asked,))
    if found is None:
        wanted = f"by a known name ({', '.join(known)})" if asked is None else repr(asked)
        hint = did_you_mean(asked or known[0], header)
        names = [name if len(name) <= 60 else f"{name[:60]}..." for name in header]
        raise DataError(
            f"{path} has no {role} column {wanted}{hint}, only {shown(names)}: name one of these with --{role}-column"
        )
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold()) or name


def shown(words: Sequence[str], most: int = 12) -> str:
    """Join words for a message, and count those beyond the first ``most``."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
