"""A bundle as an MLflow pyfunc: the registered model and the script that loads it.

MLflow's "models from code": the version carries this file, the bundle, and those folders of ``hpo`` that a
bundle needs, so that ``mlflow.pyfunc.load_model("models:/NAME@champion")`` works where ``hpo`` is not
installed, without pickle. The price is a copy of the code (270 kB) in every version; the gain is a version
that keeps answering as on the day it was registered.
"""

from __future__ import annotations

import base64
import binascii
import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, set_model
from mlflow.types.schema import Array, ColSpec, DataType, Map, Schema

import hpo
from hpo.bundle.predictor import Predictor

REQUIRED = (
    "mlflow", "pandas", "torch", "torchvision", "timm", "onnxruntime",
    "numpy", "pillow", "psutil", "safetensors", "pydantic", "filelock",
)  # fmt: skip
SHIPPED = ("__init__.py", "errors.py", "escaping.py", "runtime", "data", "model", "evaluation", "bundle")  # of hpo

BUNDLE = "bundle"  # its folder among the model's artifacts

# Unnamed, because MLflow refuses a plain list where the column has a name; string, because that lets bytes
# pass as well, whereas "binary" makes the scoring server decode paths as if they were base64.
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string)]),
    outputs=Schema([ColSpec(Array(DataType.string), "labels"), ColSpec(Map(DataType.double), "probabilities")]),
)
BLACK_SQUARE_PNG = "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQAQAAAAA3iMLMAAAADElEQVR42mNgIA0AAAAwAAEodEl9AAAAAElFTkSuQmCC"


class PosterClassifier(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Posters → labels and probabilities, one row a poster."""

    def load_context(self, context: Any) -> None:
        """Load the bundle that lies beside this file. Raises BundleError."""
        self.predictor = Predictor.load(Path(context.artifacts[BUNDLE]))

    def predict(self, model_input: pd.DataFrame) -> pd.DataFrame:
        """Return ``labels`` (a list of names) and ``probabilities`` ({name: 0..1}), one row a poster.

        ``model_input`` is a DataFrame of one column, ``image``, or what MLflow makes of a list: file paths,
        bytes, base64 text or ``data:`` URIs. Raises MlflowException, which a scoring server answers as 400,
        for a poster that cannot be read.
        """
        posters = [_source(poster, row) for row, poster in enumerate(_posters(model_input))]
        predicted = self.predictor.predict(posters)
        if predicted.broken:
            row, reason = next(iter(predicted.broken.items()))
            raise _refusal(row, f"an image that can be decoded, got a broken one ({reason})")
        names = self.predictor.description.label_names
        labels = [list(row) for row in self.predictor.labels(predicted.probabilities)]
        probabilities = [dict(zip(names, row, strict=True)) for row in predicted.probabilities.tolist()]
        return pd.DataFrame({"labels": labels, "probabilities": probabilities})


def _posters(model_input: pd.DataFrame) -> list[Any]:
    column = model_input.columns[0]  # MLflow has cut the rest off; a list arrives as column 0
    if column not in ("image", 0):
        raise MlflowException.invalid_parameter_value(
            f"Expected a list or a DataFrame whose first column is 'image', got the column {column!r}: "
            "pass df[['image']]."
        )
    cells = (cell if isinstance(cell, list) else [cell] for cell in model_input[column])
    return [poster for cell in cells for poster in cell]  # {"image": [a, b]} arrives as one cell with a list


def _source(poster: Any, row: int) -> Path | bytes:
    if isinstance(poster, bytes | bytearray):
        return bytes(poster)
    if isinstance(poster, os.PathLike):
        return Path(poster)
    if not isinstance(poster, str):
        raise _refusal(row, f"a file path, bytes or base64 text, got {type(poster).__name__}")
    return Path(poster) if _is_file(poster) else _from_base64(poster, row)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # base64 is too long for a file name
        return False


def _from_base64(text: str, row: int) -> bytes:
    payload = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode("".join(payload.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        shown = text if len(text) <= 80 else f"{text[:80]}…"
        raise _refusal(row, f"the path of a file or base64 text, got {shown!r}, which is neither") from error


def _refusal(row: int, expected: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(f"Row {row}: expected {expected}; fix or leave out this row.")


def save(bundle: Path, folder: Path) -> None:
    """Write ``bundle`` as an MLflow model to ``folder``, a new one. Raises MlflowException and OSError."""
    with tempfile.TemporaryDirectory() as temporary:
        plainly_named = shutil.copytree(bundle, Path(temporary) / BUNDLE)  # MLflow stumbles over '#' in a path
        mlflow.pyfunc.save_model(
            folder,
            python_model=Path(__file__),
            artifacts={BUNDLE: str(plainly_named)},
            code_paths=[str(_ship_code(Path(temporary) / "hpo"))],
            pip_requirements=requirements(),
            signature=SIGNATURE,
            input_example=pd.DataFrame({"image": [BLACK_SQUARE_PNG]}),
        )


def _ship_code(destination: Path) -> Path:
    destination.mkdir()
    for source in (Path(str(hpo.__file__)).parent / name for name in SHIPPED):
        if source.is_dir():
            shutil.copytree(source, destination / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, destination)
    return destination


def requirements() -> list[str]:
    """Return what loading a version needs, pinned to what is installed here.

    Local suffixes such as ``+cu130`` name a build that the package index does not have, so they are cut off.
    """
    return [f"{name}=={metadata.version(name).split('+')[0]}" for name in REQUIRED]


set_model(PosterClassifier())
