"""Models with packed weights: scores against plain ones of the same numbers in float64, or refused by name."""

import pytest
import torch
import transformers
from torch import nn
from torch.nn.functional import linear

import zoo
from layerlens_core.errors import ModelError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.inspection.packed import packed_state
from layerlens_core.plugin.registry import default
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.gradients.routes import by_triton
from layerlens_core.profiling.model.devices import weight_device
from layerlens_core.profiling.model.frozen import untouched
from layerlens_core.profiling.model.packed import gradients_pass, mixes_samples
from layerlens_core.profiling.model.weights import dense_weight, digest
from layerlens_core.profiling.profile import profile
from layerlens_core.values.statistics import STATISTICS
from layerlens_native import gradient_sums
from zoo.packed import (
    FOREIGN,
    PACKED,
    UNTRAINABLE,
    BaseQuantLinear,
    HQQLinear,
    PackedTensor,
    QuantLinear,
    packed,
    unpacked,
)
from zoo.probing import snapshot
from zoo.profiled import build, samples

METRICS = ("fisher", "gradient_energy", "weight_gradient")
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}
#: By name, what transformers loads a model with; None where the package is missing.
LIBRARIES = {
    "4-bit": ("bitsandbytes", lambda: transformers.BitsAndBytesConfig(**NF4)),
    "4-bit, nested": ("bitsandbytes", lambda: transformers.BitsAndBytesConfig(**NF4, bnb_4bit_use_double_quant=True)),
    "4-bit, in 16 bits": (
        "bitsandbytes",
        lambda: transformers.BitsAndBytesConfig(**NF4, bnb_4bit_quant_storage=torch.bfloat16),
    ),
    "8-bit": ("bitsandbytes", lambda: transformers.BitsAndBytesConfig(load_in_8bit=True)),
    "torchao": ("torchao", lambda: transformers.TorchAoConfig(torchao("Int8WeightOnlyConfig"))),
    "torchao, any bits": ("torchao", lambda: transformers.TorchAoConfig(torchao("IntxWeightOnlyConfig"))),
}


def torchao(name):
    return getattr(pytest.importorskip("torchao.quantization"), name)()


def loaded(tmp_path, library):
    """A Llama as transformers loads it packed, and the same model before."""
    package, config = LIBRARIES[library]
    pytest.importorskip(package, reason=f"{package} is not installed")
    family = zoo.find("llama").with_config(hidden_size=64, intermediate_size=128)
    full = build(family, torch.float32)
    full.save_pretrained(tmp_path / "model")
    return full, type(full).from_pretrained(tmp_path / "model", dtype=torch.float32, quantization_config=config())


def state(model):
    """Modes of modules, and which weights train; values are for the digest."""
    return [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]


def in_float64(model, inventory, full):
    """The full model with the packed one's weights, unpacked."""
    modules, plain = dict(model.named_modules()), dict(full.double().named_modules())
    for target in inventory.modules:
        plain[target.name].weight = nn.Parameter(dense_weight(modules[target.name], target, model)().double())
    return full


def close(found, expected, tolerance):
    assert [s.module for s in found.statistics] == [s.module for s in expected.statistics]
    for ours, theirs in zip(found.statistics, expected.statistics, strict=True):
        assert ours.fisher == pytest.approx(theirs.fisher, rel=tolerance)
        assert ours.gradient_energy == pytest.approx(theirs.gradient_energy, rel=tolerance)
        assert ours.weight_gradient == pytest.approx(theirs.weight_gradient, rel=tolerance)


@pytest.mark.parametrize("micro_batch", [1, 4])
@pytest.mark.parametrize("pack", PACKED)
@pytest.mark.parametrize("name", ["llama", "opt"])
def test_scores_are_those_of_the_model_unpacked(name, pack, micro_batch):
    family = zoo.find(name)
    model, plain = packed(build(family), PACKED[pack]), unpacked(packed(build(family), PACKED[pack]))
    data = samples(family)
    settings = Settings(needs=tuple(STATISTICS), micro_batch=micro_batch)
    found = measure(model, inspect(model).modules, data, family.task, settings)
    close(found, measure(plain, inspect(plain).modules, data, family.task, settings), 1e-12)
    assert found.unscored == ()


