"""One quick question to an MLflow server, and what is known of the installed MLflow.

It is asked through MLflow's own HTTP client, so that tokens, certificates and proxies are those of a search; but once,
and for seconds, where a search has all of MLflow's patience.
"""

from __future__ import annotations

import hpo.tracking.environment  # noqa: F401 - before mlflow

# isort: split

from pathlib import Path
from typing import Any

import mlflow.store.db_migrations
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from hpo.runtime.database import Refused

MLFLOW_VERSION = str(mlflow.__version__)
MIGRATIONS = Path(mlflow.store.db_migrations.__file__).parent  # the steps from schema to schema
_TIMEOUT_SECONDS = 4
_NO_ANSWER = "start that server, or leave --tracking-uri and MLFLOW_TRACKING_URI out to use ./mlruns"


def is_server(uri: str) -> bool:
    """Return whether a tracking URI is one of a server."""
    return uri.startswith(("http://", "https://"))


def ask(uri: str, endpoint: str) -> Any:
    """Return the server's response (requests.Response), whatever its status. Raises Refused where there is none."""
    try:
        return http_request(
            get_default_host_creds(uri), endpoint, "GET", max_retries=0, timeout=_TIMEOUT_SECONDS, raise_on_status=False
        )
    except MlflowException:  # whose text repeats the URI
        raise Refused("no answer", _NO_ANSWER) from None
