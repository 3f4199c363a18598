"""A page in Debian's Chromium, driven by Playwright, and all that it says or asks for."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser of this machine; Playwright's own are not downloaded."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("chromium is not installed")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("playwright is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Opened:
    """A file that a browser shows.

    Args:
        browser: The browser.
        path: The file.
        context: What a context of Playwright takes: size, colours, whether there is JavaScript.
    """

    def __init__(self, browser: Browser, path: Path, **context: object):
        self.url = path.resolve().as_uri()
        self.context = browser.new_context(**{"viewport": {"width": 1240, "height": 900}, **context})  # type: ignore[arg-type]
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        """Messages of the console, errors, dialogs."""
        self.asked: list[str] = []
        """Addresses that were asked for."""
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(self.url)

    def check(self) -> None:
        """Nothing was said, and nothing asked for but the file."""
        assert self.said == []
        assert set(self.asked) == {self.url}
