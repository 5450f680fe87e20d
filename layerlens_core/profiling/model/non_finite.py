"""Where a number that is not finite arose, in words."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from layerlens_core.profiling.model.losses import per_sample_losses
from layerlens_core.profiling.samples.sample import Sample
from layerlens_core.values.profile import Task


def first_not_finite(model: PreTrainedModel, batch: Sample, task: Task) -> str:
    """Which module's output is the first that is not finite.

    model: to run again.
    batch: on the model's device.
    task: which loss is computed.
    """
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
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            per_sample_losses(model, batch, task)
    finally:
        for handle in handles:
            handle.remove()
    if culprits:
        return f"the first module with an output that is not finite is {culprits[0]}"
    return "all outputs are finite"


def named(samples: Sequence[Sample]) -> str:
    """Samples by their first tokens, since their numbers are not those of a file's rows."""
    ids = samples[0].get("input_ids")
    begin = "" if ids is None else f", of which the first begins with the tokens {ids[:8].tolist()}"
    return f"that batch's {len(samples)} samples{begin}"