@pytest.mark.parametrize("library", LIBRARIES)
def test_scores_of_libraries_are_those_of_their_weights_unpacked(tmp_path, library):
    full, model = loaded(tmp_path, library)
    data = samples(zoo.find("llama"))
    inventory, before = inspect(model), (digest(model), state(model))
    assert inventory.parameters == sum(p.numel() for p in full.parameters())
    assert inventory.packed == sum(m.in_features * m.out_features for m in inventory.modules)
    found = profile(model, data, metrics=METRICS)
    assert (digest(model), state(model)) == before
    close(found, profile(in_float64(model, inventory, full), data, metrics=METRICS), 1e-5)


@pytest.mark.parametrize("library", ["4-bit", "8-bit", "torchao"])
def test_every_metric_leaves_a_model_of_libraries_as_it_was(tmp_path, library):
    _, model = loaded(tmp_path, library)
    before = digest(model)
    metrics = ("fisher", *(name for name, provider in default().providers("metric").items() if provider.active))
    profile(model, samples(zoo.find("llama"), count=12), metrics=metrics, latency=True, spectrum=True)
    assert digest(model) == before  # bitsandbytes packs anew what runs in evaluation mode on a CPU


def test_a_model_that_its_library_packed_for_inference_is_refused(tmp_path):
    _, model = loaded(tmp_path, "4-bit")
    with torch.no_grad():
        model.eval()(input_ids=torch.arange(4, 9)[None])
    if not any(getattr(m.weight.quant_state, "packing_format_for_cpu", False) for m in linears(model)):
        pytest.skip("bitsandbytes packs weights anew on processors with AVX-512 for bfloat16 alone")
    with pytest.raises(
        ModelError, match=r"q_proj is packed \(Linear4bit of Params4bit\) and lets no gradient .* load the model again"
    ):
        profile(model, samples(zoo.find("llama")))


def linears(model):
    return [m for m in model.modules() if hasattr(getattr(m, "weight", None), "quant_state")]


def test_dynamic_quantisation_of_inputs_is_refused(tmp_path):
    quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    model = zoo.find("llama").build(dtype=torch.bfloat16)
    quantization.quantize_(model.model.layers, quantization.Int8DynamicActivationInt8WeightConfig())
    with pytest.raises(
        ModelError, match=r"layers\.0\.self_attn\.q_proj is packed \(Linear of Int8Tensor\) and lets no gradient"
    ):
        profile(model, samples(zoo.find("llama")))


@pytest.mark.parametrize(("pack", "message"), [
    ("no backward", r"q_proj is packed \(MarlinQuantLinear\) and lets no gradient through to its input"),
    ("rounded", r"q_proj is packed \(RoundingQuantLinear\) and gives gradients that depend on its input"),
])  # fmt: skip
def test_modules_that_give_no_gradient_of_a_linear_map_are_refused(pack, message):
    model = packed(build(zoo.find("llama")), UNTRAINABLE[pack], only="q_proj")
    before = snapshot(model)
    with pytest.raises(ModelError, match=message):
        profile(model, samples(zoo.find("llama")))
    assert snapshot(model) == before


def test_modules_that_peft_does_not_adapt_must_let_gradients_through_too():
    class Deaf(QuantLinear):
        def forward(self, x):
            return super().forward(x.detach())

    model = packed(build(zoo.find("llama")), Deaf, only="down_proj")
    with pytest.raises(ModelError, match=r"down_proj is packed \(Deaf\) and lets no gradient through"):
        profile(model, samples(zoo.find("llama")))
    model = packed(build(zoo.find("llama")), QuantLinear, only="down_proj")
    found = profile(model, samples(zoo.find("llama")))
    assert not any("down_proj" in s.module for s in found.statistics)


