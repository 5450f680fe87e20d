"""From results to a verdict: what is better, by how much, how sure, and what to train."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from layerlens_core.comparison.judging import sentences
from layerlens_core.comparison.judging.bench import Bench
from layerlens_core.comparison.judging.judgement import PLANNED, UNIFORM, Judged, Recommended, Verdict
from layerlens_core.comparison.judging.selection import Runs, chosen, made_finite
from layerlens_core.comparison.judging.statistics import Pair
from layerlens_core.errors import ComparisonError
from layerlens_core.values.comparison import Result

#: Held-out examples, below which a verdict warns.
FEW = 50
_NO_RATES: Mapping[str, float] = MappingProxyType({})


def verdict(
    results: Sequence[Result],
    labels: tuple[int, ...],
    *,
    tolerance: float = 0.01,
    confidence: float = 0.95,
    rates: Mapping[str, float] = _NO_RATES,
) -> Verdict:
    """Judge every arm against uniform at the same budget, each at its own best rate.

    An arm is better or worse only if the paired interval over seeds and examples leaves zero out *and* its p,
    corrected by Holm for all arms and budgets, is below 1 - confidence. All else is no difference that this evidence
    can show, and uniform is recommended. A rate of which a seed diverged is not chosen; an arm that diverges at all its
    rates is told as such, never averaged.

    results: of one setting; those of the longest schedule are judged, shorter ones are the sweep of rates.
    labels: of every held-out sample (`Setting.labels`).
    tolerance: within which a budget is as good as the best; 0.01 is 1 %.
    confidence: of intervals and tests.
    rates: by arm's key, the rate chosen beforehand. Without it the best is chosen by the held-out loss itself, which
        the verdict says.

    Raises `ComparisonError` where there is nothing to judge, results are of several settings, losses do not fit the
    labels, or a fixed rate was not trained.
    """
    if not 0 < confidence < 1 or not tolerance >= 0:
        raise ComparisonError(f"confidence {confidence} must lie between 0 and 1, tolerance {tolerance} not below 0")
    check_labels(labels)
    runs, told = chosen(made_finite(results, labels), labels, rates)
    runs = _in_order(runs)
    bench = Bench(runs=runs, labels=labels, confidence=confidence)
    judged = bench.judged()
    overall = bench.overall()
    sufficient = bench.sufficient(tolerance)
    recommended = _recommended(judged)
    return Verdict(
        judged=judged,
        overall=overall,
        sufficient=sufficient,
        recommended=recommended,
        summary=tuple(
            [f"{each.budget}: {each.sentence}" for each in recommended]
            + [f"{each.arm} over {', '.join(each.budgets)}: {each.sentence}" for each in overall]
            + [sentences.enough(each) for each in sufficient if each.arm in {UNIFORM, *(r.arm for r in recommended)}]
        ),
        warnings=(*_weaknesses(runs, judged, labels, rates), *told),
        examples=sum(count > 0 for count in labels),
        labels=sum(labels),
        tolerance=tolerance,
        confidence=confidence,
    )


def check_labels(labels: tuple[int, ...]) -> None:
    """Refuse held-out samples of which too few have labels, before anything is trained.

    labels: as for `verdict`.

    Raises `ComparisonError`.
    """
    if (labelled := sum(count > 0 for count in labels)) < 2:
        raise ComparisonError(
            f"at least two held-out samples with labels are needed to judge, and there are {labelled}; give more "
            "data, or held-out data of its own (--eval)"
        )


def pairs(
    results: Sequence[Result], labels: tuple[int, ...], arm: str, *, rates: Mapping[str, float] = _NO_RATES
) -> tuple[Pair, ...]:
    """An arm beside uniform at every budget that both have, each at its best rate: what `pooled` takes of one task.

    results, labels, rates: as for `verdict`.
    arm: its name.

    Raises `ComparisonError` as `verdict` does; the arm without such a budget has no pairs.
    """
    runs, _ = chosen(made_finite(results, labels), labels, rates)
    return tuple(Bench(runs=_in_order(runs), labels=labels, confidence=0.95).pairs(arm).values())


def _in_order(runs: Sequence[Runs]) -> tuple[Runs, ...]:
    """The smallest budget first; in each uniform, the plan, and the others by name, in whatever order jobs ended."""
    sizes: dict[str, int] = {}
    for each in sorted(runs, key=lambda each: (each.arm.name != UNIFORM, each.arm.parameters)):
        sizes.setdefault(each.arm.budget, each.arm.parameters)
    first = {UNIFORM: 0, PLANNED: 1}
    return tuple(
        sorted(
            runs,
            key=lambda each: (sizes[each.arm.budget], each.arm.budget, first.get(each.arm.name, 2), each.arm.name),
        )
    )


def _recommended(judged: Sequence[Judged]) -> tuple[Recommended, ...]:
    """By budget: of what is shown to be better the one of the least loss; else uniform, where it has a loss."""
    found = []
    for base in judged:
        if base.finding != "uniform" or base.loss is None:
            continue
        others = [each for each in judged if each.budget == base.budget and each.difference is not None]
        better = [each for each in others if each.finding == "better" and each.loss is not None]
        best = min(better, key=lambda each: each.loss or 0.0, default=base)
        found.append(sentences.recommendation(best, len(others), uniform_is_best=best is base))
    return tuple(found)


def _weaknesses(
    runs: Sequence[Runs], judged: Sequence[Judged], labels: tuple[int, ...], rates: Mapping[str, float]
) -> list[str]:
    """What makes this evidence weaker than it looks; how rates were found beforehand is not looked at here."""
    told = []
    examples = sum(count > 0 for count in labels)
    if examples < FEW:
        told.append(f"only {examples} held-out examples have labels: below {FEW} intervals are rough, and wide")
    if any(len(each.results) == 1 for each in runs):
        told.append("with one seed nothing can be said of other seeds, and nothing is called better or worse")
    told += [f"{each.key} {each.sentence}, and is not compared" for each in judged if each.finding == "diverged"]
    told += [f"{each.key}: {each.sentence}" for each in judged if each.finding == "unmatched"]
    if not any(each.finding == "uniform" and each.loss is not None for each in judged):
        told.append(f"{UNIFORM} has no loss at any budget: nothing can be compared with it")
    for each in runs:
        if each.diverged or each.arm.key in rates:
            continue
        if len(each.grid) == 1:
            told.append(f"{each.arm.key} was tried at one rate only, {each.rate:g}: another may be better")
        elif each.rate in (each.grid[0], each.grid[-1]):
            end = "least" if each.rate == each.grid[0] else "greatest"
            told.append(
                f"{each.arm.key} is best at the {end} rate that was tried, {each.rate:g}: its best may lie beyond"
            )
    return told
