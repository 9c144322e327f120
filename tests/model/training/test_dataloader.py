from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpo.data.images import Posters
from hpo.model.training.dataloader import Examples, StoredRows, joined

N_VIEWS = 3


def named(*numbers: int) -> Posters:
    return Posters(tuple(Path(str(n)) for n in numbers), tuple(bytes([n]) for n in numbers))


def seen(view: int):
    """A cache whose rows say which poster they are of, and in which view: float16 (N, 2)."""
    return lambda posters: np.array([[view, digest[0]] for digest in posters.digests], np.float16)


def examples_of(*numbers: int) -> Examples:
    """Posters whose features and stored rows are (view, number)."""
    stored = StoredRows(named(*numbers), tuple(seen(view) for view in range(N_VIEWS)))
    return Examples(len(numbers), stored.take(np.arange(N_VIEWS * len(numbers))).float(), (stored,))


def pairs(examples: Examples, rows: Sequence[int]) -> list[tuple[int, int]]:
    """The (view, number) of each row, upon which features and stored rows agree."""
    features, stored = examples.take(torch.tensor(rows))
    assert torch.equal(features, stored.float())
    return [(int(view), int(number)) for view, number in features]


@given(st.lists(st.integers(0, 3 * N_VIEWS - 1), min_size=1))
def test_a_row_is_a_poster_in_a_view(rows):
    numbers = (7, 8, 9)
    expected = [(row // 3, numbers[row % 3]) for row in rows]
    assert pairs(examples_of(*numbers), rows) == expected


def test_stored_rows_keep_their_type():
    assert examples_of(1, 2).stored[0].take(np.array([0, 3])).dtype is torch.float16


def test_no_row_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        examples_of(1).stored[0].take(np.empty(0, int))


def test_a_view_that_no_row_is_of_is_not_read():
    def never(_: Posters) -> np.ndarray:
        raise AssertionError

    stored = StoredRows(named(4, 5), (seen(0), never))
    assert stored.take(np.array([1, 0])).tolist() == [[0, 5], [0, 4]]


def test_selected_posters_keep_all_of_their_views():
    some = examples_of(5, 6, 7, 8).select(torch.tensor([3, 1]))
    assert (some.n_posters, some.n_views) == (2, N_VIEWS)
    assert pairs(some, range(6)) == [(0, 8), (0, 6), (1, 8), (1, 6), (2, 8), (2, 6)]


def test_first_views_are_the_first_rows():
    first = examples_of(5, 6).first_views(2)
    assert first.n_views == 2
    assert pairs(first, range(4)) == [(0, 5), (0, 6), (1, 5), (1, 6)]


def test_other_features_of_the_same_posters():
    doubled = examples_of(5, 6).with_features(2 * examples_of(5, 6).features)
    features, stored = doubled.take(torch.tensor([1]))
    assert (features.tolist(), stored.tolist()) == ([[0, 12]], [[0, 6]])


@given(st.integers(1, 4), st.integers(1, 4))
def test_joined_posters_lie_beside_each_other_in_every_view(n_first, n_second):
    numbers = tuple(range(n_first + n_second))
    both = joined(examples_of(*numbers[:n_first]), examples_of(*numbers[n_first:]))
    assert pairs(both, range(N_VIEWS * len(numbers))) == [(view, n) for view in range(N_VIEWS) for n in numbers]


def test_batches_come_in_order_with_the_next_one_read_meanwhile():
    read: list[int] = []
    second_was_read = threading.Event()

    def load(posters: Posters) -> np.ndarray:
        read.append(posters.digests[0][0])
        if len(read) == 2:
            second_was_read.set()
        return np.zeros((len(posters), 1), np.float16)

    examples = Examples(4, torch.arange(4.0)[:, None], (StoredRows(named(0, 1, 2, 3), (load,)),))
    batches = list(torch.tensor([2, 0, 3, 1]).split(1))
    taken = examples.batches(batches)
    rows, (features, _) = next(taken)
    assert second_was_read.wait(120)  # although it was not requested
    assert (rows.tolist(), features.tolist()) == ([2], [[2.0]])
    assert [rows.tolist() for rows, _ in taken] == [[0], [3], [1]]
    assert read == [2, 0, 3, 1]


def test_features_alone_are_batches_too():
    examples = Examples(4, torch.arange(4.0)[:, None])
    taken = [
        (rows.tolist(), [tensor.tolist() for tensor in inputs])
        for rows, inputs in examples.batches(torch.tensor([[2, 0]]))
    ]
    assert taken == [([2, 0], [[[2.0], [0.0]]])]
