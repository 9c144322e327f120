"""The calls between ``hpo search`` and the training step: one small search of the drawn sample, its stack as it trains.

python -m benchmarks.frames        (make structure)
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

from typer.testing import CliRunner

from benchmarks.machine import ROOT
from hpo.cli.app import app
from hpo.model.training import loop

SPACE = """
include: default
parameters: {backbone: test_resnet, image_size: 64, hidden_layers: 0, epochs: 1, patience: 1}
weights: {test_resnet: random}
recipes: null
"""
_PACKAGE = ROOT / "hpo"


def stack_of_a_training_step() -> list[str]:
    """Return the functions of hpo between the command and the step, outermost first, as ``file:function``."""
    train_step, stack = loop._Training.train_step, list[str]()

    def remember(training: loop._Training, *args: Any) -> object:
        frame: FrameType | None = sys._getframe(1)
        if not stack:
            while frame is not None:
                if Path(frame.f_code.co_filename).is_relative_to(_PACKAGE):
                    stack.append(_named(frame.f_code.co_filename, frame.f_code.co_qualname))
                frame = frame.f_back
        return train_step(training, *args)

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("space.yaml").write_text(SPACE, encoding="utf-8")
        with patch.object(loop._Training, "train_step", remember):
            run("data", "sample", "sample", "--posters", "100")
            run(
                "search", "--data", "sample/anime.csv", "--space", "space.yaml", "--trials", "1", "--folds", "1",
                "--no-confirm", "--cache-dir", "cache",
            )  # fmt: skip
    return [*stack[::-1], _named(loop.__file__, train_step.__qualname__)]


def run(*words: str) -> None:
    """Run a command of hpo in this process. Raises what it raises."""
    CliRunner().invoke(app, words, catch_exceptions=False)


def _named(file: str, function: str) -> str:
    return f"{Path(file).relative_to(ROOT)}:{function}"


def main() -> None:
    """Print the number of calls, and each of them."""
    stack = stack_of_a_training_step()
    below_the_command = [name for name in stack if not name.startswith("hpo/cli/arguments.py")]  # Typer's hook
    print(f"calls to a step        {len(below_the_command)}")
    print("\n".join(f"  {name}" for name in below_the_command))


if __name__ == "__main__":
    main()
