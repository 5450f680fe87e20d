"""Where LoRA starts."""

import pytest
import torch

from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attached import lora_layers
from layerlens_core.adaptation.initialisation import ROW_NORM, align
from layerlens_core.errors import PlanError
from zoo.plans import plan_with
from zoo.probing import logits

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def test_rows_of_a_start_along_the_directions_at_the_usual_norm(family):
    model = family.build()
    before = logits(model, family)
    wrapped = apply(model, plan_with(model, {"model.layers.1": ("lora", 4)}))
    drawn = {name: layer.lora_A["default"].weight.clone() for name, layer in lora_layers(wrapped).items()}
    for rows in drawn.values():
        # Uniform entries of variance 1/(3·in): the norm that directions are given is that of the usual rows.
        assert float(rows.detach().norm(dim=1).mean()) == pytest.approx(ROW_NORM, rel=0.2)
    generator = torch.Generator().manual_seed(0)
    directions = {
        name: torch.linalg.qr(torch.randn(rows.shape[1], 3, generator=generator))[0].T for name, rows in drawn.items()
    }
    align(wrapped, directions)
    for name, layer in lora_layers(wrapped).items():
        weight = layer.lora_A["default"].weight
        torch.testing.assert_close(weight[:3], ROW_NORM * directions[name])
        assert torch.equal(weight[3], drawn[name][3])
        assert not layer.lora_B["default"].weight.any()
    assert torch.equal(logits(wrapped, family), before)


def test_by_rank_scales_what_peft_draws_by_the_fourth_root_of_the_mean_rank_over_the_rank(family):
    model = family.build()
    before = logits(model, family)
    plan = plan_with(model, {"model.layers.0": ("lora", 2), "model.layers.1": ("lora", 6)})
    other = family.build()
    torch.manual_seed(3)
    drawn = {name: layer.lora_A["default"].weight for name, layer in lora_layers(apply(other, plan)).items()}
    torch.manual_seed(3)
    wrapped = apply(model, plan, init="by-rank")
    layers = lora_layers(wrapped)
    mean = sum(layer.r["default"] for layer in layers.values()) / len(layers)
    assert {layer.r["default"] for layer in layers.values()} == {2, 6}
    for name, layer in layers.items():
        expected = drawn[name] * (mean / layer.r["default"]) ** 0.25
        torch.testing.assert_close(layer.lora_A["default"].weight, expected)
    assert torch.equal(logits(wrapped, family), before)


def test_an_unknown_init_is_refused_before_anything_is_changed(family):
    model = family.build()
    with pytest.raises(PlanError, match=r"no init is named 'by-rnk'.*Did you mean 'by-rank'"):
        apply(model, plan_with(model, {"model.layers.1": ("lora", 4)}), init="by-rnk")
