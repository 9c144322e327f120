from __future__ import annotations

import json

import pytest

from hpo.data.dataset import PreparedData
from hpo.data.summary import account_of, cleaning_lines, group_rows, kept_together, split_rows


def test_the_account_is_json_and_adds_up(data: PreparedData):
    account = account_of(data)
    assert json.loads(json.dumps(account)) == account
    labels = account["labels"]
    assert labels["counts"] == {name: labels["cooccurrence"][name][name] for name in labels["counts"]}
    assert labels["cardinality"] == pytest.approx(data.catalogue.targets.sum() / len(data.catalogue))
    assert account["images"]["formats"] == {"PNG": 83}
    assert account["images"]["width_px"] == {"min": 30, "median": 60, "max": 60}
    assert len(account["images"]["broken"]) == 7
    assert account["rows_read"] == account["rows_kept"] + sum(account["dropped"].values())
    assert sum(account["split"]["sizes"].values()) == account["n_posters"] == 83


def test_every_decision_is_a_line(data: PreparedData):
    cleaned, broken = cleaning_lines(data)
    assert cleaned == "posters.csv: 90 rows, 90 kept"
    assert broken.startswith("7 broken posters left out: 12.png (")
    assert broken.endswith(" and 2 more")


def test_without_images_there_is_nothing_to_say_of_them(prepared):
    assert account_of(prepared(images=None))["images"] is None


def test_what_is_kept_together_is_said_with_its_reasons(prepared, data: PreparedData):
    assert kept_together(data) == "6 posters are kept together in 2 groups (4 by title, 2 by poster)."
    franchise, copy = group_rows(data)
    assert (franchise["posters"], franchise["because of"], franchise["ids"]) == (4, "title", "0, 1, 2, 3")
    assert copy["ids"] == "10, 11"
    assert kept_together(prepared(grouping="none")) == "No posters had to be kept together."


def test_every_label_is_a_row_with_its_share_of_each_part(data: PreparedData):
    rows = split_rows(data)
    assert [row["label"] for row in rows] == list(data.catalogue.label_names)
    for row, shares in zip(rows, data.distribution.labels, strict=True):
        assert row["val"] == pytest.approx(shares.val, abs=1e-4)
        assert row["largest deviation"] == pytest.approx(shares.largest_deviation, abs=1e-4)
