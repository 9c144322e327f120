from __future__ import annotations

import csv
import io
import os
import stat
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpo.data.completion.csv_edit import Added, appearing_whole, check_new_columns, write_completed
from hpo.data.completion.csv_fields import raw_records
from hpo.data.completion.entries import Listing, read_listing
from hpo.data.table.records import read_records
from hpo.data.table.rules import ColumnNames
from hpo.errors import DataError

LABELS = ("Action", "Drama", "Sci-Fi", "Slice of Life")
PLAIN = 'id,Name,Genres\n1,A,"Action, Drama"\n2,B,\n3,C,Drama\n'
NASTY = {
    "byte order mark and CRLF": '\ufeffid,Name,Genres\r\n1,A,"Action, Drama"\r\n2,B,UNKNOWN\r\n',
    "semicolons": "id;Name;Genres\n1;A, with a comma;Action, Drama\n2;B;\n",
    "quotes and newlines": 'id,"Na""me",Genres\n1,"say ""hi"",\r\nthen\n\ngo",Drama\n2,"\n","UNKNOWN"\n',
    "odd rows and empty lines": '\nid,Name,Genres\n\n1,A,Drama\n7,too,many,cells\n8\n"x"y,broken,row\n2,B,\n\n\n',
    "cut inside quotes": 'id,Name,Genres\n1,A,Drama\n2,B,\n3,"cut,\nin,the\nmiddle',
    "no last line end": "id,Name,Genres\n1,A,Drama\n2,B,",
    "three carriage returns": "id,Name,Genres\r\r\n1,A,Drama\r\r\n2,B,\r\r\n",
    "Excel's first line": 'sep=;\nid;Name;Genres\n1;A;"Action, Drama"\n2;B;\n',
    "tabs": "id\tName\tGenres\n1\t A \tDrama\n2\tB\t  \n",
    "one-hot": 'id,Name,Action,"Drama"\n1,A,1,0\n2,B,0,1\n3,C,0,"0"\n',
}


def listed(folder: Path, content: str | bytes, names: ColumnNames | None = None, separator: str | None = None):
    path = folder / "in.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_listing(path, folder / "images", LABELS, names or ColumnNames(), separator)


def completed(
    listing: Listing, filled: Mapping[int, Sequence[str]], added: Mapping[str, Sequence[str]] | None = None
) -> bytes:
    out = listing.path.with_name("out.csv")
    columns = Added(list(added or {}), lambda entry: [column[entry] for column in (added or {}).values()])
    write_completed(listing, out, filled, columns)
    return out.read_bytes()


# Where fields stand


@given(st.text('ab,;"\n\r é', max_size=40), st.booleans())
@example('a,"b\r\n"\r\n"c"d,\n,"', True)
@example("\n\na,b", True)
@settings(max_examples=300, deadline=None)
def test_all_pieces_are_the_file_and_spans_hold_the_cells(
    tmp_path_factory: pytest.TempPathFactory, text: str, marked: bool
):
    path = tmp_path_factory.mktemp("any", numbered=True) / "any.csv"
    content = text.encode("utf-8-sig" if marked else "utf-8")
    path.write_bytes(content)
    pieces = list(raw_records(path))
    assert b"".join(piece.raw for piece in pieces) == content
    whole = [piece for piece in pieces if piece.cells is not None]
    assert [piece.cells for piece in whole] == [cells for _, cells in read_records(path) if cells is not None]
    for piece in whole:
        for cell, (start, end) in zip(piece.cells, piece.spans, strict=True):
            field = piece.raw[start:end].decode()
            assert (field[1:-1].replace('""', '"') if field.startswith('"') else field) == cell


def test_a_last_character_cut_in_two_stays(folder: Path):
    content = "id,Genres,Name\n1,Drama,A\n2,,é".encode()[:-1]
    listing = listed(folder, content)
    assert completed(listing, {}) == content
    assert completed(listing, {1: ["Drama"]}) == content.replace(b"2,,", b"2,Drama,")


# A copy with nothing to fill


@pytest.mark.parametrize("content", NASTY.values(), ids=NASTY)
def test_without_anything_to_fill_the_copy_is_the_same_bytes(folder: Path, content: str):
    assert completed(listed(folder, content), {}) == content.encode()


