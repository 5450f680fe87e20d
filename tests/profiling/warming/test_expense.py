"""What a warm-up is said to take, against what it makes."""

import pytest
import torch

import zoo
from layerlens_core.plugin import temporary_lora, untouched
from layerlens_core.profiling.costs.activations import measure_activations
from layerlens_core.profiling.warming.expense import Expense, expense, remaining
from zoo.profiled import active_profile


@pytest.mark.parametrize("name", ["llama", "bert-classifier"])
@pytest.mark.parametrize("rank", [3, 64])
def test_parameters_are_those_that_train(name: str, rank: int) -> None:
    given = active_profile(zoo.find(name), dtype=torch.float32)
    shapes = {module.name: min(module.in_features, module.out_features) for module in given.inventory.modules}
    ranks = {module: min(rank, shapes[module]) for module in given.modules}
    heads = [head.name for head in given.inventory.heads]
    with untouched(given.model), temporary_lora(given.model, ranks, scale=2, heads=heads) as tuned:
        trained = sum(parameter.numel() for parameter in tuned.parameters() if parameter.requires_grad)
        of_heads = sum(head.parameters for head in given.inventory.heads)
    found = expense(given, given.samples, rank=rank, batch=4, activations=None)
    assert found.parameters == trained
    assert found.trained == 24 * (trained - of_heads) + 16 * of_heads
    assert found.kept is None
    assert "activations" not in found.sentence


def test_activations_grow_with_the_micro_batch_and_the_longest_sample() -> None:
    given = active_profile(zoo.find("llama"), dtype=torch.float32, micro_batch=3)
    activations = measure_activations(given.model, given.inventory, given.samples, given.task)
    one, three = (
        expense(given, given.samples, rank=4, batch=batch, activations=activations) for batch in (1, 32)
    )  # at most as many at once as memory was found to hold
    assert one.kept is not None
    assert three.kept == pytest.approx(3 * one.kept)
    assert (one.micro_batch, three.micro_batch) == (1, 3)
    shorter = [sample for sample in given.samples if len(sample["input_ids"]) <= 8]
    assert expense(given, shorter, rank=4, batch=1, activations=activations).kept < one.kept


def test_it_is_said_in_a_line() -> None:
    found = Expense(parameters=1_000_000, trained=24_000_000, kept=2.0**31, micro_batch=4)
    assert found.sentence == (
        "1,000,000 parameters, 22.9 MiB with gradients and AdamW's states, and about 2.00 GiB of activations "
        "(4 samples at once)"
    )
    assert remaining(4, 70, 1.5) == "warm-up: a step takes 0.5 s, so the remaining 66 take about 33 s"
