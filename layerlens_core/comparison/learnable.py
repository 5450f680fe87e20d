"""Whether there is anything to learn that holds for other samples: what no gradient at the first step could tell.

LoRA of a small rank and the head are trained for a few steps on one half of the samples. Then the loss of the other
half falls, even where labels mean nothing, since formats and frequencies are learned too. So the fall is compared with
that under labels permuted among the samples of that half: they have the same formats and frequencies. Both halves are
trained on in turn. Where labels have nothing to do with inputs, the advantage of the right ones is 0 in expectation.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from layerlens_core.adaptation.attach import temporary_lora
from layerlens_core.errors import DataError, NonFiniteError
from layerlens_core.plugin.active import ActiveProfile
from layerlens_core.profiling.model.devices import input_device, on
from layerlens_core.profiling.model.frozen import untouched
from layerlens_core.profiling.model.losses import per_sample_losses
from layerlens_core.profiling.samples.sample import IGNORED, Sample, micro_batches
from layerlens_core.profiling.samples.tasks import pad_token_id
from layerlens_core.values.profile import Evidence, Task

RANK, SCALE, STEPS, BATCH, RATE = 4, 2, 20, 8, 3e-3
FEWEST_SAMPLES = 8


def held_out_advantage(context: ActiveProfile) -> Evidence | None:
    """How much better right labels are learned than permuted ones; None where labels cannot be permuted.

    They can where every sample has one label (or one vector of them), and in causal models where a prompt without
    labels comes before an answer with them.

    context: model and samples; the model is left as it was.

    Raises `DataError` for fewer than `FEWEST_SAMPLES` samples, and `NonFiniteError` where the warm-up diverges.
    """
    samples = context.samples
    if len(samples) < FEWEST_SAMPLES:
        raise DataError(f"the warm-up needs at least {FEWEST_SAMPLES} samples, but there are {len(samples)}")
    if not all(can_be_permuted(sample, context.task) for sample in samples):
        return None
    generator = torch.Generator().manual_seed(context.seed)
    order = torch.randperm(len(samples), generator=generator).tolist()
    halves = [[samples[i] for i in order[start::2]] for start in (0, 1)]
    found: list[float] = []
    with untouched(context.model):
        for training, others in (halves, halves[::-1]):
            found += _advantages(training, others, context, generator)
    if not found:
        return Evidence(advantage=0.0, error=0.0, samples=0, p=1.0, by="warm-up")
    mean = math.fsum(found) / len(found)
    squares = math.fsum((value - mean) ** 2 for value in found)
    error = math.sqrt(squares / max(len(found) - 1, 1) / len(found))
    p = beyond_noise(mean, error, len(found))
    return Evidence(advantage=mean, error=error, samples=len(found), p=p, by="warm-up")


def beyond_noise(mean: float, error: float, count: int) -> float:
    """How likely a mean of so many differences is as large where 0 is expected: Student's t, one-sided.

    mean: of the differences.
    error: its standard error.
    count: of the differences.
    """
    if error == 0 or count < 2:
        return float(mean <= 0)
    from scipy.special import stdtr  # scipy.stats has it too, and takes a second to import

    return float(stdtr(count - 1, -mean / error))


def _advantages(
    training: Sequence[Sample], others: Sequence[Sample], context: ActiveProfile, generator: torch.Generator
) -> list[float]:
    """For each of the others whose label changes by permuting, the fall under its own less that under the other."""
    places = torch.randperm(len(others), generator=generator).tolist()
    permuted = [with_labels_of(one, others[place], context.task) for one, place in zip(others, places, strict=True)]
    changed = [i for i, (one, other) in enumerate(zip(others, permuted, strict=True)) if not same_labels(one, other)]
    if not changed:
        return []
    right, wrong = [others[i] for i in changed], [permuted[i] for i in changed]
    ranks = {m.name: RANK for layer in context.inventory.layers if layer.name in context.scored for m in layer.modules}
    heads = [head.name for head in context.inventory.heads]
    with temporary_lora(context.model, ranks, scale=SCALE, heads=heads) as tuned:
        before = losses_of(right, context), losses_of(wrong, context)
        trained = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 - step / STEPS)
            chosen = torch.randperm(len(training), generator=generator)[:BATCH].tolist()
            optimizer.zero_grad()
            for batch in on_device([training[i] for i in chosen], context):
                torch.autograd.backward(per_sample_losses(context.model, batch, context.task).sum() / len(chosen))
            optimizer.step()
        after = losses_of(right, context), losses_of(wrong, context)
    return [(a - c) - (b - d) for a, b, c, d in zip(*before, *after, strict=True)]


def on_device(samples: Sequence[Sample], context: ActiveProfile) -> list[Sample]:
    """Batches of these samples, where the model takes its inputs."""
    pad, device = pad_token_id(context.model, context.task, context.micro_batch), input_device(context.model)
    return [on(device, batch) for batch in micro_batches(samples, context.micro_batch, pad)]


@torch.no_grad()
def losses_of(samples: Sequence[Sample], context: ActiveProfile) -> list[float]:
    """Each sample's loss. Raises `NonFiniteError`."""
    found: list[float] = []
    for batch in on_device(samples, context):
        found += per_sample_losses(context.model, batch, context.task).double().tolist()
    if not all(map(math.isfinite, found)):
        raise NonFiniteError("a loss of the warm-up that tries whether there is anything to learn is not finite")
    return found


def can_be_permuted(sample: Sample, task: Task) -> bool:
    """Whether the sample's label could as well be another's: there is one, or an answer behind a prompt."""
    labels = sample.get("labels")
    if labels is None:
        return False
    if task in ("sequence-classification", "image-classification"):
        return True
    tokens = {"input_ids", "labels", "attention_mask"}
    return task == "causal-lm" and sample.keys() <= tokens and 0 < _prompt(labels) < len(labels)


def _prompt(labels: Tensor) -> int:
    """How many tokens come before the first label."""
    return int((labels != IGNORED).long().argmax()) if bool((labels != IGNORED).any()) else len(labels)


def with_labels_of(sample: Sample, other: Sample, task: Task) -> Sample:
    """The inputs of one sample with the labels, or the answer, of another."""
    if task != "causal-lm":
        return {**sample, "labels": other["labels"]}
    own, begin = _prompt(sample["labels"]), _prompt(other["labels"])
    joined: Sample = {
        key: torch.cat([sample[key][:own], other[key][begin:]]) for key in ("input_ids", "labels") if key in sample
    }
    if "attention_mask" in sample:
        joined["attention_mask"] = torch.ones_like(joined["input_ids"])
    return joined


def same_labels(one: Sample, other: Sample) -> bool:
    """Whether two samples have the same label, or answer."""
    return one["labels"].shape == other["labels"].shape and bool((one["labels"] == other["labels"]).all())
