"""How many samples go through the model at once: as given, or as memory allows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from attrs import define

#: A number of samples, or ``auto``: as many as fit into free memory.
Samples = int | Literal["auto"]

#: On a CPU more samples than these at once gain nothing.
ON_CPU = 8
#: More samples or tokens than these gain nothing on a GPU either.
MOST_SAMPLES, MOST_TOKENS = 64, 16_384
#: The share of free memory to fill; the rest is for what does not grow in proportion to the samples.
SHARE = 0.8


@define
class MicroBatch:
    """The number of samples in a forward and backward pass, as of now.

    samples: how many.
    device: on which they run.
    measured: the number is settled, and needs no more watching.
    """

    samples: int
    device: torch.device
    measured: bool

    @classmethod
    def of(cls, samples: Samples, group_size: int, device: torch.device) -> "MicroBatch":
        """As given; with ``auto`` on a GPU one group at first, which shows how much memory a sample takes."""
        if samples != "auto":
            return cls(samples, device, measured=True)
        if device.type != "cuda":
            return cls(max(ON_CPU, group_size), device, measured=True)
        return cls(group_size, device, measured=False)

    @contextmanager
    def watched(self, samples: int, tokens: int) -> Iterator[None]:
        """Run the first micro-batch inside: its peak of memory tells how many samples later ones may have.

        samples: of this micro-batch.
        tokens: of each sample, padding included.
        """
        if self.measured:
            yield
            return
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        yield
        torch.cuda.synchronize(self.device)
        peak = torch.cuda.max_memory_allocated(self.device) - before
        cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        free = torch.cuda.mem_get_info(self.device)[0] + cached
        fitting = int(SHARE * free * samples / max(peak, 1))
        self.samples = max(samples, min(fitting, MOST_SAMPLES, MOST_TOKENS // max(tokens, 1)))
        self.measured = True

    def halve(self) -> None:
        """After memory ran out: half as many samples, at least one."""
        self.samples, self.measured = max(self.samples // 2, 1), True
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
