"""Small damage to good input, and values that programs stumble over."""

from __future__ import annotations

import json
from random import Random
from typing import Any

INTEGERS = (0, -1, 1, 2, 127, 255, 256, 2**31 - 1, -(2**31), 2**32, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30)
FLOATS = (0.0, -0.0, 0.5, 1.0, -1.5, 1e-308, 1e308, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    *("", " ", "\n", "\t", "a\nb", "\x00", "\x1b[2J", "\u202e", "\ufeff", "字", "é" * 40, "\U0001f600", "'", '"', "\\"),
    *("a" * 300, "[" * 200, "{" * 200, "[[['a']]]", "{'name': 'Drama'}", '{"name": "Drama"}', "[object Object]"),
    *("../../x", "/", "/dev/null", "C:\\x.jpg", "~", ".", "..", "http://[", "https://x.test/a.jpg", "file:///x"),
    *(
        "NaN",
        "null",
        "None",
        "inf",
        "-inf",
        "1e999",
        "0x10",
        "1_000",
        "0b1",
        "true",
        "no",
        "2020-13-45",
        "%s%n",
        "${x}",
    ),
    *("Drama", "Action, Drama", "Action|Comedy", "('Drama',)", "b'Drama'", "np.str_('x')", "<a><b>", "#a #b", "-" * 99),
)
_BYTES = (b"\x00", b"\xff", b"\xff\xda", b"\xc3", b"\xed\xa0\x80", b"\n", b"\r", b'"', b",", b"\\", b"{", b"[", b"\x7f")


def value(rng: Random, depth: int = 3) -> Any:
    """Return any value that JSON or YAML can hold."""
    kind = rng.randrange(8 if depth else 5)
    if kind == 0:
        return rng.choice(INTEGERS)
    if kind == 1:
        return rng.choice(FLOATS)
    if kind in (2, 3):
        return rng.choice(TEXTS)
    if kind == 4:
        return rng.choice((None, True, False))
    inner = [value(rng, depth - 1) for _ in range(rng.choice((0, 1, 2, 3)))]
    return inner if kind < 7 else {rng.choice(TEXTS): each for each in inner}


def bytes_of(rng: Random, content: bytes, most: int = 4, header: int | None = None) -> bytes:
    """Return ``content`` with up to ``most`` changes, more often within the first ``header`` bytes."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, most)):
        n = len(changed) if header is None or rng.random() < 0.4 else min(header, len(changed))
        at, length = rng.randrange(n + 1), rng.choice((1, 1, 2, 4, 16, 200))
        match rng.randrange(8):
            case 0 if n:
                changed[min(at, n - 1)] ^= 1 << rng.randrange(8)
            case 1:
                changed[at : at + length] = rng.randbytes(length)
            case 2:
                del changed[at : at + length]
            case 3:
                changed[at:at] = changed[at : at + length] * rng.choice((1, 2, 50))
            case 4:
                changed[at:at] = rng.choice(_BYTES)
            case 5:
                changed[at : at + 4] = (rng.choice(INTEGERS) % 2**32).to_bytes(4, rng.choice(("little", "big")))
            case 6:
                del changed[at:]
            case _:
                other = rng.randrange(len(changed) + 1)
                changed[at:at] = changed[other : other + length]
    return bytes(changed)


def document(rng: Random, content: Any, most: int = 2) -> Any:
    """Return a JSON document in which values were replaced, taken out or added."""
    changed = json.loads(json.dumps(content))
    for _ in range(rng.randint(1, most)):
        paths = list(_places(changed))
        inside, key = rng.choice(paths)
        match rng.randrange(4):
            case 0:
                del inside[key]
            case 1 if isinstance(inside, dict):
                inside[rng.choice(TEXTS)] = value(rng)
            case 2 if isinstance(inside, list):
                inside[key : key + 1] = [inside[key]] * rng.choice((2, 3, 500))
            case _:
                inside[key] = value(rng)
        if not changed:
            break
    return changed


def _places(content: Any) -> list[tuple[Any, Any]]:
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    inner = [content[key] for key in keys]
    found = [(content, key) for key in keys]
    return found + [place for each in inner if isinstance(each, dict | list) for place in _places(each)]
