from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

# Before anything of MLflow or PyTorch is imported, and for all processes that tests start.
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many test processes run as there are cores

import hypothesis
import numpy as np
import pytest
from PIL import Image, ImageDraw

from hpo.data.images import Posters, read_posters
from hpo.runtime import commands
from tests.browser import find_chromium
from tests.postgres import Postgres, find_binaries

# A shell without job control starts what it runs in the background with Ctrl-C ignored, and nohup does so with the end
# of the terminal. Every process that a test starts, and means to stop by these signals, would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

REPOSITORY = Path(__file__).resolve().parents[1]
FORMATS = ("jpg", "png", "webp")


# A busy machine is slow by chance: examples have no deadline, and drawing them slowly is no error.
hypothesis.settings.register_profile("hpo", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("hpo")

pytest_plugins = ("tests.mlflow_folder",)  # databases of MLflow for tests of several folders

LONGEST = (
    "test_end_to_end.py",
    "test_many_workers.py",
    "test_browser.py",
    "test_write_up.py",
    "test_unused_parameters.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: begun last, one leaves the other worker with nothing to do."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def _forget_options() -> Iterator[None]:
    """A command line that a test runs in this process leaves no options for the commands that later tests print."""
    yield
    commands.remember({}, {})


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real posters that lies beside the repository, or where HPO_SHARED_DATA says."""
    folder = Path(os.environ.get("HPO_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"shared posters absent: {folder} (set HPO_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL: take a database of your own from it, and leave it running."""
    binaries = find_binaries()
    if binaries is None:
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent("PostgreSQL absent: install it (Debian: apt-get install postgresql)")
    server = Postgres(binaries)
    server.start()
    yield server
    if server.running:
        server.stop()
    server.remove()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The system's Chromium."""
    found = find_chromium()
    if found is None:
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent("Chromium absent: install it (Debian: apt-get install chromium)")
    return found


@dataclass(frozen=True)
class DrawnPosters:
    """Tiny posters on disk whose labels can be seen, and learnt."""

    folder: Path
    posters: Posters
    targets: np.ndarray  # bool (N, 3)
    label_names: tuple[str, ...] = ("Warm", "Moon", "Bars")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> DrawnPosters:
    """60 posters of 40 × 60 px, a third each of JPEG, PNG and WebP."""
    folder = tmp_path_factory.mktemp("posters")
    rng = np.random.default_rng(0)
    targets = rng.random((60, 3)) < (0.5, 0.4, 0.3)
    paths = [folder / f"{row:02}.{FORMATS[row % 3]}" for row in range(len(targets))]
    for path, row in zip(paths, targets, strict=True):
        draw_poster(row, rng).save(path)
    return DrawnPosters(folder, read_posters(paths), targets)


def draw_poster(labels: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Warm: red rather than blue. Moon: a white disc. Bars: black bars."""
    warm, moon, bars = labels
    strong, weak = rng.integers(150, 250), rng.integers(0, 90)
    image = Image.new("RGB", (40, 60), (strong, weak, 40) if warm else (40, weak, strong))
    draw = ImageDraw.Draw(image)
    if moon:
        left, top = rng.integers(2, 14, 2).tolist()
        draw.ellipse((left, top, left + 22, top + 22), fill="white")
    if bars:
        for top in range(int(rng.integers(30, 36)), 60, 8):
            draw.rectangle((0, top, 40, top + 3), fill="black")
    return image


@pytest.fixture(scope="session")
def parts(drawn: DrawnPosters):
    """Train (40 posters) and val (20)."""
    from hpo.data.dataset import Part

    return tuple(Part(drawn.posters.take(rows), drawn.targets[rows]) for rows in (np.arange(40), np.arange(40, 60)))


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory):
    """Features of timm's smallest models, with random weights, computed once for all tests."""
    from hpo.trial.features import FeatureSource

    weights = dict.fromkeys(("test_efficientnet", "test_resnet", "test_vit"), "random")
    return FeatureSource(tmp_path_factory.mktemp("cache"), weights, lambda *_: nullcontext(lambda _: None))


@pytest.fixture(scope="session")
def config():
    """Hyperparameters that learn the drawn posters in a moment."""
    from hpo.model.config import TrialConfig

    return TrialConfig(
        backbone="test_efficientnet",
        image_size=64,
        features="all_stages",
        pooling="avg",
        hidden_layers=1,
        width=32,
        activation="relu",
        norm="batch",
        dropout=0.1,
        input_dropout=0.0,
        weight_decay=0.01,
        label_smoothing=0.0,
        focal_gamma=1.0,
        focal_alpha=0.5,
        learning_rate=0.005,
        schedule="constant",
        batch_size=16,
        epochs=10,
        patience=5,
    )


@pytest.fixture(scope="session")
def result(config, parts, source):
    """One finished trial."""
    from hpo.trial.objective import Objective
    from hpo.trial.trial import TrialInputs, run_trial

    return run_trial(config, TrialInputs(*parts, source, Objective("f1_macro"), seed=0))


@pytest.fixture(scope="session")
def description(result):
    """What a bundle of that trial says of itself."""
    from hpo.bundle.description import Description, Preprocessing, installed_versions
    from hpo.data.table.rules import CatalogueRules

    return Description(
        label_names=("Warm", "Moon", "Bars"),
        thresholds=tuple(float(value) for value in result.judged.thresholds.values),
        threshold_strategy=result.judged.thresholds.strategy,
        backbone=result.config.backbone,
        backbone_weights=tuple(backbone.source for backbone in result.network.backbones),
        preprocessing=tuple(Preprocessing.of(backbone, result.config.fit) for backbone in result.network.backbones),
        params=result.config,
        metrics={"metric": "f1_macro", "synthetic": True},
        data=CatalogueRules(),
        fingerprints={"images": "0123456789abcdef"},
        versions=installed_versions(),
    )


@pytest.fixture
def bundle(tmp_path: Path, result, description) -> Path:
    """That trial, saved."""
    from hpo.bundle.bundle import save_bundle

    save_bundle(tmp_path / "bundle", description, result.network, card="# A card")
    return tmp_path / "bundle"