# Filling


@pytest.mark.parametrize(
    ("case", "before", "after"),
    [
        ("byte order mark and CRLF", "2,B,UNKNOWN\r\n", '2,B,"Sci-Fi, Drama"\r\n'),
        ("semicolons", "2;B;\n", "2;B;Sci-Fi, Drama\n"),
        ("quotes and newlines", '2,"\n","UNKNOWN"\n', '2,"\n","Sci-Fi, Drama"\n'),
        ("odd rows and empty lines", "2,B,\n", '2,B,"Sci-Fi, Drama"\n'),
        ("cut inside quotes", "2,B,\n", '2,B,"Sci-Fi, Drama"\n'),
        ("no last line end", "2,B,", '2,B,"Sci-Fi, Drama"'),
        ("three carriage returns", "2,B,\r\r\n", '2,B,"Sci-Fi, Drama"\r\r\n'),
        ("tabs", "2\tB\t  \n", "2\tB\tSci-Fi, Drama\n"),
        ("one-hot", '3,C,0,"0"\n', "3,C,0,1\n"),
    ],
)
def test_only_the_filled_field_changes(folder: Path, case: str, before: str, after: str):
    content = NASTY[case].replace("Action, Drama", "Drama, Action")  # in no order: then the likeliest comes first
    listing = listed(folder, content)
    gaps = [at for at, entry in enumerate(listing.entries) if not entry.labels]
    filled = completed(listing, {gaps[-1]: ["Sci-Fi", "Drama"]}).decode()
    assert filled == content.replace(before, after)
    assert content.count(before) == 1


@pytest.mark.parametrize(
    ("known", "before", "after"),
    [
        (["Drama,Action", "Action"], "", '"Sci-Fi,Drama"'),
        (["Drama|Action", "Action"], "", "Sci-Fi|Drama"),
        (["Drama | Action", "Action"], "n/a", "Sci-Fi | Drama"),
        (["Action, Drama", "Action"], "", '"Drama, Sci-Fi"'),  # in alphabetical order like the others
        (['"[""Drama"", ""Action""]"'], "[]", '"[""Sci-Fi"", ""Drama""]"'),
        (['"[""Drama"",""Action""]"'], "[]", '"[""Sci-Fi"",""Drama""]"'),
        (["\"['Drama', 'Action']\""], "", "\"['Sci-Fi', 'Drama']\""),
        (
            ["\"[{'id': 18, 'name': 'Drama'}, {'id': 28, 'name': 'Action'}]\""],
            "[]",
            "\"[{'name': 'Sci-Fi'}, {'id': 18, 'name': 'Drama'}]\"",
        ),
        (["drama", "drama", "Drama"], "", '"Sci-Fi, drama"'),
        (["Drama", '"Action"', '"Drama"'], "", '"Sci-Fi, Drama"'),
    ],
)
def test_lists_are_written_as_the_others_are(folder: Path, known: list[str], before: str, after: str):
    rows = [f'{at},"{cell}"' if "," in cell and '"' not in cell else f"{at},{cell}" for at, cell in enumerate(known)]
    content = "\n".join(["id,Genres", *rows, f"9,{before}", ""])
    listing = listed(folder, content)
    filled = completed(listing, {len(known): ["Sci-Fi", "Drama"]}).decode()
    assert filled == content.replace(f"9,{before}\n", f"9,{after}\n")


@pytest.mark.parametrize(
    ("known", "before", "after"),
    [
        ('"Drama"', '""', '"Action"'),  # everything is quoted here
        ("Drama", '""', "Action"),
        ('"Drama"', "", '"Action"'),
        ('"Action, Drama"', '""', '"Action"'),  # needs its quotes: the field itself decides
        ('"Action, Drama"', "", "Action"),
    ],
)
def test_quotes_are_a_habit_of_the_column(folder: Path, known: str, before: str, after: str):
    listing = listed(folder, f"id,Genres\n1,{known}\n2,{before}\n")
    assert completed(listing, {1: ["Action"]}).decode() == f"id,Genres\n1,{known}\n2,{after}\n"


