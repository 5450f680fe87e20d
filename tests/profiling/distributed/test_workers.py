"""Two processes profile to the scores of one, with whole and with sharded weights, by gloo on the CPU.

With NCCL on two GPUs the same is in tests/benchmarks/parallel_profiling.py.
"""

import socket
import subprocess
import sys

import attrs
import pytest
import torch

from layerlens_core.errors import DataError, WorkersError
from layerlens_core.profiling.distributed.workers import ALONE, Workers, by_torchrun
from scripts import environment
from scripts import two_processes as together


def start(command, processes=2, *, world=None, seconds=60):
    """So many processes with the environment that torchrun gives; their status and what they printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world or processes)}
    started = [
        subprocess.Popen(
            [sys.executable, *(part if isinstance(part, str) else part(rank) for part in command)],
            env=environment(
                **common, RANK=str(rank), LOCAL_RANK=str(rank), LAYERLENS_TIMEOUT=str(seconds),
            ),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(processes)
    ]  # fmt: skip
    try:
        printed = [process.communicate(timeout=240) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(started, printed, strict=True)]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What each of two processes saw, by case; they start once, which takes longest."""
    out = tmp_path_factory.mktemp("together")
    for status, _, errors in start([together.__file__, str(out)]):
        assert status == 0, errors
    return [torch.load(out / f"{rank}.pt", weights_only=False) for rank in range(2)], out


def assert_same(found, expected):
    """Sums by sample to the last bit; sketches, which were added up in another order, to rounding."""
    bare = [attrs.evolve(statistics, spectrum=()) for statistics in found["statistics"]]
    assert bare == [attrs.evolve(statistics, spectrum=()) for statistics in expected["statistics"]]
    assert (found["loss"], found["samples"], found["unscored"]) == (
        expected["loss"], expected["samples"], expected["unscored"],
    )  # fmt: skip
    for one, other in zip(found["statistics"], expected["statistics"], strict=True):
        assert one.spectrum == pytest.approx(other.spectrum, rel=1e-5, abs=1e-5 * max(other.spectrum, default=0))
    assert found["vectors"].keys() == expected["vectors"].keys()
    for name, pair in expected["vectors"].items():
        for ours, theirs in zip(found["vectors"][name], pair, strict=True):
            torch.testing.assert_close(ours[:1], theirs[:1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("how", ["", "sharded "])
@pytest.mark.parametrize("name", together.CASES)
def test_two_processes_measure_what_one_does(seen, name, how):
    expected = together.numbers(together.run_case(name))
    for rank in range(2):
        assert_same(seen[0][rank][how + name], expected)


def test_a_whole_profile_is_that_of_one_process(seen):
    alone = together.profiled(ALONE)
    for rank in range(2):
        found = seen[0][rank]["profile"]
        assert found.pop("scores") == {
            name: pytest.approx(values, rel=1e-9) for name, values in alone["scores"].items()
        }
        assert found == {name: value for name, value in alone.items() if name != "scores"}
        sharded = seen[0][rank]["profile, sharded"]
        assert sharded["scores"]["fisher"] == alone["scores"]["fisher"]
        assert (sharded["activations"], sharded["architecture"]) == (alone["activations"], alone["architecture"])


def test_where_to_stop_is_decided_alike(seen):
    alone = together.profiled(ALONE, samples="auto")
    assert alone["samples"] == 32
    assert alone["settings"]["settled"] == 1
    for rank in range(2):
        assert seen[0][rank]["profile, auto"]["samples"] == 32
        assert seen[0][rank]["profile, auto"]["settings"] == alone["settings"]


def test_memory_that_runs_out_in_one_process_concerns_no_other(seen):
    expected = together.run_case("llama")
    for rank in range(2):
        for one, other in zip(seen[0][rank]["out of memory in one"]["statistics"], expected.statistics, strict=True):
            assert one.fisher == pytest.approx(other.fisher, rel=1e-5)
            assert one.weight_gradient == pytest.approx(other.weight_gradient, rel=1e-5)


@pytest.mark.parametrize(
    ("case", "kind", "said"),
    [
        (
            "another model",
            "WorkersError",
            "process 1 of 2 sees another model than process 0; give all of them the same",
        ),
        ("another data", "WorkersError", "process 1 of 2 sees another data than process 0"),
        ("another option", "WorkersError", "process 1 of 2 sees another seed than process 0"),
        ("not finite", "NonFiniteError", "process 1 of 2: the loss is nan in batch 3; the first module with an output"),
    ],
)
def test_what_is_wrong_with_one_process_ends_all_in_one_line(seen, case, kind, said):
    first, second = (seen[0][rank][case] for rank in range(2))
    assert first[0] == second[0] == kind
    assert said in first[1]
    assert first[1] == second[1]
    assert (first[2], second[2]) == (False, True)  # one of them prints it


def test_two_processes_that_were_interrupted_are_resumed_by_two_or_by_one(seen):
    results, out = seen
    expected = together.numbers(together.run_case("llama"))
    for rank in range(2):
        assert_same(results[rank]["resumed"], expected)
        assert_same(results[rank]["sharded resumed"], expected)
    assert sorted(path.name for path in (out / "one").iterdir()) == ["profile.partial", "profile.partial-1"]
    passes = []
    alone = together.run_case("llama", run=out / "one", resume=True, progress=lambda done, _: passes.append(done))
    assert_same(together.numbers(alone), expected)
    assert len(passes) == 1  # of six pieces two and three were done
    assert [path.name for path in (out / "one").iterdir()] == ["profile.partial"]


def test_an_error_in_one_process_of_a_sharded_model_ends_the_other(tmp_path):
    start([together.__file__, str(tmp_path), "sharded not finite"])
    first, second = (torch.load(tmp_path / f"{rank}.pt")["sharded not finite"] for rank in range(2))
    assert first[0] == "WorkersError"
    assert first[1].startswith("another process has ended or does not answer (")
    assert second[0] == "NonFiniteError"
    assert second[1].startswith("the loss is nan in batch 3. Look at its weights")
    assert not first[2]
    assert not second[2]  # nobody else can tell


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is '2' but RANK is not set"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2, LOCAL_RANK=0 and WORLD_SIZE=2 do not match"),
        ({"RANK": "0", "WORLD_SIZE": "many"}, "WORLD_SIZE=many do not match"),
    ],
)
def test_an_environment_that_contradicts_itself_is_refused(environment, said):
    rest = {"LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"} if "RANK" in environment else {}
    with pytest.raises(WorkersError, match=said):
        by_torchrun({**rest, **environment})


def test_one_process_is_alone():
    assert by_torchrun({}) is None
    assert by_torchrun({"WORLD_SIZE": "1", "RANK": "0"}) is None
    rest = {"LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    assert by_torchrun({**rest, "WORLD_SIZE": "4", "RANK": "3"}) == Workers(3, 4)
    assert ALONE.gather(5) == [5]
    assert ALONE.first(6) == 6

    def fail():
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        ALONE.agreed(fail)
