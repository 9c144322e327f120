"""Check an MLflow server: it answers, has this version, admits this host and takes artifacts.

It is asked through MLflow's own HTTP client, so that tokens, certificates and proxies are those of a search; but once,
and for seconds, where a search has all of MLflow's patience. ``/version`` is answered to anybody, whatever name the
server was called by, so the interface itself is asked as well.
"""

from __future__ import annotations

import hpo.tracking.environment  # noqa: F401 - before mlflow

# isort: split

from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from hpo.doctor.finding import CheckResult, PlannedSearch, ok, problem, warning
from hpo.runtime.database import Refused
from hpo.runtime.masking import masked

_TIMEOUT_SECONDS = 4
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_NO_ANSWER = "start that server, or leave --tracking-uri and MLFLOW_TRACKING_URI out to use ./mlruns"


def is_server(uri: str) -> bool:
    """Tell whether a tracking URI is one of a server."""
    return uri.startswith(("http://", "https://"))


def ask(uri: str, endpoint: str) -> Any:
    """Return the server's response (requests.Response), whatever its status. Raises Refused where there is none."""
    try:
        return http_request(
            get_default_host_creds(uri), endpoint, "GET", max_retries=0, timeout=_TIMEOUT_SECONDS, raise_on_status=False
        )
    except MlflowException:  # whose text repeats the URI
        raise Refused("no answer", _NO_ANSWER) from None


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
        return problem("tracking", f"{shown}: {refused.reason}", refused.cure)
    if _minor(version) != _minor(mlflow.__version__):
        words = f"{shown}: the server is MLflow {version}, this machine has {mlflow.__version__}"
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
