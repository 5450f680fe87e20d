"""What a GPU could do differently, for one and for two of them: identity, one step, saving, kernels, NCCL.

It needs no fixture of other files and no more than ``scripts/parallel_step.py`` and the zoo, so that it runs on a
machine with a GPU and little else:
``PYTHONPATH=.:plugins pytest --noconftest -p no:cacheprovider tests/adaptation/test_gpu.py``.
"""

import subprocess
import sys

import pytest
import torch

from scripts import parallel_step as step

ONE = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
TWO = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
DTYPES = [torch.float32, torch.bfloat16]
#: Between two orders of summing, in float32 and in bf16, for logits of about 1.
CLOSE = {torch.float32: 2e-4, torch.bfloat16: 6e-2}


def logits(model, device="cuda"):
    with torch.no_grad():
        return model(**step.inputs(device)).logits.float().cpu()


@pytest.mark.gpu
@ONE
class TestOneGPU:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("implementation", ["eager", "sdpa"])
    def test_it_computes_at_first_what_the_model_does(self, dtype, implementation):
        model = step.base(dtype, "cuda").eval()
        model.set_attn_implementation(implementation)
        before = logits(model)
        wrapped = step.attach(model, step.configuration())
        assert torch.equal(logits(wrapped), before)
        step.randomised(wrapped)
        assert not torch.allclose(logits(wrapped), before, atol=0.05)
        with wrapped.disable_adapter():
            assert torch.equal(logits(wrapped), before)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_it_is_what_the_processor_computes(self, dtype):
        there = logits(step.randomised(step.mixed(dtype, "cuda")).eval())
        here = logits(step.randomised(step.mixed(dtype, "cpu")).eval(), "cpu")
        torch.testing.assert_close(there, here, rtol=0, atol=CLOSE[dtype])

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_everything_stands_beside_its_module(self, dtype):
        wrapped = step.mixed(dtype, "cuda")
        assert {parameter.device.type for parameter in wrapped.parameters()} == {"cuda"}
        trained = {name: p.dtype for name, p in wrapped.named_parameters() if p.requires_grad}
        assert {kind for name, kind in trained.items() if "lora_" in name} == {torch.float32}
        assert {kind for name, kind in trained.items() if "lora_" not in name} == {dtype}

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("checkpointing", [False, True])
    def test_it_trains_and_is_saved(self, dtype, checkpointing, tmp_path):
        wrapped = step.randomised(step.mixed(dtype, "cuda"))
        if checkpointing:
            wrapped.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
        wrapped.train()
        trained = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
        start = {name: p.detach().clone() for name, p in trained.items()}
        optimizer = torch.optim.AdamW(trained.values(), lr=1e-2)
        losses = []
        for _ in range(4):
            loss = wrapped(**step.inputs("cuda")).loss
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.values())
            optimizer.step()
        assert losses[-1] < losses[0]
        assert [name for name, p in trained.items() if torch.equal(p, start[name])] == []
        wrapped.eval().save_pretrained(tmp_path)
        loaded = step.load(step.base(dtype, "cuda"), tmp_path).eval()
        assert torch.equal(logits(loaded), logits(wrapped))

    def test_one_step_is_that_of_the_processor(self, tmp_path):
        there = step.train("alone", "fp32", "cuda", tmp_path)
        here = step.train("alone", "fp32", "cpu")
        assert there["loss"] == pytest.approx(here["loss"], abs=CLOSE[torch.float32])
        for name, parameter in here["trained"].items():
            torch.testing.assert_close(there["trained"][name], parameter, rtol=0, atol=CLOSE[torch.float32], msg=name)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_flex_attention_is_another_kernel_for_the_same(self, dtype):
        wrapped = step.randomised(step.mixed(dtype, "cuda")).eval()
        expected = logits(wrapped)
        wrapped.set_attn_implementation("flex_attention")
        torch.testing.assert_close(logits(wrapped), expected, rtol=0, atol=CLOSE[dtype])

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_it_compiles_as_one_graph(self, dtype):
        wrapped = step.randomised(step.mixed(dtype, "cuda")).train()

        def gradients(model):
            wrapped.zero_grad()
            loss = model(**step.inputs("cuda")).loss
            loss.backward()
            return loss.item(), {n: p.grad.clone() for n, p in wrapped.named_parameters() if p.requires_grad}

        loss, plain = gradients(wrapped)
        compiled_loss, compiled = gradients(torch.compile(wrapped, fullgraph=True))
        assert compiled_loss == pytest.approx(loss, abs=CLOSE[dtype])
        for name, gradient in plain.items():
            difference = (compiled[name] - gradient).float().norm() / gradient.float().norm()
            assert difference < {torch.float32: 1e-3, torch.bfloat16: 0.1}[dtype], name


@pytest.mark.gpu
@TWO
class TestTwoGPUs:
    CASES = ("ddp:fp32", "ddp:bf16", "fsdp:fp32", "fsdp:bf16")

    @pytest.fixture(scope="class")
    def together(self, tmp_path_factory):
        out = tmp_path_factory.mktemp("parallel")
        return out, step.launch("cuda", out, *self.CASES)

    @pytest.mark.parametrize("case", CASES)
    def test_two_processes_train_one_step_as_one_does(self, together, case):
        out, seen = together
        dtype = case.split(":")[1]
        step.check(seen[case], step.train("alone", dtype, "cuda"), dtype, out / case, "cuda")


def test_this_file_runs_where_little_is_installed():
    # Neither cattrs nor structlog, nor LayerLens itself with its entry points.
    blocked = (
        "import sys, runpy; sys.modules.update(dict.fromkeys(['cattrs', 'structlog', 'click']));"
        f"step = runpy.run_path({step.__file__!r});"
        "model = step['mixed'](); model(**step['inputs']()).loss.backward();"
        "print(sum(parameter.requires_grad for parameter in model.parameters()))"
    )
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) == 16
