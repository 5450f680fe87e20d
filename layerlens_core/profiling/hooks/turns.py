"""Modules take turns: as many of them as memory holds are heard in one pass over the samples, further passes the rest.

What is held is chosen by what is free beforehand. Where memory runs out all the same, the turn is done again with half
as many modules, and with one module alone in smaller micro-batches.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from layerlens_core.plugin.active import ActiveProfile
from layerlens_core.profiling.model.devices import free_memory, weight_device

T = TypeVar("T")

#: Bytes of matrices that are held at once on a CPU: so many in any case, and no more than so many.
LEAST, MOST = 2**31, 2**33

#: Gathers what these modules ask for in one pass over the samples, in micro-batches of so many, and tells how many
#: samples are done.
Gather = Callable[[Sequence[str], int, Callable[[int], None]], dict[str, T]]


def room(device: torch.device) -> int:
    """Bytes of matrices that may be held at once on a device.

    On a CUDA device half of what is free. Activations need little of that: the pass is no larger than the one that
    gathered statistics, whose memory PyTorch keeps for it. The other half is for fragments, and for what a metric makes
    of one module's matrices at a time.

    On a CPU a quarter of what is free, as others may want it too, within bounds. Nobody counts as free what the files'
    cache holds and would give back, so that at least `LEAST` is taken, as little as it may seem.

    device: where the modules compute.
    """
    if device.type == "cuda":
        return free_memory(device) // 2
    return max(LEAST, min(MOST, free_memory(device) // 4))


def turns(profile: ActiveProfile, size: Callable[[int, int], int]) -> list[list[str]]:
    """The names of modules in parts, none of which has more bytes of matrices on a device than may be held there.

    A module that is larger than that is a part of its own.

    profile: what the metric got.
    size: bytes of a module's matrices, by numbers of its outputs and inputs.
    """
    shape = {module.name: (module.out_features, module.in_features) for module in profile.inventory.modules}
    rooms: dict[torch.device, int] = {}
    left: dict[torch.device, int] = {}
    parts: list[list[str]] = []
    for name in profile.modules:
        device = weight_device(profile.model.get_submodule(name), profile.model)
        if device not in rooms:
            rooms[device] = left[device] = room(device)
        needed = size(*shape[name])
        if needed > left[device] or not parts:
            parts.append([])
            left = dict(rooms)
        parts[-1].append(name)
        left[device] -= needed
    return parts


def in_turns(
    profile: ActiveProfile, size: Callable[[int, int], int], samples: int, gather: Gather[T]
) -> Iterator[tuple[str, T]]:
    """What is gathered, by module in the profile's order. Each is only held until the next one is asked for.

    profile: what the metric got.
    size: bytes of a module's matrices, by numbers of its outputs and inputs.
    samples: that a pass goes over.
    gather: does a pass.

    Raises ``torch.OutOfMemoryError`` where not even one sample and one module fit.
    """
    pending, micro_batch, passed = deque(turns(profile, size)), profile.micro_batch, 0
    while pending:
        names = pending.popleft()
        before, work = passed * samples, (passed + 1 + len(pending)) * samples

        def report(done: int, before: int = before, work: int = work) -> None:
            profile.progress(before + done, work)

        found = None
        try:
            found = gather(names, micro_batch, report)
        except torch.OutOfMemoryError:
            if len(names) == 1 and micro_batch == 1:
                raise
        if found is None:  # outside of the handler, which keeps the failed pass's tensors alive
            torch.cuda.empty_cache()  # nothing where CUDA is not used
            half = len(names) // 2
            micro_batch = micro_batch if half else micro_batch // 2
            pending.extendleft(part for part in (names[half:], names[:half]) if part)
            continue
        passed += 1
        for name in names:
            yield name, found.pop(name)
