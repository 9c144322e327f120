"""Whether a head can be trained in this machine's memory, asked before anything of it is allocated.

The head is built without memory (torch's meta device) and its parameters are counted, so the figure is exact for every
kind of head and never has to be kept in step with the code. Activations are not part of it: they shrink with the batch,
weights do not. It is the host's memory that is asked, where every head is built first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn

from hpo.errors import SpaceError
from hpo.model.hyperparameters import Hyperparameters

_COPIES = 4  # of each parameter in training: itself, its gradient and AdamW's two moments
_MEMINFO = Path("/proc/meminfo")


def check_fits_memory(build: Callable[[], Iterable[nn.Module]], chosen: Hyperparameters) -> None:
    """Raise SpaceError if training the modules that ``build`` returns needs more memory than is available."""
    needed, available = training_bytes(build), available_bytes()
    if needed > available:
        raise SpaceError(
            f"Expected a head that can be trained in the {_gigabytes(available)} of memory available, got one that "
            f"needs {_gigabytes(needed)} (width {chosen.width}, hidden_layers {chosen.hidden_layers}): lower width or "
            "hidden_layers in the search space."
        )


def training_bytes(build: Callable[[], Iterable[nn.Module]]) -> int:
    """Return the bytes that the parameters of ``build``'s modules take while AdamW trains them."""
    with torch.device("meta"):
        parameters = [parameter for module in build() for parameter in module.parameters()]
    return _COPIES * sum(parameter.numel() * parameter.element_size() for parameter in parameters)


def available_bytes() -> int:
    """Return the memory that can be had without swapping, or, where no system says, all that is built in."""
    if _MEMINFO.is_file():
        available = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(encoding="ascii"), re.MULTILINE)
        if available:
            return int(available[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
