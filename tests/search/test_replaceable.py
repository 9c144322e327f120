from __future__ import annotations

import pytest

from hpo.errors import BundleError
from hpo.search.export import check_replaceable


def test_only_an_empty_place_is_written_to_and_a_bundle_where_that_is_asked_for(tmp_path):
    check_replaceable(tmp_path / "new", force=False)
    (tmp_path / "empty").mkdir()
    check_replaceable(tmp_path / "empty", force=False)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").touch()
    check_replaceable(tmp_path / "bundle", force=True)
    with pytest.raises(BundleError, match="give --force to replace it"):
        check_replaceable(tmp_path / "bundle", force=False)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").touch()
    (tmp_path / "file").touch()
    for place in ("photos", "file", "x" * 300):
        for force in (True, False):
            with pytest.raises(BundleError, match="choose another folder with --out"):
                check_replaceable(tmp_path / place, force=force)
