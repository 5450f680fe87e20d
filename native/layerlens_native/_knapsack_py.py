"""The linear relaxation of the multiple-choice knapsack in plain Python: the reference for ``_knapsack``."""

from array import array


def relax(
    costs: "array[float]", gains: "array[float]", offsets: "array[int]", budget: float
) -> tuple[list[int] | None, float, float, float]:
    """See ``knapsack.relax``."""
    choice: list[int] = []
    steps: list[tuple[float, int, int, float, float, int]] = []
    spent = value = 0.0
    for group in range(len(offsets) - 1):
        first, end = offsets[group], offsets[group + 1]
        hull = _hull([(costs[i], gains[i], i - first) for i in range(first, end)])
        choice.append(hull[0][2])
        spent += hull[0][0]
        value += hull[0][1]
        for position in range(1, len(hull)):
            cost = hull[position][0] - hull[position - 1][0]
            gain = hull[position][1] - hull[position - 1][1]
            steps.append((-(gain / cost), group, position, cost, gain, hull[position][2]))
    left, bound, price = budget - spent, value, 0.0
    if left < 0:
        return None, spent, float("-inf"), price
    closed: set[int] = set()
    broken = False
    for falling, group, _position, cost, gain, item in sorted(steps):
        if not broken:
            if cost <= left:
                bound += gain
            else:
                # The first step that does not fit: the relaxation takes the fraction that does.
                broken, price = True, -falling
                bound += price * left
        if group in closed:
            continue
        if cost <= left:
            left -= cost
            value += gain
            choice[group] = item
        else:
            closed.add(group)
    return choice, value, bound, price


def _hull(items: list[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    """Upper concave hull of (cost, gain), from the cheapest item on."""
    hull: list[tuple[float, float, int]] = []
    for item in sorted(items, key=lambda i: (i[0], -i[1], i[2])):
        if hull and item[1] <= hull[-1][1]:
            continue
        while len(hull) > 1:
            (c0, g0, _), (c1, g1, _) = hull[-2:]
            if (g1 - g0) * (item[0] - c1) > (item[1] - g1) * (c1 - c0):
                break
            hull.pop()
        hull.append(item)
    return hull
