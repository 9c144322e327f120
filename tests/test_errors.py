"""The text of an error, which holds words of others."""

from __future__ import annotations

import pickle

import pytest

from hpo.errors import DataError, SpaceError


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\u2028b", "a\x1b[2Jb", "a\tb"])
def test_words_of_others_do_not_break_the_sentence(name):
    text = str(DataError(f"expected a table, got {name}: name one"))
    assert len(text.splitlines()) == 1
    assert text.isprintable()


def test_lines_follow_the_sentence_and_travel_between_processes():
    error = SpaceError("2 mistakes:", "  width: a\nb", "  depth: c")
    told = "2 mistakes:\n  width: a\\nb\n  depth: c"
    assert str(error) == told
    assert str(pickle.loads(pickle.dumps(error))) == told  # noqa: S301
