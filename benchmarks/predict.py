"""What a bundle's answers cost: `python -m benchmarks.predict [BUNDLE]`, a bundle with an ONNX graph.

Without one, a search of ten trials of the movie posters makes one, an ensemble.

A thousand posters through ``hpo predict`` beside the bare graph on posters that are decoded already, the time from the
shell to the first answer, with the graph and with PyTorch, what loading takes besides importing PyTorch, and the peak
memory of ``hpo predict`` on many posters.
"""

from __future__ import annotations

import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.machine import log, shared_posters
from hpo.bundle.description import load_description, write_description
from hpo.bundle.predictor import Predictor
from hpo.data.decoding import decode
from hpo.model.backbones.batches import graph_forward

POSTERS, REPEATS = 1000, 3
HPO = [sys.executable, "-m", "hpo"]
MANY = (1_000, 4_000)  # names of posters on stdin
LOADING = """
import time
import torch
started = time.perf_counter()
from pathlib import Path
from hpo.bundle.predictor import Predictor
Predictor.load(Path({bundle!r}), graph=False)
print(time.perf_counter() - started)
"""
# A process counts as its own peak what its parent held when it began, so the parent is a small one.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def main() -> None:
    """Measure and log."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(sys.argv[1]) if len(sys.argv) > 1 else _made(Path(folder))
        lines = _measured(bundle)
    log("predict", shlex.join(["python", "-m", "benchmarks.predict", *(["BUNDLE"] * (len(sys.argv) > 1))]), lines)


def _made(folder: Path) -> Path:
    csv, images = shared_posters("movie-posters")
    search = ["search", "--data", f"{csv}", "--images", f"{images}", "--trials", "10", "--no-confirm"]
    for words in (search, ["export-best", "--ensemble", "--onnx", "--out", "bundle"]):
        subprocess.run([*HPO, *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder / "bundle"


def _measured(bundle: Path) -> list[str]:
    posters = sorted(shared_posters("movie-posters")[1].iterdir())[:POSTERS]
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
    return [
        f"- {predictor.description.backbone}, {n_heads} heads, {POSTERS:,} posters: `predict` {per_second[0]:.0f} a "
        f"second from files, the bare graph {per_second[1]:.0f} from arrays; ours : bare = "
        f"{per_second[0] / per_second[1]:.2f} (0.8 is the goal)",
        f"- from the shell to one answer: {by_graph:.2f} s by the graph (1.5 s is the goal), {by_pytorch:.2f} s by "
        "PyTorch (4 s is the goal)",
        f"- `hpo.load` of its network takes {_loading(bundle):.2f} s besides `import torch` (2 s is the goal)",
        f"- peak memory of `hpo predict - --jsonl`: {_peaks(bundle, posters)}",
    ]


def _seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _from_the_shell(bundle: Path, poster: Path) -> float:
    words = [*HPO, "predict", str(bundle), str(poster), "--json"]
    return statistics.median(
        _seconds(lambda: subprocess.run(words, check=True, capture_output=True)) for _ in range(REPEATS)
    )


def _loading(bundle: Path) -> float:
    words = [sys.executable, "-c", LOADING.format(bundle=str(bundle))]
    return statistics.median(
        float(subprocess.run(words, check=True, capture_output=True, text=True).stdout) for _ in range(5)
    )


def _peaks(bundle: Path, posters: list[Path]) -> str:
    return ", ".join(f"{_peak_megabytes(bundle, posters, n):.0f} MB on {n:,} posters" for n in MANY)


def _peak_megabytes(bundle: Path, posters: list[Path], n_posters: int) -> float:
    names = "".join(f"{posters[at % len(posters)]}\n" for at in range(n_posters))
    words = [sys.executable, "-c", PEAK, *HPO, "predict", str(bundle), "-", "--jsonl"]
    return int(subprocess.run(words, check=True, input=names, capture_output=True, text=True).stdout) / 1000


def _by_pytorch(bundle: Path, poster: Path) -> float:
    """The same bundle as if no graph had been asked for."""
    with tempfile.TemporaryDirectory() as folder:
        plain = shutil.copytree(bundle, Path(folder) / "plain", ignore=shutil.ignore_patterns("model.onnx"))
        write_description(plain, load_description(plain).model_copy(update={"onnx": None}))
        return _from_the_shell(plain, poster)


if __name__ == "__main__":
    main()
