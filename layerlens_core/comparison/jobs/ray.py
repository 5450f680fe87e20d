"""Jobs on a cluster of Ray, which need not share a disk: results come back as reports of Ray Tune's trials."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from tempfile import TemporaryDirectory
from typing import Any

from layerlens_core.comparison.jobs.local import Taken, are_done, taking_all
from layerlens_core.comparison.jobs.runner import Progress, Runner, blocks
from layerlens_core.comparison.jobs.store import ResultStore
from layerlens_core.errors import PluginError, WorkersError, brief, first_line
from layerlens_core.values.comparison import Job, Result

#: What one trial takes of a machine.
ONE_GPU: Mapping[str, float] = {"gpu": 1}
_KEPT = "the results that are there are kept, and running again computes what is missing"


def run_ray(
    store: ResultStore,
    jobs: Sequence[Job],
    make_runner: Callable[[], Runner],
    *,
    block: int,
    resources: Mapping[str, float] = ONE_GPU,
    progress: Progress = lambda result: None,
) -> list[Result]:
    """Compute on a Ray cluster what is missing, and give the results of all jobs, in their order.

    A trial of Ray Tune is a block of jobs that can be stacked. Each result is kept here as soon as it is known there.
    Ray connects as ``RAY_ADDRESS`` says, or starts on this machine, unless it was connected before.

    store: where this process keeps results.
    jobs: to be done.
    make_runner: called on the machine of every trial; what it needs (model, data) has to be there.
    block: jobs of a trial, at most.
    resources: of a trial, as ``ray.tune.with_resources`` takes them.
    progress: called with every new result.

    Raises `PluginError` where Ray is not installed, `BusyError` where another process computes some of the jobs, and
    `WorkersError` where trials failed or Ray was interrupted; results that are there are kept.
    """
    if are_done(store, jobs):
        return store.results(jobs)
    try:
        from ray import tune
    except ImportError as error:
        raise PluginError(f"Ray is missing ({first_line(error)}); pip install 'ray[tune]' brings it") from None
    with taking_all(store, jobs, progress) as taken, TemporaryDirectory(prefix="layerlens-ray-") as scratch:
        grid = blocks(taken.jobs, block)

        def trial(config: Mapping[str, Any]) -> None:
            for result in make_runner()(grid[config["block"]]):
                tune.report({"result": result})

        tuner = tune.Tuner(
            tune.with_resources(trial, dict(resources)),
            param_space={"block": tune.grid_search(list(range(len(grid))))},
            run_config=tune.RunConfig(storage_path=scratch, callbacks=[_keeping(taken)], verbose=0),
        )
        try:
            with redirect_stdout(sys.stderr):  # what it says of its progress
                ended = list(tuner.fit()) if grid else []
        except Exception as error:
            raise WorkersError(f"Ray failed: {_told(error)}; {_KEPT}") from error
        if failed := [each.error for each in ended if each.error]:
            told = _told(failed[0])
            raise WorkersError(f"{len(failed)} of {len(grid)} trials of Ray failed, the first with: {told}; {_KEPT}")
        if left := store.missing(taken.jobs):  # Ray Tune answers Ctrl-C by ending early
            raise WorkersError(f"Ray ended before {len(left)} of {len(taken.jobs)} jobs were done; {_KEPT}")
    return store.results(jobs)


def _keeping(taken: Taken) -> Any:
    """A callback of Ray Tune that keeps every result as it is reported."""
    from ray import tune

    class Keeping(tune.Callback):  # type: ignore[misc]
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            taken.keep(result["result"])

    return Keeping()


def _told(error: BaseException) -> str:
    """What a trial raised, which is the last line of what Ray says."""
    return brief((str(error).strip().splitlines() or [type(error).__name__])[-1])
