"""The folder that posters are downloaded to; consistent after any kill.

OUT/images/<id>.<suffix>   whole posters, put there by renaming
OUT/fetch.jsonl            a line for every poster that was fetched or failed; of two lines for one id the later holds
OUT/fetch.lock             held while a download runs
OUT/.fetching/             what is half-done; nothing in it is needed once the lock is free

What is there is known by looking, not by the record, so deleting a poster is enough to have it fetched again. The
record says what looking cannot: why a poster is missing, and which posters are the same bytes. It is written before
what it lists is done, since a line too many does no harm. A torn last line is left out when the file is read.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path, PureWindowsPath

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from hpo.data.table.image_names import IMAGE_SUFFIXES
from hpo.errors import DataError, disk_cure
from hpo.runtime.atomic import appearing_whole

_MAX_NAME_BYTES = 255  # of one file, on every common file system
_DIGEST_BYTES = 16


class DownloadRecord(BaseModel):
    """A line of fetch.jsonl: what became of one poster."""

    model_config = ConfigDict(frozen=True)

    id: str
    url: str
    reason: str = ""  # why it is missing; empty when it was fetched
    detail: str = ""
    permanent: bool = False  # not to be asked for again
    digest: str = ""  # of its bytes, when they were a whole picture


class PosterFolder:
    """OUT, as the one process that holds its lock sees it."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.images = out / "images"
        self.records: dict[str, DownloadRecord] = {}
        self._ledger = out / "fetch.jsonl"
        self._half_done = out / ".fetching"
        self._there: dict[str, Path] = {}

    @classmethod
    @contextmanager
    def open(cls, out: Path) -> Iterator[PosterFolder]:
        """Lock OUT and make it fit for use, clearing away what a killed run left.

        Raises DataError when another download holds it, or when it cannot be written.
        """
        folder = cls(out)
        with folder._disk():
            out.mkdir(parents=True, exist_ok=True)
            lock = FileLock(out / "fetch.lock", timeout=0)
            try:
                lock.acquire()
            except Timeout as error:
                raise DataError(
                    f"another hpo data fetch is writing to {out}: wait until it is done, or give another folder"
                ) from error
        try:
            folder._prepare()
            yield folder
        finally:
            shutil.rmtree(folder._half_done, ignore_errors=True)
            lock.release()

    def _prepare(self) -> None:
        if self.images.is_symlink() or self._half_done.is_symlink():
            raise DataError(
                f"{self.images} leads elsewhere, and nothing is written outside of {self.out}: "
                "expected a folder, so give the place that it leads to instead"
            )
        with self._disk():
            self.images.mkdir(exist_ok=True)
            if self._half_done.exists():
                shutil.rmtree(self._half_done)
            self._half_done.mkdir()
            self._there = {path.stem: path for path in self.images.iterdir() if _is_poster(path)}
            self._read_ledger()

    def _read_ledger(self) -> None:
        """Read the record, and write it again without the lines that no longer hold or were torn."""
        if not self._ledger.exists():
            return
        for line in self._ledger.read_bytes().splitlines():
            with suppress(ValidationError):
                record = DownloadRecord.model_validate_json(line)
                self.records[record.id] = record
        with self.replacing(self._ledger) as draft:
            draft.write_text("".join(_line(record) for record in self.records.values()), encoding="utf-8")

    def __contains__(self, poster_id: str) -> bool:
        return poster_id in self._there

    def __len__(self) -> int:
        return len(self._there)

    def note(self, record: DownloadRecord) -> None:
        """Add a line to the record. Raises DataError when the disk refuses."""
        with self._disk(), self._ledger.open("a", encoding="utf-8") as ledger:
            ledger.write(_line(record))
        self.records[record.id] = record

    def draft(self, poster_id: str, content: bytes) -> Path:
        """Write a poster where it is not yet seen, for `publish`. Raises DataError when the disk refuses."""
        path = self._half_done / f"{poster_id}.part"
        with self._disk():
            path.write_bytes(content)
        return path

    def publish(self, draft: Path, record: DownloadRecord, suffix: str) -> None:
        """Make a drafted poster one of the folder's. Raises DataError when the disk refuses."""
        self.note(record)
        path = self.images / f"{record.id}{suffix}"
        with self._disk():
            draft.replace(path)
        self._there[record.id] = path

    def remove(self, record: DownloadRecord) -> None:
        """Take a poster out again, unless its file is no longer the one that was recorded."""
        path = self._there.get(record.id)
        with self._disk():
            if path is not None and digest_of(path.read_bytes()) == record.digest:
                path.unlink()
                del self._there[record.id]

    @contextmanager
    def replacing(self, path: Path) -> Iterator[Path]:
        """Give a path to write to, which takes the place of `path` at the end; DataError when the disk refuses."""
        with self._disk(), appearing_whole(path, within=self._half_done) as draft:
            yield draft

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self.out} cannot be written ({error.strerror or error}): {disk_cure(error)} or give another "
                "folder, then type the same command again, which continues with what is there"
            ) from error


def names_a_file(poster_id: str) -> bool:
    """Return whether a file can be named by the id, on any system, without lying in another folder."""
    name = f"{poster_id}.webp"
    inside = PureWindowsPath(name).name == name and ".." not in name and "\0" not in name
    return bool(poster_id.strip()) and inside and len(name.encode()) <= _MAX_NAME_BYTES


def digest_of(content: bytes) -> str:
    """Return 32 hex digits that identify a file's bytes."""
    return blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()


def _is_poster(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _line(record: DownloadRecord) -> str:
    return record.model_dump_json(exclude_defaults=True) + "\n"
