"""Runs that are reported already, and one browser for all tests that look at a page."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen

from layerlens_core.reporting.report import report
from layerlens_core.values.plan import Plan
from reporting import made

#: Where there has to be a browser, as in continuous integration.
NEEDED = "LAYERLENS_NEEDS_BROWSER"
#: Nothing is looked up, fetched or kept beside the page.
_SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@frozen
class Made:
    """A run, its plan, and its page."""

    run: Path
    plan: Plan
    page: Path

    @property
    def text(self) -> str:
        return self.page.read_text(encoding="utf-8")


@frozen
class Opened:
    """A page in the browser, with what it said and asked for since."""

    page: Any
    said: list[str] = field(factory=list)
    asked: list[str] = field(factory=list)


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """A run by its name, with its page; each is made once, and tests must not change it."""
    root = tmp_path_factory.mktemp("reports")
    known: dict[str, Made] = {}

    def make(name: str) -> Made:
        if name not in known:
            folder = root / name
            plan = made.RUNS[name](folder)
            known[name] = Made(folder, plan, report(folder, root / f"{name}.html"))
        return known[name]

    return make


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium as the system has it; without it these tests are skipped, or fail where it has to be there."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None or importlib.util.find_spec("playwright") is None:
        message = "pages are looked at with Chromium (apt-get install chromium) and Playwright (the extra `test`)"
        pytest.fail(f"{message}; {NEEDED} is set") if os.environ.get(NEEDED) else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=_SWITCHES)
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Open a file in a window of its own, which ends with the test."""
    contexts = []

    def open_page(path: Path, *, scheme: str = "light", width: int = 1600) -> Opened:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        found = Opened(context.new_page())
        found.page.on("console", lambda message: found.said.append(f"{message.type}: {message.text}"))
        found.page.on("pageerror", lambda error: found.said.append(str(error)))
        found.page.on("request", lambda request: found.asked.append(request.url))
        found.page.goto(path.as_uri(), timeout=60_000)
        return found

    yield open_page
    for context in contexts:
        context.close()
