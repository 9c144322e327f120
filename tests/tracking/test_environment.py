from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hpo.tracking

SETTINGS = "hpo.tracking.environment"
SCRIPT = "pyfunc.py"  # MLflow runs it, and ships it without the search
MODULES = sorted(file for file in Path(hpo.tracking.__path__[0]).glob("*.py") if file.name != SCRIPT)


def imported_modules(file: Path) -> list[str]:
    """The modules that a file imports when it is imported, in order."""
    names: list[str] = []
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(str(node.module))
    return names


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.stem)
def test_mlflow_is_told_before_it_is_imported(file):
    """It reads some of its environment only then, and a formatter may like another order better."""
    names = imported_modules(file)
    of_mlflow = [place for place, name in enumerate(names) if name.partition(".")[0] == "mlflow"]
    if of_mlflow and not SETTINGS.endswith(file.stem):
        assert SETTINGS in names[: of_mlflow[0]]
