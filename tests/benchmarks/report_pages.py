"""How large reports are, how long they take to make, and how long a browser takes to open them.

    PYTHONPATH=tests python tests/benchmarks/report_pages.py

Runs of 6, 24 and 80 layers of seven modules, made by hand; the median of five, with the least and the greatest. The
browser is Chromium, headless; it has opened a page once the load event has ended.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from layerlens_core.reporting.report import report
from reporting.made import decoder, profile, write_comparison, write_run

LAYERS = (6, 24, 80)
TIMES = 5


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):5.2f} s ({min(values):.2f} to {max(values):.2f})"


def opened(pages: Sequence[Path]) -> dict[Path, list[float]]:
    """Seconds until each page is loaded, in turns; nothing where there is no browser."""
    executable = shutil.which("chromium")
    if executable is None:
        return {}
    from playwright.sync_api import sync_playwright

    found: dict[Path, list[float]] = {page: [] for page in pages}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(TIMES):
            for page in pages:
                tab = browser.new_page()
                tab.goto(page.as_uri())
                timing = "performance.getEntriesByType('navigation')[0].loadEventEnd"
                found[page].append(tab.evaluate(timing) / 1000)
                tab.close()
        browser.close()
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pages, made = [], {}
        for layers in LAYERS:
            run = Path(folder, f"run-{layers}")
            write_comparison(run, write_run(run, profile(decoder(layers))))
            page = Path(folder, f"{layers}.html")
            taken = []
            for _ in range(TIMES):
                start = time.perf_counter()
                report(run, page, overwrite=True)
                taken.append(time.perf_counter() - start)
            pages.append(page)
            made[page] = taken
        loaded = opened(pages)
        print("layers     size   made in                     opened in")
        for layers, page in zip(LAYERS, pages, strict=True):
            size = f"{page.stat().st_size / 1000:.0f} KB"
            print(f"{layers:6}  {size:>7}   {spread(made[page]):26}  {spread(loaded[page]) if loaded else '–'}")


if __name__ == "__main__":
    main()
