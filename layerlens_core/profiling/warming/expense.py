"""What a warm-up will take, before it runs: memory from the model's shapes, and time from its first steps."""

from collections.abc import Sequence

from attrs import frozen

from layerlens_core.allocation.budget import readable
from layerlens_core.plugin.active import ActiveProfile
from layerlens_core.profiling.samples.sample import Sample
from layerlens_core.values.costs import Activations, Training

#: Copies of a parameter and of its gradient, by which the fall in loss is told.
_WATCHED_BYTES = 8
#: A value that LoRA keeps between A and B, in float32.
_KEPT_BYTES = 4
#: Steps after which a step takes as long as it will take: the first ones fill memory.
FIRST_STEPS = 3


@frozen(kw_only=True)
class Expense:
    """What a warm-up takes beside the frozen model.

    parameters: that train, task heads included.
    trained: bytes of these, of their gradients, of AdamW's states, and of the copies that the fall in loss takes.
    kept: bytes that one forward pass keeps for the backward pass; None where that is not known.
    micro_batch: samples in that pass.
    """

    parameters: int
    trained: int
    kept: float | None
    micro_batch: int

    @property
    def sentence(self) -> str:
        """In words."""
        words = f"{self.parameters:,} parameters, {readable('memory', self.trained)} with gradients and AdamW's states"
        if self.kept is None:
            return words
        samples = "sample" if self.micro_batch == 1 else "samples"
        return (
            f"{words}, and about {readable('memory', self.kept)} of activations ({self.micro_batch} {samples} at once)"
        )


def expense(
    context: ActiveProfile, samples: Sequence[Sample], *, rank: int, batch: int, activations: Activations | None
) -> Expense:
    """What training adapters on all scored modules will take.

    context: what a metric gets.
    samples: to train on.
    rank: of every module, at most the smaller of its widths.
    batch: samples a step.
    activations: as the profile measured them.
    """
    modules = [module for module in context.inventory.modules if module.name in set(context.modules)]
    ranks = [min(rank, module.in_features, module.out_features) for module in modules]
    sizes = [r * (module.in_features + module.out_features) for r, module in zip(ranks, modules, strict=True)]
    heads = sum(head.parameters for head in context.inventory.heads)
    states = Training().bytes_per_parameter
    micro_batch = min(context.micro_batch, batch)
    longest = max((len(sample.get("input_ids", ())) for sample in samples), default=0)
    kept = None
    if activations is not None and longest:
        token = (
            sum(activations.through.values())
            + sum(activations.adapted.values())
            + activations.head
            + _KEPT_BYTES * sum(ranks)
        )
        kept = token * longest * micro_batch
    return Expense(
        parameters=sum(sizes) + heads,
        trained=sum(sizes) * (states + _WATCHED_BYTES) + heads * states,
        kept=kept,
        micro_batch=micro_batch,
    )


def remaining(done: int, steps: int, since_first: float) -> str:
    """In words, how long the rest of the steps will take.

    done: steps so far.
    steps: of all.
    since_first: seconds since the first step ended.
    """
    step = since_first / max(done - 1, 1)
    left = steps - done
    return f"warm-up: a step takes {step:.2g} s, so the remaining {left:,} take about {step * left:,.0f} s"
