"""Arms on one bench: each beside uniform at its budget, over all budgets, and beside its own other budgets."""

from collections.abc import Sequence

import numpy as np
from attrs import frozen
from scipy import stats

from layerlens_core.comparison.judging import sentences
from layerlens_core.comparison.judging.curves import Curve, Factor, Sufficient, ratio_of, smallest_sufficient
from layerlens_core.comparison.judging.judgement import UNIFORM, Finding, Judged, Overall, Range
from layerlens_core.comparison.judging.selection import Runs
from layerlens_core.comparison.judging.statistics import Difference, Pair, holm, mean_loss, paired, pooled


@frozen(kw_only=True, eq=False)
class Bench:
    """All that arms are compared by.

    runs: of every arm, at the rate by which it is judged.
    labels: of every held-out sample.
    confidence: of intervals and tests.
    """

    runs: tuple[Runs, ...]
    labels: tuple[int, ...]
    confidence: float

    def uniform(self) -> dict[str, Runs]:
        """Uniform by budget, where all its seeds have a loss."""
        return {each.arm.budget: each for each in self.runs if each.arm.name == UNIFORM and not each.diverged}

    def curve(self) -> Curve | None:
        points = self.uniform().values()
        if len({each.arm.parameters for each in points}) < 2:
            return None
        return Curve(
            [each.arm.parameters for each in points], [self.loss(each, tuple(each.results)) for each in points]
        )

    def loss(self, runs: Runs, seeds: Sequence[int]) -> float:
        return runs.loss(seeds, self.labels)

    def difference(self, runs: Runs, base: Runs | None) -> Difference | None:
        """To uniform, over the seeds that both have."""
        if base is None or runs.diverged or not (seeds := _shared([runs, base])):
            return None
        return paired(runs.losses(seeds), base.losses(seeds), self.labels, confidence=self.confidence)

    def judged(self) -> tuple[Judged, ...]:
        uniform, curve = self.uniform(), self.curve()
        bases = {each.arm.key: uniform.get(each.arm.budget) for each in self.runs if each.arm.name != UNIFORM}
        found = {
            each.arm.key: self.difference(each, bases[each.arm.key]) for each in self.runs if each.arm.key in bases
        }
        tested = [
            each.arm.key
            for each in self.runs
            if (one := found.get(each.arm.key)) and one.p is not None and not _same(each, bases[each.arm.key])
        ]
        corrected = dict(zip(tested, holm([_p(found[key]) for key in tested]), strict=True))
        return tuple(
            self.one(each, bases.get(each.arm.key), found.get(each.arm.key), corrected.get(each.arm.key), curve)
            for each in self.runs
        )

    def one(
        self, runs: Runs, base: Runs | None, difference: Difference | None, corrected: float | None, curve: Curve | None
    ) -> Judged:
        """One arm, with its sentence."""
        ratio = None
        if difference is not None and base is not None:
            theirs = self.loss(base, _shared([runs, base]))
            ratio = Range(**{name: getattr(difference, name) / theirs for name in ("estimate", "low", "high")})
        factor = self.factor(runs, base, difference, curve)
        finding, sentence = self.found(runs, base, difference, ratio, corrected, factor)
        low, high = self.over_seeds(runs)
        right = None if runs.diverged else runs.right(tuple(runs.results))
        return Judged(
            arm=runs.arm.name, budget=runs.arm.budget, parameters=runs.arm.parameters, rate=runs.rate, rates=runs.rates,
            seeds=tuple(runs.results), diverged=runs.diverged, finding=finding, sentence=sentence,
            loss=None if runs.diverged else self.loss(runs, tuple(runs.results)), seeds_low=low, seeds_high=high,
            difference=difference, ratio=ratio, corrected=corrected, factor=factor,
            accuracy=None if right is None else mean_loss(right, self.labels), right=self.right(runs, base),
            memory=_memory(runs),
            step=float(np.mean([each.seconds / each.job.schedule.steps for each in runs.results.values()])),
        )  # fmt: skip

    def found(
        self, runs: Runs, base: Runs | None, difference: Difference | None, ratio: Range | None,
        corrected: float | None, factor: Factor | None,
    ) -> tuple[Finding, str]:  # fmt: skip
        if runs.diverged:
            return "diverged", f"diverged at rate {runs.rate:g} in {len(runs.diverged)} of {len(runs.results)} seeds"
        if runs.arm.name == UNIFORM:
            return "uniform", "what the others are compared with"
        if difference is None or ratio is None or base is None:
            text = "uniform was not trained at this budget on the same seeds, or diverged"
            return "unmatched", text if factor is None else (
                f"{text}; for its loss uniform would need {sentences.multiple(factor)} the parameters"
            )
        if _same(runs, base):
            return "same", "trains the same sizes as uniform"
        finding = sentences.finding(difference, corrected, self.confidence)
        return finding, sentences.compared(finding, difference, ratio, corrected, factor)

    def factor(
        self, runs: Runs, base: Runs | None, difference: Difference | None, curve: Curve | None
    ) -> Factor | None:
        """In parameters of uniform; where uniform has not this budget, by the uniform arm of the nearest loss."""
        if curve is None or runs.diverged or runs.arm.name == UNIFORM or not runs.arm.parameters:
            return None
        if base is None:
            own = self.loss(runs, tuple(runs.results))
            near = sorted(self.uniform().values(), key=lambda each: abs(self.loss(each, tuple(each.results)) - own))
            base = near[0]
            difference = self.difference(runs, base)
        if difference is None:
            return None
        there = curve.loss(base.arm.parameters)
        return curve.factor(
            there + difference.estimate, there + difference.low, there + difference.high, runs.arm.parameters
        )

    def right(self, runs: Runs, base: Runs | None) -> Difference | None:
        """Difference in accuracy to uniform."""
        if base is None or runs.diverged or not (seeds := _shared([runs, base])):
            return None
        ours, theirs = runs.right(seeds), base.right(seeds)
        if ours is None or theirs is None:
            return None
        return paired(ours, theirs, self.labels, confidence=self.confidence)

    def over_seeds(self, runs: Runs) -> tuple[float | None, float | None]:
        """Interval of the loss on these held-out samples, over seeds alone."""
        count = len(runs.results)
        if runs.diverged or count < 2:
            return None, None
        each = [self.loss(runs, (seed,)) for seed in runs.results]
        half = float(stats.t.isf((1 - self.confidence) / 2, count - 1) * np.std(each, ddof=1)) / count**0.5
        return float(np.mean(each)) - half, float(np.mean(each)) + half

    def overall(self) -> tuple[Overall, ...]:
        """Arms against uniform over all budgets in common."""
        uniform = self.uniform()
        found: dict[str, tuple[tuple[str, ...], Difference]] = {}
        for name, own in self.by_name().items():
            pairs = {} if name == UNIFORM else self.pairs(name)
            shared = [each for each in own if each.arm.budget in pairs]
            if len(shared) > 1 and not all(_same(each, uniform[each.arm.budget]) for each in shared):
                found[name] = tuple(pairs), pooled([tuple(pairs.values())], confidence=self.confidence)
        tested = [name for name, (_, difference) in found.items() if difference.p is not None]
        corrected = dict(zip(tested, holm([_p(found[name][1]) for name in tested]), strict=True))
        return tuple(
            self.over_budgets(name, budgets, difference, corrected.get(name))
            for name, (budgets, difference) in found.items()
        )

    def pairs(self, name: str) -> dict[str, Pair]:
        """An arm beside uniform, by each budget that both have, over the seeds that all of these have."""
        uniform = self.uniform()
        shared = [each for each in self.by_name().get(name, ()) if each.arm.budget in uniform]
        seeds = _shared([*shared, *(uniform[each.arm.budget] for each in shared)])
        weights = np.array(self.labels, float)
        return {
            each.arm.budget: Pair(
                arm=each.losses(seeds), base=uniform[each.arm.budget].losses(seeds), weights=weights, relative=True
            )
            for each in shared
            if seeds
        }

    def over_budgets(
        self, name: str, budgets: tuple[str, ...], difference: Difference, corrected: float | None
    ) -> Overall:
        ratio = Range(**{each: ratio_of(getattr(difference, each)) - 1 for each in ("estimate", "low", "high")})
        finding = sentences.finding(difference, corrected, self.confidence)
        return Overall(
            arm=name, budgets=budgets, difference=difference, corrected=corrected, finding=finding,
            sentence=sentences.compared(finding, difference, ratio, corrected),
        )  # fmt: skip

    def by_name(self) -> dict[str, list[Runs]]:
        """Arms that have a loss, by name, the smallest first."""
        named: dict[str, list[Runs]] = {}
        for each in self.runs:
            if not each.diverged:
                named.setdefault(each.arm.name, []).append(each)
        return named

    def sufficient(self, tolerance: float) -> tuple[Sufficient, ...]:
        """Of every arm with two budgets or more, which is enough."""
        found = []
        for name, own in self.by_name().items():
            seeds = _shared(own)
            if len(own) > 1 and seeds:
                budgets = [(each.arm.budget, each.arm.parameters, each.losses(seeds)) for each in own]
                found.append(
                    smallest_sufficient(
                        name, budgets, self.labels, tolerance=tolerance, confidence=self.confidence
                    )
                )  # fmt: skip
        return tuple(found)


def _shared(runs: Sequence[Runs]) -> tuple[int, ...]:
    """Seeds that all have, in order."""
    return tuple(sorted(set.intersection(*(set(each.results) for each in runs)))) if runs else ()


def _same(runs: Runs, base: Runs | None) -> bool:
    """Whether an arm trains what uniform trains, from the same start, in the same way."""
    if base is None:
        return False
    ours, theirs = runs.arm, base.arm
    return (ours.sizes, ours.scale, ours.start, ours.tuner) == (theirs.sizes, theirs.scale, theirs.start, theirs.tuner)


def _p(difference: Difference | None) -> float:
    """The p of a difference that was tested."""
    return 1.0 if difference is None or difference.p is None else difference.p


def _memory(runs: Runs) -> float:
    """Bytes of a run: its share of what was measured, else what was planned."""
    measured = [each.peak / each.stacked for each in runs.results.values() if each.peak]
    return float(np.mean(measured)) if measured else runs.arm.memory
