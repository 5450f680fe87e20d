"""How often a true zero is refused, by several ways to be sure of a difference over seeds and examples.

    python tests/benchmarks/coverage.py [--draws 100000] [--examples 50] [--seeds 3 5]

Differences have crossed effects of seeds, examples and cells, normal ones; a row says which share each has of the
variance of the mean. Figures are the share of draws in which zero is refused, in percent, at 5 % and at 0.1 %, and of
the ways that ship the half width in true standard deviations. The bootstrap is drawn for the first 2,000 alone.
"""

import argparse
import itertools
import platform

import numpy as np
import scipy
from scipy import stats

from layerlens_core.comparison.judging.statistics import Pair, paired, permutation, pooled

#: Shares of seeds, examples and cells in the variance of the mean.
SHARES = ((1, 0, 0), (1, 0.1, 0), (1, 0.3, 0), (1, 1, 0), (1, 4, 0), (0, 1, 0.2), (0, 1, 1), (0, 0, 1), (1, 1, 3))
LEVELS = (0.05, 0.001)
BOOTSTRAPPED, RESAMPLES, CHUNK = 2000, 500, 10_000


def cells(random, draws, seeds, examples, share):
    """[draws, seeds, examples] whose mean over the last two has variance 1 and expectation 0."""
    of_seeds, of_examples, of_cells = np.sqrt(np.array(share) / sum(share)) * np.sqrt(
        (seeds, examples, seeds * examples)
    )
    return (
        of_seeds * random.standard_normal((draws, seeds, 1))
        + of_examples * random.standard_normal((draws, 1, examples))
        + of_cells * random.standard_normal((draws, seeds, examples))
    )


def parts(z):
    """Mean, and variance by seeds, by examples and by cells, each [draws]."""
    _, seeds, examples = z.shape
    rows, columns, mean = z.mean(2), z.mean(1), z.mean((1, 2))
    rest = z - rows[:, :, None] - columns[:, None, :] + mean[:, None, None]
    return (
        mean,
        rows.var(1, ddof=1) / seeds,
        columns.var(1, ddof=1) / examples,
        (rest**2).sum((1, 2)) / ((seeds - 1) * (examples - 1) * seeds * examples),
    )


def half_widths(z, level):
    """Of every way, by name."""
    _, seeds, examples = z.shape
    _, rows, columns, rest = parts(z)
    free, many = seeds - 1, examples - 1
    total = np.maximum(rows + columns - rest, np.maximum(rows, columns))
    freedom = total**2 / (rows**2 / free + columns**2 / many + rest**2 / (free * many))
    t = stats.t.isf(level / 2, free), stats.t.isf(level / 2, many)
    return {
        "ours": np.sqrt(t[0] ** 2 * rows + t[1] ** 2 * np.maximum(columns - rest, 0)),
        "Satterthwaite": stats.t.isf(level / 2, freedom) * np.sqrt(total),
        "seeds alone": t[0] * np.sqrt(rows),
        "examples alone": t[1] * np.sqrt(columns),
    }


def pigeonhole(random, z, level):
    """Whether the percentile interval of seeds and examples drawn again leaves zero out."""
    _, seeds, examples = z.shape
    refused = []
    for one in z:
        by_seed = random.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
        by_example = random.multinomial(examples, np.full(examples, 1 / examples), RESAMPLES) / examples
        low, high = np.quantile(((by_seed @ one) * by_example).sum(1), (level / 2, 1 - level / 2))
        refused.append(not low <= 0 <= high)
    return np.array(refused)


def row(draws, seeds, examples, share):
    """One line of the table."""
    random = np.random.default_rng(0)
    refused = {}
    width = 0.0
    for start in range(0, draws, CHUNK):
        z = cells(random, min(CHUNK, draws - start), seeds, examples, share)
        mean = parts(z)[0]
        for level in LEVELS:
            for name, half in half_widths(z, level).items():
                refused[name, level] = refused.get((name, level), 0) + int((np.abs(mean) > half).sum())
                width += float(half.sum()) if (name, level) == ("ours", 0.05) else 0.0
        if start == 0:
            _is_ours(z[:100])
            drawn = pigeonhole(np.random.default_rng(1), z[:BOOTSTRAPPED], 0.05).mean()
    names = dict.fromkeys(name for name, _ in refused)
    figures = [" / ".join(f"{100 * refused[name, level] / draws:.2f}" for level in LEVELS) for name in names]
    return [
        str(seeds),
        ", ".join(f"{each:g}" for each in share),
        *figures,
        f"{100 * drawn:.1f}",
        f"{width / draws:.2f}",
    ]


def _is_ours(z):
    """What is simulated is what ships."""
    half = half_widths(z, 0.05)["ours"]
    for one, expected in zip(z, half, strict=True):
        found = paired(one, np.zeros_like(one), np.ones(one.shape[1]))
        assert np.isclose((found.high - found.low) / 2, expected)


def pooled_rows(draws, examples):
    """Over several tasks of three seeds: the pooled interval, and sign flips with and without the examples' part."""
    for (tasks, unequal), share in itertools.product(
        ((3, False), (3, True), (5, True)), ((1, 0, 0), (1, 0.2, 0), (1, 1, 0), (0, 0, 1))
    ):
        random = np.random.default_rng(2)
        scale = np.array([1.0] + [1 / 7 if unequal else 1.0] * (tasks - 1))
        z = np.stack([cells(random, draws, 3, examples, share) for _ in range(tasks)], 1) * scale[:, None, None]
        zero, ones = np.zeros((3, examples)), np.ones(examples)
        found = [pooled([[Pair(arm=task, base=zero, weights=ones)] for task in one]) for one in z]
        bare = [permutation(one.mean(2).ravel() / (3 * tasks), 0.0) for one in z]
        yield [
            f"{tasks}, {'one of seven times the spread' if unequal else 'alike'}",
            ", ".join(f"{each:g}" for each in share),
            *(f"{100 * np.mean(each):.1f}" for each in (
                [not one.holds_zero for one in found],
                [one.flips <= 0.05 for one in found],
                [p <= 0.05 for p in bare],
            )),
        ]  # fmt: skip


def table(headings, rows):
    """Print rows as Markdown."""
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for each in rows:
        print(f"| {' | '.join(each)} |", flush=True)


def main():
    """Print both tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--draws", type=int, default=100_000)
    options.add_argument("--examples", type=int, default=50)
    options.add_argument("--seeds", type=int, nargs="+", default=[3, 5])
    options.add_argument("--pooled", type=int, default=1000, help="draws of the second table")
    given = options.parse_args()
    print(f"Python {platform.python_version()}, scipy {scipy.__version__}; {given.examples} examples\n")
    headings = ["seeds", "shares of seeds, examples, cells", "ours", "Satterthwaite", "seeds alone", "examples alone",
                "pigeonhole, 5 % only", "half width of ours"]  # fmt: skip
    table(headings, (row(given.draws, seeds, given.examples, share) for seeds in given.seeds for share in SHARES))
    print()
    table(
        ["tasks of three seeds", "shares", "pooled", "flips", "flips of seeds alone"],
        pooled_rows(given.pooled, given.examples),
    )


if __name__ == "__main__":
    main()
