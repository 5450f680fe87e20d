"""Train a block of arms on batches that all of them see, and judge each on held-out samples."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from attrs import define, field
from torch import Tensor, nn

from layerlens_core.comparison.stacked.alone import Alone
from layerlens_core.comparison.stacked.block import Block
from layerlens_core.comparison.stacked.schedule import order
from layerlens_core.comparison.stacked.testbed import Testbed
from layerlens_core.errors import ModelError
from layerlens_core.profiling.model.devices import input_device, on
from layerlens_core.profiling.model.losses import Terms, loss_terms
from layerlens_core.profiling.samples.sample import Sample, collate, runs, runs_key, tokens
from layerlens_core.profiling.samples.tasks import CLASSIFICATION, pad_token_id, problem_of
from layerlens_core.values.comparison import Job, Result

#: Parts of a run of which the mean training loss is kept.
_PARTS = 10
#: How often it is looked at whether all arms have diverged, in steps.
_LOOK = 32

T = TypeVar("T")


@define(eq=False)
class Room:
    """How many arms run in one pass through the model; halved where memory runs out.

    arms: so many at most.
    """

    arms: int

    def halve(self, device: torch.device) -> None:
        """After memory ran out. Raises `ModelError` where one arm does not fit."""
        if self.arms == 1:
            raise ModelError(
                f"{device} has too little memory for a single arm's batch; make the batch, or the longest sample, "
                "smaller (--batch, --max-length)"
            )
        self.arms = max(1, self.arms // 2)
        if device.type == "cuda":
            torch.cuda.empty_cache()


@define(eq=False, kw_only=True)
class Training:
    """One block of jobs of one schedule on one testbed.

    testbed: what is trained and judged on.
    block: the arms.
    room: how many of them run at once.
    progress: called with the steps that are done, and how many there are, held-out batches included.
    """

    testbed: Testbed
    block: Block | Alone
    room: Room
    progress: Callable[[int, int], None] = field(default=lambda done, total: None)
    losses: list[Tensor] = field(factory=list)

    @property
    def jobs(self) -> Sequence[Job]:
        """One an arm."""
        return self.block.jobs

    @property
    def trains(self) -> bool:
        """Whether there is anything to train: an arm with nothing in a model without a head is that model."""
        return any(job.arm.sizes for job in self.jobs) or bool(self.testbed.inventory.heads)

    @property
    def device(self) -> torch.device:
        """Where the model takes its inputs."""
        return input_device(self.testbed.model)

    def run(self) -> list[Result]:
        """Train to the end, and judge."""
        began = time.monotonic()
        testbed, schedule = self.testbed, self.jobs[0].schedule
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        orders = {seed: order(testbed.training, schedule, seed) for seed in sorted({job.seed for job in self.jobs})}
        rates = [job.rate for job in self.jobs]
        with self.block.attached(testbed.model, testbed.layers):
            for step in range(schedule.steps if self.trains else 0):
                self.losses.append(self._step({seed: batches[step] for seed, batches in orders.items()}))
                self.block.parameters.step(step, rates, schedule)
                self.progress(step + 1, schedule.steps)
                if step % _LOOK == _LOOK - 1 and bool(self.block.parameters.diverged.all()):
                    break
            judged, right = self.judge()
            seconds = (time.monotonic() - began) / len(self.jobs)
            peak = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0
            return self._results(judged, right, seconds, peak)

    def judge(self) -> tuple[Tensor, Tensor | None]:
        """Of every held-out sample that counts, the mean loss and the share of right answers [K, samples].

        The latter is None where a task has no classes.
        """
        testbed, company = self.testbed, self.testbed.established.company
        size = 1 if company == "alone" else self.jobs[0].schedule.batch
        held_out = testbed.held_out[: self.jobs[0].schedule.judged or None]
        numbers = sorted(range(len(held_out)), key=lambda i: (str(runs_key(held_out[i])), tokens(held_out[i])))
        losses, right = [], []
        for batch in _together(held_out, numbers, size, equal=company != "padded"):
            samples = [held_out[i] for i in batch]
            found = self._over_arms(partial(self._judged, samples))
            losses.append(torch.cat([of_arms for of_arms, _ in found]))
            answers = [of_arms for _, of_arms in found if of_arms is not None]
            right += [torch.cat(answers)] if answers else []
        places = torch.tensor(numbers).argsort()
        return torch.cat(losses, dim=1).cpu()[:, places], torch.cat(right, dim=1).cpu()[:, places] if right else None

    def _step(self, chosen: Mapping[int, Sequence[int]]) -> Tensor:
        """The gradients of one step, and its losses [K].

        chosen: by seed, the numbers of the samples.
        """
        samples = {seed: [self.testbed.training[i] for i in numbers] for seed, numbers in chosen.items()}
        return torch.cat(self._over_arms(partial(self._backward, samples)))

    def _over_arms(self, run: Callable[[slice], T]) -> list[T]:
        """What each pass gives, with as many arms in each as there is room for."""
        results: list[T] = []
        start = 0
        while start < len(self.jobs):
            arms = slice(start, min(start + self.room.arms, len(self.jobs)))
            try:
                results.append(run(arms))
            except torch.OutOfMemoryError:
                arms = slice(start, start)  # out of the clause, as the error holds on to the memory
            if arms.stop == start:
                self.block.parameters.forget(slice(start, start + self.room.arms))
                self.room.halve(self.device)
            start = arms.stop
        return results

    def _backward(self, samples: Mapping[int, Sequence[Sample]], arms: slice) -> Tensor:
        """Add to the gradients of some arms, and give their losses: means over all labels, as the Trainer has it."""
        terms = self._terms([samples[job.seed] for job in self.jobs[arms]], arms)
        count = arms.stop - arms.start
        labels = terms.labelled.view(count, -1).sum(dim=1).clamp(min=1)
        losses = terms.values.view(count, -1).sum(dim=1) / labels.to(terms.values.device)
        penalty = self.block.penalty()
        torch.autograd.backward(losses.sum() if penalty is None else losses.sum() + penalty)
        return losses.detach()

    @torch.no_grad()
    def _judged(self, samples: Sequence[Sample], arms: slice) -> tuple[Tensor, Tensor | None]:
        """Losses, and shares of right answers where there are classes, of some arms [arms, samples]."""
        testbed, count = self.testbed, arms.stop - arms.start
        batch = self._batch([samples] * count, arms)
        with _logits(testbed, batch) as seen:
            terms = loss_terms(testbed.model, batch, testbed.task, testbed.head)
        right = None
        if seen:
            labelled = terms.labelled.to(seen[0].device)
            answers = seen[0].argmax(dim=-1) == batch["labels"].to(seen[0].device)
            counted = (answers.view(labelled.shape) & labelled).sum(dim=1)
            right = (counted / labelled.sum(dim=1).clamp(min=1)).view(count, -1)
        return terms.losses.view(count, -1), right

    def _terms(self, samples: Sequence[Sequence[Sample]], arms: slice) -> Terms:
        """What the losses of some arms are the means of, each on its own samples."""
        return loss_terms(self.testbed.model, self._batch(samples, arms), self.testbed.task, self.testbed.head)

    def _batch(self, samples: Sequence[Sequence[Sample]], arms: slice) -> Sample:
        """One batch of some arms, each with its own samples; the model is told whose they are."""
        testbed, running = self.testbed, self.block.running
        running.arms, running.samples = arms, len(samples[0])
        pad = pad_token_id(testbed.model, testbed.task, len(samples) * len(samples[0]))
        if any(of_arm is not samples[0] for of_arm in samples):
            return on(self.device, collate([sample for of_arm in samples for sample in of_arm], pad, testbed.multiple))
        batch = on(self.device, collate(samples[0], pad, testbed.multiple))
        return {key: value.repeat(len(samples), *[1] * (value.dim() - 1)) for key, value in batch.items()}

    def _results(self, losses: Tensor, right: Tensor | None, seconds: float, peak: int) -> list[Result]:
        trained = torch.stack(self.losses).T.double().cpu() if self.losses else torch.zeros(len(self.jobs), 0)
        diverged = self.block.parameters.diverged.cpu() | ~losses.isfinite().all(dim=1)
        return [
            Result(
                job=job,
                losses=() if diverged[arm] else tuple(losses[arm].double().tolist()),
                right=() if right is None or diverged[arm] else tuple(right[arm].double().tolist()),
                training=() if diverged[arm] else _means(trained[arm]),
                diverged=bool(diverged[arm]),
                seconds=seconds,
                stacked=len(self.jobs),
                peak=peak,
            )
            for arm, job in enumerate(self.jobs)
        ]


def _means(losses: Tensor) -> tuple[float, ...]:
    """Of each tenth of a run, the mean of its steps' losses [steps]."""
    return tuple(float(part.mean()) for part in losses.tensor_split(_PARTS) if len(part))


def _together(samples: Sequence[Sample], numbers: Sequence[int], size: int, *, equal: bool) -> Iterator[list[int]]:
    """The numbers cut into batches of samples that can share one."""
    ordered = [samples[i] for i in numbers]
    for start, run in runs(ordered, size, equal=equal):
        yield list(numbers[start : start + len(run)])


@contextmanager
def _logits(testbed: Testbed, batch: Sample) -> Iterator[list[Tensor]]:
    """A list that gets the logits of the batch that runs inside, where an answer is one of several classes."""
    seen: list[Tensor] = []
    classes = testbed.task == "token-classification" or (
        testbed.task in CLASSIFICATION and problem_of(testbed.model, batch["labels"]) == "single_label_classification"
    )

    def look(_model: nn.Module, _args: Any, output: Any) -> None:
        seen.append(output.logits)

    handle = testbed.model.register_forward_hook(look) if classes else None
    try:
        yield seen
    finally:
        if handle is not None:
            handle.remove()
