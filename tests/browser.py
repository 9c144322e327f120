"""A real browser, headless: the system's Chromium, driven by Playwright, which needs no browser of its own then."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1400, 1000
PATIENCE_MS = 60_000  # a busy machine takes its time; a quick one does not wait
# MLflow opens its assistant over a quarter of the page, once in every new browser.
WITHOUT_ASSISTANT = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"


def find_chromium() -> str | None:
    """The Chromium of this machine, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One window. ``requests`` are the addresses that its pages asked for."""

    def __init__(self, page: Page) -> None:
        self.page, self.requests = page, list[str]()
        page.set_default_timeout(PATIENCE_MS)
        page.context.add_init_script(WITHOUT_ASSISTANT)
        page.context.on("request", lambda request: self.requests.append(request.url))

    def open(self, link: str, *texts: str) -> str:
        """Open a link afresh, wait until it shows every one of ``texts``, and return all that it shows."""
        self.page.goto("about:blank")  # else another address behind the # is no new page
        self.page.goto(link)
        return self.wait_for(*texts)

    def wait_for(self, *texts: str) -> str:
        """Wait until the page shows every one of ``texts``, and return all that it shows."""
        for text in texts:
            self.page.get_by_text(text).first.wait_for()
        return self.text()

    def text(self) -> str:
        """What the page shows, drawings included, with its white space made even."""
        return re.sub(r"\s+", " ", self.page.inner_text("body"))


@contextmanager
def browse(chromium: str, **options: Any) -> Iterator[Browser]:
    """A window of ``chromium`` on an empty profile; ``options`` are those of Playwright's pages."""
    with sync_playwright() as playwright:
        # Without a sandbox: it refuses to start as root, which is who runs in a container. It opens our pages alone.
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        viewport = {"width": WIDTH, "height": HEIGHT}
        try:
            yield Browser(running.new_page(viewport=viewport, color_scheme="light", locale="en-GB", **options))
        finally:
            running.close()
