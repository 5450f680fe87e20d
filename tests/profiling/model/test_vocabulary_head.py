"""The head on labelled positions, in chunks, against all logits at once."""

import pytest
import torch
import transformers

import zoo
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.model import vocabulary_head as vocabulary
from layerlens_core.profiling.model.frozen import untouched
from layerlens_core.profiling.model.losses import per_sample_losses, vocabulary_head
from layerlens_core.profiling.samples.sample import IGNORED, collate
from zoo.profiled import build, samples


def losses_and_gradients(model, batch, task, head):
    """ℓᵢ and the gradient of their sum by the weight of the lowest linear module."""
    weight = model.get_submodule(inspect(model).modules[0].name).weight
    with untouched(model), torch.enable_grad():
        weight.requires_grad_(True)
        losses = per_sample_losses(model, batch, task, head)
        (gradient,) = torch.autograd.grad(losses.sum(), weight)
    return losses.detach(), gradient


def compare(model, batch, task, head):
    assert head is not None
    plain, gradient = losses_and_gradients(model, batch, task, None)
    losses, other = losses_and_gradients(model, batch, task, head)
    assert losses.tolist() == pytest.approx(plain.tolist(), rel=1e-12)
    assert torch.allclose(other, gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("held", [1, 97 * 5, 10**9])
def test_chunks_of_labelled_positions_give_the_same(family, held, monkeypatch):
    monkeypatch.setitem(vocabulary.HELD, "cpu", held)
    model, batch = build(family).eval(), collate(samples(family), 1)
    head = vocabulary_head(model, collate(samples(family)[:1], 1), family.task)
    if family.task == "sequence-classification":
        assert head is None
        return
    assert head.chunked
    compare(model, batch, family.task, head)


def test_the_logits_are_never_there_in_full(monkeypatch):
    family = zoo.find("llama")
    monkeypatch.setitem(vocabulary.HELD, "cpu", 97 * 4)
    model, data = build(family), samples(family)
    data[0]["labels"][:] = IGNORED
    data[0]["labels"][-1] = 5
    sizes = []
    model.lm_head.register_forward_hook(lambda _m, _a, output: sizes.append(output.numel() // 97))
    measure(model, inspect(model).modules, data, "causal-lm", Settings(needs=("sample_norms",), micro_batch=1))
    labelled = sum(int((sample["labels"][1:] != IGNORED).sum()) for sample in data)
    batches = len(data)  # whose own runs get one position each
    del sizes[: next(at for at, size in enumerate(sizes) if size == 1)]  # the try, on one sample
    assert max(sizes) <= 4
    assert sum(sizes) <= labelled + batches + 10


def test_logits_that_the_model_caps_are_left_to_the_model():
    model = zoo.find("gemma2").with_config(final_logit_softcapping=5.0).build(dtype=torch.float64)
    data = samples(zoo.find("llama"))
    head = vocabulary_head(model, collate(data[:1], 1), "causal-lm")
    assert not head.chunked
    compare(model, collate(data, 1), "causal-lm", head)


def test_a_head_that_the_model_goes_around_is_left_alone():
    family = zoo.find("llama")
    model, data = build(family).eval(), samples(family)
    weight = model.lm_head.weight

    class Around(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = weight

        def forward(self, states):
            raise AssertionError("nobody calls it")

    inner = model.model.forward
    model.lm_head = Around()

    def forward(input_ids, attention_mask, **options):
        states = inner(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return transformers.modeling_outputs.CausalLMOutput(logits=states @ weight.T)

    model.forward = forward
    assert vocabulary_head(model, collate(data[:1], 1), "causal-lm") is None


def test_a_head_that_looks_at_neighbours_is_left_alone():
    family = zoo.find("llama")
    model, data = build(family).eval(), samples(family)
    model.register_forward_hook(lambda _m, _a, output: setattr(output, "logits", output.logits.cumsum(dim=1)))
    assert vocabulary_head(model, collate(data[:1], 1), "causal-lm") is None
