"""What all runs of a comparison share: which model and data; and held-out samples, where none were given."""

import math
from collections.abc import Sequence

import torch

from layerlens_core.comparison.stacked.testbed import Testbed
from layerlens_core.errors import DataError
from layerlens_core.profiling.model import weights
from layerlens_core.profiling.samples.sample import Sample, digest
from layerlens_core.values.comparison import Setting
from layerlens_core.values.profile import versions

#: The share of the samples that is held out, and how many at most.
HELD_OUT, MOST_HELD_OUT = 0.2, 2_000


def setting_of(testbed: Testbed) -> Setting:
    """What all runs on a testbed share."""
    return Setting(
        model=f"{testbed.inventory.fingerprint[:16]}-{weights.digest(testbed.model)[:16]}",
        task=testbed.task,
        data=digest(testbed.training)[:32],
        held_out=digest(testbed.held_out)[:32],
        labels=testbed.labels,
        precision=str(testbed.model.dtype).removeprefix("torch."),
        versions={name: version for name, version in versions().items() if name != "python"},
    )


def split_off(samples: Sequence[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """Samples to train on, and samples that are held out. Those that are the same stay on one side.

    samples: all of them.
    seed: of the draw.

    Raises `DataError` where too few differ.
    """
    alike: dict[str, list[Sample]] = {}
    for sample in samples:
        alike.setdefault(digest([sample]), []).append(sample)
    groups = list(alike.values())
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    wanted = min(math.ceil(HELD_OUT * len(samples)), MOST_HELD_OUT)
    held_out: list[Sample] = []
    training: list[Sample] = []
    for place in order:
        (held_out if len(held_out) < wanted else training).extend(groups[place])
    if not training:
        raise DataError(f"of {len(samples)} samples none is left to train on once some are held out; give --eval")
    return training, held_out
