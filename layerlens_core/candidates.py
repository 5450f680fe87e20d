"""What could be done to a unit: methods, sizes, exact parameter counts and predicted gains."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from attrs import field, frozen

from layerlens_core.decisions import Decision
from layerlens_core.inventory import Layer

#: Size, in notches, at which a method has half of the gain that it can have at any size.
HALF_GAIN_NOTCHES = 8


@frozen(kw_only=True)
class Target:
    """A place in the model where a method attaches.

    name: qualified name of the module. fixed: trainable parameters that come with any size.
    per_size: trainable parameters for each further unit of size.
    """

    name: str
    fixed: int
    per_size: int

    def parameters(self, size: int) -> int:
        """Trainable parameters at this size; none at size 0."""
        return self.fixed + self.per_size * size if size else 0


class Method(Protocol):
    """What a `MethodProvider` loads.

    notch: the step in which sizes grow (LoRA ranks by 1, adapter widths by 4 …); a notch costs about as much
    under one method as under another, so that sizes compare.
    """

    notch: int

    def targets(self, layer: Layer) -> Sequence[Target]:
        """Where the method attaches in a layer; empty where it cannot."""

    def largest(self, layer: Layer) -> int:
        """The largest size worth having in a layer."""


@frozen(kw_only=True)
class Candidate:
    """One method at one size on one unit: its price and its predicted gain.

    size: rank, bottleneck width or prefix length; 0 for ``none``.
    parameters: trainable parameters, exact. gain: predicted, in units of utility.
    """

    method: str
    size: int
    parameters: int
    gain: float


@frozen(kw_only=True)
class Unit:
    """One unit of decision, its utility and its candidates.

    targets: where each method attaches. notches: the step of each method's sizes.
    candidates: for each method in ascending size; ``none`` is always among them.
    importance: the share of each module in the unit's score, where modules were scored.
    """

    name: str
    utility: float
    candidates: tuple[Candidate, ...]
    targets: Mapping[str, tuple[Target, ...]]
    notches: Mapping[str, int]
    importance: Mapping[str, float] = field(factory=dict)

    def sizes(self, method: str) -> list[int]:
        """The sizes that a method offers here, ascending."""
        return [candidate.size for candidate in self.candidates if candidate.method == method]

    def offers(self, method: str) -> bool:
        """Whether the method can attach to this unit."""
        return any(candidate.method == method for candidate in self.candidates)

    def cheapest(self, method: str) -> Candidate:
        """The method's candidate with the fewest parameters."""
        return min((c for c in self.candidates if c.method == method), key=lambda c: c.parameters)

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
        """The decision for this method and size; ``sizes`` refines single targets."""
        targets = self.targets.get(method, ())
        chosen = {target.name: (sizes or {}).get(target.name, size) for target in targets}
        return Decision(
            unit=self.name,
            method=method,
            size=size,
            sizes=chosen,
            utility=self.utility,
            parameters=sum(target.parameters(chosen[target.name]) for target in targets),
            reason=reason,
            runner_up=runner_up,
            margin=margin,
        )


@frozen(kw_only=True)
class CandidateSet:
    """All units, in model order, and the methods in ascending capacity."""

    units: tuple[Unit, ...]
    methods: tuple[str, ...]

    @property
    def cheapest(self) -> Candidate | None:
        """The cheapest candidate that trains anything."""
        paid = [c for unit in self.units for c in unit.candidates if c.parameters > 0]
        return min(paid, key=lambda c: c.parameters, default=None)


def coverage(notches: float) -> float:
    """The share of a unit's gain that a size reaches: concave, 0 at 0, ½ at `HALF_GAIN_NOTCHES`, below 1.

    An assumption, stated as one: n / (n + n½).
    """
    return notches / (notches + HALF_GAIN_NOTCHES)


def build_unit(
    layer: Layer,
    utility: float,
    methods: Mapping[str, Method],
    *,
    excluded: frozenset[str] = frozenset(),
    importance: Mapping[str, float] | None = None,
) -> Unit:
    """All candidates of a layer. excluded: modules that were not scored and therefore are no targets."""
    targets: dict[str, tuple[Target, ...]] = {}
    candidates: list[Candidate] = []
    for name, method in methods.items():
        places = tuple(target for target in method.targets(layer) if target.name not in excluded)
        if name == "none":
            candidates.append(Candidate(method=name, size=0, parameters=0, gain=0.0))
            targets[name] = ()
            continue
        if not places:
            continue
        targets[name] = places
        for size in range(method.notch, method.largest(layer) + 1, method.notch):
            candidates.append(
                Candidate(
                    method=name,
                    size=size,
                    parameters=sum(place.parameters(size) for place in places),
                    gain=utility * coverage(size / method.notch),
                )
            )
    return Unit(
        name=layer.name,
        utility=utility,
        candidates=tuple(candidates),
        targets=targets,
        notches={name: method.notch for name, method in methods.items() if name in targets},
        importance=importance or {},
    )
