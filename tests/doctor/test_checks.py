from __future__ import annotations

from hpo.doctor import checks as examination
from hpo.doctor.checks import CHECKS, examine_environment
from hpo.errors import StudyError
from tests.postgres import free_port


def test_a_fine_plan_is_fine(plan):
    assert {finding.state for finding in examine_environment(plan())} <= {"ok", "warning"}


def test_no_check_hides_another(plan):
    broken = plan(
        storage=f"postgresql+psycopg://u:secret@127.0.0.1:{free_port()}/x", tracking_uri="./mlruns", n_posters=10**12
    )
    found = {finding.name: finding for finding in examine_environment(broken)}
    assert {name for name, finding in found.items() if finding.state == "problem"} == {
        "storage", "tracking", "disk", "memory",
    }  # fmt: skip
    assert "GPU" in found
    assert not any("secret" in finding.message + finding.fix for finding in found.values())


def test_what_breaks_in_a_check_is_a_finding(plan, monkeypatch):
    def refuses(_):
        raise StudyError("Expected a study, got none: begin one with hpo search.")

    def is_denied(_):
        raise PermissionError(13, "Permission denied", "cache")

    def has_a_bug(_):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(examination, "CHECKS", {"a": refuses, "b": is_denied, "c": has_a_bug, **CHECKS})
    first, second, third, *others = examine_environment(plan())
    assert (first.state, first.message, first.fix) == (
        "problem", "Expected a study, got none", "begin one with hpo search",
    )  # fmt: skip
    assert second.message == "cache: Permission denied"
    assert "the check itself failed (ZeroDivisionError in " in third.message
    assert "secret" not in third.message
    assert others
