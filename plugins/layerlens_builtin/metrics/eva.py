"""EVA's ranks (Paischer and others, arXiv 2410.07170): where inputs vary in few directions, one of these explains much.

A module's inputs over all tokens, less their mean, have principal components; a component's explained variance ratio is
its variance over that of all. Of every module the ρ·r leading ratios go into one pool, and of the pool the r·M largest
win, M the number of modules. A module's score is how many of its own win: its rank in EVA, with r = 8 and ρ = 2. Ratios
that tie at the threshold share what is left.

Limits: it looks at inputs alone and knows nothing of the loss; modules that share an input get the same. PEFT finds
components incrementally and roughly, and by default from the labelled tokens alone; here it is all tokens and an exact
decomposition, of a matrix [in, in] a module.
"""

from collections.abc import Mapping, Sequence

import torch

from layerlens_core.plugin import ActiveProfile, Moments, input_moments

RANK = 8
RHO = 2


def score(context: ActiveProfile) -> dict[str, float]:
    """Every module's rank in EVA."""
    ratios = {name: explained(moments, RANK * RHO) for name, moments in input_moments(context)}
    return ranks(ratios, RANK * len(ratios))


def explained(moments: Moments, most: int) -> list[float]:
    """The leading explained variance ratios, descending; zeros where nothing varies.

    moments: of a module's inputs.
    most: how many.
    """
    values = torch.linalg.eigvalsh(moments.scatter).flip(0).clamp(min=0)
    total = float(values.sum())
    return [value / total if total else 0.0 for value in values[:most].tolist()]


def ranks(ratios: Mapping[str, Sequence[float]], budget: int) -> dict[str, float]:
    """How many of each module's ratios are among so many largest ones of all.

    ratios: by module.
    budget: how many win.
    """
    pool = sorted((ratio for of_module in ratios.values() for ratio in of_module), reverse=True)
    if budget >= len(pool):
        return {name: float(len(of_module)) for name, of_module in ratios.items()}
    threshold = pool[budget]
    beyond = sum(ratio > threshold for ratio in pool)
    part = (budget - beyond) / pool.count(threshold)
    return {
        name: sum(ratio > threshold for ratio in of_module) + part * sum(ratio == threshold for ratio in of_module)
        for name, of_module in ratios.items()
    }
