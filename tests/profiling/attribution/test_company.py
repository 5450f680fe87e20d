"""Models whose losses depend on padding, or on what else is in the batch."""

import pytest
import torch
from torch import nn

import zoo
from layerlens_core.profiling.profile import profile
from zoo import profiled
from zoo.profiled import build, check_fisher, texts


def sees_padding(module, args, output):
    """As a convolution does that the mask does not reach."""
    return output + 0.3 * output.roll(-1, dims=1)


def sees_company(module, args, output):
    """As statistics of a batch do."""
    return output - output.mean(dim=0, keepdim=True)


class Capacity(nn.Module):
    """An expert that takes the first rows of a batch, and leaves the others out."""

    def forward(self, x):
        rows = x.flatten(0, 1)
        place = torch.arange(len(rows)) < 6
        return (rows * place[:, None]).view_as(x)


CASES = {"padding": (sees_padding, "equal lengths"), "company": (sees_company, "alone")}


def data(lengths):
    return [{**sample, "labels": torch.tensor(number % 3)} for number, sample in enumerate(texts(lengths))]


@pytest.mark.parametrize("lengths", [[8, 8, 5, 5, 8, 9], [9, 4]])
@pytest.mark.parametrize(("hook", "company"), CASES.values(), ids=CASES)
def test_only_samples_that_do_not_matter_to_each_other_share_a_batch(hook, company, lengths):
    model, samples = build(zoo.find("bert-classifier")), data(lengths)
    model.bert.embeddings.register_forward_hook(hook)
    found = profile(model, samples, metrics=("fisher", "weight_gradient"), micro_batch=4)
    assert found.settings["batches"] == company
    check_fisher(found, model, samples)


def test_a_capacity_shared_by_a_batch_is_found():
    model, samples = build(zoo.find("llama")), texts([9, 7, 4, 8])
    model.model.layers[0].mlp = Capacity()
    found = profile(model, samples, metrics=("fisher",), micro_batch=4)
    assert found.settings["batches"] == "alone"
    check_fisher(found, model, samples)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_models_that_mask_their_padding_share_batches(family, dtype):
    model = build(family, dtype)
    found = profile(model, profiled.samples(family), metrics=("fisher",), micro_batch=4)
    assert "batches" not in found.settings
