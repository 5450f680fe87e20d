"""Readers of what a comparison leaves: results, and the setting that they share."""

from pathlib import Path

from layerlens_core.comparison.jobs.store import SETTING as SETTING_FILE
from layerlens_core.comparison.jobs.store import ResultStore
from layerlens_core.values.comparison import Result
from mutation.content import as_json, bytewise
from mutation.readers import Reader
from scripts.comparing import SETTING, pretended, some_jobs

#: One that diverged is among them.
JOBS = some_jobs(8)


def comparison_reader(root: Path) -> Reader:
    """``compare RUN``: the results that are there."""
    folder = root / "comparison"
    if not folder.exists():
        filled(folder)

    def read(run: Path) -> list[Result]:
        return ResultStore.open(run, SETTING).results(JOBS)

    def again(results: list[Result], place: Path) -> list[Result]:
        store = ResultStore.open(place, SETTING)
        for result in results:
            store.add(result)
        return store.results(JOBS)

    results = [f"compare/results/{job.id}.json" for job in JOBS]
    targets = dict.fromkeys((*results, f"compare/{SETTING_FILE}"), (as_json, as_json, bytewise))
    return Reader(folder=folder, targets=targets, read=read, again=again)


def filled(run: Path) -> None:
    """Every result, in a new directory."""
    store = ResultStore.open(run, SETTING)
    for job in JOBS:
        store.add(pretended(job))
