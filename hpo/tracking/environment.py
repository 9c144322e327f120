"""Environment for MLflow: no telemetry, progress bars or notices; import before mlflow.

To be imported before anything of mlflow.
"""

from __future__ import annotations

import logging
import os

for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "1",
    "MLFLOW_UV_AUTO_DETECT": "false",  # or a model takes the uv.lock of whatever folder one stands in
}.items():
    os.environ.setdefault(_name, _value)  # MLflow reads some of them while it is imported

import mlflow  # noqa: E402, F401 - it sets its own log level while it is imported

for _name in ("mlflow", "alembic"):  # their notices would tear a progress bar apart
    logging.getLogger(_name).setLevel(logging.WARNING)
# What a database refuses is raised as well, and becomes one sentence: its traceback says nothing more.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
