"""LoRA or cores, where a strategy gives one method to all: what gains more at one size everywhere.

Below LoRA's first rank on all modules, LoRA can only leave layers out, and cores cannot be much too small: they have n²
parameters. Above it, cores gain less the more parameters there are. The predicted gain decides, by the gain curves of
both (docs/evidence.md).
"""

import math

import attrs

from layerlens_builtin.strategies.evenly import Even, evenly
from layerlens_core.plugin import CORE, LORA_METHODS, BudgetError, CandidateSet, Limits

_LORA = LORA_METHODS - {CORE}


def within_reach(candidates: CandidateSet, limits: Limits) -> tuple[CandidateSet, str]:
    """The candidates without LoRA, or without cores, whichever is predicted to gain less; and a reason's words for it.

    All of them, and no words, where not both are offered, or where something else is of larger capacity.

    candidates: of all units.
    limits: on the whole plan's cost.
    """
    offered = set(candidates.methods)
    if CORE not in offered or not offered & _LORA or candidates.methods[-1] not in _LORA:
        return candidates, ""
    lora, cores = (
        attrs.evolve(candidates, methods=tuple(name for name in candidates.methods if name not in without))
        for without in ({CORE}, _LORA)
    )
    with_lora, with_cores = (_gain(each, limits) for each in (lora, cores))
    better, worse, chosen = (cores, "lora", with_cores) if with_cores > with_lora else (lora, CORE, with_lora)
    other = min(with_lora, with_cores)
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
