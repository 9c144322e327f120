from __future__ import annotations

from pathlib import Path

import pytest

from hpo.data.dataset import DataOptions
from hpo.data.table.rules import CatalogueRules
from hpo.settings import Paths


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("HPO_CACHE_DIR", "HPO_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_f24_a_tilde_is_the_home_folder_wherever_no_shell_sees_it(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HPO_CACHE_DIR", "~/cache")
    monkeypatch.setenv("HPO_STORAGE", "sqlite:///~/o.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///~/m.db")
    paths = Paths.of(None, None, None)
    assert paths.cache_dir == home / "cache"
    assert (paths.storage, paths.tracking_uri) == (f"sqlite:///{home}/o.db", f"sqlite:///{home}/m.db")
    assert Paths.of(None, None, Path("~/other")).cache_dir == home / "other"


def test_f24_a_table_and_its_images_as_well(home: Path):
    options = DataOptions(
        csv=Path("~/t.csv"), images=Path("~/images"), rules=CatalogueRules(), val_size=1, test_size=1, seed=0
    )
    assert (options.csv, options.images, options.split_file) == (home / "t.csv", home / "images", None)


@pytest.mark.parametrize("url", ["postgresql+psycopg://me@host/~db", "http://host/~me", "sqlite:////data/~x.db"])
def test_other_addresses_stay_as_they_are(url: str):
    assert Paths.of(url, url, None).storage == url


def test_what_is_not_given_is_below_the_current_folder(home: Path):
    paths = Paths.of(None, None, None)
    assert paths.storage == f"sqlite:///{home}/mlruns/optuna.db"
    assert paths.tracking_uri == f"sqlite:///{home}/mlruns/mlflow.db"
