"""Fetch the MyAnimeList catalogue through kagglehub.

kagglehub sets no time limit on its requests, and a name server that does not answer takes minutes. So it runs in a
thread that is left to itself once nothing has arrived for a while. It also prints to stdout, which is not its to use.
"""

from __future__ import annotations

import sys
from concurrent.futures import Future, wait
from contextlib import redirect_stdout, suppress
from pathlib import Path
from textwrap import shorten
from threading import Thread

from hpo.errors import DataError

DATASET = "dbdmobile/myanimelist-dataset"
CATALOGUE = "anime-dataset-2023.csv"
REACHED_SECONDS = 10.0
STALLED_SECONDS = 60.0  # kagglehub writes a mebibyte at a time


def download_catalogue(reached_seconds: float = REACHED_SECONDS) -> Path:
    """Return where kagglehub's cache holds the catalogue, downloading it first if need be.

    Raises DataError when Kaggle cannot be reached within so long, refuses, or stops in the middle.
    """
    answer: Future[Path] = Future()
    with redirect_stdout(sys.stderr):
        import kagglehub  # here, since its log keeps the stdout that it finds

        folder = Path(kagglehub.config.get_cache_folder(), "datasets", DATASET)
        Thread(target=_ask, args=(answer,), daemon=True).start()  # which does not keep the process from ending
        arrived, patience = _arrived(folder), reached_seconds
        while not wait([answer], patience).done:
            before, arrived = arrived, _arrived(folder)
            if arrived == before:
                raise _not_had(f"nothing came for {patience:g} s")
            patience = STALLED_SECONDS
    failure = answer.exception()
    if failure is not None:
        raise _not_had(f"{type(failure).__name__}: {failure}") from failure
    return answer.result()


def _ask(answer: Future[Path]) -> None:
    import kagglehub

    try:
        answer.set_result(Path(kagglehub.dataset_download(DATASET, path=CATALOGUE)))
    except Exception as error:  # of kagglehub, of requests, or of a cache that cannot be written
        answer.set_exception(error)


def _arrived(folder: Path) -> dict[Path, int]:
    """Return each file under a folder in which files come and go, with its bytes.

    A file is opened once the server answers, and stays empty until the first mebibyte is there.
    """
    sizes = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            sizes[path] = path.stat().st_size
    return sizes


def _not_had(why: str) -> DataError:
    return DataError(
        f"{CATALOGUE} of the Kaggle data set {DATASET} cannot be had ({shorten(why, 120, placeholder=' …')}): "
        "download the file by hand and name it with --csv"
    )
