from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.data.labels.cells import LabelCells, items_in, real_text, tidy
from hpo.data.labels.containers import container_items, name_of
from hpo.errors import DataError

names = st.text("ABCdef -", min_size=1, max_size=8).map(str.strip).filter(bool)

GENRES = ("Action", "Comedy", "Drama", "Horror", "Romance", "Sci-Fi", "Slice of Life", "Mystery", "Music", "Fantasy")


def drawn_lists(genres: tuple[str, ...] = GENRES, n: int = 60) -> list[list[str]]:
    """Lists of one to four genres."""
    rng = random.Random(0)
    return [rng.sample(genres, rng.choice((1, 1, 2, 2, 3, 4))) for _ in range(n)]


def read(cells: list[str], separator: str | None = None) -> list[set[str]]:
    """The labels of each cell, read as one column."""
    column = LabelCells.learn(cells, separator)
    return [set(column.of(cell)) for cell in cells]


def mixed(*marks: str) -> Callable[[int, list[str]], str]:
    """Another separator for every row."""
    return lambda row, labels: marks[row % len(marks)].join(labels)


def postgres(labels: list[str]) -> str:
    return "{" + ",".join(f'"{label}"' if " " in label else label for label in labels) + "}"


WRITERS: dict[str, Callable[[list[str]], str]] = {
    "comma": ",".join,
    "comma and space": ", ".join,
    "pipe": "|".join,
    "pipe with spaces": " | ".join,
    "two pipes": "||".join,
    "semicolon": ";".join,
    "semicolon and space": "; ".join,
    "slash": "/".join,
    "slash with spaces": " / ".join,
    "double colon": "::".join,
    "newline": "\n".join,
    "carriage return": "\r\n".join,
    "tab": "\t".join,
    "HTML break": "<br>".join,
    "bullet": " • ".join,
    "middle dot": " · ".join,
    "dash": " - ".join,
    "plus": " + ".join,
    "bare plus": "+".join,
    "ampersand": " & ".join,
    "and": " and ".join,
    "arrow": " > ".join,
    "backslash": "\\".join,
    "colon": ":".join,
    "ideographic comma": "、".join,
    "full-width comma": "，".join,
    "full-width semicolon": "；".join,
    "full-width pipe": "｜".join,
    "katakana dot": "・".join,
    "half-width katakana dot": "･".join,
    "Arabic comma": "، ".join,
    "trailing separator": lambda labels: "|".join(labels) + "|",
    "leading and trailing separator": lambda labels: "," + ",".join(labels) + ",",
    "spaces before commas": " , ".join,
    "quoted items": lambda labels: ", ".join(f'"{label}"' for label in labels),
    "single-quoted items": lambda labels: ",".join(f"'{label}'" for label in labels),
    "quoted items and pipes": lambda labels: "|".join(f'"{label}"' for label in labels),
    "JSON": json.dumps,
    "JSON without spaces": lambda labels: json.dumps(labels, separators=(",", ":")),
    "JSON with line breaks": lambda labels: json.dumps(labels, indent=1),
    "JSON in JSON": lambda labels: json.dumps(json.dumps(labels)),
    "JSON with escaped quotes": lambda labels: json.dumps(labels).replace('"', '\\"'),
    "JSON with doubled quotes": lambda labels: json.dumps(labels).replace('"', '""'),
    "JSON with entities": lambda labels: json.dumps(labels).replace('"', "&quot;"),
    "Python": repr,
    "Python 2": lambda labels: "[" + ", ".join(f"u'{label}'" for label in labels) + "]",
    "Python with None": lambda labels: repr([*labels, None]),
    "Python with nan": lambda labels: repr([*labels, float("nan")]),
    "tuple": lambda labels: repr(tuple(labels)),
    "set": lambda labels: repr(set(labels)),
    "frozenset": lambda labels: repr(frozenset(labels)),
    "NumPy": lambda labels: "[" + " ".join(f"'{label}'" for label in labels) + "]",
    "NumPy with line breaks": lambda labels: "[" + "\n ".join(f"'{label}'" for label in labels) + "]",
    "NumPy array": lambda labels: f"array({labels!r}, dtype=object)",
    "NumPy strings": lambda labels: "[" + ", ".join(f"np.str_('{label}')" for label in labels) + "]",
    "pandas Index": lambda labels: f"Index({labels!r}, dtype='object')",
    "dict_keys": lambda labels: f"dict_keys({labels!r})",
    "R": lambda labels: "c(" + ", ".join(f'"{label}"' for label in labels) + ")",
    "R of one": lambda labels: (
        f'"{labels[0]}"' if len(labels) == 1 else "c(" + ", ".join(map(json.dumps, labels)) + ")"
    ),
    "Scala": lambda labels: f"List({', '.join(labels)})",
    "bare brackets": lambda labels: f"[{', '.join(labels)}]",
    "bare brackets without spaces": lambda labels: f"[{','.join(labels)}]",
    "bare brackets with pipes": lambda labels: f"[{'|'.join(labels)}]",
    "brackets for each": lambda labels: "".join(f"[{label}]" for label in labels),
    "bare parentheses": lambda labels: f"({', '.join(labels)})" if len(labels) > 1 else labels[0],
    "PostgreSQL": postgres,
    "PostgreSQL, all quoted": lambda labels: "{" + ",".join(f'"{label}"' for label in labels) + "}",
    "PostgreSQL with NULL": lambda labels: postgres([*labels, "NULL"]),
    "tags": lambda labels: "".join(f"<{label}>" for label in labels),
    "TMDB": lambda labels: repr([{"id": at, "name": label} for at, label in enumerate(labels)]),
    "TMDB as JSON": lambda labels: json.dumps([{"id": at, "name": label} for at, label in enumerate(labels)]),
    "Jikan": lambda labels: json.dumps([{"mal_id": 1, "type": "anime", "name": x, "url": "u"} for x in labels]),
    "Steam": lambda labels: json.dumps([{"id": "1", "description": label} for label in labels]),
    "IMDb": lambda labels: json.dumps([{"text": label, "id": label} for label in labels]),
    "GraphQL": lambda labels: json.dumps({"edges": [{"node": {"name": label}} for label in labels]}),
    "Freebase": lambda labels: json.dumps({f"/m/0{at}": label for at, label in enumerate(labels)}),
    "object of flags": lambda labels: json.dumps({label: int(label in labels) for label in GENRES}),
    "object of true and false": lambda labels: repr({label: label in labels for label in GENRES}),
    "object with a list": lambda labels: json.dumps({"genres": labels}),
    "objects with one text": lambda labels: json.dumps([{"id": 3, "kind": label} for label in labels]),
    "nested lists": lambda labels: json.dumps([[label] for label in labels]),
    "bytes": lambda labels: repr([label.encode() for label in labels]),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_f1_cells_are_read_as_programs_write_them(writer: str):
    lists = drawn_lists()
    assert read([WRITERS[writer](labels) for labels in lists]) == [set(labels) for labels in lists]


@pytest.mark.parametrize(
    "mark", [" ", "-", "_", ".", ", ", "|"], ids=["space", "hyphen", "underscore", "full stop", "comma", "pipe"]
)
def test_f1_words_that_never_part_are_one_label(mark: str):
    genres = tuple(name for name in GENRES if mark in ("-", " ", ", ", "|") or " " not in name)
    genres = tuple(name.replace(" ", "_") if mark == " " else name for name in genres)
    lists = drawn_lists(genres, 200)
    assert read([mark.join(labels) for labels in lists]) == [set(labels) for labels in lists]


def test_f1_slice_of_life_is_one_label_among_words():
    lists = drawn_lists(GENRES, 200)
    assert read([" ".join(labels) for labels in lists]) == [set(labels) for labels in lists]


@pytest.mark.parametrize("marks", [(", ", "|"), (", ", ","), ("|", ";"), (", ", "/"), (" / ", ", "), ("、", ", ", "|")])
def test_f1_the_separator_is_chosen_a_cell_at_a_time(marks: tuple[str, ...]):
    lists = drawn_lists(GENRES, 120)
    cells = [mixed(*marks)(row, labels) for row, labels in enumerate(lists)]
    assert read(cells) == [set(labels) for labels in lists]


def test_f1_containers_and_text_in_one_column():
    lists = drawn_lists(GENRES, 120)
    cells = [json.dumps(labels) if row % 3 else ", ".join(labels) for row, labels in enumerate(lists)]
    assert read(cells) == [set(labels) for labels in lists]


@pytest.mark.parametrize(
    ("genres", "mark"),
    [
        (("Action & Adventure", "Sci-Fi & Fantasy", "Drama", "Action", "War & Politics", "Comedy", "Fantasy"), ", "),
        (("Action/Adventure", "Drama", "Comedy", "Romance", "Mystery/Thriller"), ", "),
        (("Action/Adventure", "Drama", "Comedy", "Romance", "Mystery/Thriller"), "|"),
        (("Drama, Historical", "Comedy", "Romance", "Drama", "Thriller, Crime"), "|"),
        (("Slice of Life", "Martial Arts", "Science Fiction", "Mahou Shoujo"), ", "),
        (("Rock & Roll", "R&B", "Hip-Hop", "Jazz"), ";"),
        (("アクション・アドベンチャー", "ドラマ", "コメディ"), "、"),
        (("Film-Noir", "TV Movie", "Children's", "(no genre)"), "|"),
        (("Boys' Love", "Girls' Love", "Sci-Fi", "Drama"), ", "),
        (("C++", "A+", "Drama", "Comedy"), ", "),
    ],
)
def test_f1_labels_that_hold_a_mark_stay_whole(genres: tuple[str, ...], mark: str):
    lists = (
        drawn_lists((*genres, "Western"), 80) if len(genres) > 4 else [[*genres[:2]], [*genres[1:]], [genres[0]]] * 9
    )
    assert read([mark.join(labels) for labels in lists]) == [set(labels) for labels in lists]
    assert read([repr(labels) for labels in lists]) == [set(labels) for labels in lists]


@pytest.mark.parametrize(
    "labels",
    [
        ["Action & Adventure", "Drama", "Sci-Fi & Fantasy"],
        ["Action/Adventure", "Drama", "Mystery/Thriller"],
        ["Slice of Life", "Science Fiction", "Martial Arts", "Drama"],
        ["Sci-Fi", "Film-Noir", "Drama"],
        ["Romantic Comedy", "Dark Comedy", "Comedy", "Drama", "Period Drama"],
        ["Music and Musical", "Drama"],
    ],
)
def test_f1_one_label_a_row_is_one_label(labels: list[str]):
    assert read(labels * 10) == [{label} for label in labels] * 10


def test_f1_the_asked_separator_wins():
    assert read(["Action, Adventure/Drama"], "/") == [{"Action, Adventure", "Drama"}]
    assert read(["A\nB"], "\\n") == [{"A", "B"}]


@given(labels=st.lists(names, max_size=5, unique=True))
def test_lists_written_by_json_or_python_are_read(labels: list[str]):
    assert items_in(json.dumps(labels), ", ") == labels == items_in(repr(labels), ", ")


def test_dictionaries_are_their_names():
    assert items_in("[{'id': 18, 'name': 'Drama'}, {'id': 35, 'name': 'Comedy'}]", ",") == ["Drama", "Comedy"]


def test_f22_objects_without_a_name_are_one_sentence():
    with pytest.raises(DataError, match=r"under a key such as 'name' .*got \{'id': 18, 'rank': 2\}"):
        read(['[{"id": 18, "rank": 2}]'])
    assert name_of({"Name": " Drama "}) == "Drama"


@pytest.mark.parametrize(
    "text", ["[Drama", "Drama]", "(no genres listed)", "Drama (1999)", "[" * 300 + "x", "1 + [", "'"]
)
def test_what_only_looks_like_a_container_is_text(text: str):
    assert container_items(text) is None


@given(text=st.text("[](){}<>'\"\\,|;/ #ABnc0\n=:", max_size=30))
def test_any_cell_is_read_without_an_error(text: str):
    column = LabelCells.learn([text, "Drama", "Drama, Comedy"])
    assert isinstance(column.of(text), frozenset)


def test_words_for_nothing_are_no_labels():
    assert read(["Drama, Award Winning, UNKNOWN,  nan", "\\N", "[]", "{}", "(no genres listed)", "set()", "null"]) == [
        {"Drama"},
        *[set()] * 6,
    ]
    assert (real_text("UNKNOWN"), real_text("-"), real_text("Naruto")) == ("", "", "Naruto")


# One label, several spellings


def test_f8_labels_that_differ_in_case_alone_are_one_named_as_most_rows_name_it():
    column = LabelCells.learn(["Drama, Comedy", "DRAMA", "Drama", "comedy", "comedy"])
    assert [column.of("DRAMA"), column.of("Comedy")] == [{"Drama"}, {"comedy"}]
    assert column.spellings == {"Drama": ("DRAMA",), "comedy": ("Comedy",)}


def test_f8_the_names_of_a_bundle_are_kept_to():
    assert LabelCells.learn(["drama", "drama"], known=["Drama"]).of("drama") == {"Drama"}


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("Sci-Fi &amp; Tech", "Sci-Fi & Tech"),
        ("Sci-Fi &amp;amp; Tech", "Sci-Fi & Tech"),
        ("Boys&#39; Love", "Boys' Love"),
        ("Boys&#x27; Love", "Boys' Love"),
        ("Cine\u0301ma", "Cinéma"),
        ("Cin&eacute;ma", "Cinéma"),
        ("Slice\u00a0of\u00a0Life", "Slice of Life"),
        ("Slice  of Life", "Slice of Life"),
        ("\u200bDrama\ufeff", "Drama"),
        ("AT&T; Show", "AT&T; Show"),
        ("\ud83d\ude00", "😀"),
    ],
)
def test_f8_entities_and_unicode_forms(written: str, label: str):
    assert " ".join(tidy(written).split()) == label
    assert read([written, label] if ";" not in label else [label], "|")[0] == {label}


def test_a6_a_lone_surrogate_can_be_printed():
    (label,) = read(['["\\ud800 Drama"]'])[0]
    assert label.encode()