def test_an_honour_is_no_genre_and_stays(folder: Path):
    content = 'id,Genres\n1,"Action, Drama"\n2,Award Winning\n3,(no genres listed)\n'
    listing = listed(folder, content)
    assert [entry.labels for entry in listing.entries] == [("Action", "Drama"), (), ()]
    filled = completed(listing, {1: ["Drama", "Action"], 2: ["Drama"]}).decode()
    assert filled == 'id,Genres\n1,"Action, Drama"\n2,"Action, Award Winning, Drama"\n3,Drama\n'


@pytest.mark.parametrize(
    ("content", "filled", "expected"),
    [
        ("id,Action,Drama\n1,1,0\n2,0,1\n3,0,0\n", ["Action"], "3,1,0\n"),
        ("id,Action,Drama\n1,1,0\n2,0,1\n3,,\n", ["Action"], "3,1,0\n"),
        ("id,Action,Drama\n1,1,\n2,,1\n3,,\n", ["Action"], "3,1,\n"),
        ("id,Action,Drama\n1,True,False\n2,False,True\n3,False,False\n", ["Drama"], "3,False,True\n"),
        ('id,Action,Drama\n1,"1","0"\n2,"0","1"\n3,"0","0"\n', ["Drama", "Action"], '3,"1","1"\n'),
        ("id,Western,action\n1,1,0\n2,0,1\n3,,\n", ["Action"], "3,,1\n"),  # the model knows nothing of Western
    ],
)
def test_one_hot_columns_are_marked(folder: Path, content: str, filled: list[str], expected: str):
    listing = listed(folder, content)
    assert [bool(entry.labels) for entry in listing.entries] == [True, True, False]
    assert completed(listing, {2: filled}).decode() == content[: content.index("3,")] + expected
    assert listing.labels.takes("Action")
    assert not listing.labels.takes("Slice of Life")


cells = st.text('ab";\n, é', max_size=6)


