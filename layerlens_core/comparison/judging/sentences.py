"""A comparison's findings in words."""

from layerlens_core.comparison.judging.curves import Factor, Sufficient, Times
from layerlens_core.comparison.judging.judgement import UNIFORM, Finding, Judged, Range, Recommended
from layerlens_core.comparison.judging.statistics import Difference

#: What is said where nothing is shown.
NOTHING = "no difference to uniform that this evidence can show"


def finding(difference: Difference, corrected: float | None, confidence: float) -> Finding:
    """Better or worse only where the interval leaves zero out and the corrected p agrees; one seed shows neither.

    difference: of losses, or of their logarithms; less than 0 is better.
    corrected: its corrected p; none with one seed.
    confidence: of the interval.
    """
    if corrected is None or difference.holds_zero or corrected >= 1 - confidence:
        return "no difference"
    return "better" if difference.estimate < 0 else "worse"


def compared(
    found: Finding, difference: Difference, ratio: Range, corrected: float | None, factor: Factor | None = None
) -> str:
    """One arm against uniform.

    found: as `finding` has it.
    difference: in which it was found.
    ratio: the same as a share of uniform's loss.
    corrected: p.
    factor: in parameters, where there is a curve.
    """
    if found in ("better", "worse"):
        text = (
            f"{found} than uniform by {abs(ratio.estimate):.2%} of its loss ({_ends(ratio)}; {probability(corrected)})"
        )
        return text if factor is None else f"{text}; uniform would need {multiple(factor)} the parameters"
    text = f"{NOTHING} ({ratio.low:+.2%} to {ratio.high:+.2%} of its loss"
    if corrected is None:
        return f"{text} over examples; one seed says nothing of others)"
    text += f"; {probability(corrected)})"
    return text if difference.holds_zero else f"{text}: its own interval leaves zero out, but many arms were compared"


def _ends(ratio: Range) -> str:
    least, most = sorted((abs(ratio.low), abs(ratio.high)))
    return f"{least:.2%} to {most:.2%}"


def probability(p: float | None) -> str:
    """A p in words: after a correction where there was one."""
    if p is None:
        return "no p"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def multiple(factor: Factor) -> str:
    """A factor and its interval: ``1.21 times (1.04 to more than 4)``."""
    ends = (factor.low, factor.high)
    if all(end == factor.estimate for end in ends):
        return f"{times(factor.estimate)} times"
    return f"{times(factor.estimate)} times ({times(factor.low)} to {times(factor.high)})"


def times(value: Times) -> str:
    """A multiple: ``1.21``, ``more than 4``."""
    number = f"{value.times:.3g}"
    return number if value.bound == "exactly" else f"{value.bound} than {number}"


def enough(found: Sufficient) -> str:
    """Which budget of an arm is enough."""
    if found.enough == found.best:
        text = (
            f"{found.arm}: {found.best} has the least loss, and no smaller budget is within {found.tolerance:.1%} of it"
        )
    else:
        excess = next(each for each in found.budgets if each.budget == found.enough)
        text = (
            f"{found.arm}: {found.enough} is enough: {excess.ratio - 1:.2%} above the best, {found.best}, where "
            f"{found.tolerance:.1%} is allowed"
        )
    if found.surely == found.enough:
        return f"{text}; seeds and examples bear that out"
    if found.surely is None:
        return f"{text}; of none this evidence can be sure"
    return f"{text}; this evidence is sure only of {found.surely}"


def recommendation(best: Judged, others: int, *, uniform_is_best: bool) -> Recommended:
    """What to train at a budget.

    best: uniform, or what is shown to be better.
    others: arms that were compared with uniform.
    uniform_is_best: whether none of them is shown to be better.
    """
    if not uniform_is_best:
        sentence = f"{best.arm} at rate {best.rate:g}: {best.sentence}"
    elif others:
        sentence = (
            f"{UNIFORM} at rate {best.rate:g}: nothing that was tried is shown to be better, and it is the simplest"
        )
    else:
        sentence = f"{UNIFORM} at rate {best.rate:g}: nothing else was tried"
    return Recommended(budget=best.budget, arm=best.arm, rate=best.rate, sentence=sentence)
