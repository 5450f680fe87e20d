"""On a GPU the engine gives what it gives on the CPU."""

import pytest
import torch

from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.gradients import routes as products
from layerlens_core.values.statistics import STATISTICS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def test_the_device_changes_no_score(family, build, samples):
    model, data = build(family, torch.float32), samples(family)
    targets = inspect(model).modules
    cpu = measure(model, targets, data, family.task, Settings(needs=tuple(STATISTICS))).statistics
    gpu = measure(model.cuda(), targets, data, family.task, Settings(needs=tuple(STATISTICS))).statistics
    for a, b in zip(cpu, gpu, strict=True):
        assert b.fisher == pytest.approx(a.fisher, rel=1e-4)
        assert b.gradient_energy == pytest.approx(a.gradient_energy, rel=1e-4)
        assert b.weight_gradient == pytest.approx(a.weight_gradient, rel=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"needs": ("sample_norms",)}, {"needs": ("gradient_norms",)}, {"needs": ("gradient_norms",), "micro_batch": 1},
        {"needs": ("gradient_norms",), "route": "direct"}, {"needs": ("gradient_norms", "weight_gradient")},
        {"needs": ("gradient_norms", "weight_gradient"), "route": "direct"},
        {"needs": ("gradient_norms", "weight_gradient"), "route": "direct", "group_size": 3},
        {"needs": ("gradient_norms",), "sketch_columns": 32},
    ],
)  # fmt: skip
def test_kernels_give_what_matmuls_give(named_family, build, samples, monkeypatch, options):
    pytest.importorskip("triton")
    family = named_family("llama")
    model, data = build(family).to("cuda", torch.bfloat16), samples(family, count=7)
    targets = inspect(model).modules
    fused = measure(model, targets, data, family.task, Settings(**options)).statistics
    monkeypatch.setattr(products, "_triton", lambda: False)
    for a, b in zip(fused, measure(model, targets, data, family.task, Settings(**options)).statistics, strict=True):
        assert a.fisher == pytest.approx(b.fisher, rel=1e-5)
        if a.sum_group_mean_squared_norm is not None:
            assert a.gradient_energy == pytest.approx(b.gradient_energy, rel=1e-5)
        if a.sum_weight_gradient is not None:
            assert a.weight_gradient == pytest.approx(b.weight_gradient, rel=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
@pytest.mark.parametrize(("dtype", "sketch"), [(torch.float32, 0), (torch.bfloat16, 0), (torch.bfloat16, 16)])
def test_compiled_layers_are_as_exact_as_others(named_family, build, samples, name, dtype, sketch):
    family = named_family(name)
    data = samples(family)
    needs = ("gradient_norms",) if sketch else ("gradient_norms", "weight_gradient")

    def run(dtype, *, fuse=False):
        model = build(family).to("cuda", dtype)
        inventory = inspect(model)
        layers = [layer.name for layer in inventory.layers] if fuse else []
        found = measure(
            model, inventory.modules, data, family.task, Settings(needs=needs, sketch_columns=sketch, compile=layers)
        )
        return torch.tensor([[each.fisher, each.gradient_energy] for each in found.statistics])

    truth = run(torch.float64)
    plain, fused = ((run(dtype, fuse=fuse) / truth - 1).abs().max().item() for fuse in (False, True))
    # In 16 bits T5's own rounding is a tenth of a score; the compiler rounds less often, and elsewhere.
    assert fused <= 2 * plain + 1e-5
    assert plain <= (1e-4 if dtype == torch.float32 else 0.2)


@pytest.mark.parametrize("tokens", [5, 130, 600])
@pytest.mark.parametrize("widths", [(96, 320), (300, 100), (36, 50)])  # whole blocks; parts of blocks; none for TMA
@pytest.mark.parametrize("group", [1, 2, 3])
@pytest.mark.parametrize("upright", [True, False])
def test_kernels_give_the_definition(tokens, widths, group, upright):
    fused = pytest.importorskip("layerlens_core.profiling.gradients.triton")
    torch.manual_seed(0)
    x, d = (torch.randn(2 * group, tokens, width, device="cuda").bfloat16() for width in widths)
    weight = torch.randn(widths[1], widths[0], device="cuda").bfloat16()
    weight = weight if upright else weight.T.contiguous().T
    gradients = d.double().mT @ x.double()
    together = gradients.view(2, group, *gradients.shape[1:]).sum(dim=1)

    def close(found, expected):
        assert found.tolist() == pytest.approx(expected.tolist(), rel=2e-5)

    norms, group_norms, weighted = fused.sums(x, d, weight, group)
    close(norms, gradients.square().sum(dim=(1, 2)))
    close(group_norms, together.square().sum(dim=(1, 2)))
    close(weighted, (weight.double() * together).abs().sum(dim=(1, 2)))
    tiling = fused.Tiling.of(group, tokens, 2, x.device)
    norms, group_norms = fused.totals(fused.inner_products(fused.gram_tiles(x, tiling), d, tiling), tiling)
    close(norms, gradients.square().sum(dim=(1, 2)))
    close(group_norms, together.square().sum(dim=(1, 2)))
    few = x[..., :32].contiguous()
    singly, of_groups = fused.column_squares(few, d, group)
    close(singly.flatten(), gradients[..., :32].square().sum(dim=1).flatten())
    close(of_groups.flatten(), together[..., :32].square().sum(dim=1).flatten())
