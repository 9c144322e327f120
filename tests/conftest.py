from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real posters that lies beside the repository, or where HPO_SHARED_DATA says."""
    folder = Path(os.environ.get("HPO_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"shared posters absent: {folder} (set HPO_SHARED_DATA)")
    return folder