@given(
    rows=st.lists(st.tuples(cells, st.sampled_from(["", "Drama", "Action, Drama"]), cells), min_size=1, max_size=6),
    delimiter=st.sampled_from([",", ";"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@settings(max_examples=100, deadline=None)
def test_whatever_stands_around_it_only_the_gap_is_filled(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    delimiter: str,
    line_end: str,
    quoting: int,
):
    folder = tmp_path_factory.mktemp("any", numbered=True)
    (folder / "images").mkdir()
    (folder / "images" / "0.jpg").touch()
    table = [["id", "Synopsis", "Genres", "Note"], *([str(at), *row] for at, row in enumerate(rows))]
    with (folder / "in.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator=line_end, quoting=quoting).writerows(table)
    listing = read_listing(folder / "in.csv", folder / "images", LABELS, ColumnNames())
    gaps = [at for at, row in enumerate(rows) if not row[1]]
    out = completed(listing, {at: ["Drama"] for at in gaps}).decode()
    for at in gaps:
        table[1 + at][2] = "Drama"
    with (folder / "expected.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator=line_end, quoting=quoting).writerows(table)
    assert out == (folder / "expected.csv").read_bytes().decode()


# Further columns


def test_columns_come_behind_the_last_one(folder: Path):
    content = '\ufeffid;Name;"Genres"\r\n1;A;Drama\r\nodd\r\n2;B;\r\n\r\n3;C;"Drama"'
    added = {"p:Drama": ["0.9000", "0.1000", ""], "p:a;b": ["1", "2", ""]}
    assert completed(listed(folder, content), {1: ["Action"]}, added).decode() == (
        '\ufeffid;Name;"Genres";"p:Drama";"p:a;b"\r\n1;A;Drama;0.9000;1\r\nodd\r\n'
        '2;B;Action;0.1000;2\r\n\r\n3;C;"Drama";;'
    )


def test_columns_that_are_there_already_are_refused(folder: Path):
    listing = listed(folder, "id,Genres,p:Drama\n1,Drama,0.5\n")
    check_new_columns(listing, ["p:Action"])
    with pytest.raises(DataError, match=r"without a column 'p:Drama'.*leave out --probabilities"):
        write_completed(listing, folder / "out.csv", {}, Added(["p:Drama"], lambda _: ["0.5"]))
    assert not (folder / "out.csv").exists()


def test_a_table_without_any_labels_can_be_filled(folder: Path):
    listing = listed(folder, "id,Genres\n1,\n2,UNKNOWN\n")
    assert completed(listing, {1: ["Sci-Fi", "Drama"]}).decode() == 'id,Genres\n1,\n2,"Sci-Fi, Drama"\n'


@pytest.mark.parametrize("change", [PLAIN + "4,D,\n", PLAIN[:-10], PLAIN.replace("A", "E")])
def test_a_file_that_changes_meanwhile_is_noticed(folder: Path, change: str):
    listing = listed(folder, PLAIN)
    listing.path.write_text(change)
    os.utime(listing.path, ns=(0, 0))
    with pytest.raises(DataError, match="changed by another program"):
        completed(listing, {1: ["Drama"]})
    assert sorted(path.name for path in folder.iterdir()) == ["images", "in.csv"]


# Appearing whole


def test_a_file_appears_whole_or_leaves_no_trace(folder: Path):
    like, out = folder / "in.csv", folder / "new" / "out.csv"
    like.touch(mode=0o640)
    with pytest.raises(KeyboardInterrupt):
        write_and_break_off(out, like)
    assert list(out.parent.iterdir()) == []
    with appearing_whole(out, like) as file:
        file.write(b"whole")
        assert not out.exists()
    assert out.read_bytes() == b"whole"
    assert stat.S_IMODE(out.stat().st_mode) == stat.S_IMODE(like.stat().st_mode)
    link = folder / "link.csv"
    link.symlink_to(out)
    with appearing_whole(link, like) as file:
        file.write(b"through the link")
    assert link.is_symlink()
    assert out.read_bytes() == b"through the link"


def write_and_break_off(out: Path, like: Path) -> None:
    with appearing_whole(out, like) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_a_place_that_cannot_be_written_is_one_sentence(folder: Path):
    (folder / "file").touch()
    with pytest.raises(DataError, match="could not be written"), appearing_whole(folder / "file" / "x", folder):
        pass


def test_the_input_may_be_replaced_by_its_copy(folder: Path):
    listing = listed(folder, PLAIN)
    write_completed(listing, listing.path, {1: ["Drama"]})
    assert listing.path.read_text() == PLAIN.replace("2,B,\n", "2,B,Drama\n")
    assert set(chain.from_iterable(entry.labels for entry in listing.entries)) == {"Action", "Drama"}


@pytest.mark.parametrize(
    ("known", "after"),
    [
        (["['Action' 'Drama']", "['Drama']"], "['Drama' 'Sci-Fi']"),
        (["('Action', 'Drama')", "('Drama',)"], "('Drama', 'Sci-Fi')"),
        (["{'Action', 'Drama'}", "{'Drama'}"], "{'Drama', 'Sci-Fi'}"),
        (["[Action, Drama]", "[Drama]"], "[Drama, Sci-Fi]"),
        (['{Action,"Slice of Life"}', "{Drama}"], "{Drama,Sci-Fi}"),
        (["<Action><Drama>", "<Drama>"], "<Drama><Sci-Fi>"),
        (["Action / Drama", "Drama / Sci-Fi", "Drama"], "Drama / Sci-Fi"),
        (["Action::Drama", "Drama"], "Drama::Sci-Fi"),
        (["Action、Drama", "Drama"], "Drama、Sci-Fi"),
        (["Action,Drama", "Drama, Sci-Fi", "Action, Sci-Fi"], "Drama, Sci-Fi"),
    ],
)
def test_f1_lists_of_every_form_are_written_as_the_others_are(folder: Path, known: list[str], after: str):
    text = io.StringIO()
    rows = [[str(at), cell] for at, cell in enumerate(known, start=1)]
    csv.writer(text, lineterminator="\n").writerows([["id", "Genres"], *rows, ["7", ""]])
    filled = completed(listed(folder, text.getvalue()), {len(known): ["Drama", "Sci-Fi"]}).decode()
    assert list(csv.reader(io.StringIO(filled)))[-1] == ["7", after]


def test_f15_fields_with_backslash_escapes_stay_as_they_are(folder: Path):
    content = 'id,Name,Genres\n1,"say \\"hi\\", then",Drama\n2,"a \\"b\\" c",\n'
    listing = listed(folder, content)
    assert completed(listing, {1: ["Drama"]}).decode() == content[:-1] + "Drama\n"
