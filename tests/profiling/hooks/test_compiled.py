"""Layers that are compiled: the same numbers, and the model as it was."""

import attrs
import pytest
import torch
from torch._dynamo.utils import counters
from transformers.pytorch_utils import Conv1D

import zoo
from layerlens_core.errors import ModelError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Execution, Settings
from layerlens_core.profiling.hooks import compiled
from zoo.profiled import build, samples

NEEDS = ("gradient_norms", "weight_gradient")
#: Norms that models compute in float32, whatever their dtype, are rounded where the compiler sees fit.
TOLERANCE = {"gpt2": 1e-10, "bert-classifier": 1e-10, "albert": 1e-10, "opt": 1e-10}

#: Models that run code which the compiler generated, and the lengths of their samples: each new shape, and one for any
#: shape after that, takes a C++ compiler many seconds.
GENERATED = {"llama": (5, 8), "gpt2": (5,)}


@pytest.fixture(autouse=True)
def fresh():
    """What other tests had compiled is forgotten, so that graphs can be counted."""
    torch._dynamo.reset()
    counters.clear()


@pytest.fixture
def partitioned(monkeypatch):
    """Traced, differentiated and split as the default compiler does it, but run without generated code: quicker."""
    monkeypatch.setattr(compiled, "OPTIONS", {"backend": "aot_eager_decomp_partition"})


def layers(model):
    return [layer.name for layer in inspect(model).layers]


def numbers(measured):
    found = {}
    for each in measured.statistics:
        found[each.module, "fisher"] = each.fisher
        found[each.module, "energy"] = each.gradient_energy
        if each.sum_weight_gradient is not None:
            found[each.module, "weight gradient"] = each.sum_weight_gradient
    return found


def alike(one, other, tolerance):
    assert numbers(one) == pytest.approx(numbers(other), rel=tolerance)
    assert len(one.statistics) == len(other.statistics) > 0
    assert one.loss == pytest.approx(other.loss, rel=tolerance)


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "albert", "bert-classifier"])
def test_compiled_layers_give_the_same_numbers(name, request):
    family = zoo.find(name)
    model, data = build(family), samples(family)
    if name in GENERATED:
        data = [sample for sample in samples(family, count=32) if len(sample["input_ids"]) in GENERATED[name]]
    else:
        request.getfixturevalue("partitioned")
    targets = inspect(model).modules
    plain = measure(model, targets, data, family.task, Settings(needs=NEEDS, micro_batch=4))
    fused = measure(model, targets, data, family.task, Settings(needs=NEEDS, micro_batch=4, compile=layers(model)))
    assert counters["stats"]["unique_graphs"] > 0
    alike(fused, plain, TOLERANCE.get(name, 1e-5))


def test_layers_of_one_kind_are_compiled_once_for_all_lengths(partitioned):
    family = zoo.find("llama")
    model, data = build(family), samples(family, count=12)
    targets = inspect(model).modules
    measure(model, targets, data, family.task, Settings(needs=NEEDS, micro_batch=2, compile=layers(model)))
    assert len({len(sample["input_ids"]) for sample in data}) > 4
    # With the first shape; with others; with a mask where a batch is padded.
    assert counters["stats"]["unique_graphs"] <= 4
    assert not counters["graph_break"]


def test_sketches_in_compiled_layers(partitioned):
    family = zoo.find("llama")
    model, data = build(family), samples(family)
    targets = inspect(model).modules
    options = {"needs": ("gradient_norms",), "micro_batch": 4, "sketch_columns": 8, "seed": 3}
    plain = measure(model, targets, data, family.task, Settings(**options))
    fused = measure(model, targets, data, family.task, Settings(compile=layers(model), **options))
    alike(fused, plain, TOLERANCE.get("llama", 1e-5))
    for one, other in zip(fused.statistics, plain.statistics, strict=True):
        assert attrs.astuple(one.squared_norm_error) == pytest.approx(attrs.astuple(other.squared_norm_error), rel=1e-4)


@pytest.mark.parametrize("reentrant", [False, True])
def test_compiled_layers_under_checkpointing(reentrant, partitioned):
    family = zoo.find("gpt2")
    model, data = build(family), samples(family)
    targets = inspect(model).modules
    plain = measure(model, targets, data, family.task, Settings(needs=NEEDS, micro_batch=4))
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    fused = measure(model, targets, data, family.task, Settings(needs=NEEDS, micro_batch=4, compile=layers(model)))
    alike(fused, plain, 1e-10)


