"""Profiling leaves no trace on a model, also when it fails, and reports what it cannot score."""

import copy

import pytest
import torch
from torch import nn

from layerlens_core.errors import DataError, ModelError, NonFiniteError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.profile import profile

METRICS = ("gradient_energy", "fisher", "weight_gradient", "proxy_eval")


def state(model):
    """Everything that profiling must leave alone."""
    return {
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "requires_grad": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "gradients": {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "modules": {name: id(module) for name, module in model.named_modules()},
        "hooks": {
            name: (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for name, module in model.named_modules()
        },
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
        "random": torch.get_rng_state(),
    }


def assert_same(before, after):
    for part in before.keys() - {"weights", "gradients", "random"}:
        assert before[part] == after[part], part
    assert torch.equal(before["random"], after["random"])
    for part in ("weights", "gradients"):
        assert before[part].keys() == after[part].keys()
        for name, tensor in before[part].items():
            assert (tensor is None and after[part][name] is None) or torch.equal(tensor, after[part][name]), name


def odd_state(model):
    """A state that a careless reset would not reproduce."""
    model.train()
    next(model.children()).eval()
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number % 3 == 0)
        parameter.grad = torch.ones_like(parameter) if number % 5 == 0 else None
    return model


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_model_is_as_before(family, build, samples, checkpointing):
    model = odd_state(build(family, torch.float32))
    if checkpointing:
        if not model.supports_gradient_checkpointing:
            pytest.skip(f"{family.name} has no gradient checkpointing")
        model.activation_checkpointing_enable()
    before = state(model)
    result = profile(model, samples(family, count=9), metrics=METRICS, micro_batch=4)
    assert {scores.metric for scores in result.scores} == set(METRICS)
    assert_same(before, state(model))


@pytest.mark.parametrize("metric", METRICS)
def test_the_model_is_as_before_after_an_exception(named_family, build, samples, metric):
    family = named_family("bert-classifier")
    model = odd_state(build(family, torch.float32))
    before = state(model)

    class Stop(Exception):
        pass

    def stop(stage, done, total):
        if done >= 2:
            raise Stop

    with pytest.raises(Stop):
        profile(model, samples(family, count=12), metrics=(metric,), micro_batch=2, progress=stop)
    assert_same(before, state(model))


def test_scores_are_the_same_every_time(named_family, build, samples):
    family = named_family("bert-classifier")
    model, data = build(family, torch.float32), samples(family, count=12)
    one = profile(model, data, metrics=METRICS, seed=3)
    torch.rand(5)
    other = profile(copy.deepcopy(model), data, metrics=METRICS, seed=3)
    assert one == other


def test_a_target_that_is_never_called_is_reported_and_not_scored(named_family, build, samples):
    family = named_family("llama")
    model = build(family, torch.float32)
    layer = model.model.layers[1]
    layer.spare = nn.Linear(32, 32)
    result = profile(model, samples(family), metrics=("fisher", "weight_gradient"))
    reasons = {skipped.name: skipped.reason for skipped in result.unscored}
    assert reasons == {"model.layers.1.spare": "never called in the forward pass"}
    for scores in result.scores:
        assert "model.layers.1.spare" not in scores.values
        assert len(scores.values) == 21


def test_an_output_that_does_not_reach_the_loss_is_reported(named_family, build, samples):
    family = named_family("llama")
    model = build(family, torch.float32)
    layer = model.model.layers[1]
    layer.spare = nn.Linear(32, 32)
    layer.register_forward_hook(lambda module, args, output: (module.spare(args[0]), output)[1])
    result = profile(model, samples(family), metrics=("fisher",))
    assert [(s.name, s.reason) for s in result.unscored] == [
        ("model.layers.1.spare", "its output does not reach the loss")
    ]


def test_inputs_that_lost_the_batch_dimension_are_reported_and_right_one_by_one(
    named_family, build, samples, reference
):
    family = named_family("llama")
    model, data = build(family), samples(family)

    def route_even_tokens(module, args, output):
        """As a mixture of experts does: some tokens of the batch, in one list."""
        rows = output.flatten(0, 1)
        return output.index_put((torch.zeros(1, dtype=torch.long),), output[:1]) + nn.functional.pad(
            module.expert(rows[::2]), (0, 0, 0, len(rows) - len(rows[::2]))
        ).view_as(output)

    layer = model.model.layers[1]
    layer.expert = nn.Linear(32, 32).double()
    layer.register_forward_hook(route_even_tokens)
    targets = inspect(model).modules
    batched = measure(model, targets, data, "causal-lm", Settings(needs=("gradient_norms",), micro_batch=4))
    assert [s.name for s in batched.unscored] == ["model.layers.1.expert"]
    assert "micro_batch=1" in batched.unscored[0].reason
    single = measure(model, targets, data, "causal-lm", Settings(needs=("gradient_norms",), micro_batch=1))
    assert single.unscored == ()
    truth = reference(model, ["model.layers.1.expert"], data)["model.layers.1.expert"]
    measured = next(s for s in single.statistics if s.module == "model.layers.1.expert")
    assert measured.fisher == pytest.approx(float(truth.square().sum()) / len(data), rel=1e-10)


def test_an_operation_in_place_on_a_tapped_output_is_allowed(named_family, build, samples, reference):
    family = named_family("llama")
    model, data = build(family), samples(family)
    model.model.layers[0].mlp.down_proj.register_forward_hook(lambda _m, _a, output: output.mul_(1.5))
    name = "model.layers.0.mlp.up_proj"
    measured = profile(model, data, metrics=("fisher",))
    truth = reference(model, [name], data)[name]
    assert measured.scores[0].values[name] == pytest.approx(float(truth.square().sum()) / len(data), rel=1e-10)


def test_a_loss_that_is_not_finite_names_the_module_and_the_batch(named_family, build, samples):
    family = named_family("llama")
    model = build(family, torch.float32)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    before = state(model)
    with pytest.raises(NonFiniteError, match=r"batch 0; .*model\.layers\.1\.mlp\.down_proj"):
        profile(model, samples(family))
    after = state(model)
    del before["weights"], after["weights"]  # NaN is not equal to itself
    for part in before.keys() - {"gradients", "random"}:
        assert before[part] == after[part], part


def test_a_gradient_that_is_not_finite_names_the_module_and_the_batch(named_family, build, samples):
    class Poison(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float("inf")

    family = named_family("llama")
    model = build(family, torch.float32)
    model.model.layers[0].mlp.down_proj.register_forward_hook(lambda _m, _a, output: Poison.apply(output))
    with pytest.raises(NonFiniteError, match=r"model\.layers\.0\..* not finite in batch 0"):
        profile(model, samples(family))


def test_too_few_samples_are_refused(named_family, build, samples):
    family = named_family("llama")
    with pytest.raises(DataError, match="at least one group of 2"):
        profile(build(family), samples(family, count=1))
    with pytest.raises(DataError, match="there is no data"):
        profile(build(family), [])


def test_a_gap_in_the_mask_is_refused(named_family, build):
    mask = torch.tensor([[1, 1, 0, 1]])
    with pytest.raises(DataError, match="gap"):
        profile(build(named_family("llama")), [{"input_ids": torch.full((1, 4), 5), "attention_mask": mask}])


def test_packed_weights_are_refused_by_name(named_family, build, samples):
    family = named_family("llama")
    model = build(family, torch.float32)
    packed = model.model.layers[0].mlp.up_proj
    packed.weight = nn.Parameter(packed.weight.detach().to(torch.int8), requires_grad=False)
    with pytest.raises(ModelError, match=r"model\.layers\.0\.mlp\.up_proj is packed"):
        profile(model, samples(family), metrics=("weight_gradient",))


def test_a_classifier_on_a_decoder_without_padding_token_is_refused(named_family, build, samples):
    family = named_family("llama-classifier")
    model = build(family)
    model.config.pad_token_id = None
    with pytest.raises(ModelError, match="pad_token_id"):
        profile(model, samples(family))
