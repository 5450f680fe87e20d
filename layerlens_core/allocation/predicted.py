"""What a plan is predicted to gain: of every layer's utility, the share that its sizes reach."""

import math
from collections.abc import Sequence

from layerlens_core.values.candidates import CandidateSet, Unit
from layerlens_core.values.decisions import Decision


def predicted_gain(candidates: CandidateSet, decisions: Sequence[Decision]) -> float:
    """The sum of all layers' predicted gains, on the scale of the utilities.

    A layer whose places all have one size gains what that candidate is predicted to gain. Where sizes differ by place,
    the layer's gain is the mean of the candidates of these sizes, each place counting by its own utility, or all alike
    where none has any. So it is a prediction by the methods' gain curves, and no measurement.

    candidates: of all units.
    decisions: on them; those on other units, which were not scored, gain nothing.
    """
    return math.fsum(
        gain_of(candidates.by_name[each.unit], each) for each in decisions if each.unit in candidates.by_name
    )


def gain_of(unit: Unit, decision: Decision) -> float:
    """What one layer is predicted to gain; see `predicted_gain`.

    unit: the layer.
    decision: on it.
    """
    rows = unit.candidates.offers.rows.get(decision.method)
    if decision.method == "none" or rows is None:
        return 0.0
    gains = dict(zip(unit.sizes(decision.method), unit.candidates.gains[rows].tolist(), strict=True))
    places = [target.name for target in unit.targets[decision.method]]
    sizes = [decision.sizes.get(place, decision.size) for place in places]
    weights = [max(unit.importance.get(place, 0.0), 0.0) for place in places]
    total = math.fsum(weights)
    if total <= 0:
        weights, total = [1.0] * len(places), float(len(places))
    return math.fsum(weight * gains.get(size, 0.0) for weight, size in zip(weights, sizes, strict=True)) / total
