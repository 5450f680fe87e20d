# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The linear relaxation of the multiple-choice knapsack, in Cython. The twin is ``_knapsack_py``."""
from libc.math cimport INFINITY
from libc.stdint cimport int64_t
from libcpp.algorithm cimport sort
from libcpp.vector cimport vector


cdef struct Item:
    double cost
    double gain
    int64_t index


cdef struct Step:
    double slope
    double cost
    double gain
    int64_t group
    int64_t position  # on the group's hull
    int64_t item


cdef bint cheaper(const Item& a, const Item& b) noexcept nogil:
    if a.cost != b.cost:
        return a.cost < b.cost
    if a.gain != b.gain:
        return a.gain > b.gain
    return a.index < b.index


cdef bint steeper(const Step& a, const Step& b) noexcept nogil:
    if a.slope != b.slope:
        return a.slope > b.slope
    if a.group != b.group:
        return a.group < b.group
    return a.position < b.position


def relax(const double[::1] costs, const double[::1] gains, const int64_t[::1] offsets, double budget):
    """See ``knapsack.relax``."""
    cdef Py_ssize_t groups = offsets.shape[0] - 1
    cdef Py_ssize_t g, i
    cdef vector[Item] items
    cdef vector[Item] hull
    cdef vector[Step] steps
    cdef vector[int64_t] choice, taken
    cdef vector[char] closed
    cdef Item item
    cdef Step step
    cdef double spent = 0.0, value = 0.0, bound = 0.0, left, price = 0.0, cheapest = 0.0
    cdef bint broken = False
    choice.resize(groups)
    taken.resize(groups)
    closed.resize(groups)
    steps.reserve(costs.shape[0])
    with nogil:
        for g in range(groups):
            items.clear()
            for i in range(offsets[g], offsets[g + 1]):
                item.cost, item.gain, item.index = costs[i], gains[i], i - offsets[g]
                items.push_back(item)
            sort(items.begin(), items.end(), &cheaper)
            hull.clear()
            for item in items:
                if hull.size() and item.gain <= hull.back().gain:
                    continue
                while hull.size() > 1 and (
                    (hull[hull.size() - 1].gain - hull[hull.size() - 2].gain) * (item.cost - hull.back().cost)
                    <= (item.gain - hull.back().gain) * (hull[hull.size() - 1].cost - hull[hull.size() - 2].cost)
                ):
                    hull.pop_back()
                hull.push_back(item)
            choice[g] = hull[0].index
            spent += hull[0].cost
            value += hull[0].gain
            for i in range(1, <Py_ssize_t>hull.size()):
                step.cost = hull[i].cost - hull[i - 1].cost
                step.gain = hull[i].gain - hull[i - 1].gain
                step.slope = step.gain / step.cost
                step.group, step.position, step.item = g, i, hull[i].index
                steps.push_back(step)
        sort(steps.begin(), steps.end(), &steeper)
        cheapest = spent
        left = budget - spent
        bound = value
        if left >= 0:
            for step in steps:
                if not broken:
                    if step.cost <= left:
                        bound += step.gain
                    else:
                        # The first step that does not fit: the relaxation takes the fraction that does.
                        broken = True
                        price = step.slope
                        bound += step.slope * left
                if closed[step.group]:
                    continue
                if step.cost <= left:
                    left -= step.cost
                    value += step.gain
                    choice[step.group] = step.item
                else:
                    closed[step.group] = 1
    if left < 0:
        return None, cheapest, -INFINITY, price
    return [choice[g] for g in range(groups)], value, bound, price
