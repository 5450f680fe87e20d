"""A profile is the same every time, reports what it cannot score, and refuses what it cannot profile."""

import copy

import pytest
import torch
from torch import nn

import zoo
from layerlens_core.errors import DataError, ModelError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.plugin.registry import default
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.profile import profile
from zoo.profiled import build, reference, samples

METRICS = tuple(default().names("metric"))


def test_scores_are_the_same_every_time():
    family = zoo.find("bert-classifier")
    model, data = build(family, torch.float32), samples(family, count=12)
    one = profile(model, data, metrics=METRICS, seed=3)
    torch.rand(5)
    other = profile(copy.deepcopy(model), data, metrics=METRICS, seed=3)
    assert one == other


def test_a_target_that_is_never_called_is_reported_and_not_scored():
    family = zoo.find("llama")
    model = build(family, torch.float32)
    layer = model.model.layers[1]
    layer.spare = nn.Linear(32, 32)
    result = profile(model, samples(family), metrics=("fisher", "weight_gradient"))
    reasons = {skipped.name: skipped.reason for skipped in result.unscored}
    assert reasons == {"model.layers.1.spare": "never called in the forward pass"}
    for scores in result.scores:
        assert "model.layers.1.spare" not in scores.values
        assert len(scores.values) == 21


def test_an_output_that_does_not_reach_the_loss_is_reported():
    family = zoo.find("llama")
    model = build(family, torch.float32)
    layer = model.model.layers[1]
    layer.spare = nn.Linear(32, 32)
    layer.register_forward_hook(lambda module, args, output: (module.spare(args[0]), output)[1])
    result = profile(model, samples(family), metrics=("fisher",))
    assert [(s.name, s.reason) for s in result.unscored] == [
        ("model.layers.1.spare", "its output does not reach the loss")
    ]


def test_inputs_that_lost_the_batch_dimension_are_reported_and_right_one_by_one():
    family = zoo.find("llama")
    model, data = build(family), samples(family)

    def route_some_tokens(module, args, output):
        """As a mixture of experts does: some tokens of the batch, in one list."""
        rows = output.flatten(0, 1)
        (chosen,) = (rows.sum(dim=1) > 0).nonzero(as_tuple=True)
        return output + torch.zeros_like(rows).index_add(0, chosen, module.expert(rows[chosen])).view_as(output)

    layer = model.model.layers[1]
    layer.expert = nn.Linear(32, 32).double()
    layer.register_forward_hook(route_some_tokens)
    targets = inspect(model).modules
    batched = measure(model, targets, data, "causal-lm", Settings(needs=("gradient_norms",), micro_batch=4))
    assert [s.name for s in batched.unscored] == ["model.layers.1.expert"]
    assert "micro_batch=1" in batched.unscored[0].reason
    single = measure(model, targets, data, "causal-lm", Settings(needs=("gradient_norms",), micro_batch=1))
    assert single.unscored == ()
    truth = reference(model, ["model.layers.1.expert"], data)["model.layers.1.expert"]
    measured = next(s for s in single.statistics if s.module == "model.layers.1.expert")
    assert measured.fisher == pytest.approx(float(truth.square().sum()) / len(data), rel=1e-10)
    by_itself = profile(model, data, metrics=("fisher",))
    assert by_itself.unscored == ()
    assert by_itself.settings["batches"] == "alone"


def test_too_few_samples_are_refused():
    family = zoo.find("llama")
    with pytest.raises(DataError, match="at least one group of 2"):
        profile(build(family), samples(family, count=1))
    with pytest.raises(DataError, match="there is no data"):
        profile(build(family), [])


def test_a_gap_in_the_mask_is_refused():
    mask = torch.tensor([[1, 1, 0, 1]])
    with pytest.raises(DataError, match="gap"):
        profile(build(zoo.find("llama")), [{"input_ids": torch.full((1, 4), 5), "attention_mask": mask}])


def test_packed_weights_are_refused_by_name():
    family = zoo.find("llama")
    model = build(family, torch.float32)
    packed = model.model.layers[0].mlp.up_proj
    packed.weight = nn.Parameter(packed.weight.detach().to(torch.int8), requires_grad=False)
    with pytest.raises(ModelError, match=r"model\.layers\.0\.mlp\.up_proj is packed"):
        profile(model, samples(family), metrics=("weight_gradient",))


def test_a_classifier_on_a_decoder_without_padding_token_takes_samples_one_by_one():
    family = zoo.find("llama-classifier")
    model = build(family)
    padded = profile(model, samples(family), metrics=("fisher",), micro_batch=4)
    model.config.pad_token_id = None
    alone = profile(model, samples(family), metrics=("fisher",), micro_batch=4)
    assert (padded.settings.get("batches"), alone.settings["batches"]) == (None, "alone")
    for one, other in zip(padded.statistics, alone.statistics, strict=True):
        assert other.fisher == pytest.approx(one.fisher, rel=1e-8)
