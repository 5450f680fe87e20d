"""``torchrun -m layerlens_core``: the run of one process, written and told once; and what is refused, everywhere."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from layerlens_core.cli.measuring import choose_device
from layerlens_core.errors import ModelError
from layerlens_core.profiling.distributed.workers import Workers
from layerlens_core.values.profile import Profile

Model = Callable[[str], str]
Data = Callable[[str], str]

#: Metrics that all processes share, and one that the first runs for all.
METRICS = ("--metric", "weight_gradient", "--metric", "fisher", "--metric", "gora")
OPTIONS = (*METRICS, "--micro-batch", "2", "--budget", "params=r=2")


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "LAYERLENS_TIMEOUT": "60", **more}


def port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def processes(*commands: tuple[object, ...], world: int = 2, timeout: str = "60") -> list[tuple[int, str, str]]:
    """One process a command, as torchrun would start them: status, and what was printed on either stream."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port(), "WORLD_SIZE": str(world), "LAYERLENS_TIMEOUT": timeout}
    started = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=environment(**common, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, command in enumerate(commands)
    ]
    try:
        printed = [process.communicate(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(started, printed, strict=True)]


def errors(text: str) -> list[str]:
    """The lines that are neither torch's own, which warns of its sockets, nor of progress."""
    return [line for line in text.splitlines() if line and not line.startswith(("[W", "[rank", "W1", "loading "))]


@pytest.mark.slow
def test_torchrun_plans_as_one_process_does(layerlens: Any, model: Model, data: Data, tmp_path: Path) -> None:
    asked = ("plan", model("llama"), "--data", data("text"), *OPTIONS, "--device", "cpu")
    layerlens.ok(*asked, "--out", tmp_path / "one")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port(),
         "-m", "layerlens_core", *asked, "--json", "--out", str(tmp_path / "two")],
        env=environment(), capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["plan.json", "profile.json", "trace.jsonl"]
    for name in ("profile.json", "plan.json"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert json.loads(done.stdout)["schema"] == "layerlens/plan"  # one process printed


@pytest.mark.slow
def test_a_sharded_model_gets_the_scores_of_a_whole_one(
    layerlens: Any, model: Model, data: Data, tmp_path: Path
) -> None:
    """By the default, which is one that sharded weights allow."""
    asked = ("profile", model("llama"), "--data", data("text"), "--device", "cpu")
    layerlens.ok(*asked, "--metric", "weight_gradient", "--out", tmp_path / "one")
    command = ("-m", "layerlens_core", *asked, "--shard", "--out", tmp_path / "two")
    first, second = processes(command, command)
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert second[1:] == ("", "") or errors(second[2]) == []
    one, two = (Profile.load(tmp_path / name) for name in ("one", "two"))
    assert two.scores[0].values == pytest.approx(one.scores[0].values, rel=1e-5)
    assert [scores.metric for scores in two.scores] == ["weight_gradient"]
    assert two.settings["metrics"] == "default: weight_gradient, as weights are sharded"
    assert two.inventory == one.inventory


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is such a device")
def test_a_device_that_is_not_there_is_told_once_and_ends_all(model: Model, data: Data, tmp_path: Path) -> None:
    command = ("-m", "layerlens_core", "plan", model("llama"), "--data", data("text"), "--device", "cuda", "--out")
    found = processes((*command, tmp_path / "run"), (*command, tmp_path / "run"))
    assert [status for status, _, _ in found] == [2, 2]
    (line,) = errors(found[0][2])
    assert line.startswith("Error: the device cuda cannot be used: ")
    assert errors(found[1][2]) == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (None, "the device cuda cannot be used: process 1 here wants a GPU of its own, and there are 1; start with"),
        ("cuda:0", "the device cuda:0 cannot be used: several processes cannot share it; --device cuda gives each its"),
    ],
)
def test_a_gpu_for_every_process(monkeypatch: pytest.MonkeyPatch, asked: str | None, said: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ModelError, match=said):
        choose_device(asked, Workers(1, 2))


def test_processes_that_do_not_all_come_are_not_waited_for_longer_than_told(
    model: Model, data: Data, tmp_path: Path
) -> None:
    command = ("-m", "layerlens_core", "plan", model("llama"), "--data", data("text"), "--out", tmp_path / "run")
    ((status, printed, said),) = processes(command, timeout="2")
    assert (status, printed) == (2, "")
    (line,) = errors(said)
    assert line.startswith("Error: process 0 of 2 waited for the others in vain")
    assert line.endswith("start exactly 2 with torchrun --nproc-per-node 2")


def test_a_process_whose_partner_ends_says_so_and_ends_too() -> None:
    program = """
import os, sys
from layerlens_core.errors import WorkersError
from layerlens_core.profiling.distributed.workers import by_torchrun, joined
try:
    with joined(by_torchrun()) as workers:
        if workers.rank == 1:
            os._exit(7)
        workers.gather(1)
except WorkersError as error:
    print(error)
    os._exit(2)
"""
    first, second = processes(("-c", program), ("-c", program))
    assert (first[0], second[0]) == (2, 7)
    assert first[1].startswith("another process has ended or does not answer (")


def test_sharding_alone_is_refused(layerlens: Any, model: Model, data: Data, tmp_path: Path) -> None:
    message = layerlens.refused("plan", model("llama"), "--data", data("text"), "--shard", "--out", tmp_path / "run")
    assert "--shard spreads a model over several processes: torchrun --nproc-per-node N" in message
