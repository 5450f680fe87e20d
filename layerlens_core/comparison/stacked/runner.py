"""Run jobs: those that can share a model stacked in blocks, every other one alone on the same batches."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import prod

import numpy as np
import torch
from attrs import define, field
from numpy.typing import NDArray
from torch import Tensor

from layerlens_core.comparison.stacked.alone import Alone
from layerlens_core.comparison.stacked.block import Block, shapes_of, why_not_stackable
from layerlens_core.comparison.stacked.subspaces import Subspaces
from layerlens_core.comparison.stacked.testbed import Testbed
from layerlens_core.comparison.stacked.train import Room, Training
from layerlens_core.files.directions import Subspace
from layerlens_core.profiling.model.devices import free_memory, input_device
from layerlens_core.profiling.model.frozen import untouched
from layerlens_core.values.comparison import Job, Result

#: Tokens in a pass, beyond which more arms gain nothing on a CPU, and on a GPU.
ENOUGH_TOKENS = {"cpu": 8_192, "cuda": 262_144}
#: Bytes of a trained parameter: in float32 with its gradient and two moments, and what the model computes with.
_BYTES = 24
#: Of free memory, what a block's parameters may take; the rest is for what the model keeps.
_SHARE = 0.3


@define(eq=False, kw_only=True)
class Runner:
    """Trains jobs on a testbed.

    testbed: what is trained and judged on.
    directions: leading right singular vectors of the gradient, by module, for arms that start along them.
    subspaces: that cores lie in, by the name that `Arm.subspace` has; ``weights`` and ``random`` are made.
    strengths: as in `Subspaces`, for arms that start continued.
    most: arms of a block at most; None leaves it to memory.
    progress: called with the job ids at work, steps done, and steps in all.
    """

    testbed: Testbed
    directions: Mapping[str, Tensor] = field(factory=dict)
    subspaces: Mapping[str, Subspace] = field(factory=dict)
    strengths: Mapping[str, Mapping[str, NDArray[np.float32]]] = field(factory=dict)
    most: int | None = None
    progress: Callable[[int, int], None] = field(default=lambda done, total: None)
    _apart: dict[object, str | None] = field(factory=dict, init=False)
    _found: Subspaces = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._found = Subspaces(testbed=self.testbed, given=self.subspaces, strengths=self.strengths)

    def __call__(self, jobs: Iterable[Job]) -> Iterator[Result]:
        """Results of jobs, block by block, each as soon as it is known.

        A block for whose adapters memory does not suffice is halved.

        Raises `ModelError` where a single arm does not fit, and where a core's subspace is not at hand.
        """
        waiting = self.blocks(list(jobs))
        while waiting:
            block, found = waiting.pop(0), None
            # Suppressed, the error is gone, with what it holds on to, before anything is tried again.
            with untouched(self.testbed.model), suppress(torch.OutOfMemoryError):
                found = self._train(block)
            if found is not None:
                yield from found
                continue
            Room(len(block)).halve(input_device(self.testbed.model))
            half = -(-len(block) // 2)
            waiting[:0] = [block[:half], block[half:]]

    def blocks(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """Jobs that train together: of one schedule and scale, and of one seed where samples must not be padded.

        Those of one seed stand beside each other, since they see the same samples, of these those of the same methods,
        and of these those of like size, since the larger one's size decides what a pass costs.
        """
        together: dict[tuple[object, ...], list[Job]] = {}
        for job in jobs:
            seed = 0 if self.testbed.established.company == "padded" else job.seed
            key = (job.schedule, job.arm.scale, seed, self._idle(job), "" if self._stacks(job) else job.id)
            together.setdefault(key, []).append(job)
        blocks = []
        for same in together.values():
            same = sorted(
                same,
                key=lambda job: (
                    job.seed,
                    sorted(job.arm.sizes),
                    job.arm.subspace,
                    job.arm.parameters,
                    job.rate,
                ),
            )
            most = self.most or self._fitting(same)
            blocks += [same[start : start + most] for start in range(0, len(same), most)]
        return blocks

    def _fitting(self, jobs: Sequence[Job]) -> int:
        """How many of these may be one block: what they train, with its optimizer, takes a share of free memory."""
        an_arm = sum(prod(shape) for shape in shapes_of(self.testbed, jobs).values())
        return max(1, int(_SHARE * free_memory(input_device(self.testbed.model)) / (_BYTES * max(an_arm, 1))))

    def _stacks(self, job: Job) -> bool:
        """Whether a job trains beside others; found out once for all jobs at the same places."""
        arm = job.arm
        places = [(method, name) for method, sizes in arm.sizes.items() for name, size in sizes.items() if size]
        key = (arm.tuner, frozenset(places))
        if key not in self._apart:
            self._apart[key] = why_not_stackable(self.testbed, arm)
        return self._apart[key] is None

    def _idle(self, job: Job) -> bool:
        """Whether a job trains nothing: it is judged, and lengthens nobody's batches."""
        return not job.arm.sizes and not self.testbed.inventory.heads

    def _train(self, jobs: Sequence[Job]) -> list[Result]:
        testbed = self.testbed
        stacked = self._stacks(jobs[0]) or self._idle(jobs[0])
        block: Block | Alone
        if stacked:
            block = Block.of(testbed, jobs, self.directions, self._found)
        else:
            block = Alone(testbed, jobs, self.directions, self._found)
        return Training(testbed=testbed, block=block, room=self._room(jobs), progress=self.progress).run()

    def _room(self, jobs: Sequence[Job]) -> Room:
        device = input_device(self.testbed.model).type
        longest = max(len(sample.get("input_ids", ())) or 1 for sample in self.testbed.training)
        tokens = longest * jobs[0].schedule.batch
        return Room(max(1, min(len(jobs), ENOUGH_TOKENS.get(device, ENOUGH_TOKENS["cuda"]) // tokens)))
