"""How sure a difference between two arms is, over seeds and held-out examples at once.

An arm is a matrix [seeds, examples]: the mean loss of every held-out example over its own labels, in nats (or the share
of its answers that are right). Both arms have the same seeds (order of the data, noise) and the same examples, so that
differences are taken cell by cell. With weights w (labels of an example) a difference is D = Σ w d / Σ w, d averaged
over seeds. Its terms z = w d / mean(w), less what the weights contribute to D, are taken to be D + aₛ + bₑ + cₛₑ:
another seed would give another a, other examples another b.

The interval. Let Vₛ be the variance of the seeds' means over the number of seeds, Vₑ that of the examples' means over
their number, Vₛₑ what the cells' remainders contribute. Vₛ (seeds - 1 degrees of freedom) estimates all but the
examples' part, B = max(Vₑ - Vₛₑ, 0) that part, and the half width is √(t²ₛ Vₛ + t²ₑ B), each with its own t quantile.
For independent normal parts that covers at least as often as promised (Banerjee, Sankhyā 22, 1960), in the far tail
too, which the correction for many arms needs. What else was tried, three seeds, simulated crossed effects, how often a
true zero was refused at 5 % (and at 0.1 %):

- this interval: 2.3 to 5.1 % (at most 0.1 %), whatever the shares of seeds, examples and cells are;
- the same variances with Satterthwaite's degrees of freedom: up to 7.8 % (1.5 %, fifteen times too often), since three
  seeds that agree by chance hide their part;
- Owen's pigeonhole bootstrap of seeds and examples (Annals of Applied Statistics 1, 2007): 25 % where seeds are what
  differs; three things drawn out of three do not show how much they vary;
- examples alone: more than half where seeds are most of it; seeds alone: 19 to 22 % where examples are.

The price is width: three seeds that differ want an effect of about 2.5 of their standard deviations. More seeds are the
cure. ``tests/benchmarks/coverage.py`` makes these figures again.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import frozen
from scipy import optimize, stats

from layerlens_core.errors import ComparisonError

Matrix = npt.NDArray[np.float64]
#: Blocks of which every pattern of signs is tried; of more, so many patterns are drawn.
_ALL_SIGNS, _DRAWN_SIGNS = 13, 8192
#: ln of the least p that is told apart from zero; far below it scipy's t quantile is not a number here and there.
LEAST = -60.0


@frozen(kw_only=True)
class Difference:
    """An arm less what it is compared with.

    estimate: mean over seeds and examples; less than 0 where the arm's loss is less.
    low, high: its interval, over seeds and examples; with one seed, over examples alone.
    p: two-sided, of no difference: the level at which the interval would touch zero; none with one seed.
    flips: p of the permutation test (see `permutation`).
    floor: the least that ``flips`` can be with so many seeds.
    seeds: that both have.
    examples: that have labels.
    """

    estimate: float
    low: float
    high: float
    p: float | None
    flips: float
    floor: float
    seeds: int
    examples: int

    @property
    def holds_zero(self) -> bool:
        """Whether no difference at all is inside of the interval."""
        return self.low <= 0 <= self.high


@frozen(kw_only=True, eq=False)
class Pair:
    """An arm and what it is compared with, on the same seeds and examples.

    arm, base: [seeds, examples], finite.
    weights: [examples], labels of every example; those without are left out.
    relative: whether the logarithm of the ratio of their means is taken instead of the difference.
    """

    arm: Matrix
    base: Matrix
    weights: Matrix
    relative: bool = False


@frozen(kw_only=True, eq=False)
class _Parts:
    """Where a difference's variance comes from.

    rows: [seeds], what each seed alone says.
    of_seeds: variance that seeds and cells give the difference; not a number with one seed.
    of_examples: variance that examples give it.
    """

    estimate: float
    rows: Matrix
    of_seeds: float
    of_examples: float
    examples: int


def mean_loss(losses: Any, weights: Any) -> float:
    """An arm's loss a label, averaged over seeds.

    losses: [seeds, examples], mean loss of every example over its own labels, in nats.
    weights: [examples], labels of every example.
    """
    weight = np.asarray(weights, np.float64)
    counted = weight > 0  # what has no label may have no finite loss
    values = np.atleast_2d(np.asarray(losses, np.float64))[:, counted]
    return float((values @ weight[counted]).mean() / weight.sum())


def paired(arm: Any, base: Any, weights: Any, *, confidence: float = 0.95, relative: bool = False) -> Difference:
    """The difference of two arms on one task, with its interval and tests (see the top of this file).

    arm, base: [seeds, examples].
    weights: [examples].
    confidence: of the interval.
    relative: whether the difference is that of logarithms of mean losses.

    Raises `ComparisonError` where shapes differ, or a number is not finite: runs that diverged are not averaged.
    """
    return pooled([[Pair(arm=arm, base=base, weights=weights, relative=relative)]], confidence=confidence)


def pooled(tasks: Sequence[Sequence[Pair]], *, confidence: float = 0.95) -> Difference:
    """The mean of many differences: every task counts alike, and within a task every budget.

    It speaks of these tasks and budgets, with other seeds and examples; not of other tasks. Budgets of one task share
    seeds and examples, so their terms are averaged before variances are taken. Tasks are independent: their variances
    add, and the seeds' part gets Satterthwaite's degrees of freedom over tasks. Simulated with three seeds, a true zero
    is refused in 2 to 5 % at 5 % where tasks vary alike, in up to 7 % where one task's differences have seven times the
    standard deviation of all the others'.

    tasks: pairs by task; those of one task of one shape.
    confidence: of the interval.

    Raises `ComparisonError` as `paired` does, and where nothing is given.
    """
    if not tasks or not all(tasks):
        raise ComparisonError("there is nothing to pool: every task needs a pair of arms")
    parts = [_parts(pairs) for pairs in tasks]
    count = len(parts)
    estimate = sum(part.estimate for part in parts) / count
    terms = [_joint([part.of_examples for part in parts], [part.examples - 1 for part in parts])]
    seeds = min(len(part.rows) for part in parts)
    if seeds > 1:
        terms.append(_joint([part.of_seeds for part in parts], [len(part.rows) - 1 for part in parts]))
    half = _half(1 - confidence, terms) / count
    p = None if seeds == 1 else _level(abs(estimate) * count, terms)
    noise = sum(part.of_examples for part in parts) ** 0.5 / count
    blocks = np.concatenate([part.rows / (len(part.rows) * count) for part in parts])
    return Difference(
        estimate=estimate, low=estimate - half, high=estimate + half, p=p, flips=permutation(blocks, noise),
        floor=2.0 ** (1 - len(blocks)), seeds=seeds, examples=sum(part.examples for part in parts),
    )  # fmt: skip


def permutation(blocks: Matrix, noise: float) -> float:
    """A two-sided test that takes no distribution for granted of what seeds do.

    The null: of each seed (of each task), what the arm is better by is as likely to be better as worse by that much,
    and independently so; that is so where the names of the two arms could be exchanged within a seed. So each block's
    sign may be flipped. All blocks of a task have the examples in common, which flips do not show: the size of a normal
    draw of their standard deviation is added to every flipped sum. That makes the test refuse too seldom: simulated
    with three to fifteen blocks at 5 %, in 0 % (examples alone vary) to 5 % (seeds alone do).

    It cannot go below 2^(1 - blocks): with three seeds on one task 0.25, whatever the difference. So on one task with
    few seeds it can show that seeds disagree, and nothing else; the p that counts is that of the interval, which takes
    seeds' effects for normal. It becomes a check on that from six seeds on, or pooled over tasks (three tasks of three
    seeds: 0.004). Flipping examples instead would reach any p, but ask of these very runs alone.

    blocks: [blocks], the share of every seed in the difference, which is their sum.
    noise: standard deviation that examples give the difference.
    """
    count = len(blocks)
    if count <= _ALL_SIGNS:
        signs = np.array(list(itertools.product((1.0,), *[(1.0, -1.0)] * (count - 1))))
    else:
        signs = np.random.default_rng(0).choice((1.0, -1.0), (_DRAWN_SIGNS, count))
        signs[0] = 1.0  # what was seen is one of the patterns
    seen = abs(float(blocks.sum()))
    short = seen - np.abs(signs @ blocks)
    reached = short <= 1e-12 * float(np.abs(blocks).sum())  # sums of the same terms differ by rounding
    if noise <= 0:
        return float(reached.mean())
    with np.errstate(over="ignore"):  # so far that nothing reaches there
        return float(np.where(reached, 1.0, 2 * stats.norm.sf(short / noise)).mean())


def holm(values: Sequence[float]) -> tuple[float, ...]:
    """The p of several tests, corrected so that any false claim among them is as rare as promised.

    Holm, Scandinavian Journal of Statistics 6 (1979): the least is multiplied by their number, the next by one less,
    and none is less than the one before it. It asks for no independence.

    values: p of every test.
    """
    corrected = [0.0] * len(values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=lambda each: values[each])):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = largest
    return tuple(corrected)


def _parts(pairs: Sequence[Pair]) -> _Parts:
    terms = [_terms(pair) for pair in pairs]
    if len({each.shape for each in terms}) > 1:
        raise ComparisonError("budgets of one task can be pooled only over the same seeds and the same examples")
    z = np.mean(terms, axis=0)
    seeds, examples = z.shape
    estimate, rows, columns = float(z.mean()), z.mean(1), z.mean(0)
    of_examples = float(columns.var(ddof=1)) / examples
    if seeds == 1:
        return _Parts(estimate=estimate, rows=rows, of_seeds=float("nan"), of_examples=of_examples, examples=examples)
    rest = z - rows[:, None] - columns + estimate
    of_cells = float((rest**2).sum()) / ((seeds - 1) * (examples - 1) * seeds * examples)
    of_seeds = float(rows.var(ddof=1)) / seeds
    return _Parts(
        estimate=estimate, rows=rows, of_seeds=of_seeds, of_examples=max(of_examples - of_cells, 0.0), examples=examples
    )


def _terms(pair: Pair) -> Matrix:
    """[seeds, examples with labels], whose mean is the difference, and whose spread is that of its parts."""
    arm, base, weights = (np.asarray(each, np.float64) for each in (pair.arm, pair.base, pair.weights))
    if arm.ndim != 2 or arm.shape != base.shape or weights.shape != arm.shape[1:]:
        raise ComparisonError(
            f"arms can be compared only on the same seeds and examples: [{_shape(arm)}] against [{_shape(base)}], "
            f"weights [{_shape(weights)}]"
        )
    counted = weights > 0
    arm, base, weight = arm[:, counted], base[:, counted], weights[counted]
    if arm.shape[0] < 1 or arm.shape[1] < 2:
        raise ComparisonError(f"at least one seed and two labelled examples are needed, not [{_shape(arm)}]")
    if not (np.isfinite(arm).all() and np.isfinite(base).all()):
        raise ComparisonError("a loss is not finite: a run that diverged cannot be averaged with others")
    share = weight / weight.mean()
    terms: Matrix
    if not pair.relative:
        mean = float((share * (arm - base)).mean())
        terms = share * (arm - base - mean) + mean
        return terms
    ours, theirs = float((share * arm).mean()), float((share * base).mean())
    if ours <= 0 or theirs <= 0:
        raise ComparisonError("a ratio needs mean losses above zero")
    # To first order ln(ours / theirs) changes by these terms when a seed or an example weighs more.
    terms = share * (arm / ours - base / theirs) + math.log(ours / theirs)
    return terms


def _shape(values: Matrix) -> str:
    return ", ".join(map(str, values.shape))


def _joint(variances: Sequence[float], freedom: Sequence[int]) -> tuple[float, float]:
    """The sum of variances, and its degrees of freedom as Satterthwaite has them."""
    total = sum(variances)
    if total <= 0:
        return 0.0, 1.0
    return total, total**2 / sum(each**2 / free for each, free in zip(variances, freedom, strict=True))


def _half(level: float, terms: Sequence[tuple[float, float]]) -> float:
    """Half the width of an interval that misses with this probability."""
    return math.sqrt(sum(float(stats.t.isf(level / 2, free)) ** 2 * variance for variance, free in terms))


def _level(distance: float, terms: Sequence[tuple[float, float]]) -> float:
    """The level at which an interval is as wide as this distance."""
    if distance == 0:
        return 1.0
    if _half(math.exp(LEAST), terms) <= distance:
        return math.exp(LEAST)
    return math.exp(optimize.brentq(lambda log: _half(math.exp(log), terms) - distance, LEAST, 0.0, xtol=1e-12))
