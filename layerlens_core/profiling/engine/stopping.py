"""When to stop: at the first number of samples where the ranking of the layers has settled.

The numbers are 32, 64, 128 and so on. The ranking has settled where, for every metric that is a mean over samples, the
mean rank correlation between the layers as scored by random halves of the samples so far is at least 0.95
(`layerlens_core.profiling.engine.stability`). Halves rank worse than the whole, so this errs on the side of more
samples. Nothing but the samples, their order and the seed decides, and all workers decide alike.
"""

from collections.abc import Mapping

#: The first number of samples at which it is asked, and the stability that is asked for.
FIRST, SETTLED = 32, 0.95


def stages(samples: int, group_size: int) -> list[int]:
    """Numbers of samples below all of them, of whole groups, at which to ask whether the ranking has settled."""
    found, count = [], FIRST
    while count < samples:
        found.append(max(count // group_size * group_size, group_size))
        count *= 2
    return [count for count in dict.fromkeys(found) if count < samples]


def settled(stability: Mapping[str, float], metrics: int) -> bool:
    """Whether so many metrics have a stability, and each is high enough."""
    return len(stability) == metrics and all(value >= SETTLED for value in stability.values())


def auto_settings(stability: Mapping[str, float], metrics: int, given: int) -> dict[str, int | float | str]:
    """What a profile records of it. given: samples at hand."""
    return {"samples_at_most": given, "settled_from": SETTLED, "settled": int(settled(stability, metrics))}
