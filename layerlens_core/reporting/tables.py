"""The tables of a report, as the texts of their cells."""

from collections.abc import Mapping, Sequence

from attrs import frozen

from layerlens_core.allocation.budget import readable
from layerlens_core.comparison.judging.judgement import Judged, Verdict
from layerlens_core.reporting.decisions import (
    described,
    flip_of,
    margins_tried,
    normalised,
    parameters_by_column,
    refusals,
)
from layerlens_core.reporting.gather import Gathered
from layerlens_core.reporting.heat import Group

#: What stands where there is nothing to tell.
NOTHING = "–"
#: Resources as people call them.
RESOURCES = {"params": "trainable parameters", "flops": "FLOPs a token", "memory": "memory", "latency": "latency"}


@frozen(kw_only=True)
class Table:
    """A table whose rows are each headed by their first cell.

    caption: what it shows.
    headings: of the columns.
    rows: texts, one a column.
    numeric: which columns hold numbers.
    wide: which hold sentences.
    marked: which rows are what is recommended.
    """

    caption: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numeric: frozenset[int] = frozenset()
    wide: frozenset[int] = frozenset()
    marked: frozenset[int] = frozenset()


def budget(gathered: Gathered) -> Table:
    """By resource: what was asked for, allowed and planned."""
    plan = gathered.plan
    asked = {text.partition("=")[0]: text.partition("=")[2] for text in plan.request.budget}
    rows = []
    for name, words in RESOURCES.items():
        amount, bound = getattr(plan.cost, name), plan.limits.bounds.get(name)
        if bound is None and not amount:
            continue
        allowed = NOTHING if bound is None else readable(name, bound)
        used = f"{amount / bound:.1%}" if bound else NOTHING
        rows.append((words, asked.get(name, NOTHING), allowed, readable(name, amount), used))
    return Table(
        caption="By resource; FLOPs and memory include the frozen model",
        headings=("resource", "asked", "allowed", "planned", "used"),
        rows=rows,
        numeric=frozenset({2, 3, 4}),
    )


def columns(gathered: Gathered, groups: Sequence[Group]) -> Table:
    """Where the parameters go, by kind of module; without rows where that is not known.

    gathered: the run.
    groups: of its heat map.
    """
    several = len(groups) > 1
    return Table(
        caption="By kind of module, the largest share first",
        headings=("module", "parameters", "share"),
        rows=[
            (f"{group}: {column}" if several else column, f"{amount:,}", f"{share:.1%}")
            for group, column, amount, share in parameters_by_column(gathered, groups)
        ],
        numeric=frozenset({1, 2}),
    )


def metrics(gathered: Gathered) -> Table:
    """By metric: its unit, its weight, and how stable it is."""
    profile, weights = gathered.profile, gathered.plan.request.weights or {}
    total = sum(weights.values())
    return Table(
        caption="Metrics; stability is the rank correlation between halves of the samples (1: the same order, 0: "
        "chance)",
        headings=("metric", "unit", "weight", "stability of layers", "stability of modules"),
        rows=[
            (
                each.metric,
                each.unit,
                f"{weights[each.metric]:g} / {total:g}" if each.metric in weights else NOTHING,
                _two(profile.stability.get(each.metric)),
                _two(profile.module_stability.get(each.metric)),
            )
            for each in profile.scores
        ],
        numeric=frozenset({2, 3, 4}),
    )


def scores(gathered: Gathered) -> Table:
    """By layer: every metric raw and normalised, and the utility that they became."""
    profile, request = gathered.profile, gathered.plan.request
    raw = {each.metric: each.by_layer(profile.inventory) for each in profile.scores}
    errors = {each.metric: each.errors for each in profile.scores}
    normal = normalised(gathered)
    rows = []
    for decision in gathered.plan.decisions:
        cells = [decision.unit]
        for metric in raw:
            cells.append(_raw(raw[metric].get(decision.unit), errors[metric].get(decision.unit)))
            scaled = normal.get(metric, {}).get(decision.unit)
            cells.append(NOTHING if scaled is None else f"{scaled:.4f}")
        rows.append((*cells, f"{decision.utility:.4f}"))
    headings = [heading for metric in raw for heading in (f"{metric}, raw", f"{metric}, normalised")]
    return Table(
        caption=f"By layer: raw scores, the same normalised ({request.normalizer}), and the utility that "
        f"{request.aggregator} makes of them",
        headings=("layer", *headings, "utility"),
        rows=rows,
        numeric=frozenset(range(1, len(headings) + 2)),
    )


def decisions(gathered: Gathered) -> Table:
    """Every decision with its reason and what would flip it."""
    tried, refused = margins_tried(gathered), refusals(gathered)
    return Table(
        caption="In the order of the model",
        headings=("layer", "decision", "parameters", "utility", "why", "what would flip it"),
        rows=[
            (
                each.unit,
                described(each),
                f"{each.parameters:,}",
                f"{each.utility:.4f}",
                "; ".join([each.reason, *(f"refused was {cause}" for cause in refused.get(each.unit, ()))]),
                flip_of(each, tried=tried) or NOTHING,
            )
            for each in gathered.plan.decisions
        ],
        numeric=frozenset({2, 3}),
        wide=frozenset({4, 5}),
    )


def arms(verdict: Verdict) -> Table:
    """Every arm at every budget, as it was measured."""
    best = {(each.budget, each.arm) for each in verdict.recommended}
    return Table(
        caption=f"Held-out loss in nats a label over {verdict.examples:,} examples; {verdict.confidence:.0%} intervals "
        "over seeds and examples; p is corrected for all arms; what is recommended is bold",
        headings=("arm", "parameters", "rate", "loss", "against uniform", "p", "accuracy", "finding"),
        rows=[
            (
                f"{each.arm} {each.budget}",
                f"{each.parameters:,}",
                f"{each.rate:.2g}",
                NOTHING if each.loss is None else f"{each.loss:.4f}",
                _against_uniform(each),
                _p(each.corrected),
                NOTHING if each.accuracy is None else f"{each.accuracy:.1%}",
                each.finding,
            )
            for each in verdict.judged
        ],
        numeric=frozenset(range(1, 7)),
        marked=frozenset(n for n, each in enumerate(verdict.judged) if (each.budget, each.arm) in best),
    )


def by_name(values: Mapping[str, float | str]) -> str:
    """Names with their values, in a line."""
    return ", ".join(f"{name} {_plain(value)}" for name, value in values.items())


def _plain(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _raw(value: float | None, error: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:.3g}" if error is None else f"{value:.3g} ±{error:.1g}"


def _two(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def _p(value: float | None) -> str:
    if value is None:
        return NOTHING
    return "<.001" if value < 0.001 else f"{value:.3f}"


def _against_uniform(each: Judged) -> str:
    if each.ratio is None or each.finding == "same":
        return NOTHING
    estimate, low, high = (100 * share for share in (each.ratio.estimate, each.ratio.low, each.ratio.high))
    return f"{estimate:+.2f}% ({low:+.2f} to {high:+.2f})".replace("-", "−")
