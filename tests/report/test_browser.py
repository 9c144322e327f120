"""What a person sees who opens the links of ``hpo ui``: in a real browser, of a study that the command line made."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import pytest

from hpo.data.sample.sample import write_sample
from hpo.report.mlflow_ui import comparable_params, searched_params
from hpo.settings import Paths
from hpo.study.study import Study, open_study
from tests.browser import Browser, browse
from tests.test_end_to_end import SPACE, CommandLine

STUDY = "posters & more #1"
N_TRIALS = 4


@pytest.fixture(scope="module")
def hpo(chromium, tmp_path_factory) -> CommandLine:
    """A finished search of the drawn sample."""
    hpo = CommandLine(tmp_path_factory.mktemp("searched"))
    write_sample(hpo.folder / "sample", n_posters=160, seed=3)
    (hpo.folder / "space.yaml").write_text(SPACE)
    hpo.ok("search", "--data", "sample/anime.csv", "--images", "sample/images", "--space", "space.yaml",
           "--study", STUDY, "--val-size", "30", "--test-size", "30", "--labels", "4", "--folds", "1",
           "--pruner", "none", "--trials", f"{N_TRIALS}")  # fmt: skip
    return hpo


@pytest.fixture(scope="module")
def study(hpo) -> Study:
    state = hpo.folder / "mlruns"
    paths = Paths.of(f"sqlite:///{state}/optuna.db", f"sqlite:///{state}/mlflow.db", hpo.folder / "cache")
    return open_study(paths.storage, STUDY, paths.locks, seed=0, create=False)


@pytest.fixture(scope="module")
def links(hpo) -> Iterator[dict[str, str]]:
    """What ``hpo ui`` prints, while it serves."""
    with hpo.start_anew("ui", "--study", STUDY) as process:
        printed = iter(process.stdout.readline, "")
        lines = list(iter(lambda: next(printed), "Ctrl-C stops the server.\n"))
        yield dict(re.split(r": +", line.rstrip(), maxsplit=1) for line in lines)
        process.send_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def browser(chromium) -> Iterator[Browser]:
    with browse(chromium) as browser:
        yield browser


def test_the_first_link_shows_the_trials_best_first(links, browser, study):
    shown = browser.open(
        links["Trials, best first"], f"{N_TRIALS} matching runs", "hpo.state", f"{study.best().value:.6g}"
    )
    values = [float(value) for value in re.findall(r"#\d+ test_\w+ · [^#]*? · (0\.\d{3})\b", shown)]
    assert values == [pytest.approx(trial.value, abs=6e-4) for trial in study.top(None)]
    assert shown.count("complete") == N_TRIALS
    for column in ("val/f1_macro", "val/f1_micro", "val/f1_samples", searched_params(study)[0]):
        assert column in shown, column


def test_two_clicks_lead_from_the_first_link_over_the_best_trial_to_the_report(links, browser, study):
    browser.open(links["Trials, best first"])
    browser.page.get_by_role("link", name=f"#{study.best().number} test_").click()
    shown = browser.wait_for("Parent run", "threshold/", "Metrics (")
    assert all(f"threshold/{label}" in shown for label in ("Comedy", "Action", "Drama", "Fantasy"))
    report = re.search(r"/runs/\w+", links["The study's report"])[0]
    browser.page.locator(f'a[href*="{report}"]').first.click()  # by address: the champion's model has the same name
    assert "hpo export-best" in browser.wait_for("Child runs", "hpo export-best")


def test_the_second_compares_the_top_trials_in_what_was_searched(links, browser, study):
    trials = study.top(10)
    axes = comparable_params(searched_params(study), trials)
    assert {"learning_rate", "weight_decay", "focal_gamma"} <= set(axes)
    assert "width" not in axes  # a linear head has none
    names = [f"#{trial.number} test_" for trial in trials]
    browser.open(links["The top trials"], "Top trials", "Parallel Coordinates", "learning_rate", *names)
    drawn = browser.page.locator("svg text").all_text_contents()
    assert {*axes, "val/f1_macro"} <= set(drawn)
    assert "width" not in drawn


def test_the_report_says_what_is_best_why_and_how_to_get_it(links, browser, study):
    shown = browser.open(links["The study's report"], "Description", "Metrics (", "Parameters (")
    assert STUDY in shown
    assert "best" in shown.lower()
    assert f"{study.best().value:.3f}" in shown
    assert "hpo export-best" in shown
    assert all(f"#{trial.number} test_" in shown for trial in study.trials())
    page = browser.page
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("figures", exact=True).click()
    page.get_by_text(re.compile(r"\.png$")).first.click()
    picture = page.locator("img[src*='get-artifact'], img[src^='blob:'], img[src^='data:image/png']").first
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100


def test_the_champion_has_its_alias_its_trial_and_its_reason(links, browser, study):
    champion = study.leader()
    shown = browser.open(links["The champion"], "champion", "hpo.reason", f"#{champion.number} test_")
    assert f"hpo.trial {champion.number} " in shown
    assert f"trial {champion.number} has the best mean f1_macro" in shown
    assert "threshold" in shown
    shown = browser.open(links["All its versions"], "champion", "Version 1")
    assert STUDY in shown


def test_nothing_is_asked_of_other_machines(links, browser):
    assert len(links) == 5
    address = links["The champion"].partition("#")[0]
    browser.open(links["Trials, best first"], "matching runs")
    assert browser.requests
    assert [url for url in browser.requests if not url.startswith((address, "about:", "blob:", "data:"))] == []
