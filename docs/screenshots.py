"""Make the pictures of mlflow.md, report.md, gallery.md and explain.md: ``python docs/screenshots.py``, in minutes.

``--only pages`` makes those of the pages that hpo writes, ``--only mlflow`` those of MLflow. The posters
are those of the built-in sample, drawn by this project: no third-party work may be shown here.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for what the tests have in common with this script

from hpo.data.sample.sample import write_sample  # noqa: E402
from tests.browser import Browser, browse, find_chromium  # noqa: E402
from tests.test_end_to_end import CommandLine  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
STUDY, TRIALS = "posters", 24
COLOURS = 256  # enough for pages and diagrams, at half of the bytes
MAX_BYTES = 200_000


def main() -> None:
    """Search the sample and keep pictures of what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=["mlflow", "pages"])
    parser.add_argument("--trials", type=int, default=TRIALS)
    asked = parser.parse_args()
    parts = [asked.only] if asked.only else ["mlflow", "pages"]
    chromium = find_chromium()
    if chromium is None:
        sys.exit("Chromium absent: install it (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        hpo = CommandLine(Path(folder))
        hpo.ok("search", "--study", STUDY, "--trials", f"{asked.trials}", "--folds", "1")
        with browse(chromium) as browser:
            if "pages" in parts:
                browser.open(make_gallery(hpo).as_uri(), "Predicted genres")
                keep(browser, "gallery")
                press_first_genres(browser)
                keep(browser, "explain")
                browser.open(make_report(hpo).as_uri(), f"Study {STUDY}", "Best trials")
                keep(browser, "study-report")
            if "mlflow" in parts:
                with served(hpo) as links:
                    photograph(browser, links, asked.trials)


@contextmanager
def served(hpo: CommandLine) -> Iterator[dict[str, str]]:
    """Serve the study and give the links that ``hpo ui`` prints, by what they lead to."""
    with hpo.start("ui", "--study", STUDY) as process:
        assert process.stdout is not None
        lines = list(iter(process.stdout.readline, "Ctrl-C stops the server.\n"))
        try:
            yield dict(re.split(r": +", line.rstrip(), maxsplit=1) for line in lines)
        finally:
            process.send_signal(signal.SIGINT)


def photograph(browser: Browser, links: dict[str, str], n_trials: int) -> None:
    """Keep a picture of what each link leads to."""
    browser.open(links["Trials, best first"], f"{n_trials} matching runs", "hpo.state", "complete")
    keep(browser, "trials")
    browser.open(links["The top trials"], "Parallel Coordinates", "learning_rate")
    keep(browser, "top-trials")
    browser.open(links["The study's report"], "hpo export-best")
    browser.page.get_by_text("Show more").click()
    keep(browser, "report")
    browser.page.get_by_role("tab", name="Artifacts").click()
    browser.page.get_by_text("figures", exact=True).click()
    browser.page.get_by_text("importance.png").click()
    browser.page.get_by_text("Path: file:").evaluate("path => path.remove()")  # a folder of this machine
    keep(browser, "figures")
    browser.open(links["The champion"], "champion", "hpo.reason")
    keep(browser, "champion")
    browser.open(links["All its versions"], "champion", "hpo.reason")
    keep(browser, "versions")


def make_gallery(hpo: CommandLine) -> Path:
    """Put the best trial and an ensemble side by side, on drawn posters that neither has seen."""
    hpo.ok("export-best", "--study", STUDY, "--out", "best")
    hpo.ok("export-best", "--study", STUDY, "--ensemble", "--out", "ensemble")
    csv = write_sample(hpo.folder / "others", n_posters=60, seed=1)
    hpo.ok("predict", "best", str(csv.parent / "images"), "--against", "ensemble", "--data", str(csv),
           "--gallery", "gallery.html", "--explain", "--csv")  # fmt: skip
    return hpo.folder / "gallery.html"


def press_first_genres(browser: Browser) -> None:
    """Show on each poster where its likeliest genre is seen."""
    for tile in browser.page.locator(".tile").all():
        if tile.locator(".why").count():
            tile.locator(".why").first.evaluate("button => button.click()")
    browser.page.evaluate("scrollTo(0, 0)")


def make_report(hpo: CommandLine) -> Path:
    """Write the study as a page."""
    hpo.ok("report", STUDY, "--out", "report.html")
    return hpo.folder / "report.html"


def keep(browser: Browser, name: str) -> None:
    """Keep what the window shows, in few colours."""
    browser.page.wait_for_timeout(1000)  # until nothing moves any more
    with Image.open(BytesIO(browser.page.screenshot())) as shot:
        few = shot.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=2)
    file = PICTURES / f"{name}.png"
    few.save(file, optimize=True)
    assert file.stat().st_size < MAX_BYTES, file


if __name__ == "__main__":
    main()
