"""References: slow, obvious and exact."""

from fractions import Fraction

from hypothesis import assume

from costbenefit_instances import dearest, most_gain
from layerlens_core.plugin import RESOURCES


def ratio(low, high):
    return Fraction(high.gain - low.gain) / (high.parameters - low.parameters)


def next_on_hull(unit, at):
    """The candidate towards which gain rises most steeply from here; of several on one line, the nearest."""
    # Nothing that is free can gain: every candidate but ``none`` has parameters here.
    higher = [c for c in unit.candidates if c.parameters > at.parameters and c.gain > at.gain]
    # Among equals the first one listed: methods ascend in capacity.
    return max(higher, key=lambda c: (ratio(at, c), -c.parameters), default=None)


def reference(candidates, bounds, utility, cost):
    """The documented rule for parameters alone, one step at a time, in fractions."""
    free = _take(candidates, bounds, lambda gain, price: 1)
    best = sum(Fraction(c.gain) for c in free)
    whole = bounds.params if bounds.params is not None else dearest(candidates)

    def net(gain, price):
        if not best or not utility:
            return -1
        worth = Fraction(utility) * gain / best - Fraction(cost) * price / whole
        assume(abs(worth) > 1e-12)  # a draw is settled by rounding; there is an example of it below
        return worth

    return _take(candidates, bounds, net)


def _take(candidates, bounds, net):
    units = candidates.units
    at = [next(c for c in unit.candidates if c.method == "none") for unit in units]
    left = bounds.params if bounds.params is not None else dearest(candidates)
    open_units = set(range(len(at)))
    stuck = set()  # utilities of which a unit could not afford a step: their units keep their methods
    while True:
        steps = []
        for i in sorted(open_units):
            following = next_on_hull(units[i], at[i])
            if following is not None:
                order = (-ratio(at[i], following), following.parameters, -units[i].utility)
                steps.append((*order, str(at[i]), str(following), i, following))
        if not steps:
            return at
        *_, i, following = min(steps, key=lambda step: step[:-1])
        utility = units[i].utility
        price = following.parameters - at[i].parameters
        changes = following.method != at[i].method
        alike = [j for j in open_units if units[j].utility == utility and at[j].parameters == at[i].parameters]
        if net(Fraction(following.gain - at[i].gain), price) <= 0 or (changes and utility in stuck):
            open_units.discard(i)
        elif price * (len(alike) if changes else 1) > left:
            open_units.discard(i)
            stuck.add(utility)
        else:
            at[i], left = following, left - price


def objective(candidates, plan, bounds, **given):
    """Of the documentation, for a budget that does not bind: then all gain could be bought."""
    best = most_gain(candidates)
    trained = [unit.depth for unit, c in zip(candidates.units, plan, strict=True) if c.parameters > 0]
    total = sum((c.cost for c in plan), candidates.base(min(trained, default=None)))
    result = Fraction(given["utility"]) * sum(Fraction(c.gain) for c in plan) / best if best else Fraction(0)
    for name in RESOURCES:
        deepest = max((getattr(base, name) for base in candidates.depths), default=0)
        most = deepest + sum(max(getattr(c.cost, name) for c in unit.candidates) for unit in candidates.units)
        if whole := bounds.bounds.get(name, most):
            used = Fraction(getattr(total, name)) - Fraction(getattr(candidates.base(None), name))
            result -= Fraction(given.get("cost" if name == "params" else name, 0)) * used / Fraction(whole)
    return result
