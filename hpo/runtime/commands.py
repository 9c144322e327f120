"""Format a command line for a user to run, shell-quoted, with the options that were given.

The command line says at its start which options were given and which commands take which options (``remember``); what
is printed later carries over those that the printed command takes as well. A library that calls the same functions
gives no options, and so only what ``command`` is given is written.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

_NOT_CARRIED = {  # options of one command alone, also where another has one of the same name
    *("help", "as_json", "out", "force", "watch", "dry_run", "now", "keep", "open_browser", "port", "profile"),
    *("skip_unavailable", "limit", "flip_average", "top", "by"),
}
_VARIABLES = {"storage": "HPO_STORAGE", "tracking_uri": "MLFLOW_TRACKING_URI"}  # where a password may stand unseen
_given: dict[str, Any] = {}
_taken: dict[str, dict[str, tuple[str, ...]]] = {}  # command → parameter → spellings: on, and off where there is one


def remember(given: Mapping[str, Any], taken: Mapping[str, Mapping[str, tuple[str, ...]]]) -> None:
    """Note the options that were given, by parameter, and how each command spells each of its options."""
    _given.clear()
    _given.update(given)
    _taken.clear()
    _taken.update({name: dict(options) for name, options in taken.items()})


def command(name: str, *arguments: object, **options: Any) -> str:
    """Return ``hpo NAME ARGUMENTS`` with its options, as a shell takes it.

    ``options`` go by the names of parameters (``cache_dir`` is ``--cache-dir``); True is a flag, and None
    leaves the option out. The options that were given follow, unless ``options`` has them.
    """
    known = _taken.get(name, {})
    carried = {key: value for key, value in _given.items() if key in known and key not in _NOT_CARRIED}
    words = ["hpo", *name.split(), *(quoted(_argument(word)) for word in arguments)]
    for key, value in {**options, **{key: value for key, value in carried.items() if key not in options}}.items():
        option, *off = known.get(key, (f"--{key.replace('_', '-')}",))
        if isinstance(value, bool):
            words += [option] if value else off
        elif value is not None:
            words += [option, _value(key, str(value))]
    return " ".join(words)


def _argument(word: object) -> str:
    text = str(word)
    return f"./{text}" if text.startswith("-") else text  # or it would be read as an option


def _value(key: str, text: str) -> str:
    """An option's value; of a URL that may hold a password, the variable in which it is to be kept."""
    if key in _VARIABLES and ("@" in text or "?" in text):
        return f'"${_VARIABLES[key]}"'
    return quoted(text)


def quoted(text: str) -> str:
    """A word for a shell; what cannot be printed is escaped as Bash and zsh read it."""
    if text.isprintable():
        return shlex.quote(text)
    escaped = "".join(
        chr(byte) if 0x20 <= byte < 0x7F and chr(byte) not in "\\'" else f"\\x{byte:02x}" for byte in os.fsencode(text)
    )
    return f"$'{escaped}'"
