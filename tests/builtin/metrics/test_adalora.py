"""AdaLoRA's sensitivity, against the formula written out and against PEFT's own rank allocator on equal gradients."""

import numpy as np
import pytest
import torch
from peft import AdaLoraConfig
from peft.tuners.adalora.layer import RankAllocator
from torch import nn

import zoo
from layerlens_builtin.metrics.adalora import BETA, REPEATS, Sensitivity, score
from zoo.profiled import active_profile

STEPS, RANK, WIDTHS = 12, 3, {"q": (5, 4), "v": (4, 7)}


class Directions(nn.Module):
    """Parameters named as PEFT names those of its decomposition, with Λ at zero so that it counts for nothing."""

    def __init__(self):
        super().__init__()
        for kind, shape in (
            ("A", lambda o, i: (RANK, i)),
            ("E", lambda o, i: (RANK, 1)),
            ("B", lambda o, i: (o, RANK)),
        ):
            of_kind = nn.ModuleDict()
            for name, widths in WIDTHS.items():
                fill = torch.zeros if kind == "E" else torch.randn
                of_kind[name] = nn.ParameterDict({"default": nn.Parameter(fill(*shape(*widths)))})
            setattr(self, f"lora_{kind}", of_kind)

    def named_parameters(self, *args, **kwargs):
        for kind in "AEB":
            for name, holder in getattr(self, f"lora_{kind}").items():
                yield f"{name}.lora_{kind}.default", holder["default"]


def moved(model):
    """Draw new gradients, and move the parameters a little."""
    for name, parameter in model.named_parameters():
        parameter.grad = torch.randn_like(parameter) * (0.0 if "lora_E" in name else 1.0)
        with torch.no_grad():
            parameter += 0.1 * torch.randn_like(parameter) * (0.0 if "lora_E" in name else 1.0)


def adapters(model):
    return {name: (model.lora_A[name]["default"], model.lora_B[name]["default"]) for name in WIDTHS}


def test_directions_have_the_importance_that_pefts_rank_allocator_gives_them(monkeypatch):
    torch.manual_seed(0)
    model, watch = Directions(), Sensitivity()
    config = AdaLoraConfig(init_r=RANK, target_r=1, beta1=BETA, beta2=BETA, total_step=100, tinit=1, tfinal=1)
    allocator = RankAllocator(model, config, "default")
    scores = []
    combine = allocator._combine_ipt
    monkeypatch.setattr(
        allocator, "_combine_ipt", lambda of_e, of_ab: scores.append(combine(of_e, of_ab)) or scores[-1]
    )
    for _ in range(STEPS):
        moved(model)
        allocator.update_ipt(model)
        watch.before(adapters(model), torch.zeros(()))
        watch.after(adapters(model))
    allocator.mask_to_budget(model, budget=2)
    assert len(scores) == len(WIDTHS)
    for name, theirs in zip(WIDTHS, scores, strict=True):
        torch.testing.assert_close(watch.importance(name), theirs.detach())


def test_averages_are_those_of_the_formula():
    torch.manual_seed(1)
    model, watch = Directions(), Sensitivity()
    mean = {name: [np.zeros(tuple(part.shape)) for part in parts] for name, parts in adapters(model).items()}
    spread = {name: [np.zeros(tuple(part.shape)) for part in parts] for name, parts in adapters(model).items()}
    for _ in range(STEPS):
        moved(model)
        watch.before(adapters(model), torch.zeros(()))
        for name, parts in adapters(model).items():
            for at, part in enumerate(parts):
                value = np.abs(part.detach().double().numpy() * part.grad.double().numpy())
                mean[name][at] = 0.85 * mean[name][at] + 0.15 * value
                spread[name][at] = 0.85 * spread[name][at] + 0.15 * np.abs(value - mean[name][at])
    for name in WIDTHS:
        (of_a, of_b) = (mean[name][at] * spread[name][at] for at in (0, 1))
        expected = [of_a[k].mean() + of_b[:, k].mean() for k in range(RANK)]
        assert watch.importance(name).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert-classifier"])
def test_a_model_is_scored_in_repeats_and_memory_does_not_show(name):
    one, other = (score(active_profile(zoo.find(name), micro_batch=size)) for size in (2, 12))
    assert len(one) == REPEATS
    for first, second in zip(one, other, strict=True):
        assert first.keys() == set(active_profile(zoo.find(name)).modules)
        assert min(first.values()) > 0
        assert first == pytest.approx(second, rel=1e-2)
