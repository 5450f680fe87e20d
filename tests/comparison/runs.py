"""Results of comparisons that never ran, with known effects."""

import numpy as np

from layerlens_core.values.comparison import Arm, Job, Result, Schedule

LONG, SHORT = Schedule(steps=700, batch=32), Schedule(steps=44, batch=32)
LABELS = tuple(int(count) for count in np.random.default_rng(1).integers(20, 80, 120))


def arm(name="uniform", rank=4, **fields):
    """An arm whose sizes depend on its name, as those of other rules do."""
    sizes = {"lora": {"q": rank, "v": rank if name == "uniform" else 2 * rank + len(name)}}
    given = {"name": name, "budget": f"r={rank}", "sizes": sizes, "scale": 2.0, "parameters": 1000 * rank, **fields}
    return Arm(**given)


def result(arm, losses, *, rate=1e-2, seed=0, schedule=LONG, setting="one", **fields):
    """A run that ended with these losses; none diverged."""
    job = Job(arm=arm, rate=rate, seed=seed, schedule=schedule, setting=setting)
    if losses is None:
        return Result(job=job, diverged=True, **fields)
    return Result(job=job, losses=tuple(map(float, losses)), **fields)


def crossed(seeds, examples, *, mean=0.0, of_seeds=0.0, of_examples=0.0, of_cells=0.0, random=None):
    """[seeds, examples] with crossed effects of these standard deviations."""
    random = np.random.default_rng(0) if random is None else random
    return (
        mean
        + of_seeds * random.standard_normal((seeds, 1))
        + of_examples * random.standard_normal(examples)
        + of_cells * random.standard_normal((seeds, examples))
    )


def runs(effects, *, seeds=3, noise=1e-3, rates=(5e-3, 1e-2, 2e-2), labels=LABELS, right=False):
    """Results of arms at three rates, of which the middle one is the best.

    effects: by name and rank, what is added to the loss of uniform's curve, 2 - 0.1 log2(rank); None diverges.
    noise: standard deviation of what a seed gives an arm, beside ten times as much by example.
    """
    found = []
    hard = np.random.default_rng(2).normal(0, 0.3, len(labels))
    for (name, rank), effect in effects.items():
        for seed in range(seeds):
            random = np.random.default_rng([seed, rank, *map(ord, name)])
            own = hard + 2 - 0.1 * np.log2(rank) + random.normal(0, noise) + random.normal(0, 10 * noise, len(labels))
            for rate in rates:
                off = 0.05 * abs(np.log2(rate / 1e-2))
                losses = None if effect is None else own + effect + off
                fields = {"right": tuple(map(float, losses < 2))} if right and losses is not None else {}
                found.append(result(arm(name, rank), losses, rate=rate, seed=seed, **fields))
    return found
