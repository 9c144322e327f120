"""Code version: a digest of the sources that a trial's value depends on."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from pathlib import Path

import hpo

_DECIDING = (
    "data",
    "model",
    "evaluation",
    "trial/cross_validation.py",
    "trial/objective.py",
    "trial/features.py",
    "trial/trial.py",
)


@cache
def code_version() -> str:
    """Return the version of hpo and a digest of the sources that a trial's value depends on."""
    root, digest = Path(str(hpo.__file__)).parent, blake2b(digest_size=6)
    for name in _DECIDING:
        files = [root / name] if name.endswith(".py") else sorted((root / name).rglob("*.py"))
        for file in files:
            digest.update(f"{file.relative_to(root)}".encode() + file.read_bytes())
    return f"{hpo.__version__} ({digest.hexdigest()})"
