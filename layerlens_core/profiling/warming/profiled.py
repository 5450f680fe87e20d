"""A profile's warm-up: the subspaces in which an update lies, and through which modules the loss fell meanwhile."""

import time
from collections.abc import Sequence

import torch
from attrs import define, evolve, field
from torch import Tensor
from transformers import PreTrainedModel

from layerlens_core.errors import ModelError, NonFiniteError
from layerlens_core.files.directions import Pair, Subspace, write_directions
from layerlens_core.plugin.active import ActiveProfile
from layerlens_core.profiling.distributed.workers import Workers
from layerlens_core.profiling.model.devices import input_device
from layerlens_core.profiling.model.frozen import checkpointing_kept, untouched
from layerlens_core.profiling.model.weights import is_sharded
from layerlens_core.profiling.samples.sample import Sample
from layerlens_core.profiling.samples.tasks import count_labels
from layerlens_core.profiling.warming.expense import FIRST_STEPS, expense, remaining
from layerlens_core.profiling.warming.falls import Falls
from layerlens_core.profiling.warming.options import WarmUpOptions
from layerlens_core.profiling.warming.train import Adapters, WarmUpRecipe, labelled, warm_up
from layerlens_core.profiling.warming.update import decomposed
from layerlens_core.values.profile import Profile, Task, WarmUp
from layerlens_core.values.scores import RawScores

#: The metric whose scores come with a warm-up, with its unit.
METRIC = "loss_change"
#: Steps over which the rate rises; of a short warm-up a quarter.
_RISING = 5
#: The least part of its first loss that a warm-up has to lose; one that loses less is done again at a quarter of the
#: rate, so often in all. On a MiniLM a rate that suits a Llama leaves a classifier at chance from the first steps on.
_LEAST_FALL, _SLOWER, _TRIES = 0.01, 4, 3
_OF = "the warm-up"


def check_warm_up(options: WarmUpOptions | None, model: PreTrainedModel, samples: Sequence[Sample], task: Task) -> None:
    """Raises `ModelError` or `DataError` where there can be no warm-up, before anything is computed."""
    if options is None:
        return
    if is_sharded(model):
        raise ModelError(
            "a warm-up trains adapters, which sharded weights do not allow; leave --warm-up or --shard out"
        )
    options.check(sum(count_labels(sample, task) > 0 for sample in samples))


def with_warm_up(
    result: Profile,
    context: ActiveProfile,
    options: WarmUpOptions | None,
    workers: Workers,
    gradient: Subspace,
) -> Profile:
    """The profile with a record of its warm-up, and with scores of the metric ``loss_change`` unless it has some.

    The first worker trains, and writes ``subspace.safetensors``. The model is left as it was.

    result: without a warm-up.
    context: what a metric gets.
    options: None for no warm-up.
    workers: who share the work.
    gradient: leading singular vectors of mean gradients, by module, whose right ones A starts along; empty where the
        pass gave none.

    Raises `DataError`, `NonFiniteError` or `ScoreError` where the warm-up cannot be done, or diverges.
    """
    if options is None:
        return result
    record, shares = workers.first(
        workers.agreed(lambda: _warmed(result, context, options, gradient) if workers.rank == 0 else None)
    )
    scores = RawScores(metric=METRIC, unit="1", granularity="module", values=shares, reduction="sum")
    kept = (scores,) if METRIC not in {each.metric for each in result.scores} else ()
    return evolve(result, warm_up=record, scores=(*result.scores, *kept))


