"""Rules of others, brought to the same budget: GoRA, EVA, AdaLoRA, LoRA-GA, and full fine-tuning."""

import math
from collections.abc import Mapping

import attrs

from layerlens_core.allocation.budget import References
from layerlens_core.comparison.arms.budgets import budget_of, rank_of
from layerlens_core.comparison.arms.case import Case
from layerlens_core.comparison.arms.fitting import fill, largest, level, too_small
from layerlens_core.comparison.arms.ground import Ground, Unfit
from layerlens_core.comparison.arms.uniform import LORA, uniform
from layerlens_core.values.comparison import Arm

#: GoRA's bounds on ranks, 4 and 32, are these shares of its reference rank 8.
_LEAST, _MOST = 0.5, 4
#: PEFT's AdaLoRA starts at rank 12 where it ends at 8 by default.
_ADALORA_START = 1.5


def gora_ranks(
    importance: Mapping[str, float], widths: Mapping[str, int], rank: float, bounds: tuple[int, int] | None = None
) -> dict[str, int]:
    """GoRA's ranks (arXiv 2502.12171): r = ⌊round(p·r₀·Σ(in+out)) / (in+out)⌋ with p = I/ΣI, clamped.

    importance: I by module, mean |W ⊙ Ḡ|.
    widths: in + out by module.
    rank: r₀, the reference rank.
    bounds: of the ranks; by default 4 and 32 at r₀ = 8, and in proportion, rounded down and up, at others.
    """
    low, high = bounds or gora_bounds(rank)
    total, budget = math.fsum(importance.values()), rank * sum(widths.values())
    return {
        name: min(max(int(round(importance[name] / total * budget) // width), low), high)
        for name, width in widths.items()
    }


def gora_bounds(rank: float) -> tuple[int, int]:
    """The least and the largest rank that GoRA gives where its reference rank is this."""
    return math.floor(_LEAST * rank), math.ceil(_MOST * rank)


def gora(case: Case) -> Arm:
    """GoRA's ranks, by mean |W ⊙ Ḡ|, with r₀ such that they take the budget: its own are not renormalised."""
    ground = case.ground(LORA)
    places = ground.places(LORA)
    weight_gradients = _weight_gradients(case)
    importance = {place.name: weight_gradients[place.name] for place in places if place.name in weight_gradients}
    if len(importance) < len(places) or not math.fsum(importance.values()) > 0:
        raise Unfit("GoRA ranks by mean |W ⊙ G| of every module; profile with --metric gora")
    widths = {place.name: place.target.per_size for place in places}
    reference = rank_equivalent(case)
    caps = {place.name: min(place.cap, gora_bounds(reference)[1]) for place in places}

    def ranks(rank: float) -> dict[str, int]:
        found = gora_ranks(importance, widths, rank, gora_bounds(reference))
        return {name: min(size, caps[name]) for name, size in found.items()}

    rank, sizes = largest(ground, LORA, ranks)
    total = math.fsum(importance.values())
    wanted = {name: importance[name] / total * rank * sum(widths.values()) / widths[name] for name in widths}
    sizes = _rounded(ground, sizes, wanted, caps)
    low, high = gora_bounds(reference)
    return case.arm(
        {LORA: sizes},
        f"GoRA's formula with reference rank {rank:.4g} in place of {reference:.4g}, so that its ranks, clamped to "
        f"{low} to {high}, take the budget",
    )


def eva(case: Case) -> Arm:
    """EVA's ranks (arXiv 2410.07170), as PEFT redistributes them with ρ = 2, in proportion to the budget."""
    if case.eva is None:
        raise Unfit("EVA ranks by the variance of the modules' inputs, which needs the model and its data")
    ground = case.ground(LORA)
    places = ground.places(LORA)
    reference = max(1, round(rank_equivalent(case)))
    found = case.eva(reference)
    missing = [place.name for place in places if place.name not in found]
    if missing:
        raise Unfit(f"EVA gave {missing[0]} no rank ({len(missing)} modules)")
    chosen = [place for place in places if found[place.name] > 0]

    def ranks(factor: float) -> dict[str, int]:
        return {place.name: min(int(factor * found[place.name]), place.cap) for place in chosen}

    factor, sizes = largest(ground, LORA, ranks)
    wanted = {place.name: factor * found[place.name] for place in chosen}
    sizes = _rounded(ground, sizes, wanted, {place.name: place.cap for place in chosen})
    return case.arm(
        {LORA: sizes},
        f"PEFT's EVA with ρ = 2 at r = {reference}, times {factor:.4g}, so that its ranks take the budget; it gave "
        f"{len(places) - len(chosen)} of {len(places)} modules nothing",
    )


def adalora_ranks(arm: Arm) -> tuple[int, int]:
    """``init_r`` and ``target_r`` of PEFT's AdaLoRA for an arm of that tuner.

    PEFT's AdaLoRA multiplies by ``lora_alpha / init_r`` from beginning to end, whatever ranks are left, so that the
    arm's α/r takes ``lora_alpha = scale · init_r``.
    """
    target = max(arm.sizes[LORA].values())
    return math.ceil(_ADALORA_START * target), target


def adalora(case: Case) -> Arm:
    """AdaLoRA (arXiv 2303.10512) through PEFT, which ends at a mean rank of what uniform LoRA has at this budget.

    Its singular values count as folded into B, and its parameters as if every module ended at the mean rank.
    """
    ground = case.ground(LORA)
    places = ground.places(LORA)
    # PEFT's target_r is one whole number, whatever the modules' full ranks.
    most = max(rank_of(case.budget) or 0, *(place.cap for place in places))
    even = level(ground, LORA, places, dict.fromkeys((place.name for place in places), most))
    arm = case.arm({LORA: even}, "", tuner="adalora")
    initial, target = adalora_ranks(arm)
    beginning = dict.fromkeys(even, initial)
    memory = ground.cost({LORA: beginning}).memory
    if ground.limits.memory is not None and memory > ground.limits.memory:
        raise too_small(ground, LORA, beginning)
    return attrs.evolve(
        arm,
        memory=memory if arm.memory else 0.0,
        reason=f"PEFT's AdaLoRA from init_r={initial} to target_r={target}, a mean over the modules, so that its "
        "parameters in the end are about those counted",
    )


def lora_ga(case: Case) -> Arm:
    """Uniform ranks that start along the gradient, after LoRA-GA (arXiv 2407.05000), but with B = 0 as everywhere."""
    if case.profile.directions is None:
        raise Unfit("the profile holds no directions to start along; profile again with --directions")
    return uniform(case, start="gradient")


def full(case: Case) -> Arm:
    """Every weight of the linear modules that plans may train; its parameters heed no budget, its memory does."""
    ground = case.ground(LORA)
    places = ground.places(LORA)
    modules = {module.name: module for module in case.profile.inventory.modules}
    trained = [modules[place.name] for place in places]
    if packed := [module.name for module in trained if module.kind == "packed"]:
        raise Unfit(f"{packed[0]} is packed (quantised), and its weights do not train ({len(packed)} modules)")
    candidates, training = ground.problem.candidates, ground.problem.request.training
    activations = case.profile.activations
    whole = References(
        inventory=case.profile.inventory,
        training=training,
        depths=candidates.depths,
        adapted=activations.adapted if activations else {},
    ).whole
    parameters = sum(module.in_features * module.out_features for module in trained)
    memory = whole.memory - (case.profile.inventory.parameters - parameters) * training.bytes_per_parameter
    bound = ground.limits.memory
    if bound is not None and memory > bound:
        raise Unfit(f"full fine-tuning takes {memory:,.0f} bytes, and {budget_of(case.budget)} allows {bound:,.0f}")
    return Arm(
        name="",
        budget=case.budget,
        sizes={"full": {module.name: min(module.in_features, module.out_features) for module in trained}},
        scale=float(case.plan.scale),
        parameters=parameters,
        tuner="full",
        memory=memory if activations else 0.0,
        reason=f"every weight of {len(trained)} linear modules; no budget of parameters holds it",
    )


def rank_equivalent(case: Case) -> float:
    """The rank, a fraction too, of uniform LoRA that takes as many parameters as the largest one that fits."""
    ground = case.ground(LORA)
    places = ground.places(LORA)
    each = sum(place.target.per_size for place in places)
    bound = ground.limits.params
    if bound is not None and len(ground.limits.bounds) == 1:
        return bound / each
    return float(max(level(ground, LORA, places).values()))


def _rounded(
    ground: Ground, sizes: Mapping[str, int], wanted: Mapping[str, float], caps: Mapping[str, int]
) -> dict[str, int]:
    """Ranks that were rounded down, with what that left of the budget given back where most was cut off first.

    ground: costs and limits.
    sizes: rounded, by place.
    wanted: before rounding, by the same places.
    caps: the largest ranks.
    """
    places = [place for place in ground.places(LORA) if place.name in wanted]
    rounded = dict(sizes)
    while True:
        order = sorted(places, key=lambda place: rounded[place.name] - wanted[place.name])
        filled = fill(ground, LORA, rounded, order, caps)
        if filled == rounded:
            return filled
        rounded = filled


def _weight_gradients(case: Case) -> Mapping[str, float]:
    """Mean |W ⊙ Ḡ| by module, from the statistics, or from the metric of that name or GoRA's."""
    gathered = [each for each in case.profile.statistics if each.sum_weight_gradient is not None]
    found = {each.module: each.weight_gradient for each in gathered}
    if found:
        return found
    scores = {each.metric: each.values for each in case.profile.scores if each.granularity == "module"}
    return scores.get("weight_gradient", scores.get("gora", {}))
