"""Clocks: a server's against this machine's. Heartbeats and durations of several machines are compared by them.

The server's answer is taken to have been written half-way between question and answer, so the error is at most half of
that, and a second for HTTP, whose dates have no fractions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from sqlalchemy import text

from hpo.search.health.database import Refused, opened, url_of_server
from hpo.search.health.finding import Finding, Plan, ok, problem, warning
from hpo.search.health.server import ask, is_server

_NOTICED_SECONDS, _HARMFUL_SECONDS = 5.0, 60.0
_CURE = "let both machines keep time by NTP: timedatectl set-ntp true"


def check_database_clock(plan: Plan) -> Finding | None:
    """Compare with the clock of the storage's server; None for a file."""
    url = url_of_server(plan.places.storage)
    if url is None:
        return None

    def ahead() -> float:
        with opened(url, "--storage") as connection:
            asked = time.time()
            seconds = connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())"))
            return float(seconds) - (asked + time.time()) / 2

    return _judge("clock of the database", ahead)


def check_tracking_clock(plan: Plan) -> Finding | None:
    """Compare with the clock of the MLflow server; None for a database."""
    uri = plan.places.tracking_uri
    if not is_server(uri):
        return None

    def ahead() -> float:
        asked = time.time()
        date = ask(uri, "/version").headers.get("Date")
        if date is None:
            raise Refused("its answers have no date", "")
        return parsedate_to_datetime(date).timestamp() + 0.5 - (asked + time.time()) / 2

    return _judge("clock of MLflow", ahead)


def _judge(name: str, measure: Callable[[], float]) -> Finding:
    """``measure`` returns how many seconds a server is ahead of this machine."""
    try:
        ahead = measure()
    except Refused as refused:
        return warning(name, f"cannot be read: {refused.reason}", "mend what is said of that server first")
    words = f"{abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if abs(ahead) > _HARMFUL_SECONDS:
        return problem(name, f"{words}: living workers would be taken for dead", _CURE)
    if abs(ahead) > _NOTICED_SECONDS:
        return warning(name, words, _CURE)
    return ok(name, f"within {_NOTICED_SECONDS:.0f} s of this machine's")
