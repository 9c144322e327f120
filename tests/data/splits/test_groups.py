from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.data.splits.groups import Groups, Links, group_posters, linked_by_value, linked_sets

N = 12
edges = st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), max_size=15)


def links(reason: str, pairs: list[tuple[int, int]]) -> Links:
    return Links(reason, np.array(pairs, dtype=np.int64).reshape(-1, 2))


def partition(groups: Groups) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups.of_poster == number).tolist()) for number in range(len(groups))}


def reachable(start: int, pairs: list[tuple[int, int]]) -> frozenset[int]:
    """What a walk along the pairs reaches: the slow definition of a group."""
    seen = {start}
    while grown := {there for pair in pairs for there in pair if seen & set(pair)} - seen:
        seen |= grown
    return frozenset(seen)


@given(edges, edges)
def test_a_group_is_what_links_reach_whatever_their_reason(some, others):
    groups = group_posters(N, [links("title", some), links("poster", others)])
    assert partition(groups) == {reachable(row, some + others) for row in range(N)}


@given(edges, st.permutations(range(N)))
def test_permuted_posters_give_permuted_groups(pairs, order):
    moved = [(order[a], order[b]) for a, b in pairs]
    expected = {frozenset(order[row] for row in rows) for rows in partition(group_posters(N, [links("title", pairs)]))}
    assert partition(group_posters(N, [links("title", moved)])) == expected


@given(edges)
def test_groups_are_numbered_by_their_first_poster(pairs):
    of_poster = group_posters(N, [links("title", pairs)]).of_poster
    first_seen = list(dict.fromkeys(of_poster.tolist()))
    assert first_seen == list(range(len(first_seen)))


def test_without_links_every_poster_is_on_its_own():
    groups = group_posters(3, [])
    assert groups.of_poster.tolist() == [0, 1, 2]
    assert groups.shared == ()
    assert len(group_posters(0, [])) == 0


def test_a_report_tells_who_is_together_and_why():
    groups = group_posters(
        8,
        [links("title", [(5, 2), (2, 7)]), links("poster", [(0, 3), (7, 5)]), links("poster", []), links("column", [])],
    )
    assert [(group.rows.tolist(), group.reasons) for group in groups.shared] == [
        ([2, 5, 7], ("title", "poster")),
        ([0, 3], ("poster",)),
    ]
    assert groups.n_shared_posters == 5
    assert groups.posters_by_reason() == {"title": 3, "poster": 4, "column": 0}


@given(st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=10))
def test_equal_values_are_linked_and_empty_ones_are_not(values):
    groups = group_posters(len(values), [linked_by_value("column", values)])
    together = groups.of_poster[:, None] == groups.of_poster
    equal = np.array([[a == b != "" for b in values] for a in values], dtype=bool).reshape(together.shape)
    assert np.array_equal(together, equal | np.eye(len(values), dtype=bool))


@pytest.mark.parametrize(("sets", "n_pairs"), [([], 0), ([[3]], 0), ([[1, 2, 3], [5, 4]], 3)])
def test_a_chain_through_a_set_is_enough(sets, n_pairs):
    assert linked_sets("title", sets).pairs.shape == (n_pairs, 2)
