"""Triton's kernels give what their definition and matrix products give."""

import pytest
import torch

import zoo
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.gradients import routes as products
from zoo.profiled import build, samples

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


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
def test_kernels_give_what_matmuls_give(monkeypatch, options):
    pytest.importorskip("triton")
    family = zoo.find("llama")
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
