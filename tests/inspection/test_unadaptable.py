"""Linear modules to which nothing can be attached are known as such, and others are not mistaken for them."""

import pytest
import torch
from torch import nn
from transformers.models.bloom.modeling_bloom import BloomMLP
from transformers.models.falcon.modeling_falcon import FalconLinear
from transformers.models.llama.modeling_llama import LlamaAttention
from transformers.models.llama4.modeling_llama4 import Llama4Router
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers.models.phimoe.modeling_phimoe import PhimoeTopKRouter
from transformers.models.t5.modeling_t5 import T5DenseActDense
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

import zoo
from layerlens_core.inspection.inspect import inspect
from layerlens_core.inspection.linear import linear_kind
from layerlens_core.inspection.unadaptable import obstacle, read_directly


class Reader(nn.Module):
    """Reads one weight, describes another, and initialises a third."""

    def __init__(self):
        super().__init__()
        self.read, self.described, self.initialised = (nn.Linear(2, 2) for _ in range(3))

    def init_weights(self):
        nn.init.zeros_(self.initialised.weight)

    def forward(self, x):
        assert isinstance(self.described.weight, torch.Tensor)
        x = self.described(x.to(self.described.weight.dtype))
        return nn.functional.linear(self.initialised(x), self.read.weight)


class Heir(Reader):
    """Has its forward pass from another class."""


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        (Reader, {"read"}),
        (Heir, {"read"}),
        (nn.MultiheadAttention, {"out_proj"}),
        (WavLMAttention, {"q_proj", "k_proj", "v_proj", "out_proj"}),
        (LlamaAttention, set()),
        (T5DenseActDense, set()),
        (BloomMLP, set()),
        (nn.Sequential, set()),
    ],
)
def test_weights_that_are_read_are_found_in_the_source(kind, read):
    assert read_directly(kind) == read


def test_a_mambas_kernel_reads_more_than_its_convolution():
    assert {"dt_proj", "x_proj", "out_proj"} <= read_directly(MambaMixer)
    assert "in_proj" not in read_directly(MambaMixer)


def test_a_class_without_a_source_is_taken_to_call_its_modules():
    made = type("Made", (nn.Module,), {"forward": lambda self, x: self.linear.weight @ x})
    assert read_directly(made) == set()


def test_a_subclass_that_is_still_a_linear_map_is_a_target():
    assert obstacle(FalconLinear(4, 6), nn.Module(), "linear") is None


@pytest.mark.parametrize(("name", "router"), [("llama4", Llama4Router), ("phimoe", PhimoeTopKRouter)])
def test_a_router_that_gives_a_tuple_is_none(name, router):
    model = zoo.build(name)
    routers = [module for module in model.modules() if isinstance(module, router)]
    assert routers
    assert all(linear_kind(module) == "linear" for module in routers)
    reasons = [skipped.reason for skipped in inspect(model).skipped if skipped.name.endswith(".router")]
    assert reasons == [f"its class {router.__name__} computes more than a linear map"] * len(routers)


def test_what_cannot_be_called_is_corrected_as_a_whole():
    layer = inspect(zoo.build("wavlm")).layers[0]
    assert [writer.name.removeprefix(f"{layer.name}.") for writer in layer.writers] == [
        "feed_forward.output_dense",
        "attention",
    ]
    assert not any(module.name.endswith(("q_proj", "k_proj", "v_proj", "out_proj")) for module in layer.modules)


def test_experts_in_a_list_are_corrected_as_a_whole():
    inventory = inspect(zoo.build("switch"))
    written = {writer.name for layer in inventory.layers for writer in layer.writers}
    assert "encoder.block.1.layer.1.mlp" in written
    assert not any("expert" in name for name in written)
    assert any("expert_0" in module.name for module in inventory.modules)
