"""Stacked adapters against one adapter after the other."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import gelu, linear

from comparison.stacked.methods.places import blocks, check, placed
from layerlens_core.comparison.stacked.methods.bottleneck import Bottleneck
from layerlens_core.comparison.stacked.methods.place import Pass
from layerlens_core.profiling.attribution.layout import Layout

#: By layout, the shape of a tensor of 2 tokens a sample, and a running arm's part of it.
LAYOUTS = {
    Layout(2, 0, "whole"): lambda rows: (rows, 2),
    Layout(2, 1, "whole"): lambda rows: (2, rows),
    Layout(1, 0, "outer"): lambda rows: (2 * rows,),
}


def adapted(tensors, x, _output):
    down, down_bias, up, up_bias = (tensors[f"lora_{name}"] for name in _names())
    return x + linear(gelu(linear(x, down, down_bias)), up, up_bias)


def _names():
    return ("down.default.weight", "down.default.bias", "up.default.weight", "up.default.bias")


@given(block=blocks(), samples=st.integers(1, 3), layout=st.sampled_from(list(LAYOUTS)))
def test_each_arm_is_corrected_by_its_own_adapter_alone(block, samples, layout):
    sizes, arms, seed = block
    generator = torch.Generator().manual_seed(seed)
    running = Pass(arms, samples)
    place = placed(Bottleneck, {"out_features": 3}, sizes, running, generator, {layout.dims: layout})
    shape = (*LAYOUTS[layout](running.count * samples), 3)
    y, g = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    check(place, adapted, y, y, g, lambda tensor: tensor.chunk(running.count, dim=layout.dim), itself=True)


@given(size=st.integers(1, 9), more=st.integers(0, 9), width=st.integers(1, 40), seed=st.integers(0, 3))
def test_adapters_start_as_pytorch_starts_linear_maps(size, more, width, seed):
    start = Bottleneck.start("m", size, {"out_features": width}, seed)
    larger = Bottleneck.start("m", size + more, {"out_features": width}, seed)
    assert set(start) == {"lora_down.default.weight", "lora_down.default.bias"}
    for part, tensor in start.items():
        assert tensor.shape == Bottleneck.shapes(size, {"out_features": width})[part]
        assert tensor.abs().max() <= width**-0.5
        assert torch.equal(tensor, larger[part][:size])
        assert not torch.equal(tensor, Bottleneck.start("other", size, {"out_features": width}, seed)[part])
