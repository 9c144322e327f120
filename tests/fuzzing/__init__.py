"""Hostile input for hpo: the tests run a little of it with a fixed seed, `benchmarks/fuzz.py` much more.

A target's ``prepare(folder)`` returns ``attempt(rng)``, which makes one input and gives it to hpo. It may succeed, or
raise an HpoError of one sentence; whatever else happens is a finding (``harness.py``).
"""
