"""Check an MLflow server: it answers, has this version, admits this host and takes artifacts.

``/version`` is answered to anybody, whatever name the server was called by, so the interface itself is asked as well.
"""

from __future__ import annotations

from typing import Any

from hpo.doctor.result import CheckResult, PlannedSearch, ok, problem, warning
from hpo.runtime.database import Refused
from hpo.runtime.masking import masked
from hpo.tracking.server import MLFLOW_VERSION, ask, is_server

_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


def check_tracking_server(plan: PlannedSearch) -> CheckResult | None:
    """Say whether the server of ``--tracking-uri`` can be used; None where that is a database."""
    uri = plan.paths.tracking_uri
    if not is_server(uri):
        return None
    shown = masked(uri)
    try:
        version = _version(uri)
        _check_artifacts(uri)
    except Refused as refused:
        return problem("tracking", f"{shown}: {refused.reason}", refused.fix)
    if _minor(version) != _minor(MLFLOW_VERSION):
        words = f"{shown}: the server is MLflow {version}, this machine has {MLFLOW_VERSION}"
        return warning("tracking", words, f"pip install mlflow=={version}, or upgrade the server")
    return ok("tracking", f"{shown}: MLflow {version}, takes artifacts")


def _version(uri: str) -> str:
    response = ask(uri, "/version")
    _check_allowed(response)
    version = str(response.text).strip()
    if response.status_code != 200 or not version[:1].isdigit() or len(version) > 40:
        raise Refused(
            f"something answers there (status {response.status_code}), but not as an MLflow server does",
            "correct --tracking-uri: scheme, host, port and, behind a proxy, the path",
        )
    return version


def _check_artifacts(uri: str) -> None:
    response = ask(uri, _ARTIFACTS)
    _check_allowed(response)
    if response.status_code == 503:
        raise Refused(
            "the server takes no artifacts, and its own folder cannot be reached from elsewhere",
            "start it without --no-serve-artifacts, and with --artifacts-destination FOLDER",
        )
    if response.status_code >= 400:
        raise Refused(f"asked for artifacts, it answers with status {response.status_code}", "look into its log")


def _check_allowed(response: Any) -> None:
    if response.status_code == 401:
        raise Refused(
            "the server asks who you are", "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or a token"
        )
    if response.status_code == 403:
        raise Refused(
            "the server refuses (403): it does not know itself by this host name, or you may not use it",
            "start it with --allowed-hosts NAME:PORT, as --tracking-uri has them; where it has users, ask for access",
        )


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
