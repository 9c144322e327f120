"""Counting against listing, and two spaces side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.space.comparison import compare
from hpo.space.counting import count_combinations, meeting_values
from hpo.space.load import load_space
from hpo.space.parameters import Categorical, Float, Integer, Parameter
from hpo.space.schema import Scalar
from hpo.space.space import SearchSpace

NAMES = ("width", "crops", "augment_strength", "finetune_epochs", "batch_size")


def a_space(searched: dict[str, Parameter], fixed: dict[str, Scalar] | None = None) -> SearchSpace:
    return SearchSpace("drawn", searched, fixed or {}, {}, {})


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Five small integers; each may depend on some of those above it, on values that they may not even have."""
    searched: dict[str, Parameter] = {}
    for name in NAMES:
        conditions = st.dictionaries(
            st.sampled_from([*searched, "epochs"]), st.lists(st.integers(1, 4), min_size=1, max_size=3), max_size=2
        )
        low, width = draw(st.integers(1, 2)), draw(st.integers(0, 2))
        searched[name] = Integer(type="int", low=low, high=low + width, when=draw(conditions))
    return a_space(searched, {"epochs": 2})


def every_configuration(space: SearchSpace) -> Iterator[dict[str, Scalar]]:
    def descend(names: list[str], chosen: dict[str, Scalar]) -> Iterator[dict[str, Scalar]]:
        if not names:
            yield chosen
        elif space.searched[names[0]].applies({**space.fixed, **chosen}):
            for value in space.searched[names[0]].values() or []:
                yield from descend(names[1:], {**chosen, names[0]: value})
        else:
            yield from descend(names[1:], chosen)

    return descend([*space.searched], {})


@given(spaces())
@settings(max_examples=60, deadline=None)
def test_the_count_is_that_of_listing_them_all(space):
    assert count_combinations(space).discrete == len(list(every_configuration(space)))


@given(spaces())
@settings(max_examples=30, deadline=None)
def test_values_meet_where_some_configuration_has_both(space):
    met = {(values["width"], values["crops"]) for values in meeting_values(space, ("width", "crops"))}
    assert met == {(chosen.get("width", 256), chosen.get("crops", 0)) for chosen in every_configuration(space)}


def test_continuous_parameters_are_counted_apart():
    space = a_space(
        {
            "dropout": Float(type="float", low=0.0, high=0.5, step=0.1),
            "l1": Float(type="float", low=0.0, high=1.0),
            "norm": Categorical(type="categorical", choices=["none", "batch"]),
            "width": Integer(type="int", low=8, high=8192),
        }
    )
    assert f"{count_combinations(space)}" == "98,220 × 1 continuous"
    assert (count_combinations(space).discrete, count_combinations(space).continuous) == (6 * 2 * 8185, 1)


def test_two_equal_spaces_do_not_differ():
    default = load_space(Path("default"))
    difference = compare(default, default)
    assert (difference.parameters, difference.recipes, difference.weights) == ({}, {}, {})
    assert difference.same_study


def test_a_difference_names_what_is_only_in_one_and_what_changed():
    wide = Integer(type="int", low=8, high=512)
    narrow = Integer(type="int", low=8, high=64, when={"crops": [0]})
    first = SearchSpace("a", {"width": wide}, {"epochs": 5, "crops": 0}, {"r": {"width": 8}}, {})
    second = SearchSpace("b", {"width": narrow}, {"epochs": 5, "patience": 3}, {}, {"resnet18": "hub"})
    difference = compare(first, second)
    assert difference.parameters == {
        "width": {"first": wide, "second": narrow},
        "crops": {"first": 0},
        "patience": {"second": 3},
    }
    assert difference.recipes == {"r": {"first": {"width": 8}}}
    assert difference.weights == {"resnet18": {"second": "hub"}}
    assert not difference.same_study
