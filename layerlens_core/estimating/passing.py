"""What training a model keeps, by a forward pass of shapes: no values are computed, and none are held."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import attrs
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PreTrainedModel

from layerlens_core.errors import LayerLensError, ModelError, first_line
from layerlens_core.estimating.repeats import shortened
from layerlens_core.estimating.weightless import fake
from layerlens_core.inspection.accessors import text_config
from layerlens_core.profiling.costs.activations import SAMPLES, Kept, kept_activations
from layerlens_core.profiling.samples.sample import Sample
from layerlens_core.values.inventory import Inventory, Layer
from layerlens_core.values.profile import Task

ATTENTION, FEED_FORWARD, EXPERTS, REST = "attention", "feed-forward", "experts", "norms and residuals"
#: Entries of masks [samples, length, length] up to which these hold values; above it they have shapes alone.
_MASK = 2**26


def pass_shapes(model: PreTrainedModel, inventory: Inventory, task: Task, *, batch: int, length: int) -> Kept:
    """What `measure_activations` would find on samples of one length, of which every token is a label.

    model: on the meta device; it is changed.
    inventory: of the model.
    task: which loss is computed.
    batch: samples; more than `SAMPLES` would keep no more a token.
    length: tokens of each, for the decoder of an encoder-decoder too.

    Raises `ModelError` where the forward pass needs values.
    """
    samples = min(batch, SAMPLES)
    while samples > 1 and samples * length**2 > _MASK:
        samples -= 1
    inputs = _inputs(model, task, samples, length)
    mode = fake(model)
    # Masks and positions that have values are judged as they are in training, where masks of no padding are dropped.
    ways: list[AbstractContextManager[Any]] = [nullcontext(), mode]
    if samples * length**2 > _MASK:
        ways.reverse()
    causes = []
    for way in ways:
        try:
            with way, _silent(), shortened(model, inventory) as stands_for:
                kept = kept_activations(model, inventory, inputs, task, kinds=_kinds(model, inventory))
            return _completed(kept, stands_for)
        except (LayerLensError, RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            causes.append(error.__cause__ or error)
    raise ModelError(
        f"what {type(model).__name__} keeps while training does not follow from shapes alone "
        f"({type(causes[0]).__name__}: {first_line(causes[0])}); profile it, and 'layerlens allocate' tells"
    )


def _completed(kept: Kept, stands_for: Mapping[str, str]) -> Kept:
    """What layers keep that were not run, as those that stand for them."""

    def whole(found: Mapping[str, Any]) -> dict[str, Any]:
        return {name: found[stands_for.get(name, name)] for name in found}

    plain = attrs.evolve(kept.plain, through=whole(kept.plain.through), adapted=whole(kept.plain.adapted))
    # With checkpointing layers keep their inputs, which were handed to all of them.
    return attrs.evolve(kept, plain=plain, kinds=whole(kept.kinds))


@contextmanager
def _silent() -> Iterator[None]:
    """Without PyTorch's log of what has no shape of its own, whose cause the error tells."""
    logger = logging.getLogger(FakeTensorMode.__module__)
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _inputs(model: PreTrainedModel, task: Task, samples: int, length: int) -> Sample:
    """A batch without padding."""
    padding = getattr(text_config(model), "pad_token_id", None)
    tokens = torch.full((samples, length), int(padding == 0))
    batch: Sample = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    if task != "sequence-classification":
        return batch | {"labels": torch.zeros_like(tokens) if task == "token-classification" else tokens}
    problem = getattr(model.config, "problem_type", None)
    outputs = model.config.num_labels
    if problem in ("regression", "multi_label_classification") or (problem is None and outputs == 1):
        return batch | {"labels": torch.zeros(samples, outputs)}
    return batch | {"labels": torch.zeros(samples, dtype=torch.long)}


def _kinds(model: PreTrainedModel, inventory: Inventory) -> Mapping[str, str]:
    """By module, of which kind it is; outer modules come first."""
    return {name: kind for layer in inventory.layers for name, kind in _kinds_of(model, layer, inventory)}


def _kinds_of(model: PreTrainedModel, layer: Layer, inventory: Inventory) -> Iterator[tuple[str, str]]:
    attentions = {attention.name for attention in layer.attentions}
    experts = {each.name for each in inventory.experts_of.get(layer.name, ())}
    yield layer.name, REST
    for name, _ in model.get_submodule(layer.name).named_children():
        place = f"{layer.name}.{name}"
        inside = {each for each in attentions if f"{each}.".startswith(f"{place}.")}
        linear = [module for module in layer.modules if f"{module.name}.".startswith(f"{place}.")]
        if any(f"{each}.".startswith(f"{place}.") for each in experts):
            yield place, EXPERTS
        elif inside:
            yield place, ATTENTION
        elif linear:
            yield place, FEED_FORWARD
