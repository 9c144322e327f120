"""Mask passwords and tokens in URLs and messages.

A URL is taken apart by hand where a parser would be fooled: people write passwords with ``@``, ``/``, ``?`` and ``#``
as they are, and SQLAlchemy, urllib and a database's driver each see another host then. Where the parts are ambiguous,
nothing but the scheme is shown.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_plus

MASK = "***"
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*):")
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_HARMLESS = {  # parts of a query that are shown with their values; whatever is not known may be a secret
    "application_name",
    "cache",
    "connect_timeout",
    "dbname",
    "host",
    "mode",
    "port",
    "sslmode",
    "timeout",
    "uri",
}
_LONG = 4  # characters from which a secret is replaced within words, too


def masked(url: str) -> str:
    """Return a URL without passwords, tokens and the like; a path or another word stays as it is."""
    scheme, rest = _scheme(url)
    if scheme is None:
        return MASK if re.search("[@=]", url) else url
    if not rest.startswith("//"):  # file:mlruns; but also postgresql:/user:password@host/name
        return url if not re.search("[@=]", rest) else f"{scheme}:{MASK}"
    head, marked, query = rest[2:].partition("?")
    if _is_file(head):
        return f"{scheme}://{head}{marked}{_shown_query(query)}"
    if "@" in query or "#" in query:
        return f"{scheme}://{MASK}"  # a password with a question mark, or a query with an @: ambiguous
    user, at, host = head.rpartition("@")
    if re.search(r"[#;=]", host):
        return f"{scheme}://{MASK}"
    name, colon, _ = user.partition(":")
    shows_user = colon and not _is_http(scheme)  # http://TOKEN@host has its secret there, and so has http://TOKEN:@host
    credentials = f"{name}:{MASK}" if shows_user else MASK
    return f"{scheme}://{credentials if at else ''}{at}{host}{marked}{_shown_query(query)}"


def without_secrets(text: str, *urls: str) -> str:
    """Return ``text``, such as the words of a driver, without the secrets of ``urls`` and of any URL in it."""
    for url in urls:
        text = text.replace(url, masked(url)) if url else text
    text = _IN_TEXT.sub(lambda found: masked(found[0]), text)
    for secret in sorted({secret for url in urls for secret in _secrets(url)}, key=len, reverse=True):
        whole = re.escape(secret) if len(secret) >= _LONG else rf"(?<!\w){re.escape(secret)}(?!\w)"
        text = re.sub(whole, MASK, text)
    return text


def _scheme(url: str) -> tuple[str | None, str]:
    found = _SCHEME.match(url)
    return (found[1], url[found.end() :]) if found else (None, url)


def _is_http(scheme: str) -> bool:
    return scheme.lower().startswith("http")


def _is_file(head: str) -> bool:
    """A path instead of a host: an ``@`` in it is part of a name."""
    return head == "" or head.startswith("/")


def _shown_query(query: str) -> str:
    return "&".join(_shown_pair(pair) for pair in query.split("&")) if query else ""


def _shown_pair(pair: str) -> str:
    key, given, value = pair.partition("=")
    if not given:
        return MASK
    return f"{key}={value if unquote_plus(key).lower() in _HARMLESS and not re.search('[;@]', value) else MASK}"


def _secrets(url: str) -> set[str]:
    """Every part of a URL that ``masked`` hides, as written and decoded, whole and cut where parsers would cut it."""
    scheme, rest = _scheme(url)
    if scheme is None or masked(url) == url:
        return set()
    head, _, query = rest.removeprefix("//").partition("?")
    if masked(url).endswith((f":{MASK}", f"//{MASK}")):
        hidden = [rest]  # all of it
    else:
        user = "" if _is_file(head) else head.rpartition("@")[0]
        name, colon, password = user.partition(":")
        hidden = [password] if colon and not _is_http(scheme) else [name, password]
        hidden += [pair.partition("=")[2] or pair for pair in query.split("&") if pair and _shown_pair(pair) != pair]
    decoded = {form for part in hidden for form in (part, unquote(part), unquote_plus(part))}
    return {piece for part in decoded for piece in (part, *re.split(r"[:@/?#;&=]", part)) if piece}
