from __future__ import annotations

import pytest

from hpo.errors import TrackingError
from hpo.tracking.runs import Tracking


@pytest.fixture
def bundle(tmp_path):
    """To the registry a bundle is a folder of files; what is in it matters to the tests of the registered model."""
    folder = tmp_path / "made by a trial"
    folder.mkdir()
    (folder / "bundle.json").write_text('{"label_names": ["Drama"]}')
    return folder


def start_trial(tracking: Tracking, number: int) -> str:
    parent = tracking.study_run("posters", {}, {}, {}, {})
    return tracking.start_trial(parent, number, f"#{number}", {}, {})


def test_the_champion_follows_the_last_registration(tracking, client, bundle, tmp_path, capfd):
    runs = [start_trial(tracking, number) for number in (3, 8)]
    assert tracking.registry.champion("posters") is None
    tags = {"hpo.study": "posters", "hpo.value": "0.41"}
    registry, better = tracking.registry, tags | {"hpo.value": "0.43"}
    assert registry.register("posters", runs[0], {3: 1.0}, bundle, tags, "# Card\n" * 2000, "the first") == 1
    assert registry.register("posters", runs[1], {8: 1.0}, bundle, better, "# Card", "ahead of trial 3") == 2

    champion = tracking.registry.champion("posters")
    assert champion is not None
    assert (champion.version, champion.trial_number, champion.value) == (2, 8, 0.43)
    assert champion.tags["hpo.reason"] == "ahead of trial 3"
    assert (champion.run_id, champion.tags["hpo.study"]) == (runs[1], "posters")
    assert len(client.get_model_version("posters", "1").description) <= 5000
    assert client.search_logged_models([tracking.experiment_id]) == []
    assert capfd.readouterr() == ("", "")

    out = tmp_path / "out"
    for _ in range(2):  # the second replaces the first
        tracking.registry.download_bundle("posters", out)
        assert [file.name for file in out.iterdir()] == ["bundle.json"]


def test_a_kill_between_version_and_alias_is_mended(tracking, client, bundle):
    run_id = start_trial(tracking, 5)
    registered = "posters", run_id, {5: 1.0}, bundle, {"hpo.value": "0.4"}, "# Card", "the first"
    version = tracking.registry.register(*registered)
    client.delete_registered_model_alias("posters", "champion")
    assert tracking.registry.champion("posters") is None

    assert tracking.registry.register(*registered) == version
    assert tracking.registry.champion("posters").version == version
    assert len(client.search_model_versions("name = 'posters'")) == 1


def test_names_that_the_registry_cannot_use(tracking, client, bundle, tmp_path):
    run_id = start_trial(tracking, 0)
    with pytest.raises(TrackingError, match=r"Invalid model name 'a/b'.*choose another name with --study"):
        tracking.registry.register("a/b", run_id, {0: 1.0}, bundle, {"hpo.value": "0"}, "", "")
    with pytest.raises(TrackingError, match="got none: run hpo search"):
        tracking.registry.download_bundle("posters", tmp_path / "out")
    client.create_registered_model("posters")
    client.create_model_version("posters", bundle.as_uri())
    client.set_registered_model_alias("posters", "champion", "1")
    with pytest.raises(TrackingError, match=r"to come from a search.*choose another name with --study"):
        tracking.registry.champion("posters")
