"""Arms of the study that no name of `compare` stands for."""

import layerlens_core as ll
from layerlens_core.comparison.arms.of_plan import arm_of_plan
from layerlens_core.values.comparison import Arm
from layerlens_core.values.profile import Profile

#: By name: a strategy, its options, and the metrics that count alike.
VARIANTS = {
    "gora τ=1": ("tempered", {"temper": "1"}, ("gora",)),
    "loss_change τ=1": ("tempered", {"temper": "1"}, ("loss_change",)),
    "gora + loss_change": ("tempered", {}, ("gora", "loss_change")),
    "gora + loss_change τ=1": ("tempered", {"temper": "1"}, ("gora", "loss_change")),
    # The default before the study: a tenth of the layers frozen, one rank a layer.
    "earlier": ("threshold", {"quantiles": "0.1"}, ("weight_gradient",)),
}

#: Of the evidence: o, v and down and up want more, q and k less. The first ending that fits counts.
TYPES = (
    (("q_proj", "k_proj", "query", "key", "attn.q", "attn.k"), 0.5),
    (("v_proj", "value", "attn.v", "down_proj", "up_proj"), 1.5),
    (("o_proj", "output.dense", "attn.o"), 2.0),
)


def variant(profile: Profile, name: str, budget: str) -> Arm:
    """An arm of `VARIANTS`, or ``types``.

    profile: of the task, with the metrics that the arm needs.
    name: of the arm.
    budget: as ``r=4``.
    """
    if name == "types":
        return by_types(profile, int(budget.removeprefix("r=")))
    strategy, options, metrics = VARIANTS[name]
    plan = ll.allocate(
        profile,
        budget=f"params={budget}",
        strategy=strategy,
        options=options,
        methods=("none", "lora"),
        weights={score.metric: float(score.metric in metrics) for score in profile.scores},
        granularity="layer" if strategy == "threshold" else "module",
        abstain=False if strategy == "tempered" else None,
    )
    return arm_of_plan(plan, name, budget)


def by_types(profile: Profile, rank: int) -> Arm:
    """Ranks by the type of a module alone, with as many parameters as uniform LoRA of a rank has at most."""
    widths = {
        module.name: module.in_features + module.out_features
        for layer in profile.inventory.layers
        for module in layer.modules
    }
    weights = {name: _weight(name) for name in widths}
    left = rank * sum(widths.values())
    share = left / sum(weights[name] * widths[name] for name in widths)
    sizes = {name: max(1, int(share * weights[name])) for name in widths}
    left -= sum(size * widths[name] for name, size in sizes.items())
    for name in sorted(widths, key=lambda name: sizes[name] - share * weights[name]):  # the largest remainder first
        if widths[name] <= left:
            sizes[name] += 1
            left -= widths[name]
    parameters = sum(size * widths[name] for name, size in sizes.items())
    return Arm(name="types", budget=f"r={rank}", sizes={"lora": sizes}, scale=2, parameters=parameters)


def _weight(name: str) -> float:
    return next((weight for endings, weight in TYPES if name.endswith(endings)), 1.0)
