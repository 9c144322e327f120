"""A little hostile input for every reader, the same on every run; `benchmarks/fuzz.py` tries much more."""

from __future__ import annotations

import pytest

from tests.fuzzing.harness import TARGETS, run

INPUTS = {"tables": 100, "parquet": 100, "spaces": 80, "images": 150, "bundles": 50, "arguments": 60}


@pytest.mark.parametrize("target", TARGETS)
def test_hostile_input_is_accepted_or_refused_in_one_sentence(target):
    counts = run(target, INPUTS[target], seed=0)
    told = [f"{found['index']}: {found['kind']}\n{found['text']}" for found in counts.findings]
    assert told == [], "\n\n".join(told)
    assert counts.inputs == INPUTS[target]
    assert counts.accepted > 0, "no input came through: the target tries nothing but one refusal"
    assert counts.refused > 0
