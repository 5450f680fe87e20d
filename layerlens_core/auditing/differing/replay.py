"""Decisions of one run with some inputs of another, planned anew."""

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any

import attrs
from attrs import define, field

from layerlens_core import tracing
from layerlens_core.allocation.problem import pose
from layerlens_core.auditing.differing.found import Decided
from layerlens_core.auditing.differing.measured import fitting
from layerlens_core.auditing.differing.side import Side
from layerlens_core.errors import LayerLensError
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.decisions import Decision
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile
from layerlens_core.values.request import Request

Decisions = Mapping[str, Decided]
#: Takes an input from the second run.
Take = Callable[[Profile, Request], tuple[Profile, Request]]


@define(kw_only=True)
class Replay:
    """Plans anew with inputs of both runs.

    first: the run whose inputs are taken but for those that are named.
    asked: the fields of its request that differ, as they were asked for, so that they follow what is taken.
    takes: by name, in the order in which they are taken.
    registry: of providers.
    """

    first: Side
    asked: Mapping[str, Any]
    takes: Mapping[str, Take]
    registry: Registry
    _known: dict[frozenset[str], Decisions | str] = field(factory=dict, init=False)

    def decisions(self, names: Collection[str] = ()) -> Decisions | str:
        """What is decided with these inputs of the second run; why nothing, where it is refused."""
        key = frozenset(names)
        if key not in self._known:
            profile, request = self._first
            for name, take in self.takes.items():
                if name in key:
                    profile, request = take(profile, request)
            self._known[key] = planned(profile, request, self.registry)
        return self._known[key]

    def with_taken(self, take: Take) -> Decisions | str:
        """Likewise, with a single change that has no name."""
        return planned(*take(*self._first), self.registry)

    @cached_property
    def _first(self) -> tuple[Profile, Request]:
        return self.first.profile, attrs.evolve(self.first.plan.request, **self.asked)


def planned(profile: Profile, request: Request, registry: Registry) -> Decisions | str:
    """What is decided for every layer of the model; why nothing, where it is refused."""
    try:
        request = attrs.evolve(request, weights=fitting(request.weights, profile))
        with tracing.silenced():
            decisions = pose(profile, request, registry).solve().decisions
    except LayerLensError as error:
        return str(error)
    found = {decision.unit: decided(decision) for decision in decisions}
    return {layer.name: found.get(layer.name, _NOTHING) for layer in profile.inventory.layers}


def decided(decision: Decision) -> Decided:
    """A decision without its reasons."""
    return Decided(method=decision.method, size=decision.size, sizes=dict(decision.sizes))


def decisions_of(plan: Plan) -> Decisions:
    """What a plan decides."""
    return {decision.unit: decided(decision) for decision in plan.decisions}


_NOTHING = Decided(method="none", size=0, sizes={})
