"""The engine against one plain backward pass per sample, for every family, and its invariances."""

import math

import pytest
import torch
from torch import Tensor

import zoo
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.samples.batches import split
from layerlens_core.profiling.samples.sample import IGNORED, collate
from layerlens_core.values.statistics import STATISTICS, ModuleStatistics
from zoo.profiled import build, reference, samples

ALL = tuple(STATISTICS)
NORMS = ("gradient_norms",)
GROUP = 2


def expected(gradients: Tensor, weight: Tensor, group: int) -> dict[str, float]:
    """Fisher, energy, ‖E g‖² and mean |W ⊙ ḡ| straight from their definitions, in float64."""
    gradients, weight = gradients.double(), weight.double()
    full = len(gradients) // group * group
    groups = gradients[:full].unflatten(0, (-1, group))
    means = groups.mean(dim=1)
    pairs = [float((g[i] * g[j]).sum()) for g in groups for i in range(group) for j in range(group) if i != j]
    return {
        "fisher": float(gradients.square().sum()) / len(gradients),
        "gradient_energy": float(means.square().sum()) / len(means),
        "mean_gradient_squared_norm": math.fsum(pairs) / len(pairs),
        "weight_gradient": float((weight * means).abs().mean()),
    }


def weight_of(module: torch.nn.Module) -> Tensor:
    return module.weight.T if type(module).__name__ == "Conv1D" else module.weight


def agree(statistics: ModuleStatistics, values: dict[str, float], tolerance: float) -> None:
    for name, value in values.items():
        # ‖E g‖² is a difference of sums and may cancel: its error is measured against the larger of them.
        scale = values["fisher"] if name == "mean_gradient_squared_norm" else value
        assert getattr(statistics, name) == pytest.approx(value, rel=tolerance, abs=tolerance * abs(scale)), (
            statistics.module,
            name,
        )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_scores_equal_one_backward_pass_per_sample(family, dtype, tolerance):
    model = build(family, dtype)
    data = samples(family)
    targets = inspect(model).modules
    modules = dict(model.named_modules())
    measured = measure(model, targets, data, family.task, Settings(needs=ALL, group_size=GROUP, micro_batch=4))
    assert measured.unscored == ()
    assert measured.samples == len(data)
    truth = reference(model, [t.name for t in targets], data)
    assert len(measured.statistics) == len(targets) > 0
    for statistics in measured.statistics:
        name = statistics.module
        assert statistics.fisher > 0
        agree(statistics, expected(truth[name], weight_of(modules[name]).detach(), GROUP), tolerance)


@pytest.mark.parametrize("route", ["group-gram", "direct", "mixed"])
def test_every_route_is_exact(family, route):
    model, data = build(family), samples(family, count=6)
    targets = inspect(model).modules
    measured = measure(
        model, targets, data, family.task, Settings(needs=NORMS, group_size=GROUP, micro_batch=4, route=route)
    )
    truth = reference(model, [t.name for t in targets], data)
    for statistics in measured.statistics:
        values = expected(truth[statistics.module], torch.zeros(()), GROUP)
        del values["weight_gradient"]
        agree(statistics, values, 1e-10)


