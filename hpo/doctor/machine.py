"""Check cores, memory and GPUs against the planned workers.

A container sees the whole machine's cores and memory, and is stopped at the limits of its control group: ``cpu.max``
and ``memory.max`` (version 2), ``cfs_quota_us`` and ``limit_in_bytes`` (version 1), its own or of any group above it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from hpo.doctor.footprint import forecast
from hpo.doctor.result import CheckResult, PlannedSearch, gigabytes, ok, problem, warning
from hpo.runtime.progress import n_cores

_WORKER_BYTES = 1.1e9  # PyTorch, timm, Optuna and MLflow loaded, with a small backbone
_COPIES = 2  # of the features: as they are read, and standardised
_UNLIMITED = 2**60  # version 1 has no word for it, only a very large number


@dataclass(frozen=True)
class ControlGroup:
    """The limits that hold for this process: ``root`` is where they are mounted, ``membership`` lists its groups."""

    root: Path = Path("/sys/fs/cgroup")
    membership: Path = Path("/proc/self/cgroup")

    def cores(self) -> float | None:
        """Return how many cores may be used at once; None without a limit."""
        limits = [
            float(quota) / float(period)
            for quota, period in (*self._pairs("", "cpu.max"), *self._quotas())
            if quota != "max" and float(quota) > 0
        ]
        return min(limits, default=None)

    def _pairs(self, controller: str, file: str) -> Iterator[tuple[str, str]]:
        for folder in self._folders(controller):
            if (folder / file).is_file():
                first, second = (folder / file).read_text(encoding="ascii").split()
                yield first, second

    def _quotas(self) -> Iterator[tuple[str, str]]:
        for folder in self._folders("cpu"):
            quota, period = folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"
            if quota.is_file() and period.is_file():
                yield quota.read_text(encoding="ascii").strip(), period.read_text(encoding="ascii").strip()

    def memory(self) -> int | None:
        """Return the bytes that may still be taken; None without a limit. Files in memory count as free."""
        names = (("", "memory.max", "memory.current"), ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"))
        left = [
            int(limit) - int((folder / used).read_text(encoding="ascii")) + _inactive_file_bytes(folder)
            for controller, most, used in names
            for folder in self._folders(controller)
            if (folder / most).is_file() and (folder / used).is_file()
            if (limit := (folder / most).read_text(encoding="ascii").strip()) != "max" and int(limit) < _UNLIMITED
        ]
        return max(0, min(left)) if left else None

    def _folders(self, controller: str) -> Iterator[Path]:
        """Yield the groups of this process and those above them; ``controller`` is empty for version 2.

        Inside a container the paths are the host's and not to be seen, and only the root is left.
        """
        top = self.root / controller
        for line in self.membership.read_text(encoding="utf-8").splitlines() if self.membership.is_file() else []:
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                here = Path(path.lstrip("/"))
                yield from (top / place for place in (here, *here.parents))
                return


def _inactive_file_bytes(folder: Path) -> int:
    file = folder / "memory.stat"
    found = re.search(r"^inactive_file (\d+)$", file.read_text(encoding="ascii"), re.M) if file.is_file() else None
    return int(found[1]) if found else 0


def check_cores(plan: PlannedSearch, group: ControlGroup | None = None) -> CheckResult:
    """Say whether every worker has a core."""
    limit = (group or ControlGroup()).cores()
    cores = n_cores()
    usable = min(cores, limit or cores)
    allowed = f"{usable:g} cores" if usable == cores else f"{usable:g} of {cores} cores, by the container's limit"
    if plan.workers > max(1, usable):
        message = f"{allowed} for {plan.workers} workers, which take turns and gain nothing"
        return warning("cores", message, f"use --workers {max(1, int(usable))}")
    if limit is not None and limit < cores and not _limits_threads(usable):
        message = f"{allowed}, and PyTorch would start {cores} threads on them"
        return warning("cores", message, f"set OMP_NUM_THREADS={max(1, int(usable))}")
    return ok("cores", f"{allowed} for {_counted(plan.workers)}")


def _limits_threads(cores: float) -> bool:
    n_threads = os.environ.get("OMP_NUM_THREADS", "")
    return n_threads.isdecimal() and int(n_threads) <= max(1, cores)


def check_memory(plan: PlannedSearch, group: ControlGroup | None = None) -> CheckResult:
    """Say whether the workers fit into memory, each with its own libraries and features."""
    limit = (group or ControlGroup()).memory()
    available = psutil.virtual_memory().available
    free = available if limit is None else min(available, limit)
    features = forecast(plan.space, plan.n_posters, plan.trials, plan.workers).features_of_a_worker
    of_one = _WORKER_BYTES + _COPIES * features
    within = ", by the container's limit" if limit is not None and free == limit else ""
    message = f"{gigabytes(free)} available{within}, about {gigabytes(of_one)} a worker before it fine-tunes"
    if free < of_one:
        return problem("memory", message, "close other programs, or search with fewer posters, views and backbones")
    if free < plan.workers * of_one:
        return problem(
            "memory", f"{message}, of which there are {plan.workers}", f"use --workers {int(free // of_one)}"
        )
    return ok("memory", f"{message}, {_counted(plan.workers)}")


def check_gpu(plan: PlannedSearch) -> CheckResult:
    """Say which device trains."""
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())]
        shared = f", shared by {plan.workers} workers" if plan.workers > len(names) else ""
        return ok("GPU", f"{', '.join(names)}{shared}")
    if torch.backends.mps.is_available():
        return ok("GPU", "Apple's, through MPS")
    fine_tunes = any(value != "none" for value in plan.space.values_of("unfreeze"))
    slow = "; the space fine-tunes, in minutes an epoch" if fine_tunes else ", which is enough for heads"
    return ok("GPU", f"none (torch.cuda is not available): the CPU trains{slow}")


def _counted(workers: int) -> str:
    return "1 worker" if workers == 1 else f"{workers} workers"
