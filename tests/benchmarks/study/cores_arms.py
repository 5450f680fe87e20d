"""Arms at LoRA-equivalent budgets, below rank 1 too: cores in a subspace, and LoRA."""

import math
from fractions import Fraction

from cores_subspaces import SCALE, name_of

from layerlens_core.values.comparison import Arm

CONTINUED = "+continued"


def modules_of(testbed):
    """The linear modules of all layers."""
    return [module for layer in testbed.inventory.layers for module in layer.modules]


def core_arm(testbed, source, budget, seed, subspace, arguments):
    """Cores in every module, of ⌊√(r (in + out))⌋ or as many directions as there are.

    testbed: with the model.
    source: of the subspace; with ``+continued`` they start as the update that it was taken from.
    budget: r, a fraction.
    seed: of the runs.
    subspace: pairs by module; None where there are as many as the module has.
    arguments: of the script.
    """
    plain, continued, _ = source.partition(CONTINUED)
    sizes = {}
    for module in modules_of(testbed):
        most = min(module.in_features, module.out_features)
        if subspace is not None:
            most = min(most, len(subspace[module.name].left))
        sizes[module.name] = min(math.isqrt(int(budget * (module.in_features + module.out_features))), most)
    sizes = {name: size for name, size in sizes.items() if size}
    return Arm(
        name=f"core {source}",
        budget=f"r={budget}",
        sizes={"core": sizes},
        scale=SCALE,
        parameters=sum(size * size for size in sizes.values()),
        subspace=name_of(plain, seed, arguments),
        start="continued" if continued else "random",
    )


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
