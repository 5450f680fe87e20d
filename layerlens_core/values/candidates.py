"""What could be done to a unit: methods, sizes, exact costs and predicted gains."""

from collections.abc import Iterable, Mapping

import attrs
from attrs import field, frozen

from layerlens_core.values.costs import Cost, Training
from layerlens_core.values.decisions import Decision


@frozen(kw_only=True)
class Target:
    """A place in the model where a method attaches, and what it costs there: linear in the size, from size 1 on.

    "Each step of size" is what a size larger by 1 adds.

    name: qualified name of the module, or of the parameter that stacked experts share.
    fixed: trainable parameters that come with any size.
    per_size: trainable parameters of each step of size.
    flops: FLOPs of the forward pass, for each token and step of size.
    flops_pass: FLOPs of one forward pass for each step of size, whatever the number of tokens: of methods that compute
        a weight anew.
    values_pass: values that one forward pass keeps for any size, whatever the number of tokens: of the same methods.
    kept_bytes: bytes a token that LoRA's inputs take.
    kept_fixed: values a token that the forward pass keeps for the backward pass, at any size.
    kept: values a token that it keeps for each step of size.
    seconds_fixed: measured latency of any size.
    seconds: measured latency of each step of size.
    """

    name: str
    fixed: int
    per_size: int
    flops: float = 0.0
    flops_pass: float = 0.0
    values_pass: float = 0.0
    kept_bytes: float = 0.0
    kept_fixed: float = 0.0
    kept: float = 0.0
    seconds_fixed: float = 0.0
    seconds: float = 0.0

    def parameters(self, size: int) -> int:
        """Trainable parameters at this size; none at size 0."""
        return self.fixed + self.per_size * size if size else 0

    def cost(self, size: int, training: Training) -> Cost:
        """All that this size costs here, beyond the frozen model.

        The backward pass takes twice the forward pass's FLOPs: the gradients of weights and of inputs.
        """
        if not size:
            return Cost()
        params = self.parameters(size)
        kept = self.kept_bytes + (self.kept_fixed + self.kept * size) * training.activation_bytes
        return Cost(
            params=params,
            flops=3 * (self.flops + self.flops_pass / training.tokens) * size,
            memory=params * training.bytes_per_parameter
            + kept * training.tokens
            + self.values_pass * training.activation_bytes,
            latency=self.seconds_fixed + self.seconds * size,
        )


@frozen(kw_only=True)
class Candidate:
    """One method at one size on one unit.

    method: its name.
    size: rank, bottleneck width or prefix length; 0 for ``none``.
    cost: exact.
    gain: predicted, on the scale of the utilities.
    """

    method: str
    size: int
    cost: Cost
    gain: float

    @property
    def parameters(self) -> int:
        """Trainable parameters, exact."""
        return self.cost.params

    def __str__(self) -> str:
        return f"{self.method} of size {self.size}" if self.size else self.method


@frozen(kw_only=True)
class Unit:
    """One unit of decision, its utility and its candidates.

    name: of the layer.
    utility: how much the unit is worth adapting, relative to the others.
    candidates: for each method in ascending size; ``none`` is always among them.
    targets: where each method attaches.
    notches: by how much each method's sizes grow at a time.
    importance: the share of each module in the unit's score, where modules were scored.
    depth: the unit's place in the model, 0 for the lowest.
    training: the step that costs are counted for.
    """

    name: str
    utility: float
    candidates: tuple[Candidate, ...]
    targets: Mapping[str, tuple[Target, ...]]
    notches: Mapping[str, int]
    importance: Mapping[str, float] = field(factory=dict)
    depth: int = 0
    training: Training = field(factory=Training)

    def candidates_of(self, method: str) -> list[Candidate]:
        """The method's candidates here, in ascending size."""
        return [candidate for candidate in self.candidates if candidate.method == method]

    def sizes(self, method: str) -> list[int]:
        """The sizes that a method offers here, ascending."""
        return [candidate.size for candidate in self.candidates_of(method)]

    def offers(self, method: str) -> bool:
        """Whether the method can attach to this unit."""
        return any(candidate.method == method for candidate in self.candidates)

    def cheapest(self, method: str) -> Candidate:
        """The method's candidate with the fewest parameters."""
        return min(self.candidates_of(method), key=lambda c: c.parameters)

    def with_utility(self, utility: float) -> "Unit":
        """The same unit, worth more or less: gains are in proportion to utility."""
        if self.utility == 0:
            raise ValueError(f"{self.name} has no utility to scale")
        factor = utility / self.utility
        scaled = tuple(attrs.evolve(c, gain=c.gain * factor) for c in self.candidates)
        return attrs.evolve(self, utility=utility, candidates=scaled)

    def decide(
        self,
        method: str,
        size: int = 0,
        *,
        reason: str,
        sizes: Mapping[str, int] | None = None,
        runner_up: str | None = None,
        margin: float | None = None,
    ) -> Decision:
        """The decision for this method and size.

        method: its name.
        size: of the whole unit.
        reason: in words.
        sizes: of single targets, where they differ from the unit's.
        runner_up: the alternative that came next.
        margin: as in `Decision`.
        """
        targets = self.targets.get(method, ())
        chosen = {target.name: (sizes or {}).get(target.name, size) for target in targets}
        cost = sum((target.cost(chosen[target.name], self.training) for target in targets), Cost())
        return Decision(
            unit=self.name,
            method=method,
            size=size,
            sizes=chosen,
            utility=self.utility,
            cost=cost,
            reason=reason,
            runner_up=runner_up,
            margin=margin,
        )


@frozen(kw_only=True)
class CandidateSet:
    """All units and their candidates.

    units: in model order.
    methods: names, in ascending capacity.
    depths: what the frozen model costs by lowest trained layer: entry i where layer i is the lowest, and the last entry
        where none is trained.
    """

    units: tuple[Unit, ...]
    methods: tuple[str, ...]
    depths: tuple[Cost, ...] = ()

    @property
    def alike(self) -> str:
        """What a reason adds where all utilities are equal; nothing elsewhere."""
        if len(self.units) < 2 or len({unit.utility for unit in self.units}) > 1:
            return ""
        return "; all utilities are equal, so all layers get one method"

    @property
    def cheapest(self) -> Candidate | None:
        """The cheapest candidate that trains anything, by parameters."""
        paid = [c for unit in self.units for c in unit.candidates if c.parameters > 0]
        return min(paid, key=lambda c: c.parameters, default=None)

    def base(self, lowest: int | None) -> Cost:
        """The frozen model's cost where the lowest trained unit lies at this depth, or where none is trained."""
        if not self.depths:
            return Cost()
        return self.depths[-1 if lowest is None else lowest]

    def total(self, decisions: Iterable[Decision]) -> Cost:
        """The sum of what these decisions cost and of the frozen model's cost at their depth."""
        units = {unit.name: unit for unit in self.units}
        return self.total_of((units[decision.unit], decision.cost) for decision in decisions)

    def total_of(self, costs: Iterable[tuple[Unit, Cost]]) -> Cost:
        """The sum of these units' costs and of the frozen model's cost at their depth."""
        costs = tuple(costs)
        trained = [unit.depth for unit, cost in costs if cost.params > 0]
        return sum((cost for _, cost in costs), self.base(min(trained, default=None)))
