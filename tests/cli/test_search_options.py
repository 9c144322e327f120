from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.cli.options import DEFAULT_TYPES, Metric, parse_types
from hpo.cli.search import default_study_name, parse_duration
from hpo.errors import HpoError, UsageError
from hpo.evaluation.metrics import METRICS


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5h", 5400), ("1d", 86400), (" 5 m ", 300)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "0.0h", "-5m", "5 weeks", "1h30m", "h", "nan", "inf", "1e3"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(HpoError, match=r"^--timeout expects a duration such as 90s, 30m or 2h, got ") as told:
        parse_duration(text)
    assert repr(text) in str(told.value)


@given(st.integers(1, 10**6), st.sampled_from([("m", "s"), ("h", "m")]))
def test_sixty_of_a_unit_are_one_of_the_next(count, units):
    larger, smaller = units
    assert parse_duration(f"{count}{larger}") == parse_duration(f"{60 * count}{smaller}")


@pytest.mark.parametrize(
    ("csv", "name"),
    [
        (None, "sample-default"),
        ("movies.csv", "movies-default"),
        ("/far/away/movies.csv", "movies-default"),
        ("My movies (2024).csv", "My-movies-2024-default"),
        ("映画.csv", "映画-default"),
    ],
)
def test_the_study_is_named_after_the_csv_and_the_space(csv, name):
    assert default_study_name(None if csv is None else Path(csv), "default") == name


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1))
def test_a_default_name_suits_the_registry_and_urls(stem):
    """MLflow takes neither '/' nor ':' in the name of a registered model."""
    name = default_study_name(Path(f"{stem}.csv"), "default")
    assert name == default_study_name(Path(f"{stem}.csv"), "default")
    assert not set(name) & set("/:%?# \n'\"`")


def test_types():
    assert parse_types(DEFAULT_TYPES) == ("TV", "Movie")
    assert parse_types(" tv , Movie,") == ("tv", "Movie")
    assert parse_types("all") is parse_types(" ALL ") is None


@given(st.lists(st.from_regex(r"[\w]([\w ]*[\w])?", fullmatch=True).filter(lambda name: name.lower() != "all")))
def test_types_are_read_as_they_were_joined(names):
    assert parse_types(", ".join(names)) == tuple(names)


def test_the_help_names_every_metric_and_a_refusal_the_closest_one():
    option = get_args(Metric)[1]
    assert all(name in option.help for name in METRICS)
    assert {option.callback(name) for name in METRICS} == set(METRICS)
    with pytest.raises(
        UsageError, match=r"--metric expects one of f1_macro, .*, got 'f1_makro' \(did you mean 'f1_macro'\?\)\."
    ):
        option.callback("f1_makro")
