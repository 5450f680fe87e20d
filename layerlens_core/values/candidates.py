"""What could be done to a unit: methods, sizes, exact costs and predicted gains."""

import operator
from collections.abc import Iterable, Mapping
from functools import cached_property

import attrs
from attrs import field, frozen

from layerlens_core.values.columns import Candidate as Candidate
from layerlens_core.values.columns import Candidates, Table, candidates_of
from layerlens_core.values.costs import Cost, Training
from layerlens_core.values.decisions import Decision


@frozen(kw_only=True)
class Target:
    """A place in the model where a method attaches, and what it costs there: linear in the size, from size 1 on.

    "Each step of size" is what a size larger by 1 adds. What is *squared* grows with the square of the size instead.

    name: qualified name of the module, or of the parameter that stacked experts share.
    fixed: trainable parameters that come with any size.
    per_size: trainable parameters of each step of size.
    per_square: trainable parameters, squared.
    held_bytes: bytes of what each step of size holds and does not train.
    flops: FLOPs of the forward pass, for each token and step of size.
    flops_frozen: the same of what is not trained, through which gradients only pass.
    flops_square: FLOPs of the forward pass for each token, squared.
    flops_pass: FLOPs of one forward pass for each step of size, whatever the number of tokens: of methods that compute
        a weight anew.
    values_pass: values that one forward pass keeps for any size, whatever the number of tokens: of the same methods.
    keeps_input: whether the inputs of the module itself are kept, where a method updates its weight.
    kept_bytes: bytes a token that LoRA's inputs take.
    kept_fixed: values a token that the forward pass keeps for the backward pass, at any size.
    kept: values a token that it keeps for each step of size.
    seconds_fixed: measured latency of any size.
    seconds: measured latency of each step of size.
    """

    name: str
    fixed: int
    per_size: int
    per_square: int = 0
    held_bytes: float = 0.0
    flops: float = 0.0
    flops_frozen: float = 0.0
    flops_square: float = 0.0
    flops_pass: float = 0.0
    values_pass: float = 0.0
    keeps_input: bool = True
    kept_bytes: float = 0.0
    kept_fixed: float = 0.0
    kept: float = 0.0
    seconds_fixed: float = 0.0
    seconds: float = 0.0

    def parameters(self, size: int) -> int:
        """Trainable parameters at this size; none at size 0."""
        return self.fixed + self.per_size * size + self.per_square * size * size if size else 0

    def cost(self, size: int, training: Training) -> Cost:
        """All that this size costs here, beyond the frozen model.

        The backward pass takes twice the forward pass's FLOPs, for the gradients of weights and of inputs, and as many
        where weights are frozen.
        """
        return cost_of((self,), (size,), training)


def cost_of(targets: Iterable[Target], sizes: Iterable[int], training: Training) -> Cost:
    """The sum of what targets cost, each at its size: of `Target.cost`, in their order, without a record for each.

    targets: places of one unit.
    sizes: one for each.
    training: the step that FLOPs and memory are counted for.
    """
    tokens, value_bytes, state_bytes = training.tokens, training.activation_bytes, training.bytes_per_parameter
    params, flops, memory, latency = 0, 0.0, 0.0, 0.0
    for target, size in zip(targets, sizes, strict=True):
        if not size:
            continue
        own = target.parameters(size)
        kept = target.kept_bytes + (target.kept_fixed + target.kept * size) * value_bytes
        params += own
        flops += 3 * (target.flops + target.flops_pass / tokens) * size
        memory += own * state_bytes + kept * tokens + target.values_pass * value_bytes
        if target.per_square or target.held_bytes:
            flops += 2 * target.flops_frozen * size + 3 * target.flops_square * size * size
            memory += target.held_bytes * size
        latency += target.seconds_fixed + target.seconds * size
    return Cost(params=params, flops=flops, memory=memory, latency=latency)


