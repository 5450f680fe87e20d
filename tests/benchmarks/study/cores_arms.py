"""Arms at LoRA-equivalent budgets, below rank 1 too: cores in a subspace, and LoRA."""

import heapq
import math
from fractions import Fraction

from cores_sources import CONTINUED, SIZED, Source
from cores_subspaces import SCALE

from layerlens_core.values.comparison import Arm


def modules_of(testbed):
    """The linear modules of all layers."""
    return [module for layer in testbed.inventory.layers for module in layer.modules]


def core_arm(testbed, name, budget, seed, found, profiled):
    """Cores in every module, of ⌊√(r (in + out))⌋ or as many directions as there are; or sized by the update's energy.

    testbed: with the model.
    name: of the source.
    budget: r, a fraction.
    seed: of the runs.
    found: the subspace and its strengths; None where there are as many directions as the module has.
    profiled: samples of the mean gradient.
    """
    source, modules = Source.of(name), modules_of(testbed)
    most = {module.name: min(module.in_features, module.out_features) for module in modules}
    if found is not None:
        most = {module: min(size, len(found.subspace[module].left)) for module, size in most.items()}
    widths = {module.name: module.in_features + module.out_features for module in modules}
    sizes = {module: min(math.isqrt(int(budget * width)), most[module]) for module, width in widths.items()}
    if SIZED in source.marks:
        sizes = by_energy(found.strengths, sum(size * size for size in sizes.values()), most)
    sizes = {module: size for module, size in sizes.items() if size}
    return Arm(
        name=f"core {name}",
        budget=f"r={budget}",
        sizes={"core": sizes},
        scale=SCALE,
        parameters=sum(size * size for size in sizes.values()),
        subspace=source.recipe(seed, profiled),
        start="continued" if CONTINUED in source.marks else "random",
    )


def by_energy(strengths, parameters, most):
    """Sizes n of cores that hold the most of Σ σ², greedily by what the next direction adds for its 2 n + 1 entries.

    strengths: singular values by module, descending.
    parameters: to spend on Σ n².
    most: the largest size by module.
    """
    sizes = dict.fromkeys(strengths, 0)

    def worth(module):
        size = sizes[module]
        return -(float(strengths[module][size]) ** 2) / (2 * size + 1)

    left, queue = parameters, [(worth(module), module) for module in strengths if most[module]]
    heapq.heapify(queue)
    while queue:
        _, module = heapq.heappop(queue)
        cost = 2 * sizes[module] + 1
        if cost > left:
            continue
        sizes[module] += 1
        left -= cost
        if sizes[module] < most[module]:
            heapq.heappush(queue, (worth(module), module))
    return sizes


def lora_arm(testbed, name, budget, scores):
    """LoRA of one rank everywhere; below 1, of rank 1 on the modules of the largest scores that fit.

    testbed: with the model.
    name: of the arm.
    budget: r, a fraction.
    scores: by module, GoRA's importance.
    """
    widths = {module.name: module.in_features + module.out_features for module in modules_of(testbed)}
    if budget >= 1:
        sizes = dict.fromkeys(widths, int(budget))
    else:
        sizes, left = {}, int(budget * sum(widths.values()))
        for module in sorted(widths, key=lambda module: -float(scores[module])):
            if widths[module] <= left:
                sizes[module] = 1
                left -= widths[module]
    parameters = sum(size * widths[module] for module, size in sizes.items())
    return Arm(name=name, budget=f"r={budget}", sizes={"lora": sizes}, scale=SCALE, parameters=parameters)


def budgets_of(text):
    """Fractions of comma-separated budgets, as ``1/16,0.25,1``."""
    return [Fraction(each) for each in text.split(",") if each]
