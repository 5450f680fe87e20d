"""When to stop: at the first number of samples where the ranking of the layers has settled.

The numbers are 32, 64, 128 and so on. The ranking has settled where, for every metric that is a mean over samples, the
mean rank correlation between the layers as scored by random halves of the samples so far is at least 0.95
(`layerlens_core.profiling.engine.stability`). Halves rank worse than the whole, so this errs on the side of more
samples. The decision depends on nothing but the samples, their order and the seed, so all workers decide alike.
"""

from collections.abc import Mapping

#: The smallest number of samples at which a pass may stop, and the stability that it must have reached.
FIRST, SETTLED = 32, 0.95
#: Samples that are read at most, of data that may have no end.
MOST = 4096


def stages(samples: int, group_size: int) -> list[int]:
    """Ascending numbers of samples, fewer than all and in whole groups, at which the pass asks whether it may stop.

    samples: how many there are in all.
    group_size: samples in a group.
    """
    found, count = [], FIRST
    while count < samples:
        found.append(max(count // group_size * group_size, group_size))
        count *= 2
    return [count for count in dict.fromkeys(found) if count < samples]


def settled(stability: Mapping[str, float], metrics: int) -> bool:
    """Whether every one of the metrics has a stability, and each is high enough.

    stability: by metric.
    metrics: how many are means over samples.
    """
    return len(stability) == metrics and all(value >= SETTLED for value in stability.values())


def auto_settings(stability: Mapping[str, float], metrics: int, given: int) -> dict[str, int | float | str]:
    """What a profile records of the stopping.

    stability: by metric.
    metrics: how many are means over samples.
    given: how many samples there were to take from.
    """
    return {"samples_at_most": given, "settled_from": SETTLED, "settled": int(settled(stability, metrics))}
