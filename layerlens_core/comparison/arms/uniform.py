"""One size on every place, or on some of them: uniform, one side of the layers, half the layers, one module."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from layerlens_core.comparison.arms import cores
from layerlens_core.comparison.arms.budgets import rank_of
from layerlens_core.comparison.arms.case import Case
from layerlens_core.comparison.arms.fitting import fill, level
from layerlens_core.comparison.arms.ground import Place, Unfit
from layerlens_core.values.comparison import Arm, Start
from layerlens_core.values.plan import CORE

LORA = "lora"
#: The arm that trains nothing but the task's head.
NOTHING = "none"


def nothing(case: Case) -> Arm:
    """Nothing but the task's head: what all methods gain from."""
    return Arm(
        name=NOTHING,
        budget=case.budget,
        sizes={},
        scale=float(case.plan.scale),
        parameters=0,
        reason="nothing trains but the task's head, where there is one",
    )


def uniform(case: Case, start: Start = "random") -> Arm:
    """One LoRA rank on every linear module that a plan could train, as PEFT's r=N on all-linear.

    What such a budget spends on modules that no plan trains, and what is left of any other, goes to one more rank on
    drawn modules.
    """
    places = case.ground(LORA).places(LORA)
    sizes, reason = spread(case, "uniform", LORA, places, caps=_as_peft(case, places))
    return case.arm({LORA: sizes}, reason + _not_trained(case, places), start=start)


def of_method(case: Case, method: str) -> Arm:
    """One method at one size in all layers; cores in the subspaces that the profile's plans use."""
    places = case.ground(method).places(method)
    if method != CORE:
        sizes, reason = spread(case, method, method, places)
        return case.arm({method: sizes}, reason)
    subspace = cores.held(case.profile)
    caps = {place.name: min(place.cap, subspace.rank) for place in places}
    sizes, reason = spread(case, method, method, places, caps)
    return case.arm({method: sizes}, reason, subspace=subspace.digest)


def mlp_only(case: Case) -> Arm:
    """One rank on all linear modules outside attention, none inside."""
    return _some(case, "mlp-only", lambda place: not in_attention(place), "outside attention")


def attention_only(case: Case) -> Arm:
    """One rank on all linear modules of attention, none elsewhere."""
    return _some(case, "attention-only", in_attention, "inside attention")


def top_half(case: Case) -> Arm:
    """One rank in the upper half of the layers, the middle one among them; the lower half stays frozen."""
    upper = _half(case, _layers(case)[::-1])
    return _some(case, "top-half", lambda place: place.unit.name in upper, "in the upper half of the layers")


def random_half(case: Case) -> Arm:
    """One rank in a drawn half of the layers, as many as the upper half has."""
    drawn = _half(case, case.drawn("random-half: layers", _layers(case)))
    return _some(case, "random-half", lambda place: place.unit.name in drawn, "in a drawn half of the layers")


def dominant(case: Case) -> Arm:
    """All on the one linear module with the largest utility, at full rank at most (DomLoRA, arXiv 2605.06183)."""
    worth = _worth(case)
    places = case.ground(LORA).places(LORA)
    best = max(places, key=lambda place: worth.get(place.name, 0.0))
    return _some(case, "dominant", lambda place: place is best, f"on {best.name}, of the largest utility")


def dominant_type(case: Case) -> Arm:
    """All on the type of linear module with the largest mean utility, one rank in all layers."""
    worth = _worth(case)
    of_kind: dict[str, list[float]] = {}
    for place in case.ground(LORA).places(LORA):
        of_kind.setdefault(place.kind, []).append(worth.get(place.name, 0.0))
    best = max(of_kind, key=lambda kind: fmean(of_kind[kind]))
    return _some(case, "dominant-type", lambda place: place.kind == best, f"on {best}, of the largest mean utility")


def in_attention(place: Place) -> bool:
    """Whether a linear module is part of attention, its output projection included.

    By the attention blocks that were found, and by names, as BERT's output projection stands beside that block.
    """
    blocks = (attention.name for attention in place.layer.attentions)
    if any(place.name.startswith(f"{block}.") for block in blocks):
        return True
    return any("attn" in part or "attention" in part for part in map(str.lower, place.inside))


def spread(
    case: Case, rule: str, method: str, places: Sequence[Place], caps: Mapping[str, int] | None = None
) -> tuple[dict[str, int], str]:
    """The largest size that fits on these places, and one more on drawn ones for what is left; with the reason.

    case: that the arm is made for.
    rule: that draws.
    method: whose size it is.
    places: where.
    caps: by place, the largest size, in place of the places' own.

    Raises `Unfit` where size 1 everywhere exceeds a limit.
    """
    ground = case.ground(method)
    even = level(ground, method, places, caps)
    sizes = fill(ground, method, even, case.drawn(rule, places), caps)
    size, more = max(even.values()), sum(sizes[name] > even[name] for name in even)
    reason = f"{method} of size {size} at {len(places)} place{'s' * (len(places) != 1)}"
    if capped := sum(value < size for value in even.values()):
        reason += f", less at the {capped} that cannot take it"
    if more:
        reason += f", and one more at {more} of them, drawn by seed {case.seed}, for what the budget leaves"
    return sizes, reason


def _some(case: Case, rule: str, chosen: Callable[[Place], bool], where: str) -> Arm:
    """One rank on the chosen places, as large as the budget allows."""
    places = [place for place in case.ground(LORA).places(LORA) if chosen(place)]
    if not places:
        raise Unfit(f"{case.profile.inventory.architecture} has no linear module {where}")
    if rule in ("mlp-only", "attention-only") and len(places) == len(case.ground(LORA).places(LORA)):
        raise Unfit(f"all linear modules of {case.profile.inventory.architecture} lie {where}: that is uniform")
    sizes, reason = spread(case, rule, LORA, places)
    return case.arm({LORA: sizes}, f"{where}: {reason}")


def _layers(case: Case) -> list[str]:
    return [unit.name for unit in case.ground(LORA).problem.candidates.units if unit.offers(LORA)]


def _half(case: Case, layers: Sequence[str]) -> set[str]:
    if len(layers) < 2:
        raise Unfit(f"{case.profile.inventory.architecture} has {len(layers)} layer to train, which has no half")
    return set(layers[: (len(layers) + 1) // 2])


def _worth(case: Case) -> Mapping[str, float]:
    """Utility by module. Raises `Unfit` where no metric scores modules."""
    units = case.ground(LORA).problem.candidates.units
    worth = {name: utility for unit in units for name, utility in unit.importance.items()}
    if not any(worth.values()):
        raise Unfit("no metric of this profile scores modules; profile with one that does, such as gora")
    return worth


def _as_peft(case: Case, places: Sequence[Place]) -> Mapping[str, int]:
    """PEFT gives a rank beyond the full one where it is told to."""
    told = rank_of(case.budget) or 0
    return {place.name: max(place.cap, told) for place in places}


def _not_trained(case: Case, places: Sequence[Place]) -> str:
    """What PEFT's all-linear would train beside these places."""
    trained = {place.name for place in places}
    others = [module.name for module in case.profile.inventory.linears() if module.name not in trained]
    if not others:
        return ""
    return f"; PEFT's all-linear trains {len(others)} more that no plan does, such as {others[0]}"
