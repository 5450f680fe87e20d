"""Stacked arms on a GPU: as on a CPU, compiled or not, and with as many at once as memory allows."""

import pytest
import torch

from layerlens_core.comparison.stacked.block import Block
from layerlens_core.comparison.stacked.runner import Runner
from layerlens_core.comparison.stacked.testbed import prepare_testbed
from layerlens_core.comparison.stacked.train import Room, Training
from layerlens_core.profiling.model.frozen import untouched
from layerlens_core.values.comparison import Schedule
from zoo.compared import arm, cored, job, mixed, model_and_samples, subspace_of

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
SCHEDULE = Schedule(steps=8, batch=4, warmup=2)


def jobs_of(model):
    arms = [mixed(model, 5, methods=["adapter", "lora"]), mixed(model, 2, methods=["prefix", "lora"])]
    lora = [job(arm(model, rank), rate=rank * 1e-2, schedule=SCHEDULE, seed=rank % 2) for rank in (1, 2, 5)]
    cores = [job(cored(model, size, "weights"), rate=2e-2, schedule=SCHEDULE) for size in (3, 9)]
    cores.append(job(cored(model, 4, "random", every=2), rate=2e-2, schedule=SCHEDULE, seed=1))
    cores.append(job(cored(model, 5, "given"), rate=2e-2, schedule=SCHEDULE))
    return lora + cores + [job(one, rate=1e-2, schedule=SCHEDULE, seed=1) for one in arms]


def alike(model):
    """Cores in one subspace alone, as they mostly are."""
    return [job(cored(model, size, "given"), rate=2e-2, schedule=SCHEDULE) for size in (1, 3, 9)]


def results(family, device, *, compile=False, jobs_of=jobs_of):
    model, samples, task = model_and_samples(family)
    # On the CPU, as the signs of singular vectors, and so where a core's steps lead, are the device's.
    subspaces = {"given": subspace_of(model, 9)}
    model.to(device)
    testbed = prepare_testbed(model, task, samples[4:], samples[:4], compile=compile)
    return {result.job.id: result for result in Runner(testbed=testbed, subspaces=subspaces)(jobs_of(model))}


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("jobs_of", [jobs_of, alike])
@pytest.mark.parametrize("family", ["llama", "gpt2", "bert-classifier", "t5"])
def test_arms_train_as_on_a_cpu(family, jobs_of, compile):
    expected = results(family, "cpu", jobs_of=jobs_of)
    found = results(family, "cuda", compile=compile, jobs_of=jobs_of)
    for number, result in expected.items():
        assert found[number].training == pytest.approx(result.training, rel=2e-3)
        assert found[number].losses == pytest.approx(result.losses, rel=2e-3)
        assert found[number].right == result.right


def test_where_memory_runs_out_fewer_arms_run_at_once(monkeypatch):
    model, samples, task = model_and_samples("llama-wide", count=64)
    model.to("cuda")
    testbed = prepare_testbed(model, task, samples[8:], samples[:8])
    jobs = [job(arm(model, 4), rate=k * 1e-3, schedule=Schedule(steps=3, batch=48)) for k in range(1, 33)]

    def trained(room):
        with untouched(model):
            training = Training(testbed=testbed, block=Block.of(testbed, jobs), room=Room(room))
            return training.run(), training.room.arms

    expected, _ = trained(2)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    trained(4)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.3 * torch.cuda.max_memory_allocated() / total)
    try:
        found, room = trained(32)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert room < 32
    for one, other in zip(found, expected, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=2e-3)
