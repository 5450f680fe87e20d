"""Models that are profiled, samples for their tasks, and the slow, obvious reference."""

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from layerlens_core.inspection.inspect import inspect
from layerlens_core.plugin import ActiveProfile
from layerlens_core.profiling.samples.sample import IGNORED, Sample
from layerlens_core.values.profile import Profile
from zoo.tiny_model import VOCABULARY, TinyModel

#: One of each task, and of each way to write a layer.
PROFILED = ("llama", "bert", "gpt2", "t5", "albert", "opt", "bert-classifier", "llama-classifier")


def build(family: TinyModel, dtype: torch.dtype = torch.float64) -> transformers.PreTrainedModel:
    """The model in training mode: profiling must switch dropout off by itself."""
    return family.build(spread=0.2, dtype=dtype).train()


def samples(family: TinyModel, count: int = 7, seed: int = 1) -> list[Sample]:
    """Samples of different lengths, without padding."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(length: int) -> Tensor:
        return torch.randint(4, VOCABULARY, (length,), generator=generator)

    result = []
    for number in range(count):
        length = 5 + (3 * number) % 8
        sample: Sample = {"input_ids": tokens(length), "attention_mask": torch.ones(length, dtype=torch.long)}
        if family.task == "causal-lm":
            sample["labels"] = sample["input_ids"].clone()
            sample["labels"][: number % 3] = IGNORED
        elif family.task == "masked-lm":
            sample["labels"] = tokens(length)
            sample["labels"][torch.arange(length) % 3 != number % 3] = IGNORED
        elif family.task == "seq2seq-lm":
            sample["labels"] = tokens(3 + number % 4)
        else:
            sample["labels"] = torch.tensor(number % 3)
        result.append(sample)
    return result


def active_profile(
    family: TinyModel, *, count: int = 12, dtype: torch.dtype = torch.float64, **changes: Any
) -> ActiveProfile:
    """What an active metric gets that scores modules, of a new model; ``changes`` replace fields."""
    model = build(family, dtype)
    inventory = inspect(model)
    given = ActiveProfile(
        model=model, inventory=inventory, scored=tuple(layer.name for layer in inventory.layers),
        samples=tuple(samples(family, count=count)), task=family.task, micro_batch=3, seed=0,
        progress=lambda done, total: None, modules=tuple(module.name for module in inventory.modules),
        granularity="module",
    )  # fmt: skip
    return attrs.evolve(given, **changes)


def unlabelled(count: int) -> list[Sample]:
    """Tokens alone, of the lengths that `samples` has."""
    lengths = [5 + (3 * number) % 8 for number in range(count)]
    return [{key: value for key, value in sample.items() if key != "labels"} for sample in texts(lengths)]


def texts(lengths: Sequence[int]) -> list[Sample]:
    """Tokens of these lengths, each of which is a label."""
    generator = torch.Generator().manual_seed(1)
    tokens = [torch.randint(4, VOCABULARY, (length,), generator=generator) for length in lengths]
    return [{"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids} for ids in tokens]


def reference(model: transformers.PreTrainedModel, names: list[str], samples: list[Sample]) -> dict[str, Tensor]:
    """Per-sample weight gradients [samples, out, in] by one plain backward pass per sample, nothing else."""
    model = model.eval().requires_grad_(True)
    modules: dict[str, nn.Module] = dict(model.named_modules())
    gradients: dict[str, list[Tensor]] = {name: [] for name in names}
    for sample in samples:
        model.zero_grad(set_to_none=True)
        _plain_loss(model, sample).backward()
        for name in names:
            weight = modules[name].weight
            gradient = weight.grad if weight.grad is not None else torch.zeros_like(weight)
            transposed = type(modules[name]).__name__ == "Conv1D"
            gradients[name].append((gradient.T if transposed else gradient).clone())
    model.zero_grad(set_to_none=True)
    return {name: torch.stack(values) for name, values in gradients.items()}


def check_fisher(found: Profile, model: transformers.PreTrainedModel, samples: list[Sample]) -> None:
    """Every scored module has the Fisher trace that plain backward passes give."""
    truth = reference(model, [statistics.module for statistics in found.statistics], samples)
    for statistics in found.statistics:
        expected = float(truth[statistics.module].square().sum()) / len(samples)
        assert statistics.fisher == pytest.approx(expected, rel=1e-9), statistics.module


def _plain_loss(model: transformers.PreTrainedModel, sample: Sample) -> Tensor:
    batch = {key: value[None] for key, value in sample.items()}
    labels = batch.pop("labels")
    if model.config.is_encoder_decoder:
        start = torch.full((1, 1), model.config.decoder_start_token_id)
        batch["decoder_input_ids"] = torch.cat([start, labels[:, :-1]], dim=1)
    logits = model(**batch).logits[0]
    if labels.dim() == 1:
        return cross_entropy(logits[None], labels)
    targets = labels[0]
    if "ForCausalLM" in type(model).__name__ or "LMHeadModel" in type(model).__name__:
        logits, targets = logits[:-1], targets[1:]
    return cross_entropy(logits[targets != IGNORED], targets[targets != IGNORED])
