"""An interrupted profile goes on and ends with the numbers of one that was not, to the last bit."""

import json
import subprocess
import sys

import pytest
import torch

from layerlens_core.errors import FileError
from layerlens_core.files import tensors
from layerlens_core.files.run import CHECKPOINT
from layerlens_core.profiling.engine import checkpoint as partials
from layerlens_core.profiling.engine.checkpoint import Checkpoint
from layerlens_core.profiling.engine.schedule import Composition
from layerlens_core.profiling.engine.settings import Execution, Settings
from layerlens_core.values.statistics import STATISTICS
from scripts import environment
from scripts import killed_runs as killed
from zoo.profiled import unlabelled

ALL = tuple(STATISTICS)


def test_killed_in_twenty_runs_and_resumed_the_numbers_are_the_same(tmp_path):
    done = subprocess.run(
        [sys.executable, killed.__file__, str(tmp_path), "20"],
        env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)
    assert [run["same"] for run in runs] == [True] * 20
    assert sum(bool(run["killed"]) for run in runs) >= 16  # those at a moment that is counted, not timed
    assert sum(run["written"] for run in runs) >= 10  # most had something to go on from
    assert sum(run["rest"] < 0.9 for run in runs) >= 10  # and did go on


class Interrupted(Exception):
    pass


def stop_after(monkeypatch, pieces):
    """The pass ends with an error when so many pieces were written down."""
    written, real = [], Checkpoint.offer

    def offer(self, state):
        real(self, state)
        written.append(state)
        if len(written) == pieces:
            raise Interrupted

    monkeypatch.setattr(Checkpoint, "offer", offer)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_memory_that_ran_out_before_the_interruption_is_remembered(monkeypatch, tmp_path, after):
    model, samples = killed.build(), unlabelled(22)

    def refuse(module, args, output):
        if len(output) > 6:
            raise torch.OutOfMemoryError("out of memory")

    model.model.layers[1].mlp.register_forward_hook(refuse)
    options = {"needs": ALL, "directions": True, "rank": 4, "micro_batch": 10}
    targets = killed.inspect(model).modules
    plain = killed.engine.measure(model, targets, samples, "causal-lm", Settings(**options))
    assert plain.micro_batch == 5  # after a piece of 10 samples was halved
    with monkeypatch.context() as patch:
        stop_after(patch, after)
        with pytest.raises(Interrupted):
            killed.engine.measure(
                model, targets, samples, "causal-lm", Settings(**options), Execution(run=tmp_path, seconds=0)
            )
    resumed = killed.engine.measure(
        model, targets, samples, "causal-lm", Settings(**options), Execution(run=tmp_path, resume=True, seconds=0)
    )
    assert killed.same(plain, resumed)


def test_what_modules_did_before_the_interruption_is_remembered(monkeypatch, tmp_path):
    model, samples = killed.build(), unlabelled(killed.SAMPLES)
    needs = ("sample_norms",)
    plain = killed.profile(model, samples, needs)
    with monkeypatch.context() as patch:
        stop_after(patch, 5)  # all pieces: nothing is left to be seen
        with pytest.raises(Interrupted):
            killed.profile(model, samples, needs, run=tmp_path)
    assert killed.same(plain, killed.profile(model, samples, needs, run=tmp_path, resume=True))


@pytest.fixture
def unfinished(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Interrupted):
            killed.profile(killed.build(), unlabelled(killed.SAMPLES), ALL, run=tmp_path)
    return tmp_path


def test_another_run_is_refused_in_a_line_that_says_what_differs(unfinished):
    model, samples = killed.build(), unlabelled(killed.SAMPLES)
    again = {"run": unfinished, "resume": True}
    with pytest.raises(FileError, match="is of another run: it has another data; repeat the command as it was"):
        killed.profile(model, samples[1:], ALL, **again)
    with pytest.raises(FileError, match="its group-size is 2, not 3"):
        killed.profile(model, samples, ALL, group_size=3, **again)
    with pytest.raises(FileError, match="its seed is 0, not 1"):
        killed.profile(model, samples, ALL, seed=1, **again)
    with pytest.raises(FileError, match="its needs is"):
        killed.profile(model, samples, ("sample_norms",), **again)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] += 1
    with pytest.raises(FileError, match="it has another model"):
        killed.profile(model, samples, ALL, **again)
    assert [path.name for path in unfinished.iterdir()] == [CHECKPOINT]  # untouched, for the right one


