from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.data.catalogue.labels import guess_separator, items_in, labels_in, real_text

names = st.text("ABCdef -", min_size=1, max_size=8).map(str.strip).filter(bool)


@given(labels=st.lists(names, max_size=5))
def test_lists_written_by_json_or_python_are_read(labels: list[str]):
    assert items_in(json.dumps(labels), ", ") == labels == items_in(repr(labels), ", ")


def test_dictionaries_are_their_names():
    assert items_in("[{'id': 18, 'name': 'Drama'}, {'id': 35, 'name': 'Comedy'}]", ",") == ["Drama", "Comedy"]


@pytest.mark.parametrize("text", ["[Drama", "[Drama, Comedy]", "[1 +]", "[" * 300 + "]" * 300])
def test_what_only_looks_like_a_list_is_text(text: str):
    assert items_in(text, ", ") == text.split(", ") or text.startswith("[[")


def test_words_for_nothing_are_no_labels():
    assert labels_in("Drama, Award Winning, UNKNOWN,  nan", ", ") == {"Drama"}
    assert (real_text("UNKNOWN"), real_text("-"), real_text("Naruto")) == ("", "", "Naruto")


def test_the_separator_of_most_rows_is_taken():
    assert guess_separator(["Sci-Fi, Drama", "Action, Drama", "Action|Drama"]) == ", "
    assert guess_separator(["Drama"]) == ", "
