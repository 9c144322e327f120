"""Errors that a user can cause, as one tree.

HpoError
├── UsageError       the value of an option or argument that it cannot take
├── DataError        the CSV, the images, the labels, the splits
├── SpaceError       a search-space file, all of its mistakes at once
├── BackboneError    an unknown timm model, or weights that cannot be had
├── ResourceError    more memory asked for than there is
├── StudyError       a study that does not exist or does not fit what was asked
├── TrackingError    MLflow cannot be reached or refuses
└── BundleError      a bundle that is incomplete, altered or of another format

The text is one sentence that says what was expected, what was got, where, and what to type next (a space file's
mistakes follow it, a line each). The command line prints it and exits with 1, or 2 after a UsageError; anything else
that escapes is a bug and shows its traceback.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar

from hpo.escaping import one_line

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # of an OSError: a disk that takes nothing
_MOST_CHARACTERS = 100  # of a word that is compared with known ones


class HpoError(Exception):
    """The root: a mistake or a circumstance that the user can fix.

    Its arguments are the sentence and the lines that follow it. Words of others in these, such as names of files, may
    hold ends of lines and what commands a terminal: the text has escapes in their place.
    """

    def __str__(self) -> str:
        return "\n".join(one_line(str(line)) for line in self.args)

    exit_code: ClassVar[int] = 1  # of the command line


class UsageError(HpoError):
    """An option or argument has a value that it cannot take, whatever the data are."""

    exit_code = 2


class DataError(HpoError):
    """The CSV, the images, the labels or the splits are not as needed."""


class SpaceError(HpoError):
    """A search-space file has mistakes."""


class BackboneError(HpoError):
    """A backbone is unknown, or its weights cannot be had."""


class ResourceError(HpoError):
    """A trial asks for more than this machine has."""


class StudyError(HpoError):
    """A study does not exist, or does not fit the data and space asked for."""


class TrackingError(HpoError):
    """MLflow cannot be reached, or its answer cannot be used."""


class BundleError(HpoError):
    """A bundle is incomplete, altered or of another format."""


def disk_cure(error: Exception) -> str:
    """Say what to do about a file that could not be written: space helps only where the disk is full."""
    match getattr(error, "errno", None):
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return "free some space"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "make the place writable"
        case errno.ENOTDIR | errno.EEXIST | errno.EISDIR:
            return "remove the file or folder that stands in the way"
        case errno.ENOENT:
            return "make the folder that is missing"
        case errno.ENAMETOOLONG:
            return "choose a shorter name"
        case _:
            return "check the disk"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``' (did you mean 'x'?)'`` for the closest known word, or an empty text."""
    if len(word) > _MOST_CHARACTERS:  # which is no slip of the pen, and takes minutes to compare
        return ""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""
