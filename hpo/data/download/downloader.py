"""Download the posters of a catalogue, resumably.

What is there is not fetched again. What is missing for good (not found, no image, a placeholder) is remembered and not
asked for again, and what is missing for now is tried by the next run. A picture that is served for several titles is a
placeholder, whatever it shows, and none of them keeps it. Every host has workers of its own, so that one that asks for
a pause delays no other host.

asyncio waits for the network and threads decode, so that neither waits for the other.
"""

from __future__ import annotations

import asyncio
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import copyfile
from typing import NamedTuple

from PIL import Image

from hpo.data.download.client import Downloader, Failed, FetchOptions, Reason
from hpo.data.download.folder import DownloadRecord, PosterFolder, digest_of, names_a_file
from hpo.data.table.cleaning import SHARED_BY
from hpo.runtime.progress import ProgressFn, n_cores

DEFAULT_OPTIONS = FetchOptions()

_EXAMPLES_PER_REASON = 5
_NOT_YET = "not asked for yet"


class Wanted(NamedTuple):
    """A poster to fetch: the id that names its file, and its address."""

    id: str
    url: str


@dataclass(frozen=True)
class MissingPosters:
    """The posters that are missing for one reason."""

    n_posters: int
    examples: tuple[str, ...]  # the first few ids
    permanent: bool  # not asked for again unless the user asks


@dataclass(frozen=True)
class FetchReport:
    """What became of every wanted poster: those there, those fetched and those missing are all of them."""

    n_wanted: int
    n_there: int  # before this run
    n_fetched: int
    n_bytes: int  # of the fetched ones
    missing: dict[str, MissingPosters]  # reason → posters, commonest first
    interrupted: bool

    @property
    def n_missing(self) -> int:
        """How many posters are missing after this run."""
        return self.n_wanted - self.n_there - self.n_fetched

    @property
    def n_to_try(self) -> int:
        """How many of the missing ones the same command would ask for."""
        return sum(missing.n_posters for missing in self.missing.values() if not missing.permanent)

    def as_dict(self) -> dict[str, object]:
        """Return the report as plain JSON values."""
        return {**asdict(self), "n_missing": self.n_missing, "n_to_try": self.n_to_try}


def fetch_posters(
    wanted: Sequence[Wanted],
    out: Path,
    options: FetchOptions = DEFAULT_OPTIONS,
    progress: ProgressFn = lambda _: None,
) -> FetchReport:
    """Download those of the wanted posters that are missing, to ``OUT/images/<id>.<jpg|png|webp|gif>``.

    Of two with one id the first counts. Ctrl-C ends it with the report of what there is. Raises DataError when another
    download is writing to OUT, or when the disk refuses.
    """
    with PosterFolder.open(out) as folder:
        run = _Run(wanted, folder, options)
        return run.report(interrupted=run.until_done(progress))


def copy_catalogue(csv: Path, out: Path) -> Path:
    """Copy a catalogue into OUT, so that the folder is all that a search needs, and return where it is there.

    Raises DataError when another download is writing to OUT, or when the disk refuses.
    """
    copy = out / csv.name
    if not (copy.exists() and copy.samefile(csv)):
        with PosterFolder.open(out) as folder, folder.replacing(copy) as draft:
            copyfile(csv, draft)
    return copy


