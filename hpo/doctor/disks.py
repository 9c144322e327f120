"""Check free disk space and SQLite on shared disks."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from hpo.doctor.footprint import Needs, forecast
from hpo.doctor.result import CheckResult, PlannedSearch, gigabytes, ok, problem, warning
from hpo.runtime.database import Refused, file_of, nearest, parse

_MOUNTS = Path("/proc/mounts")
_NETWORK = re.compile(
    r"nfs4?|cifs|smb\d?|smbfs|9p|virtiofs|ceph|lustre|gpfs|beegfs|afs|glusterfs|ocfs2|gfs2"
    r"|fuse\.(sshfs|glusterfs|ceph|s3fs|rclone|gcsfuse|juicefs|lustre)"
)
_SERVER = "use a server: --storage postgresql+psycopg://USER:PASSWORD@HOST/optuna and an MLflow server"


def check_network_disk(plan: PlannedSearch, mounts: str | None = None) -> CheckResult | None:
    """Say whether sqlite lies on a network disk, whose locks do not hold; None without sqlite.

    ``mounts`` is the text of ``/proc/mounts``; by default this machine's, and empty where it has none.
    """
    files = sqlite_files(plan)
    if not files:
        return None
    table = _mounts() if mounts is None else mounts
    far = {file: kind for file in files if _NETWORK.fullmatch(kind := filesystem(file, table))}
    if not far:
        return ok("sqlite", "on a local disk, for the workers of this machine; several machines need a server")
    message = f"{', '.join(f'{file} is on {kind}' for file, kind in far.items())}, a network disk"
    if plan.workers > 1:
        return problem(
            "sqlite", f"{message}, where {plan.workers} workers would spoil it", f"{_SERVER}, or a local disk"
        )
    return warning("sqlite", f"{message}, where its locks do not hold", f"for more than one worker, {_SERVER}")


def sqlite_files(plan: PlannedSearch) -> list[Path]:
    """Return the files of Optuna's and MLflow's databases, where they are files."""
    files: list[Path] = []
    for url in (plan.paths.storage, plan.paths.tracking_uri):
        try:
            file = file_of(parse(url, ""))
        except Refused:  # the check of that URL says it
            continue
        files += [] if file is None else [file]
    return files


def _mounts() -> str:
    return _MOUNTS.read_text(encoding="utf-8", errors="replace") if _MOUNTS.exists() else ""


def filesystem(file: Path, mounts: str) -> str:
    """Return the type of the file system that ``file`` lies on by the text of ``/proc/mounts``, or an empty text."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(_unescaped(fields[1]))
        if file.is_relative_to(point) and len(point.parts) >= best:  # the later of two at one point hides the other
            best, kind = len(point.parts), fields[2]
    return kind


def _unescaped(text: str) -> str:
    r"""``\040`` is a space there."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


@dataclass(frozen=True)
class _Room:
    """One disk: what is wanted of it, and what it has."""

    purposes: tuple[str, ...]
    folder: Path
    needed: float
    free: float
    held: float  # bytes in the cache there, which may be what is needed

    def sentence(self) -> str:
        for_what = " and ".join(self.purposes)
        return f"{gigabytes(self.free)} free for {for_what}, which need up to {gigabytes(self.needed)}"


def check_room(plan: PlannedSearch) -> CheckResult:
    """Say whether there is room for caches, state and temporary files."""
    needs = forecast(plan.space, plan.n_posters, plan.trials, plan.workers)
    rooms = _rooms(plan, needs)
    message = "; ".join(room.sentence() for room in rooms)
    if needs.uncounted:
        message += f", without {', '.join(needs.uncounted)}, which could not be counted"
    full = [room for room in rooms if room.needed > room.free]
    if not full:
        return ok("disk", message)
    fix = f"free some space at {full[0].folder}, search fewer backbones and views, or name another --cache-dir"
    if any(room.needed > room.free + room.held for room in full):
        return problem("disk", message, fix)
    return warning("disk", f"{message}; the cache holds {gigabytes(full[0].held)}, maybe of it", fix)


def _rooms(plan: PlannedSearch, needs: Needs) -> list[_Room]:
    """Put together what lies on one disk."""
    temporary = Path(tempfile.gettempdir())
    wanted = [("cache", plan.paths.cache_dir, needs.cache), ("state", plan.paths.state_dir, needs.state)]
    by_disk: dict[int, list[tuple[str, Path, float]]] = defaultdict(list)
    for purpose, folder, n_bytes in [*wanted, ("temporary files", temporary, needs.temporary)]:
        by_disk[nearest(folder).stat().st_dev].append((purpose, folder, n_bytes))
    return [_room(asked, plan.paths.cache_dir) for asked in by_disk.values()]


def _room(asked: list[tuple[str, Path, float]], cache_dir: Path) -> _Room:
    needed = sum(n_bytes for _, _, n_bytes in asked)
    folder = nearest(asked[0][1])
    free = shutil.disk_usage(folder).free
    has_cache = any(place == cache_dir for _, place, _ in asked)
    held = _size(cache_dir) if has_cache and needed > free else 0
    return _Room(tuple(purpose for purpose, _, _ in asked), folder, needed, free, held)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
