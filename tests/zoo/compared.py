"""Tiny models, samples and jobs for the tests of comparisons."""

from collections.abc import Sequence
from typing import Any

import torch
from attrs import evolve
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

import zoo
from layerlens_core.adaptation.attach import attach
from layerlens_core.adaptation.attached import adapted
from layerlens_core.adaptation.config import Entry, configure
from layerlens_core.comparison.stacked.methods.stacked import started
from layerlens_core.files.directions import Pair, Subspace
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.samples.sample import Sample
from layerlens_core.values.comparison import Arm, Job, Schedule
from layerlens_core.values.profile import Task
from zoo.tiny_model import LABELS, VOCABULARY


def model_and_samples(
    family: str, *, count: int = 16, dtype: torch.dtype | None = None
) -> tuple[PreTrainedModel, list[Sample], Task]:
    """A seeded model without dropout, samples of several lengths, and its task."""
    tiny = zoo.find(family)
    model = tiny.build(dtype=dtype)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
    generator = torch.Generator().manual_seed(3)
    samples = []
    for number in range(count):
        tokens = torch.randint(4, VOCABULARY, (4 + number % 5,), generator=generator)
        sample = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        if tiny.task == "sequence-classification":
            sample["labels"] = torch.tensor(number % LABELS)
        else:
            sample["labels"] = tokens.clone()
            if tiny.task == "causal-lm":
                # Nothing predicts it, but where a model's loss has no name the Trainer (transformers 5.23) divides by
                # the number of all labels, the first included.
                sample["labels"][0] = -100
        samples.append(sample)
    return model, samples, tiny.task


def arm(model: PreTrainedModel, rank: int, *, every: int = 1, name: str = "uniform") -> Arm:
    """LoRA of one rank on every n-th linear module."""
    modules = inspect(model).modules[::every]
    return Arm(
        name=name,
        budget=f"r={rank}",
        sizes={"lora": {module.name: rank for module in modules}},
        scale=2.0,
        parameters=rank * sum(module.in_features + module.out_features for module in modules),
    )


def mixed(model: PreTrainedModel, size: int, *, methods: Sequence[str]) -> Arm:
    """The methods in turn, from layer to layer, each on all its places."""
    sizes: dict[str, dict[str, int]] = {}
    for depth, layer in enumerate(inspect(model).layers):
        places: dict[str, Sequence[Any]] = {
            "lora": layer.modules,
            "adapter": layer.writers,
            "prefix": [attention for attention in layer.attentions if attention.interface],
        }
        method = methods[depth % len(methods)]
        sizes.setdefault(method, {}).update({place.name: size for place in places[method]})
    return evolve(arm(model, 1), name="+".join(methods), sizes=sizes)


def cored(model: PreTrainedModel, size: int, subspace: str, *, every: int = 1, name: str = "core") -> Arm:
    """Cores of one size in one subspace on every n-th linear module."""
    sizes = {module.name: size for module in inspect(model).modules[::every]}
    return evolve(
        arm(model, 1), name=name, sizes={"core": sizes}, parameters=size * size * len(sizes), subspace=subspace
    )


def subspace_of(model: PreTrainedModel, most: int, seed: int = 0) -> Subspace:
    """Orthonormal directions of noise at every linear module."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for module in inspect(model).modules:
        noise = torch.randn(module.out_features, module.in_features, generator=generator)
        left, _, right = torch.linalg.svd(noise, full_matrices=False)
        found[module.name] = Pair(left.T[:most].numpy(), right[:most].numpy())
    return found


def tuned(model: PreTrainedModel, one: Job) -> PeftModel:
    """The model with what a job's arm trains, attached and at its start."""
    inventory = inspect(model)
    entries = {
        name: Entry(method=method, size=size, shape=inventory.shapes[name])
        for method, sizes in one.arm.sizes.items()
        for name, size in sizes.items()
    }
    wrapped = attach(model, configure(entries, scale=one.arm.scale, heads=[head.name for head in inventory.heads]))
    layers = dict(adapted(wrapped.get_base_model()))
    with torch.no_grad():
        for name, entry in entries.items():
            parameters = dict(layers[name].named_parameters())
            for part, tensor in started(entry.method, name, entry.shape, one, {}).items():
                parameters[part].copy_(tensor)
    return wrapped


def job(of: Arm, *, rate: float = 1e-2, seed: int = 0, schedule: Schedule | None = None) -> Job:
    """A short run."""
    return Job(arm=of, rate=rate, seed=seed, schedule=schedule or Schedule(steps=8, batch=4), setting="test")
