"""Jobs on a cluster of Ray, started for real."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from layerlens_core.comparison.jobs.local import run_local
from layerlens_core.comparison.jobs.ray import run_ray
from layerlens_core.comparison.jobs.store import ResultStore
from layerlens_core.errors import PluginError
from scripts import comparing, environment
from scripts.comparing import SETTING, content, pretending, some_jobs

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


def test_without_ray_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PluginError, match=r"pip install 'layerlens-core\[ray\]'"):
        run_ray(ResultStore.open(tmp_path, SETTING), JOBS, pretending, block=2)
