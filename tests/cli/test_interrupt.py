"""Ctrl-C leaves no file of a run but what `--resume` goes on from, and no temporary one."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlens_core.profiling.engine import passes

Model = Callable[[str], str]
Data = Callable[[str], str]


@pytest.fixture
def interrupted_in_the_second_batch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Raise as Ctrl-C does, while the model runs."""
    calls: list[int] = []
    real = passes.per_sample_losses  # type: ignore[attr-defined]

    def losses(*arguments: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(passes, "per_sample_losses", losses)
    return calls


@pytest.mark.parametrize("command", ["plan", "profile"])
def test_an_interrupted_run_is_resumed_to_the_same_profile(
    layerlens: Any,
    model: Model,
    data: Data,
    tmp_path: Path,
    command: str,
    interrupted_in_the_second_batch: list[int],
) -> None:
    out = tmp_path / "a" / "run"
    asked = (command, model("llama"), "--data", data("text"), "--micro-batch", 4, "--out")
    result = layerlens(*asked, out)
    assert len(interrupted_in_the_second_batch) == 2
    assert result.exit_code == 1
    assert "interrupted; the same command with --resume goes on" in result.stderr
    assert "Aborted" in result.stderr
    assert "Traceback" not in result.output
    assert [path.name for path in out.iterdir()] == ["profile.partial"]
    assert "holds a profile that was interrupted; --resume goes on with it" in layerlens.refused(*asked, out, out=out)
    message = layerlens.refused(*asked[:-2], 2, "--out", out, "--resume", out=out)
    assert "profile.partial is of another run: its micro-batch is 4, not 2; repeat the command as it was" in message
    layerlens.ok(*asked, out, "--resume")
    layerlens.ok(*asked, tmp_path / "plain")
    assert len(interrupted_in_the_second_batch) == 2 + 2 + 3  # one batch was done, and not again
    for name in ("profile.json", "plan.json") if command == "plan" else ("profile.json",):
        assert (out / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "plain").iterdir())


def test_an_interrupted_run_leaves_the_one_that_it_would_replace(
    layerlens: Any, run: Callable[..., Path], model: Model, data: Data, interrupted_in_the_second_batch: list[int]
) -> None:
    there = run()
    before = {path.name: path.read_bytes() for path in there.iterdir()}
    arguments = ("--data", data("text"), "--micro-batch", 4, "--out", there, "--overwrite")
    assert layerlens("plan", model("llama"), *arguments).exit_code == 1
    after = {path.name: path.read_bytes() for path in there.iterdir()}
    assert after.pop("profile.partial")
    assert after == before


def test_an_interrupted_allocation_leaves_the_plan(
    layerlens: Any, run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    there = run()
    before = {path.name: path.read_bytes() for path in there.iterdir()}
    monkeypatch.setattr("layerlens_core.allocation.problem.check_decisions", interrupt)
    assert layerlens("allocate", there, "--budget", "params=r=1").exit_code == 1
    assert {path.name: path.read_bytes() for path in there.iterdir()} == before


@pytest.mark.slow
def test_a_real_signal_leaves_what_to_resume_from(model: Model, data: Data, tmp_path: Path) -> None:
    row = {"text": "the red cat sees a small dog"}
    (tmp_path / "long.jsonl").write_text((json.dumps(row) + "\n") * 20_000)
    out = tmp_path / "run"
    # A shell may have had the signal ignored, which children inherit.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from layerlens_core.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "plan", model("llama"), "--data", str(tmp_path / "long.jsonl"),
         "--samples", "20000", "--micro-batch", "1", "--out", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (out.exists() and list(out.iterdir())):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        while not (out / "profile.partial").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1
    assert stdout == ""
    assert "interrupted; the same command with --resume goes on from where it was" in stderr.splitlines()
    assert stderr.strip().splitlines()[-1] == "Aborted!"
    assert [path.name for path in out.iterdir()] == ["profile.partial"]
