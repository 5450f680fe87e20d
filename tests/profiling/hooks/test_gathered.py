"""Mean gradients, moments of inputs and weights, against plain passes one sample at a time."""

import attrs
import numpy as np
import pytest
import torch
from torch.nn.functional import linear

import zoo
from layerlens_core.errors import ModelError, NonFiniteError
from layerlens_core.profiling.hooks import turns
from layerlens_core.profiling.hooks.gathered import (
    input_moments,
    mean_gradients,
    mean_gradients_of_parts,
    plain_weight,
)
from layerlens_core.profiling.profile import profile as profile_model
from zoo.packed import PACKED, BaseQuantLinear, packed, unpacked
from zoo.profiled import PROFILED, active_profile, build, reference, samples


@pytest.mark.parametrize("name", PROFILED)
@pytest.mark.parametrize("held", [1, 2**31], ids=["in turns", "at once"])
def test_mean_gradients_are_those_of_plain_backward_passes(name, held, monkeypatch):
    monkeypatch.setattr(turns, "room", lambda device: held)
    reports = []
    profile = active_profile(zoo.find(name), count=7, progress=lambda done, total: reports.append((done, total)))
    found = dict(mean_gradients(profile))
    assert list(found) == list(profile.modules)
    for module, truth in reference(profile.model, list(profile.modules), list(profile.samples)).items():
        torch.testing.assert_close(found[module], truth.mean(dim=0), rtol=1e-9, atol=1e-12)
    assert reports[-1] == (7 * (len(profile.modules) if held == 1 else 1),) * 2


@pytest.mark.parametrize("name", PROFILED)
@pytest.mark.parametrize("held", [1, 2**31], ids=["in turns", "at once"])
def test_mean_gradients_of_parts_are_those_of_each_parts_samples(name, held, monkeypatch):
    """The parts may differ in size, share samples and have none: each is a mean over its own."""
    monkeypatch.setattr(turns, "room", lambda device: held)
    reports = []
    profile = active_profile(zoo.find(name), count=7, progress=lambda done, total: reports.append((done, total)))
    wanted = [[0, 3, 4, 6], [5], [], [1, 2, 3]]
    found = dict(mean_gradients_of_parts(profile, [[profile.samples[i] for i in part] for part in wanted]))
    assert list(found) == list(profile.modules)
    for module, truth in reference(profile.model, list(profile.modules), list(profile.samples)).items():
        for gradient, part in zip(found[module], wanted, strict=True):
            expected = truth[part].mean(dim=0) if part else torch.zeros_like(truth[0])
            torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    assert reports[-1] == (8 * (len(profile.modules) if held == 1 else 1),) * 2, "a sample passes once for each part"


def test_logits_are_computed_at_labelled_positions_alone():
    """As in the pass for statistics, by whose memory the micro-batch was chosen."""
    profile, rows = active_profile(zoo.find("llama"), count=6, micro_batch=6), []
    handle = profile.model.lm_head.register_forward_hook(
        lambda _module, _args, logits: rows.append(logits.flatten(0, -2).shape[0])
    )
    list(mean_gradients(profile))
    handle.remove()
    labelled = sum(int((sample["labels"][1:] != -100).sum()) for sample in profile.samples)
    assert max(rows) <= labelled < 6 * max(len(sample["input_ids"]) for sample in profile.samples)


def test_where_padding_is_not_inert_samples_of_one_length_share_a_batch():
    profile = active_profile(zoo.find("llama"), count=12, micro_batch=12, equal_lengths=True)
    masks = []
    handle = profile.model.model.register_forward_pre_hook(
        lambda _, args, kwargs: masks.append(kwargs["attention_mask"]), with_kwargs=True
    )
    list(mean_gradients(profile))
    padded = len(masks)
    assert all(bool(mask.all()) for mask in masks)
    list(mean_gradients(attrs.evolve(profile, equal_lengths=False)))
    handle.remove()
    assert not all(bool(mask.all()) for mask in masks[padded:]), "else this test says nothing"


