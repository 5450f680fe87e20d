"""What a comparison trains, and what each training run gives: arms, jobs and results, all plain data."""

import hashlib
import json
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Literal

import attrs
from attrs import field, frozen

#: How LoRA starts: A as PEFT draws it, along the leading directions of the profiled gradient, or drawn and then scaled
#: by rank. Cores start at zero, or continued: as that part of the update that their subspace was taken from.
Start = Literal["random", "gradient", "by-rank", "continued"]
#: Subspaces of cores that are no file: singular vectors of each weight (LoRA-XS, arXiv 2405.17604), and drawn ones.
WEIGHTS, RANDOM = "weights", "random"
#: Who trains an arm: LayerLens on what it attached, PEFT's AdaLoRA, or every weight of the model.
Tuner = Literal["layerlens", "adalora", "full"]


@frozen(kw_only=True)
class Arm:
    """One thing to train in the frozen model, and what it is called.

    name: of the rule that it follows: ``plan``, ``uniform``, ``shuffled`` ….
    budget: that it was made for, as it is typed: ``r=4``.
    sizes: by method, the size of every place that it trains.
    scale: α/r of every LoRA module.
    parameters: that train, without those of task heads, which every arm trains in full.
    start: how LoRA, or cores, start.
    tuner: who trains it.
    memory: bytes of a training step, as planned; 0 where that is not known.
    reason: how its sizes came about, in words.
    subspace: of its cores: the digest of a file, ``weights``, ``random`` (by the job's seed), or nothing without cores.
    """

    name: str
    budget: str
    sizes: Mapping[str, Mapping[str, int]]
    scale: float = field(converter=float)  # read from a file a number must have the same digest
    parameters: int
    start: Start = "random"
    tuner: Tuner = "layerlens"
    memory: float = field(default=0.0, converter=float)
    reason: str = ""
    subspace: str = ""

    @property
    def key(self) -> str:
        """Arm and budget, as tables and files name them."""
        return f"{self.name} {self.budget}"

    @property
    def methods(self) -> set[str]:
        """The methods by which it trains anything."""
        return {method for method, sizes in self.sizes.items() if any(sizes.values())}


@frozen(kw_only=True)
class Schedule:
    """How long a run is, and how its learning rate changes: linearly up over the warm-up, then linearly down to 0.

    steps: of the optimizer.
    batch: samples a step.
    warmup: steps.
    clip: largest norm of an arm's gradient, as the Trainer's ``max_grad_norm``; 0 clips nothing.
    judged: how many of the held-out samples the run is judged on, the first ones; 0 for all.
    """

    steps: int
    batch: int
    warmup: int = 0
    clip: float = field(default=1.0, converter=float)
    judged: int = 0

    def shortened(self, share: float, *, fewest: int, judged: int) -> "Schedule":
        """A whole schedule of a share of the steps, which ends with a rate of 0 too.

        share: of the steps and of the warm-up.
        fewest: steps at least, as far as the whole has as many.
        judged: as in `Schedule`.
        """
        steps = min(self.steps, max(math.ceil(share * self.steps), fewest))
        return attrs.evolve(self, steps=steps, warmup=round(self.warmup * steps / self.steps), judged=judged)


@frozen(kw_only=True, slots=False)
class Job:
    """One training run: a pure function of this record, whatever runs it and beside what else.

    arm: what is trained.
    rate: largest learning rate of the schedule.
    seed: of the order of the data, and of what is drawn. Jobs of one seed and schedule see the same batches.
    schedule: length of the run.
    setting: digest of what all jobs of a comparison share (`Setting.id`).
    """

    arm: Arm
    rate: float = field(converter=float)
    seed: int
    schedule: Schedule
    setting: str

    @cached_property
    def id(self) -> str:
        """A digest of all that the result depends on; what an arm is called, and why it is as it is, are not in it."""
        record = attrs.asdict(self)
        for name in ("name", "budget", "memory", "reason"):
            del record["arm"][name]
        if not self.arm.subspace:  # as it was before there were cores
            del record["arm"]["subspace"]
        return _digest(record)


@frozen(kw_only=True)
class Setting:
    """What all jobs of a comparison share.

    model: digest of the model's structure and weights.
    task: which loss is computed.
    data: digest of the training samples.
    held_out: digest of the held-out samples.
    labels: labelled terms of each held-out sample, by which its mean loss is weighted.
    precision: dtype that the model computes in.
    versions: of the packages.
    """

    model: str
    task: str
    data: str
    held_out: str
    labels: tuple[int, ...]
    precision: str
    versions: Mapping[str, str] = field(factory=dict)

    @property
    def id(self) -> str:
        """A digest of the whole."""
        return _digest(attrs.asdict(self))


@frozen(kw_only=True)
class Result:
    """What a job gave.

    job: which one.
    losses: mean loss of each held-out sample that was judged over its own labels, in nats, in their order; empty where
        the run diverged.
    right: of each held-out sample, the share of its answers that are right, where the task has classes.
    training: mean training loss of each tenth of the run, in nats a label.
    diverged: whether a loss was not finite.
    seconds: of the run; where several ran stacked, its share of them.
    stacked: how many runs shared the model.
    peak: bytes of device memory at most, of all that ran stacked; 0 where that is not known.
    """

    job: Job
    losses: tuple[float, ...] = ()
    right: tuple[float, ...] = ()
    training: tuple[float, ...] = ()
    diverged: bool = False
    seconds: float = 0.0
    stacked: int = 1
    peak: int = 0

    def loss(self, labels: tuple[int, ...]) -> float:
        """Held-out negative log-likelihood, in nats a label; infinite where the run diverged.

        labels: as in `Setting`.
        """
        if self.diverged:
            return math.inf
        counted = labels[: len(self.losses)]
        return math.fsum(n * loss for n, loss in zip(counted, self.losses, strict=True)) / sum(counted)


def _digest(record: object) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
