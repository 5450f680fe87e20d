"""Several processes that profile one model, as torchrun starts them.

Each does a share of the work, and at the end each has the results of all. There is no wrapper around the model, whose
weights are frozen: what the processes exchange are the numbers. Objects go through gloo; tensors through NCCL where
they lie on a GPU.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from threading import Thread
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from attrs import frozen
from torch import Tensor

from layerlens_core.errors import LayerLensError, WorkersError, first_line

T = TypeVar("T")

#: How long processes wait for one another.
TIMEOUT = timedelta(minutes=30)
#: Seconds that a process waits at most to disconnect from the others.
LEAVING = 10.0
#: The environment variable that replaces ``TIMEOUT``, in seconds.
TIMEOUT_VARIABLE = "LAYERLENS_TIMEOUT"
_GONE = "another process has ended or does not answer ({}); see its own message"
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@frozen
class Workers:
    """The processes that share the work, as one of them sees them.

    Every method but `alone` must be called by all of them, in the same order. Each raises `WorkersError` where another
    process has ended or does not answer.

    rank: the number of this process.
    world_size: how many there are.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def alone(self) -> bool:
        """Whether there is only one."""
        return self.world_size == 1

    def gather(self, value: T) -> list[T]:
        """What each of them passed, by rank."""
        if self.alone:
            return [value]
        values: list[Any] = [None] * self.world_size
        with _answering():
            dist.all_gather_object(values, value)
        return values

    def first(self, value: T | None) -> T:
        """What the first of them passed."""
        values: list[Any] = [value]
        if not self.alone:
            with _answering():
                dist.broadcast_object_list(values, src=0)
        return cast(T, values[0])

    def add(self, tensor: Tensor) -> None:
        """Replace a tensor, in place, by the sum of every worker's."""
        if not self.alone:
            with _answering():
                dist.all_reduce(tensor)

    def agreed(self, act: Callable[[], T]) -> T:
        """Do something that may fail: where it fails for one of them, all raise the same error."""
        result, error = None, None
        try:
            result = act()
        except LayerLensError as caught:
            error = caught
        if self.alone:
            if error is not None:
                raise error
            return cast(T, result)
        found = self.gather(None if error is None else (type(error), str(error)))
        failed = [(rank, what) for rank, what in enumerate(found) if what is not None]
        if failed:
            rank, (kind, text) = failed[0]
            everywhere = all(what == found[0] for what in found)
            raised: LayerLensError = kind(text if everywhere else f"process {rank} of {self.world_size}: {text}")
            raised.told_by_another = self.rank != 0
            raise raised
        return cast(T, result)

    def compare(self, identity: Mapping[str, str]) -> None:
        """Raises `WorkersError`, in all of them, where they do not see the same.

        identity: by name, texts that must be equal.
        """
        seen = self.gather(dict(identity))
        for rank, other in enumerate(seen):
            wrong = [name for name in seen[0] if other.get(name) != seen[0][name]]
            if wrong or other.keys() != seen[0].keys():
                error = WorkersError(
                    f"process {rank} of {self.world_size} sees another {wrong[0] if wrong else 'set of options'} than "
                    "process 0; give all of them the same model, data and options"
                )
                error.told_by_another = self.rank != 0
                raise error


ALONE = Workers()


def by_torchrun(environment: Mapping[str, str] = os.environ) -> Workers | None:
    """This process's place among those that torchrun started; None where there is no other.

    Raises `WorkersError` where the environment contradicts itself.
    """
    if "WORLD_SIZE" not in environment or environment["WORLD_SIZE"].strip() == "1":
        return None
    missing = [name for name in _VARIABLES if name not in environment]
    if missing:
        raise WorkersError(
            f"WORLD_SIZE is {environment['WORLD_SIZE']!r} but {missing[0]} is not set; "
            "start with torchrun --nproc-per-node N -m layerlens_core …, or unset WORLD_SIZE"
        )
    try:
        rank, size, local = (int(environment[name]) for name in _VARIABLES[:3])
    except ValueError:
        rank, size, local = -1, 0, -1
    if not 0 <= rank < size or local < 0:
        raise WorkersError(
            f"RANK={environment['RANK']}, LOCAL_RANK={environment['LOCAL_RANK']} and "
            f"WORLD_SIZE={environment['WORLD_SIZE']} do not match; start with torchrun --nproc-per-node N"
        )
    return Workers(rank, size)


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def joined(workers: Workers | None) -> Iterator[Workers]:
    """Connect to all of them, and disconnect at the end. None is `ALONE`.

    Raises `WorkersError` where not all connect in time.
    """
    if workers is None:
        yield ALONE
        return
    seconds = os.environ.get(TIMEOUT_VARIABLE, "")
    timeout = timedelta(seconds=float(seconds)) if seconds.replace(".", "", 1).isdigit() else TIMEOUT
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo",
            rank=workers.rank, world_size=workers.world_size, timeout=timeout,
        )  # fmt: skip
        dist.all_gather_object([None] * workers.world_size, None)  # through gloo: no process has chosen its GPU yet
    except (RuntimeError, ValueError) as error:  # torch's errors of connections are RuntimeErrors
        if dist.is_initialized():
            _leave()
        raise WorkersError(
            f"process {workers.rank} of {workers.world_size} waited for the others in vain ({first_line(error)}); "
            f"start exactly {workers.world_size} with torchrun --nproc-per-node {workers.world_size}"
        ) from error
    try:
        yield workers
    finally:
        _leave()


def _leave() -> None:
    """Disconnect, for gloo's threads would abort the interpreter at its end. In a thread, as NCCL may wait forever."""
    leaving = Thread(target=dist.destroy_process_group, daemon=True)
    leaving.start()
    leaving.join(LEAVING)


def exchange_sums(workers: Workers, sums: Mapping[str, tuple[Tensor, ...]], device: Callable[[str], torch.device]) -> (
    dict[str, tuple[Tensor, ...]]
):  # fmt: skip
    """By name, the sum over all workers of tensors of equal shape, of which some workers may have none.

    workers: who adds up.
    sums: this worker's tensors by name.
    device: where the tensors of a name belong.
    """
    if workers.alone:
        return dict(sums)
    shapes = workers.gather({name: [(part.shape, part.dtype) for part in parts] for name, parts in sums.items()})
    names: Sequence[str] = sorted({name for seen in shapes for name, parts in seen.items() if parts})
    added = {}
    for name in names:
        like = next(seen[name] for seen in shapes if seen.get(name))
        parts = sums.get(name) or tuple(torch.zeros(s, dtype=d, device=device(name)) for s, d in like)
        for part in parts:
            workers.add(part)
        added[name] = parts
    return added


@contextmanager
def partners_there() -> Iterator[None]:
    """Around a sharded model's passes, in which other processes may end: raises `WorkersError` where one did."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not isinstance(error, dist.DistError) and not any(word in text for word in ("gloo", "NCCL", "Connection")):
            raise
        raise WorkersError(_GONE.format(first_line(error))) from error


@contextmanager
def _answering() -> Iterator[None]:
    """Around an exchange: raises `WorkersError`, in one line, where another process has ended."""
    try:
        yield
    except RuntimeError as error:
        raise WorkersError(_GONE.format(first_line(error))) from error
