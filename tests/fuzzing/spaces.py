"""Space files: those that ship, changed, and hostile ones made of the same words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import yaml

from hpo.model.backbones.architectures import check_known
from hpo.model.config import TrialConfig
from hpo.report.space_tables import space_account
from hpo.space.document import SHIPPED_SPACES
from hpo.space.load import load_space
from hpo.study.samplers import draw
from tests.fuzzing import mutate

_WORDS = (
    *("type", "low", "high", "step", "log", "choices", "default", "when", "float", "int", "categorical", "include"),
    *(
        "parameters",
        "recipes",
        "weights",
        "default",
        "fine_tune",
        "space.yaml",
        "other",
        "1e-5",
        "0x_",
        "1:30",
        "1e400",
    ),
    *(
        "&a",
        "*a",
        "<<: *a",
        "!!python/object:os.system",
        "!x",
        "? ",
        "- ",
        "|",
        ">",
        "%YAML 9.9",
        "---",
        "...",
        "@",
        "`",
    ),
    *(
        "{}",
        "[]",
        "{a: {",
        "[[[[[[[[[[[[[[[",
        ".inf",
        ".nan",
        "~",
        "0o7",
        "2001-01-01",
        "yes",
        "efficientnet_b0+resnet18",
    ),
)


def _lines(rng: Random, text: str) -> str:
    lines = text.split("\n")
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(lines))
        key, colon, _ = lines[at].partition(":")
        changes: tuple[list[str], ...] = (
            [],
            [lines[at]] * 2,
            [" " * rng.choice((1, 2, 4)) + lines[at]],
            [lines[at].strip()],
            [f"{key}{colon} {rng.choice(_WORDS)}"],
            [f"{key}{colon} {json.dumps(mutate.value(rng))}"],
            [lines[at].replace(key.strip() or "#", rng.choice((*TrialConfig.model_fields, *_WORDS)), 1)],
            [lines[at], lines[rng.randrange(len(lines))]],
        )
        lines[at : at + 1] = rng.choice(changes)
        lines = lines or [""]
    return "\n".join(lines)


def _parameter(rng: Random) -> Any:
    if rng.random() < 0.2:
        return mutate.value(rng)
    kind = rng.choice(("float", "int", "categorical", "bool", "Float", 7))
    written: dict[str, Any] = {"type": kind}
    for word in rng.sample(("low", "high", "step", "log", "choices", "default", "when"), rng.randint(1, 5)):
        written[word] = rng.choice(
            (
                rng.choice((0, 1, 5, 64, 0.1, 1e-5, 1e9)),
                mutate.value(rng),
                [mutate.value(rng, 0) for _ in range(3)],
                {rng.choice(list(TrialConfig.model_fields)): mutate.value(rng, 1)},
            )
        )
    return written


def _grammar(rng: Random) -> str:
    names = list(TrialConfig.model_fields)
    document: dict[Any, Any] = {}
    if rng.random() < 0.9:
        odd = rng.choice(mutate.TEXTS)
        document["include"] = rng.choice((*["default"] * 9, ["default", "fine_tune"], "space.yaml", odd))
    words = (*names, rng.choice(mutate.TEXTS))
    document["parameters"] = {rng.choice(words): _parameter(rng) for _ in range(rng.choice((1, 1, 3)))}
    if rng.random() < 0.5:
        document["recipes"] = {
            rng.choice(("a", *mutate.TEXTS)): rng.choice((None, {rng.choice(names): mutate.value(rng)}))
            for _ in range(2)
        }
    if rng.random() < 0.3:
        document["weights"] = {rng.choice(("resnet18", *mutate.TEXTS)): mutate.value(rng)}
    return yaml.safe_dump(document, allow_unicode=rng.random() < 0.5, sort_keys=False)


def prepare(folder: Path) -> Callable[[Random], object]:
    """Load a space, explain it and draw from it, as `hpo space` does."""
    shipped = [file.read_text() for file in sorted(SHIPPED_SPACES.glob("*.yaml"))]
    path = folder / "space.yaml"

    def attempt(rng: Random) -> None:
        content = (_grammar(rng) if rng.random() < 0.5 else _lines(rng, rng.choice(shipped))).encode()
        path.write_bytes(mutate.bytes_of(rng, content) if rng.random() < 0.2 else content)
        space = load_space(path, check_known)
        samples = draw(space, 3, 0)
        json.dumps(space_account(space, samples), allow_nan=False)

    return attempt
