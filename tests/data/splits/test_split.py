from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from hpo.data.splits.groups import Groups, Links, group_posters, linked_by_value
from hpo.data.splits.split import PARTS, Split, deal_folds, distribution, n_posters_of, parse_size, split_posters
from hpo.data.table.catalogue import Catalogue, read_catalogue
from hpo.data.table.rules import CatalogueRules
from hpo.errors import DataError, UsageError


def drawn(n_posters: int, shares: np.ndarray, seed: int = 0) -> Catalogue:
    """Posters whose labels are independent with the given shares (L,), three of each label at least."""
    targets = np.random.default_rng(seed).random((n_posters, len(shares))) < shares
    for label in range(len(shares)):
        targets[3 * label : 3 * label + 3, label] = True
    ids = tuple(f"p{at}" for at in range(n_posters))
    return Catalogue(ids, ("",) * n_posters, (), targets, tuple(f"label {at}" for at in range(len(shares))))


def ids_in(split: Split, catalogue: Catalogue) -> dict[str, set[str]]:
    return {name: {catalogue.ids[row] for row in rows} for name, rows in split.parts().items()}


def random_split(n_posters: int, sizes: dict[str, int], seed: int) -> Split:
    rows = np.random.default_rng(seed).permutation(n_posters)
    return Split(*np.split(rows, np.cumsum([sizes["train"], sizes["val"]])))


catalogues = st.builds(
    drawn,
    n_posters=st.integers(60, 300),
    shares=st.lists(st.floats(0.0, 0.6), min_size=2, max_size=12).map(np.array),
    seed=st.integers(0, 2**16),
)
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(catalogue=catalogues, n_val=st.integers(14, 20), n_test=st.integers(14, 20), seed=seeds)
def test_parts_are_disjoint_complete_sorted_exact_and_show_every_label(
    catalogue: Catalogue, n_val: int, n_test: int, seed: int
):
    split = split_posters(catalogue, n_val, n_test, seed)
    assert {name: len(rows) for name, rows in split.parts().items()} == {
        "train": len(catalogue) - n_val - n_test,
        "val": n_val,
        "test": n_test,
    }
    together = np.concatenate([split.train, split.val, split.test])
    assert np.array_equal(np.sort(together), np.arange(len(catalogue)))
    for rows in split.parts().values():
        assert rows.dtype == np.int64
        assert (np.diff(rows) > 0).all()
        assert catalogue.targets[rows].any(axis=0).all()


@settings(max_examples=30, deadline=None)
@given(catalogue=catalogues, seed=seeds, shuffle=seeds)
def test_the_split_ignores_row_order_and_the_global_random_state(catalogue: Catalogue, seed: int, shuffle: int):
    split = split_posters(catalogue, 0.2, 0.2, seed)
    np.random.seed(shuffle)  # noqa: NPY002  the global state is what is tested
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    shuffled = catalogue.take(np.random.default_rng(shuffle).permutation(len(catalogue)))
    again = split_posters(shuffled, 0.2, 0.2, seed)
    assert ids_in(again, shuffled) == ids_in(split, catalogue)
    assert again.fingerprint(shuffled.ids) == split.fingerprint(catalogue.ids)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@st.composite
def grouped_catalogues(draw: st.DrawFn) -> tuple[Catalogue, Groups]:
    """Posters in groups of 1 to 8, most of the groups of one."""
    catalogue = draw(catalogues)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    shared = draw(st.floats(0.0, 0.4))
    sizes = np.where(rng.random(len(catalogue)) < shared, rng.integers(2, 9, len(catalogue)), 1)
    numbers = rng.permutation(np.repeat(np.arange(len(sizes)), sizes)[: len(catalogue)])
    return catalogue, group_posters(len(catalogue), [linked_by_value("column", numbers.astype(str).tolist())])


