# cython: language_level=3
"""Sums over gradients, in Cython. The twin is ``_gradient_sums_py``; ``gradient_sums`` picks between them.

Memory is given by addresses, and by steps counted in entries, which `gradient_sums` has checked; the address 0 stands
for a tensor that is not given.
"""

from libc.stdint cimport uintptr_t


cdef extern from "gradient_sums.h" nogil:
    void inner_float(
        const float *, Py_ssize_t, const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, double *)
    void inner_double(
        const double *, Py_ssize_t, const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, double *)
    void sums_float(
        const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
        const float *, Py_ssize_t, float *, Py_ssize_t, double *, double *, double *)
    void sums_double(
        const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
        const double *, Py_ssize_t, double *, Py_ssize_t, double *, double *, double *)


def inner(
    bint narrow, uintptr_t left, Py_ssize_t left_step, uintptr_t right, Py_ssize_t right_step,
    Py_ssize_t samples, Py_ssize_t entries, Py_ssize_t twice, uintptr_t found,
):
    """Inner products of samples.

    narrow: in float, not in double.
    """
    with nogil:
        if narrow:
            inner_float(
                <const float *>left, left_step, <const float *>right, right_step, samples, entries, twice,
                <double *>found)
        else:
            inner_double(
                <const double *>left, left_step, <const double *>right, right_step, samples, entries, twice,
                <double *>found)


def sums(
    bint narrow, uintptr_t gradients, Py_ssize_t sample_step, Py_ssize_t row_step,
    Py_ssize_t groups, Py_ssize_t group, Py_ssize_t rows, Py_ssize_t columns,
    uintptr_t weight, Py_ssize_t weight_step, uintptr_t total, Py_ssize_t total_step,
    uintptr_t singles, uintptr_t squares, uintptr_t weighted,
):
    """Add sums over gradients to the memory that is given.

    narrow: in float, not in double.
    """
    with nogil:
        if narrow:
            sums_float(
                <const float *>gradients, sample_step, row_step, groups, group, rows, columns,
                <const float *>weight, weight_step, <float *>total, total_step,
                <double *>singles, <double *>squares, <double *>weighted)
        else:
            sums_double(
                <const double *>gradients, sample_step, row_step, groups, group, rows, columns,
                <const double *>weight, weight_step, <double *>total, total_step,
                <double *>singles, <double *>squares, <double *>weighted)