@define(eq=False)
class _Watch(Falls):
    """Adds up falls, and keeps the losses, and the update's singular vectors at the end."""

    vectors: dict[str, Pair] = field(factory=dict)
    losses: list[Tensor] = field(factory=list)

    def before(self, adapters: Adapters, loss: Tensor) -> None:
        """Keep the batch's loss too."""
        super().before(adapters, loss)
        self.losses.append(loss)

    @property
    def fall(self) -> float:
        """By which part of its mean over the first fifth of the steps the loss is lower over the last fifth."""
        some = max(1, len(self.losses) // 5)
        first, last = (float(torch.stack(part).mean()) for part in (self.losses[:some], self.losses[-some:]))
        return 1 - last / first

    def end(self, adapters: Adapters) -> None:
        """Decompose every module's update. Raises `NonFiniteError`."""
        for name, (a, b) in adapters.items():
            if not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
                raise NonFiniteError(f"the update of {name} is not finite after {_OF}; give it a lower rate")
            self.vectors[name] = decomposed(a, b).vectors


def _warmed(
    result: Profile, context: ActiveProfile, options: WarmUpOptions, gradient: Subspace
) -> tuple[WarmUp, dict[str, float]]:
    """Train, write the subspaces, and record what it took; every module's share of the fall in loss beside it."""
    samples = labelled(context, _OF, options.batch)
    steps = options.steps_on(len(samples))
    rising = max(1, min(_RISING, steps // 4))
    recipe = WarmUpRecipe(
        rank=options.rank, batch=options.batch, steps=steps, epochs=steps, rate=options.learning_rate, rising=rising,
        falling=True,
    )  # fmt: skip
    planned = expense(context, samples, rank=options.rank, batch=options.batch, activations=result.activations)
    options.say(f"warm-up: {options.figures(len(samples))}; {planned.sentence}")
    if doubt := options.doubt(len(samples)):
        options.say(doubt)
    device = input_device(context.model)
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    began = time.perf_counter()
    watch, rate = _trained(context, samples, recipe, options, gradient)
    shares = watch.shares(_OF)
    seconds = time.perf_counter() - began
    assert options.folder is not None  # `WarmUpOptions.of`
    digest = write_directions(
        options.folder, watch.vectors, fingerprint=context.inventory.fingerprint, seed=context.seed,
        samples=len(samples), source="warm-up",
    )  # fmt: skip
    return WarmUp(
        steps=steps, rank=options.rank, samples=len(samples), rate=rate, batch=options.batch,
        start="gradient" if gradient else "random", seconds=seconds,
        peak=torch.cuda.max_memory_allocated(device) if on_gpu else 0, digest=digest,
    ), shares  # fmt: skip


def _trained(
    context: ActiveProfile,
    samples: Sequence[Sample],
    recipe: WarmUpRecipe,
    options: WarmUpOptions,
    gradient: Subspace,
) -> tuple[_Watch, float]:
    """What looked on, and the rate: lower than asked for where nobody asked for one and the loss did not fall."""
    along = {name: torch.as_tensor(pair.right) for name, pair in gradient.items()}
    tries = _TRIES if options.rate is None else 1
    for attempt in range(1, tries + 1):
        watch, clock = _Watch(), _Clock(context, options)
        try:
            with untouched(context.model), checkpointing_kept(context.model):
                warm_up(evolve(context, progress=clock.tell), samples, recipe, watch, of=_OF, along=along)
            failed = "did not fall" if watch.fall < _LEAST_FALL else ""
        except NonFiniteError:
            if attempt == tries:
                raise
            failed = "diverged"
        if not failed or attempt == tries:
            break
        recipe = evolve(recipe, rate=recipe.rate / _SLOWER)
        options.say(f"warm-up: the loss {failed}; once more at a rate of {recipe.rate:.3g}")
    return watch, recipe.rate


@define(eq=False)
class _Clock:
    """Passes progress on, and says after the first steps how long the rest will take."""

    context: ActiveProfile
    options: WarmUpOptions
    _first: float = 0.0

    def tell(self, done: int, total: int) -> None:
        """A step is done."""
        now = time.perf_counter()
        if done == 1:
            self._first = now
        elif done == 1 + FIRST_STEPS < total:
            self.options.say(remaining(done, total, now - self._first))
        self.context.progress(done, total)
