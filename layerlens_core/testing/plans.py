"""Plans for tiny models, of one method, at sizes that differ from layer to layer or not at all."""

from collections.abc import Iterable

from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.budget import Budget
from layerlens_core.plugin.protocols import Context
from layerlens_core.plugin.providers import StrategyProvider
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.candidates import CandidateSet
from layerlens_core.values.costs import Limits
from layerlens_core.values.decisions import Decision
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile


def plan_of(profile: Profile, method: str, registry: Registry, *, alike: bool = False) -> Plan:
    """A plan of one method: in every layer that has a place for it.

    profile: of the model.
    method: its name; ``none`` trains nothing.
    registry: in which the method is; what makes the plan is registered there too.
    alike: all layers get the second size; otherwise they get sizes in turn, from the smallest on.
    """
    if IN_TURN.name not in registry.names("strategy"):
        registry.register(IN_TURN)
    return allocate(
        profile,
        strategy=IN_TURN.name,
        budget=Budget(),
        methods=("none", "lora" if method == "none" else method),
        options={"method": method, "alike": alike},
        margins=False,
        registry=registry,
    )


def _select(candidates: CandidateSet, _limits: Limits, context: Context) -> Iterable[Decision]:
    method, alike = context.options["method"], context.options["alike"] == "True"
    for index, unit in enumerate(candidates.units):
        sizes = unit.sizes(method)
        if method == "none" or not sizes:
            yield unit.decide("none", reason="there is no place for it")
        else:
            yield unit.decide(method, sizes[min(1 if alike else index, len(sizes) - 1)], reason="to try it")


IN_TURN = StrategyProvider(
    name="sizes-in-turn", summary="one method, at sizes in turn", options=("method", "alike"), load=lambda: _select
)
