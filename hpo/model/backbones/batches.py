"""Run a network over posters in batches, and an ONNX graph as such a network, without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

import numpy as np
import onnxruntime

from hpo.runtime.atomic import Array
from hpo.runtime.progress import ProgressFn, n_cores

BATCH_ON_CPU = 8  # larger batches are no faster there and cost memory (3 GB at 64 posters of 224 px)


@dataclass(frozen=True)
class Forward:
    """A network as a function of posters: uint8 (B, H, W, 3), one for each of its inputs → float32 (B, ...)."""

    run: Callable[..., Array]
    batch_posters: int
    at_once: int = 1  # how many calls the machine runs side by side

    def over(
        self, images: Array | Sequence[Array], progress: ProgressFn = lambda _: None, *, full_batches: bool = False
    ) -> Array:
        """Run over ``images`` (N, H, W, 3), or one of them for each input, in batches and return float32 (N, ...).

        A matrix product rounds differently in a smaller batch. With ``full_batches`` the last batch is filled up with
        repeats, so that a poster's row is the same to the last bit whichever posters run beside it.
        """
        inputs = [images] if isinstance(images, np.ndarray) else images
        starts = range(0, len(inputs[0]), self.batch_posters)

        def one(start: int) -> Array:
            batch = [posters[start : start + self.batch_posters] for posters in inputs]
            n_posters = len(batch[0])
            if full_batches:
                batch = [np.resize(posters, (self.batch_posters, *posters.shape[1:])) for posters in batch]
            rows = self.run(*batch)[:n_posters]
            progress(n_posters)
            return rows

        with ThreadPoolExecutor(self.at_once) as pool:
            return np.concatenate(list(pool.map(one, starts)))


def graph_forward(graph: Path | bytes, most_seconds: float | None = None) -> Forward:
    """Return an ONNX graph as a function of posters: one thread a batch, as many batches as cores.

    The content of a file alone has no folder, from which further files could be read. A batch is stopped after
    ``most_seconds``. Raises what ONNX Runtime raises for what is no graph.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised as well
    session = onnxruntime.InferenceSession(
        graph if isinstance(graph, bytes) else str(graph), options, providers=["CPUExecutionProvider"]
    )

    def run(*images: Array) -> Array:
        running = onnxruntime.RunOptions()
        limit = None if most_seconds is None else Timer(most_seconds, setattr, (running, "terminate", True))
        if limit is not None:
            limit.daemon = True
            limit.start()
        try:
            inputs = {input_name(at): posters for at, posters in enumerate(images)}
            return session.run(None, inputs, running)[0]  # type: ignore[no-any-return]
        finally:
            if limit is not None:
                limit.cancel()

    return Forward(run, BATCH_ON_CPU, n_cores())


def input_name(at: int) -> str:
    """Name the graph's input for the backbone ``at``."""
    return f"images_{at}"
