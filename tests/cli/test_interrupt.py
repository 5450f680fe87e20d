"""Ctrl-C leaves no file of a run, neither half nor whole, and no temporary one."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlens_core.profiling import engine

Model = Callable[[str], str]
Data = Callable[[str], str]


@pytest.fixture
def interrupted_in_the_second_batch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Raise as Ctrl-C does, while the model runs."""
    calls: list[int] = []
    real = engine.per_sample_losses

    def losses(*arguments: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(engine, "per_sample_losses", losses)
    return calls


@pytest.mark.parametrize("command", ["plan", "profile"])
def test_an_interrupted_run_leaves_nothing(
    layerlens: Any,
    model: Model,
    data: Data,
    tmp_path: Path,
    command: str,
    interrupted_in_the_second_batch: list[int],
) -> None:
    out = tmp_path / "a" / "run"
    result = layerlens(command, model("llama"), "--data", data("text"), "--micro-batch", 4, "--out", out)
    assert len(interrupted_in_the_second_batch) == 2
    assert result.exit_code == 1
    assert "Aborted" in result.stderr
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_leaves_the_one_that_it_would_replace(
    layerlens: Any, run: Callable[..., Path], model: Model, data: Data, interrupted_in_the_second_batch: list[int]
) -> None:
    there = run()
    before = {path.name: path.read_bytes() for path in there.iterdir()}
    arguments = ("--data", data("text"), "--micro-batch", 4, "--out", there, "--overwrite")
    assert layerlens("plan", model("llama"), *arguments).exit_code == 1
    assert {path.name: path.read_bytes() for path in there.iterdir()} == before


def test_an_interrupted_allocation_leaves_the_plan(
    layerlens: Any, run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    there = run()
    before = {path.name: path.read_bytes() for path in there.iterdir()}
    monkeypatch.setattr("layerlens_core.problems.check_decisions", interrupt)
    assert layerlens("allocate", there, "--budget", "params=r=1").exit_code == 1
    assert {path.name: path.read_bytes() for path in there.iterdir()} == before


def test_a_real_signal_leaves_nothing(model: Model, data: Data, tmp_path: Path) -> None:
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
        assert [path.name[:13] for path in out.iterdir()] == [".trace.jsonl."]  # the work has begun
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1
    assert stdout == ""
    assert stderr.strip() == "Aborted!"
    assert not out.exists()
