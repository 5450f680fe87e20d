"""The one pass over the data that gathers every statistic that the chosen metrics need.

Weights stay frozen and autograd computes activation gradients only. A tap on each module reduces its inputs
and output gradients to a few sums and lets go of them, so no moment holds all gradients. Groups of samples
are consecutive, of a declared size, and independent of the micro-batch.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from attrs import field, frozen
from torch import Tensor, nn
from transformers import PreTrainedModel

from layerlens_core.adaptation.inspect import linear_kind
from layerlens_core.errors import DataError, ModelError, NonFiniteError
from layerlens_core.inventory import LinearModule, Skipped
from layerlens_core.profiling.directions import LEADING, RangeFinder
from layerlens_core.profiling.losses import Task, count_labels, per_sample_losses
from layerlens_core.profiling.products import Route
from layerlens_core.profiling.recorder import BatchShape, Recorder
from layerlens_core.profiling.samples import Sample, micro_batches
from layerlens_core.profiling.tap import tap
from layerlens_core.profiling.untouched import checkpointing_kept, untouched
from layerlens_core.statistics import ModuleStatistics

#: Called with the number of samples done and the number of all.
Progress = Callable[[int, int], None]


@frozen(kw_only=True)
class Measurements:
    """What one pass gave: statistics by module, what could not be scored, and the mean loss in nats.

    vectors: leading right singular vectors [k, in] of mean gradients by module, where they were asked for.
    """

    statistics: tuple[ModuleStatistics, ...]
    unscored: tuple[Skipped, ...]
    samples: int
    loss: float
    vectors: Mapping[str, Tensor] = field(factory=dict, eq=False)


def measure(
    model: PreTrainedModel,
    targets: Sequence[LinearModule],
    samples: Sequence[Sample],
    task: Task,
    *,
    needs: Collection[str],
    group: int = 2,
    micro_batch: int = 8,
    route: Route | None = None,
    directions: bool = False,
    rank: int = LEADING,
    seed: int = 0,
    progress: Progress | None = None,
) -> Measurements:
    """Gather statistics of every target over the samples, in one pass.

    targets: modules of the model. needs: statistics, `layerlens_core.statistics.STATISTICS`.
    group: samples whose mean gradient is ḡ. micro_batch: samples in one forward and backward pass; where it
    is no multiple of ``group``, one gradient a module is carried over between passes.
    route: force one way to compute the norms; by default the cheaper one by shape.
    directions: also give the leading singular vectors of mean gradients, ``rank`` of them; they and the statistic
    ``spectrum`` come from sketches that ``seed`` draws (`layerlens_core.profiling.directions`).

    Raises `DataError` where fewer than ``group`` samples have labels, `NonFiniteError` that names module and
    batch, and `ModelError` for a module whose inputs have lost the batch dimension in a way that cannot be
    undone. The model is as before afterwards, also after an exception.
    """
    if group < 1 or micro_batch < 1:
        raise DataError(f"group and micro_batch are at least 1, but are {group} and {micro_batch}")
    counted = [sample for sample in samples if count_labels(sample, task) > 0]
    if len(counted) < group:
        raise DataError(
            f"{len(counted)} of {len(samples)} samples have a label to compute a loss from; "
            f"profiling needs at least one group of {group}"
        )
    pad = pad_token_id(model, task, min(micro_batch, len(counted)))
    modules = dict(model.named_modules())
    finders = {
        target.name: RangeFinder(
            name=target.name, inputs=target.in_features, outputs=target.out_features, rank=rank, seed=seed
        )
        for target in targets
        if directions or "spectrum" in needs
    }
    recorders = {
        target.name: Recorder(
            name=target.name,
            weight=_dense_weight(modules[target.name], target) if "weight_gradient" in needs else None,
            group=group,
            route=route,
            directions=finders.get(target.name),
        )
        for target in targets
    }
    device = input_device(model)
    total = 0.0
    with untouched(model), checkpointing_kept(model):
        handles = [tap(modules[name], recorder.receive, recorder.count_call) for name, recorder in recorders.items()]
        try:
            for number, batch in enumerate(micro_batches(counted, micro_batch, pad)):
                batch = {key: value.to(device) for key, value in batch.items()}
                shape = BatchShape.of(batch)
                for recorder in recorders.values():
                    recorder.begin(shape)
                with torch.enable_grad():
                    losses = per_sample_losses(model, batch, task)
                total += _checked(losses, model, batch, task, number)
                for recorder in recorders.values():
                    recorder.forward_is_over()
                torch.autograd.backward(losses.sum())
                for recorder in recorders.values():
                    recorder.finish(number)
                if progress is not None:
                    progress(min((number + 1) * micro_batch, len(counted)), len(counted))
        finally:
            for handle in handles:
                handle.remove()
    scored, unscored = [], []
    vectors: dict[str, Tensor] = {}
    for target in targets:
        recorder = recorders[target.name]
        reason = recorder.why_unscored
        if reason is None:
            found = finders[target.name].find(len(counted)) if finders else None
            spectrum = (*found.values.tolist(), found.rest) if found and "spectrum" in needs else ()
            scored.append(recorder.statistics(len(counted), target.in_features * target.out_features, spectrum))
            if found and directions:
                vectors[target.name] = found.vectors.cpu()
        else:
            unscored.append(Skipped(name=target.name, reason=reason))
    return Measurements(
        statistics=tuple(scored),
        unscored=tuple(unscored),
        samples=len(counted),
        loss=total / len(counted),
        vectors=vectors,
    )


def input_device(model: PreTrainedModel) -> torch.device:
    """Where the model takes its inputs, also when ``device_map`` spread it."""
    device: torch.device = next(model.get_input_embeddings().parameters()).device
    return device


def pad_token_id(model: PreTrainedModel, task: Task, batch: int) -> int:
    """What to pad inputs with. Raises `ModelError` where the model needs to be told and is not."""
    pad = model.config.get_text_config().pad_token_id
    # Classifiers on decoders look for the last token that is not padding; they refuse batches otherwise.
    if pad is None and task == "sequence-classification" and batch > 1 and hasattr(model, "score"):
        raise ModelError(
            f"{type(model).__name__} has no padding token: set model.config.pad_token_id, or use micro_batch=1"
        )
    return int(pad) if pad is not None else 0


def _dense_weight(module: nn.Module, target: LinearModule) -> Tensor:
    """The weight as [out, in]. Raises `ModelError` where it is packed (quantised)."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    if weight.numel() != target.in_features * target.out_features or not weight.is_floating_point():
        raise ModelError(
            f"the weight of {target.name} is packed ({type(module).__name__}); "
            "the statistic 'weight_gradient' needs plain weights, so leave that metric out"
        )
    return weight.detach() if linear_kind(module) == "linear" else weight.detach().T


def _checked(losses: Tensor, model: PreTrainedModel, batch: Sample, task: Task, number: int) -> float:
    """The sum of the losses. Raises `NonFiniteError` that names the first module whose output is not finite."""
    total = float(losses.detach().sum(dtype=torch.float64))
    if math.isfinite(total):
        return total
    culprits: list[str] = []

    def look(name: str, output: object) -> None:
        tensor = output[0] if isinstance(output, tuple) and output else output
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not torch.isfinite(tensor).all():
            culprits.append(name)

    handles = [
        module.register_forward_hook(lambda _m, _a, output, name=name: look(name, output))
        for name, module in model.named_modules()
        if not any(True for _ in module.children())
    ]
    try:
        with torch.no_grad():
            per_sample_losses(model, batch, task)
    finally:
        for handle in handles:
            handle.remove()
    where = (
        f"the first module with an output that is not finite is {culprits[0]}" if culprits else "all outputs are finite"
    )
    raise NonFiniteError(
        f"the loss is {total} in batch {number}; {where}. Look at its weights and at that batch's data"
    )