@pytest.mark.parametrize("name", PROFILED)
def test_gathering_leaves_the_model_as_it_was(name):
    profile = active_profile(zoo.find(name), count=3)
    next(profile.model.parameters()).requires_grad_(False)
    required = [parameter.requires_grad for parameter in profile.model.parameters()]
    before = {key: value.clone() for key, value in profile.model.state_dict().items()}
    list(mean_gradients(profile))
    list(input_moments(profile))
    assert all(torch.equal(value, before[key]) for key, value in profile.model.state_dict().items())
    assert [parameter.requires_grad for parameter in profile.model.parameters()] == required
    assert all(parameter.grad is None for parameter in profile.model.parameters())
    assert profile.model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in profile.model.modules())


def test_one_gradient_of_other_samples_and_of_16_bits_is_wide():
    profile = active_profile(zoo.find("llama"), dtype=torch.bfloat16)
    found = dict(mean_gradients(profile, profile.samples[:2]))
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}


def test_a_loss_that_is_no_number_is_told():
    profile = active_profile(zoo.find("llama"))
    with torch.no_grad():
        profile.model.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="a loss is nan"):
        list(mean_gradients(profile))


@pytest.mark.parametrize("name", PROFILED)
@pytest.mark.parametrize("held", [1, 2**31], ids=["in turns", "at once"])
def test_moments_are_those_of_all_tokens_without_padding(name, held, monkeypatch):
    monkeypatch.setattr(turns, "room", lambda device: held)
    profile = active_profile(zoo.find(name), count=9)
    rows = {module: [] for module in profile.modules}
    handles = [
        profile.model.get_submodule(module).register_forward_pre_hook(
            lambda _, args, module=module: rows[module].append(args[0].reshape(-1, args[0].shape[-1]).numpy())
        )
        for module in profile.modules
    ]
    with torch.no_grad():
        for sample in profile.samples:
            batch = {key: value[None] for key, value in sample.items() if key != "labels"}
            if profile.model.config.is_encoder_decoder:
                batch["labels"] = sample["labels"][None]
            profile.model.eval()(**batch)
    for handle in handles:
        handle.remove()
    for module, moments in input_moments(profile):
        table = np.concatenate(rows[module])
        assert moments.count == len(table)
        assert moments.mean.numpy() == pytest.approx(table.mean(axis=0), abs=1e-9)
        assert moments.scatter.numpy() == pytest.approx(np.cov(table.T, bias=True) * len(table), abs=1e-9)


@pytest.mark.parametrize("pack", PACKED)
def test_packed_weights_give_what_the_same_numbers_give_unpacked(pack):
    found, expected = (
        attrs.evolve(active_profile(zoo.find("llama"), count=4), model=model)
        for model in (
            packed(build(zoo.find("llama")), PACKED[pack]),
            unpacked(packed(build(zoo.find("llama")), PACKED[pack])),
        )
    )
    for (name, gradient), (_, other) in zip(mean_gradients(found), mean_gradients(expected), strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(plain_weight(found, name), plain_weight(expected, name))
    for (_, moments), (_, others) in zip(input_moments(found), input_moments(expected), strict=True):
        torch.testing.assert_close(moments.scatter, others.scatter)


def test_a_packed_weight_that_cannot_be_unpacked_is_refused_by_name():
    class Closed(BaseQuantLinear):
        dequantize_weight = None

        def forward(self, x):
            return linear(x, BaseQuantLinear.dequantize_weight(self).T.to(x))

    model = packed(build(zoo.find("llama")), Closed, only="k_proj")
    for metric in ("gora", "snr", "kappa"):
        with pytest.raises(ModelError, match=r"k_proj is packed .* need plain ones"):
            profile_model(model, samples(zoo.find("llama")), metrics=(metric,))
    assert profile_model(model, samples(zoo.find("llama")), metrics=("effective_rank", "eva")).scores


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_weight_is_laid_out_as_out_by_in(name):
    profile = active_profile(zoo.find(name))
    for module in profile.inventory.modules:
        weight = plain_weight(profile, module.name)
        assert weight.shape == (module.out_features, module.in_features)
        plain = profile.model.get_submodule(module.name).weight
        assert torch.equal(weight, plain.T if module.kind == "conv1d" else plain)