def test_packed_experts_must_let_gradients_through():
    class PackedExperts(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_up_proj = nn.Parameter(torch.zeros(2, 4, 2, dtype=torch.uint8), requires_grad=False)

        def forward(self, x):
            return x.detach() if self.cuts else 2 * x

    model = nn.Sequential(PackedExperts())
    inputs = torch.ones(1, 4, requires_grad=True)
    model[0].cuts = False
    with gradients_pass(model):
        model(inputs)
    model[0].cuts = True
    with pytest.raises(ModelError, match=r"0 is packed \(PackedExperts\) and lets no gradient"), gradients_pass(model):
        model(inputs)
    model(inputs)  # no hook stays


def test_weights_of_integers_that_nothing_runs_are_refused():
    model = packed(build(zoo.find("llama")), FOREIGN["integers"], only="v_proj")
    with pytest.raises(ModelError, match=r"v_proj is packed \(Linear\) and does not run: RuntimeError"):
        profile(model, samples(zoo.find("llama")))


def test_what_cannot_be_unpacked_is_refused_before_the_pass():
    class Closed(BaseQuantLinear):
        dequantize_weight = None

        def forward(self, x):
            return linear(x, BaseQuantLinear.dequantize_weight(self).T.to(x))

    class Lies(HQQLinear):
        def dequantize(self):
            return super().dequantize() + 1

        def forward(self, x):
            return linear(x, super().dequantize().to(x))

    for kind in (Closed, Lies):
        model = packed(build(zoo.find("llama")), kind, only="k_proj")
        assert profile(model, samples(zoo.find("llama")), metrics=("fisher",)).statistics  # needs no weight
        with pytest.raises(ModelError, match=r"k_proj is packed .* need plain ones, so leave gora, weight_gradient"):
            profile(model, samples(zoo.find("llama")), metrics=METRICS)


@pytest.mark.parametrize("pack", PACKED)
def test_a_digest_knows_what_a_packed_weight_is_made_of(pack):
    model = packed(build(zoo.find("llama")), PACKED[pack])
    before = digest(model)
    assert digest(packed(build(zoo.find("llama")), PACKED[pack])) == before
    assert weight_device(model.model.layers[0].mlp.up_proj, model) == torch.device("cpu")
    *_, scale = packed_state(model.model.layers[1].mlp.up_proj).values()
    scale[0] += 1
    assert digest(model) != before


def test_packed_modules_stay_in_training_mode():
    model = packed(build(zoo.find("llama")), PACKED["hqq"], only="mlp")
    with untouched(model):
        assert {type(m).__name__ for m in model.modules() if m.training} == {"HQQLinear"}
    model.eval()
    with untouched(model):
        pass
    assert not any(m.training for m in model.modules())


def test_kernels_see_plain_tensors_alone():
    rows, wrapped = torch.ones(2, 3, 4), PackedTensor(torch.ones(3, 4, dtype=torch.int8), torch.ones(3, 1))
    assert gradient_sums._fit(rows, rows)
    assert not gradient_sums._fit(rows, wrapped)
    assert not by_triton(wrapped, wrapped)


def test_layers_with_packed_weights_are_not_compiled():
    pytest.importorskip("torch._inductor")
    from layerlens_core.profiling.hooks.compiled import can_be_heard

    plain = nn.Linear(8, 8)
    assert can_be_heard(plain)
    assert not any(can_be_heard(pack(nn.Linear(8, 8))) for pack in (*PACKED.values(), *FOREIGN.values()))
    model = packed(build(zoo.find("llama")), PACKED["gptq"])
    with pytest.raises(ModelError, match=r"no layer can be compiled: .*BaseQuantLinear"):
        profile(model, samples(zoo.find("llama")), compile=True)


def test_outliers_of_8_bit_kernels_depend_on_the_batch_except_on_a_cpu():
    module = PACKED["gptq"](nn.Linear(8, 8))
    module.state = type("State", (), {"threshold": 6.0})()
    assert not mixes_samples(nn.Sequential(module))
    assert mixes_samples(nn.Sequential(module.to("meta")))
    module.state.threshold = 0.0
    assert not mixes_samples(nn.Sequential(module))
