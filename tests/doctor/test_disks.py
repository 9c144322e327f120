from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest

from hpo.doctor import disks
from hpo.doctor.disks import check_network_disk, check_room, filesystem
from hpo.doctor.footprint import forecast, measure
from hpo.model.backbones.backbone import build_backbone
from hpo.model.backbones.freeze_points import find_freeze_point

EPOCHS = "  epochs: 20\n  patience: 5\n"
MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
server:/share /mnt nfs4 rw 0 0
/dev/vdb /mnt/fast xfs rw 0 0
me@host: /my\\040posters fuse.sshfs rw 0 0
tmpfs /shadowed tmpfs rw 0 0
//host/x /shadowed cifs rw 0 0
"""


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("/home/me/optuna.db", "ext4"),
        ("/mnt/optuna.db", "nfs4"),
        ("/mnt/fast/optuna.db", "xfs"),
        ("/mnt/faster/optuna.db", "nfs4"),
        ("/my posters/optuna.db", "fuse.sshfs"),
        ("/shadowed/optuna.db", "cifs"),
    ],
)
def test_the_file_system_of_a_file(file, kind):
    assert filesystem(Path(file), MOUNTS) == kind


@pytest.mark.parametrize(("place", "kind"), [("/mnt", "nfs4"), ("/my posters", "fuse.sshfs"), ("/shadowed", "cifs")])
def test_sqlite_on_a_network_disk(plan, place, kind):
    far = f"sqlite:///{place}/optuna.db"
    one = check_network_disk(plan(storage=far), MOUNTS)
    several = check_network_disk(plan(storage=far, workers=2), MOUNTS)
    assert (one.state, several.state) == ("warning", "problem")
    assert f"is on {kind}, a network disk, where 2 workers would spoil it" in several.message
    assert "postgresql+psycopg://" in one.fix


def test_sqlite_on_this_machine(plan):
    assert check_network_disk(plan(workers=2), MOUNTS).state == "ok"
    assert check_network_disk(plan(workers=2), "").state == "ok"  # no Linux
    assert check_network_disk(plan(workers=2)).name == "sqlite"  # whatever it lies on here


def test_no_sqlite(plan):
    assert (
        check_network_disk(plan(storage="postgresql://a:b@c/d", tracking_uri="http://localhost:5000"), MOUNTS) is None
    )


def test_a_backbone_is_measured_as_it_will_be_cached():
    backbone = build_backbone("tf_efficientnet_lite0", 224)
    shapes = measure("tf_efficientnet_lite0")
    assert shapes.feature_bytes == 4 * backbone.layout.width
    channels, height, width = find_freeze_point(backbone, "last_stage").activation_shape
    assert shapes.stage_bytes(1) == 2 * channels * height * width
    assert shapes.weights_bytes == sum(4 * parameter.numel() for parameter in backbone.parameters())


def test_everything_that_makes_more_rows_is_counted(plan):
    def needs(more="", **others):
        made = plan(more=EPOCHS + more, **others)
        return forecast(made.space, made.n_posters, made.trials, made.workers)

    plain = needs()
    assert plain.uncounted == ()
    assert needs(n_posters=4000).cache == 2 * plain.cache
    assert needs("  flip: train\n").cache > plain.cache
    assert needs("  fit: {type: categorical, choices: [squash, crop]}\n").cache > plain.cache
    assert needs("  crops: {type: int, low: 0, high: 3}\n").cache > needs("  flip: train\n").cache
    assert needs("  unfreeze: last_two_stages\n").cache > needs("  unfreeze: last_stage\n").cache > plain.cache
    assert needs("  unfreeze: last_stage\n").state > plain.state
    assert (
        needs(backbone="tf_efficientnet_lite0+tf_efficientnet_lite1").features_of_a_worker > plain.features_of_a_worker
    )
    assert needs(workers=3).temporary == pytest.approx(3 * plain.temporary)


def test_room_and_none(plan, tmp_path, monkeypatch):
    assert check_room(plan()).state == "ok"
    full = check_room(plan(n_posters=10**12))
    assert (full.state, "free some space" in full.fix) == ("problem", True)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(disks.shutil, "disk_usage", lambda _: usage(2e9, 2e9, 10))
    (tmp_path / "cache").mkdir()
    with (tmp_path / "cache" / "rows.npy").open("wb") as file:
        file.truncate(10**12)  # a hole, which takes no disk
    cached = check_room(plan())
    assert cached.state == "warning"
    assert "the cache holds 1000 GB, maybe of it" in cached.message


def test_a_backbone_that_cannot_be_measured_is_named(plan, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = check_room(plan(backbone="hf-hub:nobody/nothing"))
    assert "without hf-hub:nobody/nothing, which could not be counted" in found.message
