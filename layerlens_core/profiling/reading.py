"""Samples as they are read: all of them, or, where few may do, only as many as the ranking takes to settle."""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice

from layerlens_core.profiling.engine.ledger import Ledger
from layerlens_core.profiling.engine.measure import Measurements
from layerlens_core.profiling.engine.stopping import MOST
from layerlens_core.profiling.samples.sample import Sample

#: Samples that are read before it is known whether more are needed; a ranking that settles does so in fewer, mostly.
AHEAD = 256

#: Measures samples, and says whether these are all that there will be.
Measure = Callable[[Sequence[Sample], bool], Measurements]
#: Whether a ranking has settled, from the ledger and the names of modules with a score.
Settled = Callable[[Ledger, Collection[str]], bool]


def measured_as_read(
    stream: Iterator[Sample], measure: Measure, settled: Settled
) -> tuple[list[Sample], int, Measurements]:
    """What was read, how much could have been, and what was measured of it.

    Where the first `AHEAD` samples settle nothing, all up to `MOST` are read, and measured anew: the pass keeps no
    gradients that it could go on from, and a checkpoint is one of known samples.

    stream: of samples.
    measure: see `Measure`.
    settled: see `Settled`.
    """
    given = list(islice(stream, AHEAD + 1))
    if len(given) > AHEAD:
        first = given[:AHEAD]
        measured = measure(first, False)
        scored = [statistics.module for statistics in measured.statistics]
        if measured.samples < len(first) or settled(measured.ledger, scored):
            return first, MOST, measured
        given += islice(stream, MOST - len(given))
    return given, len(given), measure(given, True)
