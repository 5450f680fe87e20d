"""The slow and obvious reference: one plain backward pass a sample, a batch of one without padding."""

import inspect as signatures
from typing import Any

from attrs import frozen
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers.pytorch_utils import Conv1D

from layerlens_core.profiling.model.batch_norm import right_batch_norms
from sweep.samples import Sample

#: With grids, patches and not samples are the first dimension.
_OF_IMAGES = ("pixel_values", "image_grid_thw")


@frozen
class Truth:
    """What a model's own backward passes say.

    fisher: by the name of a linear module, the mean over samples of ‖gᵢ‖².
    loss: the mean over samples.
    repeats: whether a second pass of the same sample gives the same loss.
    """

    fisher: dict[str, float]
    loss: float
    repeats: bool


def truth(model: Any, samples: list[Sample], task: str) -> Truth:
    """Of a model that is not used afterwards.

    Where several modules hold one weight, each has its own share of the gradient, as an adapter on it would.
    Raises whatever the model raises, and ArithmeticError for a loss that is not finite.
    """
    model.eval().requires_grad_(True)
    linear = {name: module for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))}
    _untie(linear)
    sums = dict.fromkeys(linear, 0.0)
    losses = []
    for sample in samples:
        model.zero_grad(set_to_none=True)
        _forget(model)
        with right_batch_norms(model):  # torch's own gradients are wrong there
            loss = sample_loss(model, sample, task)
            if not loss.isfinite():
                raise ArithmeticError("the model's own loss is not finite")
            loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        for name, module in linear.items():
            if isinstance(module.weight, Tensor) and module.weight.grad is not None:
                sums[name] += module.weight.grad.double().square().sum().item()
    _forget(model)
    again = sample_loss(model, samples[0], task).item()
    model.zero_grad(set_to_none=True)
    _forget(model)
    return Truth(
        {name: total / len(samples) for name, total in sums.items()},
        sum(losses) / len(losses),
        abs(again - losses[0]) <= 1e-12 * abs(again),
    )


def sample_loss(model: Any, sample: Sample, task: str) -> Tensor:
    """ℓᵢ: the mean cross-entropy over a sample's labels, from the logits of a batch of one."""
    inputs: dict[str, Any] = {
        key: value if key in _OF_IMAGES and "image_grid_thw" in sample else value[None]
        for key, value in sample.items()
        if key != "labels"
    }
    labels = sample["labels"]
    if "use_cache" in signatures.signature(model.forward).parameters:
        inputs["use_cache"] = False  # as in training; with it, FSMT's decoder sees what it has to predict
    if task == "seq2seq-lm" and model.config.is_encoder_decoder:
        logits = model(**inputs, **_shifted(model, labels[None])).logits[0]
    else:
        logits = model(**inputs).logits[0]
    if labels.dim() == 0:
        return cross_entropy(logits[None], labels[None])
    if task == "causal-lm" or (task == "seq2seq-lm" and not model.config.is_encoder_decoder):
        return cross_entropy(logits[:-1], labels[1:])
    return cross_entropy(logits[: len(labels)], labels)  # a few models give logits for all their positions


def _untie(linear: dict[str, nn.Module]) -> None:
    """Gives each module a copy of a weight that an earlier one holds too."""
    seen: set[int] = set()
    for module in linear.values():
        if isinstance(module.weight, nn.Parameter):
            if id(module.weight) in seen:
                module.weight = nn.Parameter(module.weight.detach().clone())
            seen.add(id(module.weight))


def _shifted(model: Any, labels: Tensor) -> dict[str, Tensor]:
    """What gives the decoder its inputs, as transformers' collator does, or else the model itself."""
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        return {"decoder_input_ids": model.prepare_decoder_input_ids_from_labels(labels=labels)}
    return {"labels": labels}


def _forget(model: nn.Module) -> None:
    """Empties what a model keeps of a pass in evaluation mode, whose graph is gone after one backward pass."""
    for module in model.modules():
        for key, value in vars(module).items():
            if key.endswith("_cache") and isinstance(value, dict):
                value.clear()