@settings(max_examples=60, deadline=None)
@given(drawn_groups=grouped_catalogues(), seed=seeds, shuffle=seeds)
def test_no_group_is_in_two_parts_and_sizes_hold(drawn_groups: tuple[Catalogue, Groups], seed: int, shuffle: int):
    catalogue, groups = drawn_groups
    try:
        split = split_posters(catalogue, 0.2, 0.2, seed, groups)
    except DataError:  # a rare label in too few groups, or parts too small to show all labels
        reject()
    together = np.concatenate([split.train, split.val, split.test])
    assert np.array_equal(np.sort(together), np.arange(len(catalogue)))
    part_of = np.empty(len(catalogue), dtype=int)
    for at, rows in enumerate(split.parts().values()):
        part_of[rows] = at
    assert all(len(set(part_of[group.rows].tolist())) == 1 for group in groups.shared)
    asked = n_posters_of(0.2, len(catalogue))
    for name, size in (("train", len(catalogue) - 2 * asked), ("val", asked), ("test", asked)):
        assert abs(len(split.parts()[name]) - size) <= max(1, 0.01 * size)
    order = np.random.default_rng(shuffle).permutation(len(catalogue))
    numbers = groups.of_poster[order].astype(str).tolist()
    shuffled = catalogue.take(order)
    again = split_posters(shuffled, 0.2, 0.2, seed, group_posters(len(order), [linked_by_value("column", numbers)]))
    assert ids_in(again, shuffled) == ids_in(split, catalogue)


