/* Sums over gradients in one pass, for `_gradient_sums.pyx`.

   Written so that a compiler can vectorise it without permission to reorder sums: every loop that sums has LANES sums
   side by side. In REAL at most CHUNK / LANES terms are added one after the other; beyond that sums are in double. */
#ifndef LAYERLENS_GRADIENT_SUMS_H
#define LAYERLENS_GRADIENT_SUMS_H

#include <math.h>
#include <stddef.h>

#define CHUNK 1024
#define LANES 32

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

/* Wider vectors where the processor has them. This needs a C library that chooses a function at load time. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define VERSIONS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VERSIONS
#endif

#define REAL float
#define NAMED(name) name##_float
#include "gradient_sums.inc"
#undef REAL
#undef NAMED

#define REAL double
#define NAMED(name) name##_double
#include "gradient_sums.inc"
#undef REAL
#undef NAMED

#endif
