"""Two processes train one step to what one process does, and save what loads again: DDP and FSDP2, by gloo on the CPU.

With NCCL on two GPUs the same is in test_gpu.py.
"""

import pytest

from scripts import parallel_step as step

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

CASES = ("ddp:fp32", "ddp:bf16", "fsdp:fp32", "fsdp:bf16", "fsdp-root:bf16", "fsdp-root:bf16-uniform")


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Where two processes left what they saw, and that, by case; they start once, which takes longest."""
    out = tmp_path_factory.mktemp("parallel")
    return out, step.launch("cpu", out, *CASES)


@pytest.mark.parametrize("case", CASES[:4])
def test_two_processes_train_one_step_as_one_does(together, case):
    out, seen = together
    dtype = case.split(":")[1]
    step.check(seen[case], step.train("alone", dtype, "cpu"), dtype, out / case)


def test_fsdp_wants_one_dtype_among_what_trains_in_a_group(together):
    # PEFT keeps adapters in float32, but a head in the model's dtype; layers in groups of their own keep them apart.
    _, seen = together
    assert "uniform original parameter dtype" in seen["fsdp-root:bf16"]
    expected = step.train("alone", "bf16-uniform", "cpu")
    uniform = seen["fsdp-root:bf16-uniform"]
    assert uniform["loss"] == pytest.approx(expected["loss"], abs=step.TOLERANCE["bf16-uniform"])