@pytest.mark.parametrize("size", [2, 3, 5, 7])
def test_groups_of_one_size_come_as_near_as_they_can(size: int):
    catalogue = drawn(840, np.array([0.4, 0.3, 0.1]))
    numbers = [str(row // size) for row in range(840)]
    split = split_posters(catalogue, 100, 0.1, 0, group_posters(840, [linked_by_value("column", numbers)]))
    assert abs(len(split.val) - 100) < size
    assert abs(len(split.test) - 84) < size


def test_a_label_in_too_few_groups_is_named_with_the_cure():
    catalogue = drawn(90, np.array([0.4, 0.3, 0.0]))  # three posters of the last label
    rows = np.flatnonzero(catalogue.targets[:, 2])
    pair = Links("title", rows[:2].reshape(1, 2))
    with pytest.raises(DataError, match=r"3 groups at least.*'label 2' in 2: .*--grouping none"):
        split_posters(catalogue, 0.2, 0.2, 0, group_posters(90, [pair]))


def test_folds_are_even_and_hold_whole_groups():
    catalogue = drawn(203, np.array([0.4, 0.3, 0.1]))
    groups = np.arange(203) // 2 * 7  # any numbers will do
    folds = deal_folds(catalogue.targets, groups, 5, seed=0)
    assert sorted(np.bincount(folds).tolist()) in ([40, 40, 41, 41, 41], [40, 40, 40, 41, 42])
    assert all(len(set(folds[groups == number].tolist())) == 1 for number in set(groups.tolist()))
    assert np.array_equal(folds, deal_folds(catalogue.targets, groups, 5, seed=0))


def test_another_seed_is_another_split():
    catalogue = drawn(200, np.array([0.4, 0.2]))
    prints = {split_posters(catalogue, 0.1, 0.1, seed).fingerprint(catalogue.ids) for seed in range(5)}
    assert len(prints) == 5


@pytest.mark.parametrize("seed", range(3))
def test_labels_are_far_more_even_than_in_a_random_split(seed: int):
    catalogue = drawn(1500, np.array([0.45, 0.3, 0.15, 0.08, 0.04, 0.01]), seed)
    names = catalogue.label_names
    stratified = distribution(split_posters(catalogue, 0.1, 150, seed), catalogue.targets, names)
    random = distribution(random_split(1500, stratified.sizes, seed), catalogue.targets, names)
    assert stratified.sizes == random.sizes == {"train": 1200, "val": 150, "test": 150}
    assert stratified.largest_deviation < random.largest_deviation / 3
    assert stratified.largest_deviation <= 1 / 150  # within one poster of even


def test_real_posters_are_split_evenly(shared_data: Path):
    catalogue, _ = read_catalogue(shared_data / "movie-posters" / "movies.csv", None)
    split = split_posters(catalogue, 1000, 1000, seed=0)
    assert (len(split.train), len(split.val), len(split.test)) == (4181, 1000, 1000)
    assert distribution(split, catalogue.targets, catalogue.label_names).largest_deviation < 0.002


def test_rare_labels_are_shown_by_every_part(shared_data: Path):
    rules = CatalogueRules(top_labels=23)  # down to 'News' with 18 posters
    catalogue, _ = read_catalogue(shared_data / "movie-posters" / "movies.csv", None, rules)
    split = split_posters(catalogue, 0.02, 0.02, seed=0)
    assert all(catalogue.targets[rows].any(axis=0).all() for rows in split.parts().values())


def test_posters_without_any_label_are_split_too():
    catalogue = drawn(100, np.array([0.0, 0.1]))
    assert not catalogue.targets.any(axis=1).all()
    split = split_posters(catalogue, 20, 20, seed=0)
    assert len(split.train) == 60


def test_the_distribution_is_what_is_counted():
    targets = np.array([[1, 0], [1, 1], [0, 1], [1, 0]], dtype=bool)
    split = Split(train=np.array([0, 2]), val=np.array([1]), test=np.array([3]))
    spread = distribution(split, targets, ("Drama", "Comedy"))
    drama, comedy = spread.labels
    assert (drama.n_posters, drama.overall, drama.train, drama.val, drama.test) == (3, 0.75, 0.5, 1.0, 1.0)
    assert (drama.largest_deviation, comedy.largest_deviation) == (0.25, 0.5)
    assert spread.largest_deviation == 0.5
    assert json.loads(json.dumps(spread.as_dict()))["labels"][1]["largest_deviation"] == 0.5
    assert tuple(spread.sizes) == PARTS


@pytest.mark.parametrize(
    ("text", "size"), [("0.1", 0.1), ("1000", 1000), (0.25, 0.25), (7, 7), (" 5 ", 5), ("1e-1", 0.1)]
)
def test_sizes_are_read_as_posters_or_as_a_share(text: str | float, size: float):
    assert parse_size(text) == size
    assert type(parse_size(text)) is type(size)


@pytest.mark.parametrize("text", ["", "0", "-3", "1.0", "1.5", "10%", "nan", "inf", "many", 0, 0.0, 1.0])
def test_other_sizes_are_refused_with_the_option(text: str | float):
    with pytest.raises(UsageError, match=r"--test-size expects .* try --test-size 0\.1"):
        parse_size(text, "--test-size")


def test_a_share_is_rounded_to_one_poster_at_least():
    assert [n_posters_of(0.1, n) for n in (1, 14, 16, 6255)] == [1, 1, 2, 626]
    assert n_posters_of(40, 10) == 40


def test_sizes_that_leave_nothing_to_train_on():
    with pytest.raises(DataError, match="60 posters to validate and 40 to test on leave none of 100 to train on"):
        split_posters(drawn(100, np.array([0.4, 0.2])), 60, 0.4, seed=0)


def test_parts_too_small_to_show_every_label():
    targets = np.repeat(np.eye(5, dtype=bool), 10, axis=0)  # one label a poster, so 5 labels need 5 posters
    catalogue = Catalogue(tuple(f"p{at}" for at in range(50)), ("",) * 50, (), targets, tuple("ABCDE"))
    assert len(split_posters(catalogue, 5, 5, seed=0).val) == 5
    with pytest.raises(DataError, match=r"40 / 4 / 6 posters .*val has no '[A-E]'.*raise --val-size"):
        split_posters(catalogue, 4, 6, seed=0)
