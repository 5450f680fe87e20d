"""Instances for the tests: units made by hand, drawn ones, and decisions held to the contract."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

import attrs
from attrs import field, frozen
from hypothesis import strategies as st

from layerlens_core.plugin import (
    Candidate,
    CandidateSet,
    Context,
    Cost,
    Limits,
    Target,
    Training,
    Unit,
    check_decisions,
)
from layerlens_plugin_costbenefit.strategy import select

#: Exact in binary, and coarse, so that ties and straight stretches do occur.
gains = st.integers(-4, 24).map(lambda n: n / 8)
weights = st.integers(0, 24).map(lambda n: n / 8)

#: One token a step and no optimizer state: a parameter takes 8 bytes, a kept value 4.
STEP = Training(batch=1, length=1, optimizer="sgd", dtype="float32")


@frozen
class Sizes:
    """Sizes 1, 2 … of a method on a unit.

    gains: of each size. price, fixed: parameters of a unit of size, and of any size. others: what else a size costs,
    as fields of `Target`.
    """

    gains: Sequence[float] = ()
    price: int = 1
    fixed: int = 0
    others: Mapping[str, float] = field(factory=dict)

    def target(self, name: str) -> Target:
        """The one place where the method attaches."""
        return Target(name=name, fixed=self.fixed, per_size=self.price, **self.others)


def ranks(*gains: float, price: int = 4, **others: float) -> Sizes:
    """Ranks of LoRA from their gains."""
    return Sizes(gains, price, 0, others)


def widths(*gains: float, price: int = 3, bias: int = 2, **others: float) -> Sizes:
    """Widths of a bottleneck adapter from their gains."""
    return Sizes(gains, price, bias, others)


def unit(name: str, lora: Sizes, adapter: Sizes | None = None, *, utility: float | None = None, depth: int = 0) -> Unit:
    """A unit with these candidates of LoRA and of adapters; its utility is its largest gain, where none is given."""
    offered = {"adapter": (adapter or widths(), f"{name}.out"), "lora": (lora, f"{name}.w")}
    targets = {"none": ()} | {method: (sizes.target(place),) for method, (sizes, place) in offered.items()}
    candidates = [Candidate(method="none", size=0, cost=Cost(), gain=0.0)]
    for method, (sizes, _) in offered.items():
        (target,) = targets[method]
        for size, gain in enumerate(sizes.gains, start=1):
            candidates.append(Candidate(method=method, size=size, cost=target.cost(size, STEP), gain=gain))
    return Unit(
        name=name,
        utility=max(candidate.gain for candidate in candidates) if utility is None else utility,
        candidates=tuple(candidates),
        targets=targets,
        notches=dict.fromkeys(targets, 1),
        depth=depth,
        training=STEP,
    )


def reached(rank: int) -> float:
    """The share of a unit's gain that a rank reaches in these instances; half at 8."""
    return rank / (rank + 8)


def lora_units(*utilities: float, most: int = 16, price: int = 4, **others: float) -> CandidateSet:
    """Units as LayerLens builds them: LoRA whose gain is the utility times the share that the rank reaches.

    most: the largest rank.
    """
    return candidate_set(
        unit(
            f"L{i}",
            ranks(*(utility * reached(rank) for rank in range(1, most + 1)), price=price, **others),
            utility=utility,
            depth=i,
        )
        for i, utility in enumerate(utilities)
    )


def candidate_set(units: Iterable[Unit], depths: Iterable[Cost] = ()) -> CandidateSet:
    return CandidateSet(units=tuple(units), methods=("none", "adapter", "lora"), depths=tuple(depths))


others = st.fixed_dictionaries(
    {
        "flops": st.integers(0, 9).map(float),
        "kept": st.integers(0, 9).map(float),
        "seconds_fixed": st.integers(0, 3).map(lambda n: n / 8),
        "seconds": st.integers(0, 9).map(lambda n: n / 8),
    }
)


@st.composite
def instances(draw, units=4, sizes=4, copies=1, resources=False, deep=False):
    """Units of different utility, with copies of each: of equal utility, costs and gains.

    resources: they cost FLOPs, memory and latency too. deep: and so does the frozen model, the more the deeper.
    """
    made = []
    for i in range(draw(st.integers(1, units))):
        more = others if resources else st.just({})
        lora = ranks(*draw(st.lists(gains, max_size=sizes)), price=draw(st.integers(1, 9)), **draw(more))
        adapter = widths(
            *draw(st.lists(gains, max_size=sizes)),
            price=draw(st.integers(1, 9)),
            bias=draw(st.integers(0, 9)),
            **draw(more),
        )
        original = unit("original", lora, adapter)
        made += [attrs.evolve(original, utility=original.utility + i / 64)] * draw(st.integers(1, copies))
    made = draw(st.permutations(made))
    depths = []
    if deep:
        steps = st.builds(lambda f, m: Cost(flops=float(f), memory=float(m)), st.integers(0, 30), st.integers(0, 90))
        depths = [Cost(flops=10.0, memory=40.0)]
        for _ in made:
            depths.insert(0, depths[0] + draw(steps))
    return candidate_set((_named(each, i) for i, each in enumerate(made)), depths)


def _named(original, index):
    """The unit under a name of its own, and in its place."""
    name = f"L{index}"
    targets = {
        method: tuple(attrs.evolve(t, name=t.name.replace(original.name, name)) for t in places)
        for method, places in original.targets.items()
    }
    return attrs.evolve(original, name=name, depth=index, targets=targets)


limits = st.one_of(st.none(), st.integers(1, 150)).map(lambda n: Limits(params=n))
several_limits = st.builds(
    Limits,
    params=st.none() | st.integers(1, 150),
    flops=st.none() | st.integers(0, 600).map(float),
    memory=st.none() | st.integers(0, 1500).map(float),
    latency=st.none() | st.integers(0, 80).map(lambda n: n / 8),
)
several_weights = st.fixed_dictionaries(dict.fromkeys(("utility", "cost", "flops", "memory", "latency"), weights))


def decide(candidates, bounds=Limits(), **options):  # noqa: B008 - frozen
    """The decisions, held to the contract that every strategy has to meet."""
    context = Context(options={name: str(value) for name, value in options.items()})
    return check_decisions(select(candidates, bounds, context), candidates, bounds, "cost-benefit")


def chosen(candidates, decisions):
    """The candidate behind every decision."""
    return [
        next(c for c in unit.candidates if (c.method, c.size) == (decision.method, decision.size))
        for unit, decision in zip(candidates.units, decisions, strict=True)
    ]


def spent(decisions):
    return sum(decision.parameters for decision in decisions)


def dearest(candidates):
    return sum(max(c.parameters for c in unit.candidates) for unit in candidates.units)


def most_gain(candidates):
    return sum(max(Fraction(c.gain) for c in unit.candidates) for unit in candidates.units)