@pytest.mark.parametrize("group", [1, 2, 3])
@pytest.mark.parametrize("micro_batch", [1, 2, 5, 8])
def test_the_micro_batch_changes_nothing(group, micro_batch):
    family = zoo.find("llama")
    model, data = build(family, torch.float32), samples(family)
    targets = inspect(model).modules
    one = measure(model, targets, data, family.task, Settings(needs=ALL, group_size=group, micro_batch=6)).statistics
    other = measure(
        model, targets, data, family.task, Settings(needs=ALL, group_size=group, micro_batch=micro_batch)
    ).statistics
    for a, b in zip(one, other, strict=True):
        assert (a.samples, a.groups) == (b.samples, b.groups) == (7, 7 // group)
        assert b.fisher == pytest.approx(a.fisher, rel=1e-5)
        assert b.gradient_energy == pytest.approx(a.gradient_energy, rel=1e-5)
        assert b.weight_gradient == pytest.approx(a.weight_gradient, rel=1e-5)


def test_fisher_does_not_depend_on_the_order(family):
    model, data = build(family, torch.float32), samples(family)
    targets = inspect(model).modules
    one = measure(model, targets, data, family.task, Settings(needs=NORMS, micro_batch=4)).statistics
    other = measure(model, targets, data[::-1], family.task, Settings(needs=NORMS, micro_batch=3)).statistics
    for a, b in zip(one, other, strict=True):
        assert b.fisher == pytest.approx(a.fisher, rel=1e-5)


def padded_on_the_left(data, pad=1):
    """A batch as a decoder's tokenizer pads it, with labels padded alike."""
    length = max(len(sample["input_ids"]) for sample in data)
    fill = {"input_ids": pad, "attention_mask": 0, "labels": IGNORED}
    batch = {key: torch.full((len(data), length), value) for key, value in fill.items()}
    for row, sample in enumerate(data):
        for key in fill:
            if sample[key].dim():
                batch[key][row, length - len(sample[key]) :] = sample[key]
    if data[0]["labels"].dim() == 0:
        batch["labels"] = torch.stack([sample["labels"] for sample in data])
    return batch


def test_neither_padding_side_nor_batching_changes_a_score(family):
    model, data = build(family, torch.float32), samples(family)
    targets = inspect(model).modules
    plain = measure(model, targets, data, family.task, Settings(needs=ALL, micro_batch=2)).statistics
    encoder_decoder = family.task == "seq2seq-lm"
    right = split([collate(data[:4], 1), collate(data[4:], 1)], family.task)
    batches = [right]
    if not encoder_decoder:
        batches.append(split([padded_on_the_left(data[:3]), padded_on_the_left(data[3:])], family.task))
    for batch in batches:
        other = measure(model, targets, batch, family.task, Settings(needs=ALL, micro_batch=8)).statistics
        for a, b in zip(plain, other, strict=True):
            assert b.fisher == pytest.approx(a.fisher, rel=1e-5)
            assert b.gradient_energy == pytest.approx(a.gradient_energy, rel=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing_and_is_on(family, reentrant):
    data = samples(family)
    model = build(family, torch.float32)
    if not model.supports_gradient_checkpointing:
        pytest.skip(f"{family.name} has no gradient checkpointing")
    targets = inspect(model).modules
    plain = measure(model, targets, data, family.task, Settings(needs=ALL, micro_batch=4)).statistics
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    recomputed = []
    handle = model.get_submodule(targets[0].name).register_forward_pre_hook(lambda *_: recomputed.append(1))
    other = measure(model, targets, data, family.task, Settings(needs=ALL, micro_batch=4)).statistics
    handle.remove()
    assert len(recomputed) >= 2 * math.ceil(len(data) / 4), "the forward pass was not recomputed"
    for a, b in zip(plain, other, strict=True):
        assert b.fisher == pytest.approx(a.fisher, rel=1e-5)
        assert b.gradient_energy == pytest.approx(a.gradient_energy, rel=1e-5)


def test_samples_without_labels_are_not_counted():
    family = zoo.find("llama")
    model, data = build(family), samples(family, count=6)
    silent = {**data[0], "labels": torch.full_like(data[0]["input_ids"], IGNORED)}
    targets = inspect(model).modules
    one = measure(model, targets, data, family.task, Settings(needs=NORMS))
    other = measure(model, targets, [silent, *data[:3], silent, *data[3:]], family.task, Settings(needs=NORMS))
    assert other.samples == one.samples == 6
    assert [s.fisher for s in other.statistics] == pytest.approx([s.fisher for s in one.statistics], rel=1e-12)
    assert other.loss == pytest.approx(one.loss, rel=1e-12)
