"""Jobs on a cluster of Ray, started for real."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from layerlens_core.comparison.jobs.local import run_local
from layerlens_core.comparison.jobs.ray import run_ray
from layerlens_core.comparison.jobs.store import ResultStore
from layerlens_core.errors import PluginError, WorkersError
from scripts import comparing, environment
from scripts.comparing import SETTING, content, pretended, pretending, some_jobs

JOBS = some_jobs(12)
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


def on_ray(tmp_path, *more):
    """What the program says, with a home of its own, into which Ray writes."""
    program = Path(comparing.__file__).with_name("on_ray.py")
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "ray"), *more],
        capture_output=True, text=True, env=environment(HOME=str(tmp_path)), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()  # what Ray says of its progress is no result
    return json.loads(line)


@needs_ray
@pytest.mark.slow
def test_two_workers_give_the_figures_of_one_process(tmp_path):
    run_local(ResultStore.open(tmp_path / "alone", SETTING), JOBS, pretending())
    said = on_ray(tmp_path)
    assert said["error"] is None
    assert said["told"] == len(JOBS)
    assert len(said["processes"]) > 1
    assert content(tmp_path / "ray") == content(tmp_path / "alone")


@needs_ray
@pytest.mark.slow
def test_trials_that_fail_are_told_in_one_line_and_the_rest_is_kept(tmp_path):
    said = on_ray(tmp_path, "--failing")
    assert "2 of 6 trials of Ray failed" in said["error"]
    assert "no memory" in said["error"]
    assert "\n" not in said["error"]
    missing = ResultStore.open(tmp_path / "ray", SETTING).missing(JOBS)
    assert [job.seed for job in missing] == [1, 1]


class PretendedTune:
    """As much of Ray Tune as is asked for, in this process; ``fit`` ends after so many trials, or raises."""

    def __init__(self, trials=10, error=None):
        self.trials, self.error, self.seen = trials, error, {}

    Callback = object

    def report(self, metrics):
        self.seen["run_config"]["callbacks"][0].on_trial_result(0, [], None, metrics)

    def RunConfig(self, **given):
        return given

    def grid_search(self, values):
        return values

    def with_resources(self, trial, resources):
        self.seen["resources"] = resources
        return trial

    def Tuner(self, trial, *, param_space, run_config):
        self.seen["run_config"] = run_config
        return SimpleNamespace(fit=lambda: self.fitted(trial, param_space["block"]))

    def fitted(self, trial, numbers):
        for number in numbers[: self.trials]:
            trial({"block": number})
        if self.error is not None:
            raise self.error
        return [SimpleNamespace(error=None) for _ in numbers]


@pytest.fixture
def store(tmp_path):
    return ResultStore.open(tmp_path, SETTING)


def pretend(monkeypatch, tune):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(tune=tune))
    return tune


def test_a_trial_is_a_block_and_only_what_is_missing_is_done(store, monkeypatch):
    tune = pretend(monkeypatch, PretendedTune())
    asked = []
    store.add(pretended(JOBS[0]))

    def make_runner():
        asked.append([])
        return pretending(begun=asked[-1].append)

    assert run_ray(store, JOBS, make_runner, block=3) == list(map(pretended, JOBS))
    assert asked == [JOBS[1:4], JOBS[4:7], JOBS[7:8], JOBS[8:11], JOBS[11:12]]
    assert tune.seen["resources"] == {"gpu": 1}
    run_ray(store, JOBS, lambda: pytest.fail("was asked"), block=3)


@pytest.mark.parametrize(
    ("tune", "told"),
    [
        (PretendedTune(trials=2), "Ray ended before 8 of 12 jobs were done"),
        (PretendedTune(trials=2, error=RuntimeError("Traceback\nno cluster")), "Ray failed: no cluster"),
    ],
)
def test_an_end_before_its_time_is_told_and_what_is_there_is_kept(store, monkeypatch, tune, told):
    pretend(monkeypatch, tune)
    with pytest.raises(WorkersError, match=f"{told}; the results that are there are kept"):
        run_ray(store, JOBS, pretending, block=3)
    assert len(store.missing(JOBS)) == 8
    assert [path for path in store.leases.rglob("*") if path.is_file()] == []


def test_without_ray_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PluginError, match=r"pip install 'ray\[tune\]' brings it"):
        run_ray(ResultStore.open(tmp_path, SETTING), JOBS, pretending, block=2)
