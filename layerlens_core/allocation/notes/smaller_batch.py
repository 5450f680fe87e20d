"""A smaller step in place of frozen layers: of how many samples memory holds all layers.

The frozen model's activations are in proportion to the samples of a step. With fewer of them, and gradients accumulated
to the same batch, a plan trains every layer in the same memory, and only takes longer.
"""

from bisect import bisect_left
from collections.abc import Sequence

import attrs

from layerlens_core.allocation.budget import Budget, readable, spell
from layerlens_core.allocation.flops import depth_memory
from layerlens_core.allocation.problem import Problem
from layerlens_core.values.candidates import cost_of
from layerlens_core.values.costs import Cost
from layerlens_core.values.decisions import Decision
from layerlens_core.values.profile import Profile


def smaller_batch(problem: Problem, profile: Profile, decisions: Sequence[Decision]) -> tuple[str, ...]:
    """A sentence on the largest step that would freeze no layer, where memory, and nothing else, forces some to be.

    problem: that was solved.
    profile: that it was posed from.
    decisions: of all units.
    """
    limits, batch = problem.limits, problem.request.training.batch
    if limits.memory is None or all(decision.parameters for decision in decisions):
        return ()
    if least_cost(problem, profile, batch).exceeded(limits) != ["memory"]:
        return ()  # no layer has to be frozen, or not for memory alone
    memory = readable("memory", limits.memory)
    # Memory only grows with the samples, so that those which fit come first.
    largest = bisect_left(
        range(1, batch), True, key=lambda samples: "memory" in least_cost(problem, profile, samples).exceeded(limits)
    )
    if not largest:
        return (f"even one sample a step leaves too little of {memory} memory to train all layers",)
    if least_cost(problem, profile, largest).exceeded(limits):
        return ()  # methods that compute a weight anew in every pass take more FLOPs a token in smaller steps
    options = f"--batch-size {largest}"
    if Budget.parse(problem.request.budget).memory_follows_step:  # the smaller step would get a smaller bound
        options += f" --budget memory={spell('memory', limits.memory)}"
    return (
        f"with {largest:,} sample{'s' * (largest > 1)} a step instead of {batch:,} ({options}, gradients accumulated "
        f"to the same batch) no layer would have to be frozen within {memory} of memory",
    )


def least_cost(problem: Problem, profile: Profile, samples: int) -> Cost:
    """The cost of the smallest size in every layer, by the method of the largest capacity that can attach there.

    problem: with candidates and the training step, whose length, optimizer and dtype are kept.
    profile: that the problem was posed from.
    samples: in one step, instead of the problem's.
    """
    candidates, training = problem.candidates, attrs.evolve(problem.request.training, batch=samples)
    trained = [(unit, method) for unit in candidates.units if (method := candidates.largest_method(unit)) != "none"]
    lowest = min((unit.depth for unit, _ in trained), default=-1)
    memory = depth_memory(profile.inventory, training, profile.activations)[lowest]
    total = attrs.evolve(candidates.base(lowest), memory=memory)
    for unit, method in trained:
        targets = unit.targets[method]
        total += cost_of(targets, [unit.sizes(method)[0]] * len(targets), training)
    return total