@pytest.mark.parametrize("damage", ["cut", "empty", "words", "schema"])
def test_a_damaged_file_is_refused_in_a_line(unfinished, damage):
    path = unfinished / CHECKPOINT
    content = path.read_bytes()
    damaged = {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "words": b"nothing of the kind, but some forty bytes of it",
        "schema": content.replace(b"layerlens/partial", b"layerlens/plenary"),
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(FileError, match=r"(is damaged|is no layerlens/partial file).*begin anew with --overwrite"):
        killed.profile(killed.build(), unlabelled(killed.SAMPLES), ALL, run=unfinished, resume=True)


def test_a_file_that_says_another_thing_is_refused(unfinished):
    path = unfinished / CHECKPOINT
    content = path.read_bytes()
    header, arrays = tensors.header_of(content), tensors.arrays_of(content)
    refused = pytest.raises(FileError, match="is damaged; begin anew with --overwrite")

    def resumed():
        killed.profile(killed.build(), unlabelled(killed.SAMPLES), ALL, run=unfinished, resume=True)

    for change in ({"micro_batch": 8}, {"samples": 3}, {"generation": 7}, {"sights": {}}):
        tensors.write(path, arrays, {**header, **change})  # the digest is of what was written before
        with refused:
            resumed()
    name = "losses"
    tensors.write(path, {**arrays, name: arrays[name] + 1}, header)
    with refused:
        resumed()
    module = next(iter(header["sights"]))
    for change in (
        {"micro_batch": 0}, {"micro_batch": "4"}, {"samples": 1.5}, {"samples": True}, {"singles": -1},
        {"generation": 0}, {"generation": 10**30}, {"sights": {"nowhere": [True, True, None]}},
        {"sights": {module: [True]}}, {"sights": {module: [1, True, None]}}, {"sights": {module: [True, True, [-1]]}},
        {"sights": []}, {"fingerprint": []},
    ):  # fmt: skip
        told = {key: value for key, value in {**header, **change}.items() if key != "digest"}
        tensors.write(path, arrays, {**told, "digest": tensors.digest(arrays, told)})
        with refused:
            resumed()
    told = {key: value for key, value in header.items() if key != "digest"}
    for changed in (
        {**arrays, name: arrays[name][:1]}, {**arrays, name: arrays[name].astype("float32")},
        {**arrays, name: arrays[name] * float("inf")}, {key: arrays[key] for key in arrays if key != name},
        {**arrays, "0/nowhere": arrays[name]}, {**arrays, f"9/{module}": arrays[name]},
    ):  # fmt: skip
        tensors.write(path, changed, {**told, "digest": tensors.digest(changed, told)})
        with refused:
            resumed()


def test_without_resume_the_profile_begins_anew(unfinished):
    plain = killed.profile(killed.build(), unlabelled(killed.SAMPLES), ALL)
    assert killed.same(plain, killed.profile(killed.build(), unlabelled(killed.SAMPLES), ALL, run=unfinished))
    assert killed.same(
        plain, killed.profile(killed.build(), unlabelled(killed.SAMPLES), ALL, run=unfinished / "new", resume=True)
    )


def test_files_of_several_processes_add_up_and_those_of_an_earlier_generation_do_not_count(tmp_path):
    targets = killed.inspect(killed.build()).modules
    empty = killed.engine.Ledger.empty([target.name for target in targets], 8, 2, ("sample_norms",))
    whole = killed.engine.measure(
        killed.build(), targets, unlabelled(8), "causal-lm", Settings(needs=("sample_norms",))
    ).ledger

    def state(*units, total):
        sums = {targets[0].name: (torch.full((2, 2), total),)}
        return partials.State(
            ledger=whole.only(units), sums=sums, sights={}, composition=Composition(4), micro_batch=4 - len(units)
        )

    identity = {"model": "a"}
    Checkpoint(run=tmp_path, fingerprint=identity, generation=1, rank=2).write(state(3, total=100.0))
    Checkpoint(run=tmp_path, fingerprint=identity, generation=2).write(state(0, total=1.0))
    Checkpoint(run=tmp_path, fingerprint=identity, generation=2, rank=1).write(state(1, 2, total=2.0))
    mine = Checkpoint(run=tmp_path, fingerprint=identity)
    found = mine.begin(empty, resume=True)
    assert found.ledger.missing() == [3]
    assert torch.equal(found.sums[targets[0].name][0], torch.full((2, 2), 3.0))
    assert (found.micro_batch, mine.generation) == (2, 3)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    again = Checkpoint(run=tmp_path, fingerprint=identity).begin(empty, resume=True)
    assert again.ledger.missing() == [3]
    assert torch.equal(again.sums[targets[0].name][0], torch.full((2, 2), 3.0))
