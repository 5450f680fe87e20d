"""Cores or the method of the largest capacity, where a strategy gives one to all: what gains more at one size.

Below LoRA's first rank on all modules, LoRA can only leave layers out, and cores cannot be much too small: they have n²
parameters. Above it, cores gain less the more parameters there are. The predicted gain decides, by the gain curves of
both (docs/evidence.md).
"""

import math

import attrs

from layerlens_builtin.strategies.evenly import Even, evenly
from layerlens_core.plugin import CORE, BudgetError, CandidateSet, Limits


def within_reach(candidates: CandidateSet, limits: Limits) -> tuple[CandidateSet, str]:
    """The candidates without cores, or with nothing else, whichever is predicted to gain more; and a reason's words.

    All of them, and no words, where there is no core, or nothing of larger capacity.

    candidates: of all units.
    limits: on the whole plan's cost.
    """
    if CORE not in candidates.methods or candidates.methods[-1] == CORE:
        return candidates, ""
    larger = attrs.evolve(candidates, methods=tuple(name for name in candidates.methods if name != CORE))
    cores = attrs.evolve(candidates, methods=("none", CORE))
    with_larger, with_cores = _gain(larger, limits), _gain(cores, limits)
    if with_cores > with_larger and all(unit.offers(CORE) for unit in candidates.units):
        better, chosen, worse, other = cores, with_cores, larger.methods[-1], with_larger
    else:
        better, chosen, worse, other = larger, with_larger, CORE, with_cores
    told = "nothing that fits" if other == -math.inf else f"{other:.4g}"
    return better, f", of a predicted gain of {chosen:.4g} at one size everywhere, where {worse} has {told}"


def _gain(candidates: CandidateSet, limits: Limits) -> float:
    """The sum of predicted gains at one size for all units; −∞ where none fits."""
    try:
        even = evenly(candidates, limits)
    except BudgetError:
        return -math.inf
    return math.fsum(_gains(candidates, even))


def _gains(candidates: CandidateSet, even: Even) -> list[float]:
    found = []
    for unit, method, sizes in zip(candidates.units, even.methods, even.sizes(candidates), strict=True):
        if method == "none" or not sizes:
            continue
        size, rows = max(sizes.values()), unit.candidates.offers.rows[method]
        at = unit.sizes(method).index(size)
        found.append(float(unit.candidates.gains[rows[at]]))
    return found
