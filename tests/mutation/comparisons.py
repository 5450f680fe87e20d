"""Readers of what a comparison leaves: results, the setting that they share, and gain curves."""

from pathlib import Path

from layerlens_core.comparison.jobs.store import SETTING as SETTING_FILE
from layerlens_core.comparison.jobs.store import ResultStore
from layerlens_core.files.run import GAINS
from layerlens_core.values.comparison import Result
from layerlens_core.values.gains import GainCurve, Gains
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


def gains_reader(root: Path) -> Reader:
    """``allocate RUN`` where a comparison has measured how much methods gain."""
    folder = root / "gains"
    if not folder.exists():
        folder.mkdir()
        lora = GainCurve(ceiling=1.0, half=6.5, spread=0.02, source="measured by 3 arms")
        adapter = GainCurve(ceiling=0.8, half=3.0, spread=None, source="given")
        Gains(curves={"lora": lora, "adapter": adapter}, setting="0123456789abcdef", profile="0" * 64).save(folder)

    def again(gains: Gains, place: Path) -> Gains:
        gains.save(place)
        return Gains.load(place)

    return Reader(folder=folder, targets={GAINS: (as_json, as_json, bytewise)}, read=Gains.load, again=again)


def filled(run: Path) -> None:
    """Every result, in a new directory."""
    store = ResultStore.open(run, SETTING)
    for job in JOBS:
        store.add(pretended(job))
