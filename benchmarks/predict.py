"""What a bundle's answers cost: `python -m benchmarks.predict BUNDLE`, a bundle with an ONNX graph.

A thousand posters through ``hpo predict`` beside the bare graph on posters that are decoded already, and the time from
the shell to the first answer, with the graph and with PyTorch.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import log, shared_posters
from hpo.bundle.description import load_description, write_description
from hpo.bundle.predictor import Predictor
from hpo.data.decoding import decode
from hpo.model.batches import graph_forward

POSTERS, REPEATS = 1000, 3


def main() -> None:
    """Measure and log."""
    bundle = Path(sys.argv[1])
    posters = sorted((shared_posters("movie-posters")[1]).iterdir())[:POSTERS]
    predictor = Predictor.load(bundle)
    images = [np.stack([decode(poster, framing) for poster in posters]) for framing in predictor.framings]
    forward = graph_forward(bundle / "model.onnx")
    bare, ours = [], []
    for _ in range(REPEATS):
        bare.append(_seconds(lambda: forward.over(images)))
        ours.append(_seconds(lambda: predictor.predict(posters)))
    per_second = [POSTERS / statistics.median(each) for each in (ours, bare)]
    by_graph, by_pytorch = _from_the_shell(bundle, posters[0]), _by_pytorch(bundle, posters[0])
    n_heads = len(predictor.description.members) or 1
    lines = [
        f"- {predictor.description.backbone}, {n_heads} heads, {POSTERS:,} posters: `predict` {per_second[0]:.0f} a "
        f"second from files, the bare graph {per_second[1]:.0f} from arrays; ours : bare = "
        f"{per_second[0] / per_second[1]:.2f} (0.8 is the goal)",
        f"- from the shell to one answer: {by_graph:.2f} s by the graph (1.5 s is the goal), {by_pytorch:.2f} s by "
        "PyTorch (4 s is the goal)",
    ]
    log("predict", "python -m benchmarks.predict BUNDLE", lines)


def _seconds(act) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _from_the_shell(bundle: Path, poster: Path) -> float:
    words = [sys.executable, "-m", "hpo", "predict", str(bundle), str(poster), "--json"]
    return statistics.median(
        _seconds(lambda: subprocess.run(words, check=True, capture_output=True)) for _ in range(REPEATS)
    )


def _by_pytorch(bundle: Path, poster: Path) -> float:
    """The same bundle as if no graph had been asked for."""
    with tempfile.TemporaryDirectory() as folder:
        plain = shutil.copytree(bundle, Path(folder) / "plain", ignore=shutil.ignore_patterns("model.onnx"))
        write_description(plain, load_description(plain).model_copy(update={"onnx": None}))
        return _from_the_shell(plain, poster)


if __name__ == "__main__":
    main()
