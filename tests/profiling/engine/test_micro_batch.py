"""Memory that runs out: the micro-batch is halved and nothing is counted twice."""

import weakref

import pytest
import torch

import zoo
from layerlens_core.errors import DataError, ModelError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.micro_batch import ON_CPU, MicroBatch
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.values.statistics import STATISTICS
from zoo.profiled import build, samples


def same(one, other):
    for a, b in zip(one.statistics, other.statistics, strict=True):
        assert (a.module, a.samples, a.groups) == (b.module, b.samples, b.groups)
        assert b.fisher == pytest.approx(a.fisher, rel=1e-10)
        assert b.gradient_energy == pytest.approx(a.gradient_energy, rel=1e-10)
        assert b.weight_gradient == pytest.approx(a.weight_gradient, rel=1e-10)
        assert b.spectrum == pytest.approx(a.spectrum, rel=1e-8, abs=1e-10 * a.spectrum[0])


@pytest.mark.parametrize("group", [2, 3])
@pytest.mark.parametrize("fits", [1, 2, 3])
@pytest.mark.parametrize("when", ["forward", "backward"])
def test_the_pass_goes_on_with_smaller_micro_batches(group, fits, when):
    family = zoo.find("llama")
    model, data = build(family), samples(family, count=10)
    targets = inspect(model).modules
    options = {"needs": tuple(STATISTICS), "group_size": group}
    plain = measure(model, targets, data, "causal-lm", Settings(micro_batch=6, **options))
    failed = []

    def refuse(module, args, output):
        def fail(gradient=None):
            failed.append(len(output))
            raise torch.OutOfMemoryError("out of memory")

        if len(output) > fits:
            if when == "forward":
                fail()
            if output.requires_grad:
                output.register_hook(fail)  # half of the modules have had their gradients by then

    handle = model.model.layers[1].mlp.register_forward_hook(refuse)
    other = measure(model, targets, data, "causal-lm", Settings(micro_batch=8, **options))
    handle.remove()
    assert failed
    assert other.micro_batch <= fits or other.micro_batch // group * group <= fits  # whole groups, where they fit
    same(plain, other)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_inputs_whose_factors_autograd_keeps_are_not_kept(name):
    family = zoo.find(name)
    model, data = build(family), samples(family)
    last = "down_proj" if name == "llama" else "mlp.c_proj"
    seen, gone = [], []
    for path, module in model.named_modules():
        if path.endswith(last):
            module.register_forward_hook(lambda _module, args, _output: seen.append(weakref.ref(args[0])))

    def look(*_):
        if torch.is_grad_enabled():
            gone.extend(ref() is None for ref in seen)
        seen.clear()

    model.register_forward_hook(look)
    measure(model, inspect(model).modules, data, "causal-lm", Settings(needs=("sample_norms",), micro_batch=4))
    assert gone
    assert all(gone)


def test_a_single_sample_that_does_not_fit_is_said_in_a_line():
    family = zoo.find("llama")
    model = build(family)

    def fail(*_):
        raise torch.OutOfMemoryError("out of memory")

    handle = model.model.layers[1].register_forward_hook(fail)
    with pytest.raises(ModelError, match=r"ran out of memory with a single sample of 12 tokens"):
        measure(model, inspect(model).modules, samples(family), "causal-lm", Settings(needs=("sample_norms",)))
    handle.remove()


def test_auto_is_fixed_on_a_cpu_and_holds_a_group():
    cpu = torch.device("cpu")
    assert MicroBatch.of("auto", 2, cpu).samples == ON_CPU
    assert MicroBatch.of("auto", 12, cpu).samples == 12
    assert MicroBatch.of(3, 2, cpu).samples == 3
    family = zoo.find("llama")
    model = build(family)
    with pytest.raises(DataError, match="at least 1"):
        measure(model, inspect(model).modules, samples(family), "causal-lm", Settings(needs=(), micro_batch=0))
