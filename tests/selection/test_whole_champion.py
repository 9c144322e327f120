"""A champion whose files were damaged or lost: noticed before it is copied, and made again."""

from __future__ import annotations

import json
import shutil

import pytest

from hpo.errors import TrackingError


@pytest.mark.parametrize("damage", ["weights", "description", "both", "gone"])
def test_a13_a_damaged_champion_is_not_copied_and_is_registered_again(tracking, bundle, tmp_path, damage):
    parent = tracking.study_run("s", {}, {}, {}, {})
    run_id = tracking.start_trial(parent, 0, "#0", {}, {})
    registry = tracking.registry
    version = registry.register("s", run_id, {0: 1.0}, bundle, {"hpo.value": "0.5"}, "", "it leads")
    assert registry.is_whole(registry.champion("s"))

    root = tmp_path / "artifacts" / run_id / "artifacts" / "model" / "artifacts" / "bundle"
    file, described = root / "model.safetensors", root / "bundle.json"
    if damage == "gone":
        shutil.rmtree(root)
    if damage in ("weights", "both"):
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    if damage in ("description", "both"):
        content = json.loads(described.read_text())
        described.write_text(json.dumps({**content, "thresholds": [0.0] * len(content["thresholds"])}))
    assert not registry.is_whole(registry.champion("s"))
    with pytest.raises(TrackingError):
        registry.download_bundle("s", tmp_path / "out")
    assert not (tmp_path / "out").exists()

    assert registry.register("s", run_id, {0: 1.0}, bundle, {"hpo.value": "0.5"}, "", "it leads") == version
    registry.download_bundle("s", tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (bundle / "model.safetensors").read_bytes()
