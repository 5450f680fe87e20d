"""Where a rule may put sizes, what they cost there, and what a budget allows."""

from collections.abc import Mapping
from functools import cached_property

from attrs import field, frozen

from layerlens_core.allocation.problem import Problem
from layerlens_core.errors import PlanError
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.candidates import Target, Unit
from layerlens_core.values.costs import Cost, Limits
from layerlens_core.values.decisions import Decision
from layerlens_core.values.inventory import Layer
from layerlens_core.values.profile import Profile

#: By method, the size of each place that trains.
Sizes = Mapping[str, Mapping[str, int]]


class Unfit(PlanError):
    """An arm that this model, profile or budget does not allow; the comparison goes on without it."""


@frozen(kw_only=True, eq=False)
class Place:
    """A place where a method attaches.

    target: with its name and costs.
    unit: the layer's candidates.
    layer: of the inventory.
    cap: the largest size worth having: the full rank of a weight, the method's own largest size elsewhere.
    """

    target: Target
    unit: Unit
    layer: Layer
    cap: int

    @property
    def name(self) -> str:
        """Qualified name of the place."""
        return self.target.name

    @property
    def price(self) -> tuple[int, int]:
        """Parameters of any size, and of each step: sizes of places of one price can be exchanged."""
        return self.target.fixed, self.target.per_size

    @cached_property
    def inside(self) -> tuple[str, ...]:
        """The parts of its name inside the layer."""
        return tuple(self.name.removeprefix(f"{self.unit.name}.").split("."))

    @cached_property
    def kind(self) -> str:
        """Its name inside the layer, which places of one type share."""
        return ".".join(self.inside)

    def step(self, size: int) -> Cost:
        """What one more than this size costs, the frozen model aside."""
        training = self.unit.training
        return self.target.cost(size + 1, training) - self.target.cost(size, training)


@frozen(kw_only=True, eq=False)
class Ground:
    """A problem as rules see it: places, costs and limits.

    problem: posed at the budget, with every method that the rule uses.
    profile: that it was posed from.
    registry: of the methods.
    """

    problem: Problem
    profile: Profile
    registry: Registry
    _places: dict[str, tuple[Place, ...]] = field(factory=dict, init=False)

    @property
    def limits(self) -> Limits:
        """What is allowed."""
        return self.problem.limits

    @cached_property
    def _layers(self) -> Mapping[str, Layer]:
        return {layer.name: layer for layer in self.profile.inventory.layers}

    def places(self, method: str) -> tuple[Place, ...]:
        """Every place where a method attaches, in model order. Raises `Unfit` where there is none."""
        if method not in self._places:
            loaded = self.registry.load("method", method)
            found = []
            for unit in self.problem.candidates.units:
                layer = self._layers[unit.name]
                for target in unit.targets.get(method, ()):
                    cap = self._full_rank(target.name) if loaded.updates_weights else loaded.largest(layer)
                    found.append(Place(target=target, unit=unit, layer=layer, cap=cap))
            self._places[method] = tuple(found)
        if not self._places[method]:
            raise Unfit(f"{self.profile.inventory.architecture} has no place where {method} could attach")
        return self._places[method]

    def _full_rank(self, name: str) -> int:
        shape = self.profile.inventory.shapes[name]
        return min(shape["in_features"], shape["out_features"])

    def fits(self, cost: Cost) -> bool:
        """Whether a cost is within the limits, without the slack that sums of floats are given elsewhere."""
        return all(getattr(cost, name) <= bound for name, bound in self.limits.bounds.items())

    def cost(self, sizes: Sizes) -> Cost:
        """All that these sizes cost, the frozen model included; memory and FLOPs are those of the depth they reach."""
        return self.problem.candidates.total(self.decisions(sizes, ""))

    def decisions(self, sizes: Sizes, reason: str) -> tuple[Decision, ...]:
        """One decision for every scored layer.

        sizes: by method and place.
        reason: of all that train.

        Raises `Unfit` where a layer would hold two methods, as a plan cannot say so, and where a place is unknown.
        """
        left = {(method, name) for method, of in sizes.items() for name, size in of.items() if size}
        decided = []
        for unit in self.problem.candidates.units:
            own: dict[str, dict[str, int]] = {}
            for method, of in sizes.items():
                chosen = {target.name: of.get(target.name, 0) for target in unit.targets.get(method, ())}
                if any(chosen.values()):
                    own[method] = chosen
                    left -= {(method, name) for name in chosen}
            if len(own) > 1:
                raise Unfit(f"{unit.name} would hold {' and '.join(own)}; a layer holds one method")
            if not own:
                decided.append(unit.decide("none", reason="nothing trains here in this arm"))
            for method, chosen in own.items():
                decided.append(unit.decide(method, max(chosen.values()), sizes=chosen, reason=reason))
        if left:
            method, name = min(left)
            raise Unfit(f"the arm puts {method} on {name}, where this profile has no place for it")
        return tuple(decided)
