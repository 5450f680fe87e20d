"""Tiny models of random weights, samples for them, and what profiling them gives. Nothing is downloaded."""

import random
import tempfile
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlens_core.errors import DataError, nearest

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from layerlens_core.values.inventory import Inventory
    from layerlens_core.values.profile import Profile, Task

VOCABULARY, PAD, CLASSES = 61, 1, 3
_SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
_TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": 3}
#: By name, the class of transformers, its configuration and the task: a decoder with few heads of keys, one whose
#: weights lie transposed, an encoder with a head of classes, and a mixture of experts.
MODELS: Mapping[str, tuple[str, Mapping[str, Any], "Task"]] = {
    "llama": ("LlamaForCausalLM", {**_SIZES, **_TOKENS, "num_key_value_heads": 1}, "causal-lm"),
    "gpt2": ("GPT2LMHeadModel", {**_TOKENS, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}, "causal-lm"),
    "bert-classifier": (
        "BertForSequenceClassification",
        {**_SIZES, **_TOKENS, "num_labels": CLASSES, "max_position_embeddings": 32},
        "sequence-classification",
    ),
    "mixtral": (
        "MixtralForCausalLM",
        {**_SIZES, **_TOKENS, "num_key_value_heads": 1, "num_local_experts": 4, "num_experts_per_tok": 2},
        "causal-lm",
    ),
}
#: Metrics that need, with a spectrum, all statistics that there are.
PASSIVE = ("gradient_energy", "weight_gradient")


def tiny_model(name: str = "llama", *, seed: int = 0) -> "PreTrainedModel":
    """A new model of random float32 weights, in evaluation mode.

    name: one of `MODELS`.
    seed: that the weights are drawn with.

    Raises `DataError` for another name.
    """
    if name not in MODELS:
        raise DataError(f"no tiny model is named {name!r}; there are: {', '.join(MODELS)}.{nearest(name, MODELS)}")
    architecture, config, _ = MODELS[name]
    return _made(architecture, config, seed)


def random_model(seed: int) -> "PreTrainedModel":
    """A new Llama of random sizes and random float32 weights, in evaluation mode.

    seed: the same gives the same.
    """
    draw = random.Random(f"model {seed}")
    shared, groups, width = draw.choice([1, 2]), draw.choice([1, 2]), 2 * draw.randint(2, 5)
    config = {
        **_TOKENS,
        "hidden_size": 4 * draw.randint(2, 6),
        "intermediate_size": draw.randint(8, 40),
        "num_hidden_layers": draw.randint(1, 4),
        "num_attention_heads": shared * groups,
        "num_key_value_heads": groups,
        "head_dim": width,
    }
    return _made("LlamaForCausalLM", config, seed)


def _made(architecture: str, config: Mapping[str, Any], seed: int) -> "PreTrainedModel":
    import torch
    import transformers

    made = getattr(transformers, architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = made(made.config_class(**config)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0.0, 0.1)  # so that no layer is nearly a constant
    return model


def tiny_samples(name: str = "llama", *, count: int = 12, seed: int = 0) -> "list[dict[str, Tensor]]":
    """Samples with labels, of 5 to 11 tokens, for the model of this name; without padding.

    name: one of `MODELS`.
    count: how many.
    seed: that tokens are drawn with.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    samples = []
    for number in range(count):
        tokens = torch.randint(4, VOCABULARY, (5 + (3 * number) % 7,), generator=generator)
        classes = MODELS[name][2] == "sequence-classification"
        labels = torch.tensor(number % CLASSES) if classes else tokens.clone()
        samples.append({"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels})
    return samples


def tiny_batch(name: str) -> "dict[str, Tensor]":
    """Inputs of two samples of seven tokens, without labels."""
    import torch

    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(4, VOCABULARY, (2, 7), generator=generator)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


@cache
def tiny_inventory(name: str) -> "Inventory":
    """What the tiny model of this name is made of."""
    from layerlens_core.inspection.inspect import inspect

    return inspect(tiny_model(name))


def tiny_profile(name: str = "llama") -> "Profile":
    """A profile of the tiny model of this name, with statistics of all kinds, spectra and directions; made once.

    name: one of `MODELS`.
    """
    return _profiled(name)[0]


def tiny_run(name: str) -> Path:
    """A directory that holds this profile's directions; gone when the process ends."""
    return Path(_profiled(name)[1].name)


@cache
def _profiled(name: str) -> "tuple[Profile, tempfile.TemporaryDirectory[str]]":
    from layerlens_core.profiling.profile import profile
    from layerlens_core.testing.registries import isolated_registry

    run = tempfile.TemporaryDirectory(prefix="layerlens-")
    with isolated_registry(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few samples, whose ranking is mostly chance
        made = profile(
            tiny_model(name), tiny_samples(name), metrics=PASSIVE, micro_batch=4, spectrum=True, directions=run.name
        )
    made.save(run.name)
    return made, run
