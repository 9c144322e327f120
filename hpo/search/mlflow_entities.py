"""Our values as MLflow's entities, within its limits: keys, lengths, numbers, and how many a request takes.

What does not fit is cut or renamed rather than refused, since a trial of an hour must not fail over a label's name;
the price is that two labels which differ in odd characters only share a metric.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from posixpath import normpath
from typing import Any

import hpo.search.mlflow_settings  # noqa: F401 - before mlflow

# isort: split

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

MAX_DESCRIPTION = 5000  # characters, of a registered version

_TABLES_TAG = "mlflow.loggedArtifacts"
_METRICS_A_BATCH, _OTHERS_A_BATCH = 800, 100  # MLflow takes 100 params, 100 tags and 1,000 of all at once
MAX_TAG = 8000  # characters
_MAX_PARAM, _MAX_KEY, _MAX_DIGEST = 6000, 250, 36  # characters

Table = Sequence[Mapping[str, Any]]  # rows


def log_batches(
    client: MlflowClient,
    run_id: str,
    metrics: Sequence[Metric] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log everything in as few requests as MLflow's limits allow."""
    listed_params = [Param(key, value) for key, value in (params or {}).items()]
    listed_tags = [RunTag(key, value) for key, value in as_tags(tags or {}).items()]
    n_others = math.ceil(max(len(listed_params), len(listed_tags)) / _OTHERS_A_BATCH)
    for batch in range(max(math.ceil(len(metrics) / _METRICS_A_BATCH), n_others)):
        few = slice(batch * _OTHERS_A_BATCH, (batch + 1) * _OTHERS_A_BATCH)
        many = slice(batch * _METRICS_A_BATCH, (batch + 1) * _METRICS_A_BATCH)
        client.log_batch(run_id, metrics[many], listed_params[few], listed_tags[few])


def log_tables(client: MlflowClient, run_id: str, tables: Mapping[str, Table]) -> dict[str, str]:
    """Write each table as MLflow's ``log_table`` does, but without appending to what an earlier search wrote.

    Returns the tag by which the UI knows them.
    """
    for name, rows in tables.items():
        columns = list(dict.fromkeys(key for row in rows for key in row))
        data = [[_jsonable(row.get(column)) for column in columns] for row in rows]
        client.log_dict(run_id, {"columns": columns, "data": data}, f"{name}.json")
    listed = [{"path": f"{name}.json", "type": "table"} for name in tables]
    return {_TABLES_TAG: json.dumps(listed)} if listed else {}


def _jsonable(cell: Any) -> Any:
    """JSON, as browsers read it, has no NaN."""
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def as_metrics(values: Mapping[str, float], step: int, at_ms: int | None = None) -> list[Metric]:
    """Return metrics of ``step``, stamped now, or at a time since 1970: equal stamps are one entry, written twice.

    Infinity becomes NaN: MLflow stores it as 1.8e308, which flattens every chart it is on.
    """
    now = int(time.time() * 1000) if at_ms is None else at_ms
    finite = {key: float(value) if math.isfinite(value) else math.nan for key, value in values.items()}
    return [Metric(_key(key), value, now, step) for key, value in finite.items()]


def as_params(values: Mapping[str, Any]) -> dict[str, str]:
    """Return params as text; a mapping among them becomes one param an entry, such as ``rules.top_labels``."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= as_params({f"{key}.{inner}": inner_value for inner, inner_value in value.items()})
        else:
            flat[_key(key)] = cut(str(value), _MAX_PARAM)
    return flat


def as_dataset(remembered: Mapping[str, Any]) -> DatasetInput:
    """Return the posters of a study, from what it remembers of them: the CSV, and digests of labels, images and split.

    The digest is that of ids and labels; the others are in the profile.
    """
    csv, fingerprints = str(remembered["data"]["csv"]), remembered["fingerprints"]
    columns = [{"type": "binary", "name": "poster", "required": True}]
    columns += [{"type": "string", "name": "labels", "required": True}]
    dataset = Dataset(
        name=PurePath(csv).stem,
        digest=str(fingerprints["labels"])[:_MAX_DIGEST],
        source_type="local",
        source=json.dumps({"uri": csv}),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps({**fingerprints, "images_folder": str(remembered["data"].get("images", ""))}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def as_tags(values: Mapping[str, str]) -> dict[str, str]:
    """Return tags that MLflow takes."""
    return {_key(key): cut(str(value), MAX_TAG) for key, value in values.items()}


def _key(name: str) -> str:
    """A key as MLflow takes it: letters, digits and ``/_-. :``, a normal relative path. Labels are freer."""
    return normpath(re.sub(r"[^/\w.\- :]", "_", name)).lstrip("./")[:_MAX_KEY].rstrip("/") or "_"


def cut(text: str, longest: int) -> str:
    """Cut a text that is too long for MLflow, at the end of a line where there is one."""
    if len(text) <= longest:
        return text
    kept = text[: longest - 2]
    return (kept[: kept.rindex("\n") + 1] if "\n" in kept else kept) + "…"
