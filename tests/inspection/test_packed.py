"""Parameters of packed weights are counted as what they stand for, and bytes as they lie."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import zoo
from layerlens_core.allocation.flops import depth_costs
from layerlens_core.errors import ModelError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.inspection.packed import count, is_plain, packed_state
from layerlens_core.values.costs import Training
from zoo.packed import FOREIGN, PACKED, BaseQuantLinear, HQQLinear, PackedTensor, packed, unpacked


@pytest.mark.parametrize("family", ["llama", "opt", "t5"])  # opt's linear maps have a bias, t5's share a table
@pytest.mark.parametrize("pack", PACKED)
def test_parameters_are_those_of_the_model_unpacked(family, pack):
    where = {"llama": ".layers.", "opt": ".layers.", "t5": ".block."}[family]
    model = packed(zoo.build(family), PACKED[pack], where=where)
    found, expected = inspect(model), inspect(unpacked(packed(zoo.build(family), PACKED[pack], where=where)))
    assert found.packed > 0
    assert found.parameters == expected.parameters == inspect(zoo.build(family)).parameters
    assert [(m.name, m.in_features, m.out_features) for m in found.modules] == [
        (m.name, m.in_features, m.out_features) for m in expected.modules
    ]
    assert [layer.attentions for layer in found.layers] == [layer.attentions for layer in expected.layers]


@pytest.mark.parametrize(("pack", "bytes_of"), [
    # [out, in] of 4 bits, a scale a row in float32, and what else the layout has
    ("gptq", lambda n_in, n_out: n_in * n_out // 2 + 4 * n_out + n_out // 8 * 4 + 4 * n_in),
    ("hqq", lambda n_in, n_out: n_in * n_out // 2 + 4 * n_out + 4),
    ("tensor", lambda n_in, n_out: n_in * n_out + 4 * n_out),
])  # fmt: skip
def test_bytes_are_counted_as_they_lie(pack, bytes_of):
    inventory = inspect(packed(zoo.build("llama"), PACKED[pack]))
    assert inventory.packed == sum(m.in_features * m.out_features for m in inventory.modules)
    assert inventory.packed_bytes == sum(bytes_of(m.in_features, m.out_features) for m in inventory.modules)
    for dtype, size in (("float32", 4), ("bfloat16", 2)):
        plain = (inventory.parameters - inventory.packed) * size
        assert depth_costs(inventory, Training(dtype=dtype), None)[-1].memory == plain + inventory.packed_bytes


def test_packed_weights_that_modules_share_count_once():
    first = PACKED["tensor"](nn.Linear(8, 8, bias=False))
    second = nn.Linear(8, 8)
    second.weight = first.weight
    found = count(nn.ModuleList([first, second, nn.Linear(8, 4)]))
    assert (found.parameters, found.packed, found.packed_bytes) == (64 + 8 + 36, 64, 64 + 4 * 8)


def test_a_table_of_packed_rows():
    table = nn.Embedding(10, 6)
    table.weight = nn.Parameter(torch.zeros(10, 3, dtype=torch.uint8), requires_grad=False)
    found = count(table)
    assert (found.parameters, found.packed, found.packed_bytes) == (60, 60, 30)


def test_weights_that_are_unpacked_whenever_they_are_read():
    class State:
        def __init__(self):
            self.shape, self.absmax = torch.Size([3, 8, 4]), torch.ones(6)

    class Unpacks(nn.Module):
        def __init__(self):
            super().__init__()
            self.quant_state = State()

        def forward(self, values):
            return values.float().repeat(2).view(3, 8, 4)

    module = nn.Module()
    module.gate = nn.Parameter(torch.zeros(48, dtype=torch.uint8), requires_grad=False)
    parametrize.register_parametrization(module, "gate", Unpacks(), unsafe=True)
    found = count(module)
    assert (found.parameters, found.packed, found.packed_bytes) == (96, 96, 48 + 24)


def test_masks_and_counters_are_no_packed_weights():
    module = nn.Module()
    module.register_buffer("mask", torch.ones(4, dtype=torch.bool))
    module.register_buffer("positions", torch.arange(4))
    module.register_buffer("table", torch.arange(4, dtype=torch.uint8))
    module.steps = nn.Parameter(torch.tensor(3), requires_grad=False)
    assert count(module).packed == 0
    assert count(module).parameters == 1


def test_maps_that_peft_does_not_adapt_are_skipped_by_name():
    model = packed(zoo.build("llama"), FOREIGN["old"], only="q_proj")
    inventory = inspect(model)
    skipped = {each.name: each.reason for each in inventory.skipped}
    assert (
        "QuantLinear packs its weight in a way that PEFT does not adapt" in skipped["model.layers.0.self_attn.q_proj"]
    )
    assert not any(m.name.endswith("q_proj") for m in inventory.modules)
    assert inventory.parameters == inspect(zoo.build("llama")).parameters
    with pytest.raises(ModelError, match="those of QuantLinear are packed in a way that PEFT does not adapt"):
        inspect(packed(zoo.build("llama"), FOREIGN["old"]))


def test_beside_a_map_that_saves_its_own_weights_alone_the_block_is_the_place():
    layer = inspect(packed(zoo.build("llama"), HQQLinear)).layers[0]
    assert [w.name.rpartition("layers.0.")[2] for w in layer.writers] == ["self_attn", "mlp"]
    layer = inspect(packed(zoo.build("llama"), BaseQuantLinear)).layers[0]
    assert [w.name.rpartition("layers.0.")[2] for w in layer.writers] == ["self_attn.o_proj", "mlp.down_proj"]


def test_stacked_experts_that_are_packed_are_no_place_for_lora_experts():
    model = zoo.build("mixtral")
    for module in model.modules():
        if "Experts" in type(module).__name__:
            whole = sum(p.numel() for p in module.parameters())
            for name, parameter in list(module.named_parameters(recurse=False)):
                halved = torch.zeros(*parameter.shape[:2], parameter.shape[2] // 2, dtype=torch.uint8)
                setattr(module, name, nn.Parameter(halved, requires_grad=False))
            assert count(module).parameters == whole
    inventory = inspect(model)
    assert inventory.parameters == inspect(zoo.build("mixtral")).parameters
    assert not any(layer.experts for layer in inventory.layers)
    assert any("experts stacked in one parameter, packed" in each.reason for each in inventory.skipped)
    assert all(layer.blocks for layer in inventory.layers)


def test_plain_tensors():
    weight = torch.ones(2, 3)
    assert is_plain(weight)
    assert is_plain(nn.Parameter(weight))
    assert not is_plain(weight.to_sparse())
    assert not is_plain(weight.to(torch.int8))
    assert not is_plain(weight.to(torch.float8_e4m3fn))
    assert not is_plain(PackedTensor.of(nn.Linear(3, 2)))
    assert not packed_state(nn.Linear(3, 2))
