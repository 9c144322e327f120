"""A study that was begun with other options: which, with both values and the option to type."""

from __future__ import annotations

import pytest

from hpo.study.attributes import differences

POSTERS = {
    "csv": "movies.csv",
    "images": "images",
    "rules": {"top_labels": 10, "types": ["TV", "Movie"], "keep_adult": False, "label_separator": None},
    "val_size": 0.1,
    "test_size": 0.1,
    "grouping": "all",
    "split_file": None,
    "seed": 0,
}
KNOWN = {
    "metric": "f1_macro",
    "objective": "calibrated",
    "thresholds": "calibrated",
    "folds": 5,
    "fold_model": "average",
    "space": "default",
    "data": POSTERS,
}


@pytest.mark.parametrize(
    ("changed", "asked", "said"),
    [
        (["metric"], {"metric": "f1_micro"}, "study: f1_macro, now: f1_micro (--metric)"),
        (["folds"], {"folds": 1}, "study: 5, now: 1 (--folds)"),
        (["folds"], {"fold_model": "refit"}, "study: average, now: refit (--fold-model)"),
        (["objective"], {"thresholds": "fixed"}, "study: calibrated, now: fixed (--thresholds)"),
        (["search space"], {"space": "fine_tune"}, "study: default, now: fine_tune (--space)"),
        (["search space"], {}, "the file of --space has changed"),
        (
            ["metric", "folds"],
            {"metric": "f1_micro", "folds": 3},
            "study: f1_macro, now: f1_micro (--metric); study: 5, now: 3 (--folds)",
        ),
    ],
)
def test_u25_a_mismatch_names_both_values_and_the_option(changed, asked, said):
    assert differences(KNOWN, {**KNOWN, **asked}, changed) == f" ({said})"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"rules": {**POSTERS["rules"], "top_labels": 8}}, "study: 10, now: 8 (--labels)"),
        ({"rules": {**POSTERS["rules"], "types": None}}, "study: TV,Movie, now: all (--types)"),
        ({"rules": {**POSTERS["rules"], "label_separator": "|"}}, "study: not given, now: | (--label-separator)"),
        ({"csv": "other.csv"}, "study: movies.csv, now: other.csv (--data)"),
        ({"images": "elsewhere"}, "study: images, now: elsewhere (--images)"),
        ({"val_size": 30}, "study: 0.1, now: 30 (--val-size)"),
        ({"grouping": "none"}, "study: all, now: none (--grouping)"),
        ({"seed": 5}, "study: 0, now: 5 (--seed)"),
        ({}, "the rows of --data or the files of --images have changed"),
    ],
)
def test_u25_of_other_posters_and_another_split_the_option_is_named(asked, said):
    now = {**KNOWN, "data": {**POSTERS, **asked}}
    assert differences(KNOWN, now, ["data set", "split"]) == f" ({said})"