@frozen(kw_only=True)
class Unit:
    """One unit of decision, its utility and its candidates.

    name: of the layer.
    utility: how much the unit is worth adapting, relative to the others.
    candidates: for each method in ascending size; ``none`` is always among them.
    targets: where each method attaches.
    notches: by how much each method's sizes grow at a time.
    importance: the modules' own utilities, where modules were scored; they compare over all units.
    depth: the unit's place in the model, 0 for the lowest.
    training: the step that costs are counted for.
    """

    name: str
    utility: float
    candidates: Candidates = field(converter=candidates_of)
    targets: Mapping[str, tuple[Target, ...]]
    notches: Mapping[str, int]
    importance: Mapping[str, float] = field(factory=dict)
    depth: int = 0
    training: Training = field(factory=Training)

    def candidates_of(self, method: str) -> list[Candidate]:
        """The method's candidates here, in ascending size."""
        return [self.candidates.at(row) for row in self.candidates.offers.rows.get(method, ())]

    def sizes(self, method: str) -> list[int]:
        """The sizes that a method offers here, ascending."""
        return list(self.candidates.offers.sizes_of.get(method, ()))

    def offers(self, method: str) -> bool:
        """Whether the method can attach to this unit."""
        return method in self.candidates.offers.rows

    def cheapest(self, method: str) -> Candidate:
        """The method's candidate with the fewest parameters."""
        return self.candidates.at(self.candidates.offers.cheapest[method])

    def with_utility(self, utility: float) -> "Unit":
        """The same unit, worth more or less: gains, and its modules' utilities, are in proportion to utility."""
        if self.utility == 0:
            raise ValueError(f"{self.name} has no utility to scale")
        scaled = Candidates(self.candidates.offers, self.candidates.gains * (utility / self.utility))
        importance = {name: value * (utility / self.utility) for name, value in self.importance.items()}
        return attrs.evolve(self, utility=utility, candidates=scaled, importance=importance)

    def cost(self, method: str, sizes: Mapping[str, int]) -> Cost:
        """What a method costs here.

        method: its name.
        sizes: by target.
        """
        targets = self.targets.get(method, ())
        return cost_of(targets, [sizes[target.name] for target in targets], self.training)

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

        Raises ``TypeError`` for a size that is no whole number, and for a method or a reason that is no text.
        """
        for what, value in (("method", method), ("reason", reason)):
            if not isinstance(value, str):
                raise TypeError(f"the {what} of the decision on {self.name} must be a text, but is {value!r}")
        targets = self.targets.get(method, ())
        chosen = {target.name: self._whole((sizes or {}).get(target.name, size)) for target in targets}
        return Decision(
            unit=self.name,
            method=method,
            size=self._whole(size),
            sizes=chosen,
            utility=self.utility,
            cost=self.cost(method, chosen),
            reason=reason,
            runner_up=runner_up,
            margin=margin,
        )

    def _whole(self, size: int) -> int:
        try:
            return operator.index(size)
        except TypeError:
            raise TypeError(f"a size of the decision on {self.name} must be a whole number, but is {size!r}") from None


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

    @cached_property
    def alike(self) -> str:
        """What a reason adds where all utilities are equal; nothing elsewhere."""
        if len(self.units) < 2 or len({unit.utility for unit in self.units}) > 1:
            return ""
        return "; all utilities are equal, so all layers get one method"

    @cached_property
    def by_name(self) -> Mapping[str, Unit]:
        """The units by their names."""
        return {unit.name: unit for unit in self.units}

    @cached_property
    def table(self) -> Table:
        """All candidates of all units, in rows."""
        return Table.of([unit.candidates for unit in self.units])

    def largest_method(self, unit: Unit) -> str:
        """The method of the largest capacity that can attach to a unit.

        unit: one of them.
        """
        return next(method for method in reversed(self.methods) if unit.offers(method))

    @cached_property
    def cheapest(self) -> Candidate | None:
        """The cheapest candidate that trains anything, by parameters."""
        table = self.table
        paid = table.amounts["params"] > 0
        if not paid.any():
            return None
        params = table.amounts["params"][paid]
        return table.candidate(int(paid.nonzero()[0][params.argmin()]))

    def base(self, lowest: int | None) -> Cost:
        """The frozen model's cost where the lowest trained unit lies at this depth, or where none is trained."""
        if not self.depths:
            return Cost()
        return self.depths[-1 if lowest is None else lowest]

    def total(self, decisions: Iterable[Decision]) -> Cost:
        """The sum of what these decisions cost and of the frozen model's cost at their depth."""
        return self.total_of((self.by_name[decision.unit], decision.cost) for decision in decisions)

    def total_of(self, costs: Iterable[tuple[Unit, Cost]]) -> Cost:
        """The sum of these units' costs and of the frozen model's cost at their depth."""
        lowest: int | None = None
        added: list[Cost] = []
        for unit, cost in costs:
            added.append(cost)
            if cost.params > 0 and (lowest is None or unit.depth < lowest):
                lowest = unit.depth
        total = self.base(lowest)
        params, flops, memory, latency = total.params, total.flops, total.memory, total.latency
        for cost in added:
            params += cost.params
            flops += cost.flops
            memory += cost.memory
            latency += cost.latency
        return Cost(params=params, flops=flops, memory=memory, latency=latency)