class _Run:
    """One run of the downloader: a folder, and what is learnt about the posters that it lacks."""

    def __init__(self, wanted: Sequence[Wanted], folder: PosterFolder, options: FetchOptions) -> None:
        self._wanted: dict[str, Wanted] = {}
        for poster in wanted:
            self._wanted.setdefault(poster.id, poster)
        self._folder = folder
        self._options = options
        self._fetched: dict[str, int] = {}  # id → bytes
        self._missing: dict[str, DownloadRecord] = {}
        self._shown_by: defaultdict[str, set[str]] = defaultdict(set)  # digest of a picture → ids of its posters
        self._placeholders: set[str] = set()  # digests

    def until_done(self, progress: ProgressFn) -> bool:
        """Fetch what is missing, and return whether that was interrupted."""
        self._recall()
        todo = [poster for poster in self._wanted.values() if self._is_due(poster)]
        progress(len(self._wanted) - len(todo))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused by a lower limit of our own
                asyncio.run(self._fetch_all(todo, progress))
        except KeyboardInterrupt:
            return True
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return False

    def _recall(self) -> None:
        """Take up what earlier runs learnt, and finish what a killed one had begun to take out."""
        for record in self._folder.records.values():
            if record.digest and record.reason:
                self._folder.remove(record)
                if not self._options.retry_failed:
                    self._placeholders.add(record.digest)
            elif record.digest and record.id in self._folder:
                self._shown_by[record.digest].add(record.id)
        for digest in list(self._shown_by):
            self._judge(digest)

    def _is_due(self, poster: Wanted) -> bool:
        if poster.id in self._folder:
            return False
        known = self._folder.records.get(poster.id)
        if known is None or not known.permanent or known.url != poster.url or self._options.retry_failed:
            return True
        self._missing[poster.id] = known
        return False

    async def _fetch_all(self, todo: Sequence[Wanted], progress: ProgressFn) -> None:
        with ThreadPoolExecutor(n_cores()) as pool:
            async with Downloader(self._options, pool) as downloader, asyncio.TaskGroup() as workers:
                for posters in _by_host(todo):
                    queue = iter(posters)
                    for _ in range(min(self._options.concurrency, len(posters))):
                        workers.create_task(self._work_off(queue, downloader, pool, progress))

    async def _work_off(
        self, queue: Iterator[Wanted], downloader: Downloader, pool: Executor, progress: ProgressFn
    ) -> None:
        """Fetch one poster after the other from the queue that the workers of a host share."""
        for poster in queue:
            try:
                await self._fetch(poster, downloader, pool)
            except Failed as failed:
                self._note_missing(poster, failed)
            progress(1)

    async def _fetch(self, poster: Wanted, downloader: Downloader, pool: Executor) -> None:
        if not names_a_file(poster.id):
            raise Failed(Reason.UNUSABLE_ID)
        if not poster.url:
            raise Failed(Reason.NO_ADDRESS)
        content, suffix = await downloader.get(poster.url)
        digest = digest_of(content)
        if digest in self._placeholders:
            raise _shared(digest)
        draft = await asyncio.get_running_loop().run_in_executor(pool, self._folder.draft, poster.id, content)
        self._folder.publish(draft, DownloadRecord(id=poster.id, url=poster.url, digest=digest), suffix)
        self._fetched[poster.id] = len(content)
        self._shown_by[digest].add(poster.id)
        self._judge(digest)

    def _judge(self, digest: str) -> None:
        """Take a picture out everywhere once too many posters show it, or when it is known for that."""
        if len(self._shown_by[digest]) < SHARED_BY and digest not in self._placeholders:
            return
        self._placeholders.add(digest)
        for poster_id in sorted(self._shown_by.pop(digest)):
            poster = Wanted(poster_id, self._folder.records[poster_id].url)
            self._note_missing(poster, _shared(digest))
            self._folder.remove(self._missing[poster_id])
            self._fetched.pop(poster_id, None)

    def _note_missing(self, poster: Wanted, failed: Failed) -> None:
        reason = failed.reason
        self._missing[poster.id] = DownloadRecord(
            id=poster.id,
            url=poster.url,
            reason=reason.text,
            detail=failed.detail.encode(errors="replace").decode(),  # a server's words need not be UTF-8
            permanent=reason.permanent,
            digest=failed.digest,
        )
        self._folder.note(self._missing[poster.id])

    def report(self, *, interrupted: bool) -> FetchReport:
        """Say what became of every wanted poster."""
        n_there = sum(poster_id in self._folder for poster_id in self._wanted)
        return FetchReport(
            n_wanted=len(self._wanted),
            n_there=n_there - len(self._fetched),
            n_fetched=len(self._fetched),
            n_bytes=sum(self._fetched.values()),
            missing=self._missing_by_reason(),
            interrupted=interrupted,
        )

    def _missing_by_reason(self) -> dict[str, MissingPosters]:
        ids: defaultdict[tuple[str, bool], list[str]] = defaultdict(list)
        for poster_id in self._wanted:
            if poster_id not in self._folder:
                record = self._missing.get(poster_id)
                ids[(record.reason, record.permanent) if record else (_NOT_YET, False)].append(poster_id)
        commonest_first = sorted(ids.items(), key=lambda item: -len(item[1]))
        return {
            reason: MissingPosters(len(missing), tuple(missing[:_EXAMPLES_PER_REASON]), permanent)
            for (reason, permanent), missing in commonest_first
        }


def _shared(digest: str) -> Failed:
    return Failed(Reason.PLACEHOLDER, f"{SHARED_BY} titles or more are served this very picture", digest)


def _by_host(posters: Sequence[Wanted]) -> list[list[Wanted]]:
    """Sort posters by the host in their address, which need not be a sound one."""
    hosts: defaultdict[str, list[Wanted]] = defaultdict(list)
    for poster in posters:
        host = poster.url.partition("://")[2].partition("/")[0]
        hosts[host.lower()].append(poster)
    return list(hosts.values())