def test_some_modules_of_some_layers(partitioned):
    family = zoo.find("gpt2")
    model, data = build(family), samples(family)
    targets = [target for target in inspect(model).modules if ".h.2." in target.name or "h.1.mlp.c_fc" in target.name]
    assert len(targets) == 5
    plain = measure(model, targets, data, family.task, Settings(needs=NEEDS, micro_batch=4))
    fused = measure(model, targets, data, family.task, Settings(needs=NEEDS, micro_batch=4, compile=layers(model)))
    alike(fused, plain, 1e-10)


def test_the_lowest_module_is_heard_though_its_input_needs_no_gradient(partitioned):
    family = zoo.find("gpt2")
    model, data = build(family), samples(family)
    targets = [target for target in inspect(model).modules if target.name.endswith("h.0.attn.c_attn")]
    plain = measure(model, targets, data, family.task, Settings(needs=NEEDS, micro_batch=4))
    fused = measure(model, targets, data, family.task, Settings(needs=NEEDS, micro_batch=4, compile=layers(model)))
    alike(fused, plain, 1e-10)


@pytest.mark.parametrize("failing", [False, True])
def test_the_model_is_as_it_was(failing, partitioned):
    family = zoo.find("llama")
    model, data = build(family), samples(family)
    before = {name: (type(module), set(vars(module))) for name, module in model.named_modules()}
    states = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def progress(done, total):
        if failing:
            raise KeyboardInterrupt

    try:
        measure(
            model,
            inspect(model).modules,
            data,
            family.task,
            Settings(needs=NEEDS, compile=layers(model)),
            Execution(progress=progress),
        )
    except KeyboardInterrupt:
        assert failing
    assert {name: (type(module), set(vars(module))) for name, module in model.named_modules()} == before
    assert all(module._compiled_call_impl is None for module in model.modules())
    assert all(torch.equal(tensor, states[name]) for name, tensor in model.state_dict().items())


class Special(torch.nn.Linear):
    """Stands for a linear module of another library, of which the operators know nothing."""


def test_a_layer_with_other_modules_runs_as_it_is(partitioned):
    family = zoo.find("gpt2")
    model, data = build(family), samples(family)
    inner = model.transformer.h[1].mlp.c_fc
    assert isinstance(inner, Conv1D)
    special = Special(inner.weight.shape[0], inner.weight.shape[1]).double()
    special.weight.data, special.bias.data = inner.weight.data.T.contiguous(), inner.bias.data
    model.transformer.h[1].mlp.c_fc = special
    targets = inspect(model).modules
    plain = measure(model, targets, data, family.task, Settings(needs=NEEDS, micro_batch=4))
    fused = measure(model, targets, data, family.task, Settings(needs=NEEDS, micro_batch=4, compile=layers(model)))
    alike(fused, plain, 1e-10)
    with pytest.raises(ModelError, match=r"no layer can be compiled: transformer\.h\.1\.mlp\.c_fc and others"):
        measure(model, targets, data, family.task, Settings(needs=NEEDS, compile=["transformer.h.1"]))


def test_weights_that_modules_share_are_no_address(partitioned):
    family = zoo.find("llama")
    model, data = build(family), samples(family)
    first, second = (model.model.layers[i].mlp for i in (0, 1))
    second.up_proj.weight = first.up_proj.weight
    targets = inspect(model).modules
    plain = measure(model, targets, data, family.task, Settings(needs=NEEDS, micro_batch=4))
    fused = measure(model, targets, data, family.task, Settings(needs=NEEDS, micro_batch=4, compile=layers(model)))
    alike(fused, plain, 1e-5)


def test_a_compiler_that_fails_is_said_in_a_line():
    family = zoo.find("llama")
    model, data = build(family), samples(family)
    wrong = {"cpp.cxx": (None, "no-such-compiler"), "force_disable_caches": True}
    with (
        torch._inductor.config.patch(wrong),
        pytest.raises(ModelError, match=r"^torch.compile failed: .*no-such-compiler.*; leave --compile out$"),
    ):
        measure(model, inspect(model).modules, data, family.task, Settings(needs=NEEDS, compile=layers(model)))


def test_a_spread_model_is_not_compiled():
    family = zoo.find("llama")
    model, data = build(family), samples(family)
    model.hf_device_map = {"": "cpu"}
    with pytest.raises(ModelError, match="spread over devices"):
        measure(model, inspect(model).modules, data, family.task, Settings(needs=NEEDS, compile=layers(model)))
