"""The page of a study: whole, alone, and the same on every screen."""

from __future__ import annotations

import html
import re
import shlex

import pytest
from playwright.sync_api import sync_playwright

from hpo.errors import DataError
from hpo.report.charts import charts
from tests.test_end_to_end import CommandLine
from tests.test_many_workers import SPACE
from tests.tracking.test_figures import records, searched


@pytest.fixture(scope="module")
def hpo(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A finished search of drawn posters whose name is a trap for HTML."""
    hpo = CommandLine(tmp_path_factory.mktemp("report"))
    hpo.here("data", "sample", "drawn", "--posters", "150")
    (hpo.folder / "space.yaml").write_text(SPACE)
    given = ("--data", "drawn/anime.csv", "--images", "drawn/images", "--space", "space.yaml", "--study", "<b>s")
    hpo.ok("search", *given, "--labels", "4", "--folds", "1", "--trials", "4", "--no-confirm")
    return hpo


def test_it_says_everything_and_asks_nothing(hpo: CommandLine) -> None:
    hpo.here("report", "<b>s", "--out", "page.html")
    page = (hpo.folder / "page.html").read_text(encoding="utf-8")
    words_of_page = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    for words in (
        "Study &lt;b&gt;s",
        "f1_macro 0.",
        "Why it is the champion",
        "Best trial of each backbone",
        "Thresholds",
        "Several averaged",
        "every label",
    ):
        assert words in words_of_page, words
    for words in ("by trial</h2>", "Who worked when", "Decided", "To do it again", "Comedy"):
        assert words in words_of_page, words
    again = html.unescape(page).partition("<pre>")[2].partition("</pre>")[0]
    assert "--labels 4" in again
    before = hpo.status("<b>s")["trials"]
    hpo.here(*shlex.split(again)[1:], "--no-confirm")  # the same study, which would refuse other posters or folds
    assert hpo.status("<b>s")["trials"] == before
    assert "<b>s" not in page
    assert "http://" not in words_of_page
    with pytest.raises(DataError, match="give --force to replace it"):
        hpo.here("report", "<b>s", "--out", "page.html")
    hpo.here("report", "--out", "page.html", "--force")


def test_posters_that_are_gone_are_said_to_be(hpo: CommandLine) -> None:
    images = hpo.folder / "drawn" / "images"
    images.rename(hpo.folder / "elsewhere")
    try:
        hpo.here("report", "--out", "without.html")
    finally:
        (hpo.folder / "elsewhere").rename(images)
    assert "Posters, ensemble and examples are left out:" in (hpo.folder / "without.html").read_text()


@pytest.mark.parametrize("n_trials", [0, 1, 20])
def test_charts_of_a_study_of_any_length(n_trials: int) -> None:
    importances = {"rate": 0.7, "depth": 0.3} if n_trials == 20 else {}
    drawn = charts(records(searched(n_trials)), "f1", importances, {"all": 0.1})
    assert ("What makes f1 good" in drawn) == (n_trials == 20)
    assert ("Who worked when" in drawn) == (n_trials > 0)
    assert all("plotly" in chart for chart in drawn.values())


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)])
def test_in_a_browser(hpo: CommandLine, chromium: str, scheme: str, width: int) -> None:
    file = hpo.folder / "seen.html"
    if not file.exists():
        hpo.here("report", "--out", str(file))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        page.locator(".main-svg").first.wait_for()
        assert page.locator(".chart .main-svg").count() >= 4
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert "Study <b>s" in page.inner_text("h1")
        assert said == []
        assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
        browser.close()
