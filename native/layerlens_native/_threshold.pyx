# cython: language_level=3, boundscheck=False, wraparound=False
"""Threshold selection, in Cython. The twin is ``_threshold_py``; ``threshold`` picks between them."""


def count_at_or_below(const double[::1] values, const double[::1] thresholds):
    """For every value, how many of the ascending thresholds are at or below it (``bisect_right``)."""
    cdef Py_ssize_t i, low, high, middle
    cdef Py_ssize_t n = values.shape[0], m = thresholds.shape[0]
    cdef list counts = [0] * n
    for i in range(n):
        low, high = 0, m
        while low < high:
            middle = (low + high) >> 1
            if values[i] < thresholds[middle]:
                high = middle
            else:
                low = middle + 1
        counts[i] = low
    return counts
