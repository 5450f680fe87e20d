"""A comparison as people read it in a terminal."""

import io
from collections.abc import Callable, Sequence
from functools import partial

from attrs import evolve, frozen
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from layerlens_core.cli.terminal import shown
from layerlens_core.comparison.judging.curves import Times
from layerlens_core.comparison.judging.judgement import Judged, Verdict
from layerlens_core.comparison.judging.sentences import times
from layerlens_core.comparison.rate_search import Curve
from layerlens_core.values.gains import Gains

_STYLES = {"better": "green", "worse": "red", "diverged": "red", "unmatched": "yellow"}


def comparison_table(verdict: Verdict, *, width: int = 100) -> Group:
    """The table of arms by budget, what follows from it, and what weakens it.

    verdict: to be shown. Columns of which it has nothing are left out.
    width: of the terminal, in characters; intervals, then other columns are left out where they do not fit.
    """
    parts: list[Table | Text] = [_fitting(verdict, width)]
    parts.append(
        Text(
            f"loss: held-out nats a label, over {verdict.examples:,} examples; {verdict.confidence:.0%} intervals over "
            "seeds and examples; p is corrected for all arms",
            style="dim",
        )
    )
    parts.append(Text())
    parts += [_line(line) for line in verdict.summary]
    if verdict.warnings:
        parts.append(Text())
        parts += [_line(line, bullet="!", style="yellow") for line in verdict.warnings]
    return Group(*parts)


def _fitting(verdict: Verdict, width: int) -> Table:
    """The fullest table that fits."""
    unbounded = Console(width=10_000, file=io.StringIO())  # at a console's own width every table seems to fit
    columns = [each for each in _COLUMNS if any(map(each.cell, verdict.judged))]
    brief = [evolve(each, cell=partial(_without_interval, each.cell)) for each in columns]
    half = [
        short if full.heading == "uniform's\nparameters ×" else full for full, short in zip(columns, brief, strict=True)
    ]
    few = [each for each in brief if each.heading not in ("accuracy", "rate")]
    for tried in (columns, half, brief, few, [each for each in few if each.heading != "parameters"]):
        table = _arms(verdict, tried)
        if unbounded.measure(table).maximum <= width:
            break
    return table


def _line(text: str, *, bullet: str = "·", style: str = "") -> Table:
    """A line whose continuation is indented."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    grid.add_row(Text(bullet, style=style), Text(shown(text)))
    return grid


def _arms(verdict: Verdict, columns: Sequence["_Column"]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("budget", no_wrap=True)
    table.add_column("arm", no_wrap=True)
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    table.add_column("finding", no_wrap=True)
    recommended = {(each.budget, each.arm) for each in verdict.recommended}
    for budget in dict.fromkeys(each.budget for each in verdict.judged):
        rows = [each for each in verdict.judged if each.budget == budget]
        for number, each in enumerate(rows):
            table.add_row(
                Text("" if number else shown(budget)),
                Text(shown(each.arm), style="bold" if (each.budget, each.arm) in recommended else ""),
                *(column.cell(each) or "–" for column in columns),
                Text("" if each.finding == "uniform" else each.finding, style=_STYLES.get(each.finding, "dim")),
                end_section=number == len(rows) - 1,
            )
    return table


def _ratio(each: Judged) -> str:
    if each.ratio is None or each.finding == "same":
        return ""
    return f"{_signed(each.ratio.estimate)}% ({_signed(each.ratio.low)} to {_signed(each.ratio.high)})"


def _signed(share: float) -> str:
    return f"{100 * share:+.2f}".replace("-", "−")


def _p(each: Judged) -> str:
    if each.corrected is None:
        return ""
    return "<.001" if each.corrected < 0.001 else f"{each.corrected:.3f}"


def _factor(each: Judged) -> str:
    if each.factor is None or each.finding == "same":
        return ""
    estimate, low, high = map(_times, (each.factor.estimate, each.factor.low, each.factor.high))
    return estimate if estimate == low == high else f"{estimate} ({low} to {high})"


def _times(value: Times) -> str:
    return times(value).replace("more than ", ">").replace("less than ", "<")


def _accuracy(each: Judged) -> str:
    return "" if each.accuracy is None else f"{each.accuracy:.1%}"


def _without_interval(cell: Callable[[Judged], str], each: Judged) -> str:
    return cell(each).split(" (")[0]


@frozen
class _Column:
    """A column of numbers.

    heading: above it.
    cell: what it says of an arm; empty where there is nothing.
    """

    heading: str
    cell: Callable[[Judged], str]


_COLUMNS = (
    _Column("parameters", lambda each: f"{each.parameters:,}"),
    _Column("rate", lambda each: f"{each.rate:.2g}"),
    _Column("loss", lambda each: "" if each.loss is None else f"{each.loss:.4f}"),
    _Column("against\nuniform", _ratio),
    _Column("p", _p),
    _Column("uniform's\nparameters ×", _factor),
    _Column("accuracy", _accuracy),
)


def gains_table(gains: Gains) -> Group:
    """How much each method gains by size.

    gains: as a comparison measured them.
    """
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for heading in ("reaches", "half at notch", "±"):
        table.add_column(heading, justify="right", no_wrap=True)
    for method, curve in gains.curves.items():
        spread = "" if curve.spread is None else f"{curve.spread:.1%}"
        table.add_row(shown(method), f"{curve.ceiling:.1%}", f"{curve.half:.3g}", spread)
    words = "of what the best method could gain on none at any size; 'layerlens allocate' plans by these curves"
    return Group(table, Text(words, style="dim"))


def rates_table(curves: Sequence[Curve]) -> Group:
    """How the learning rate of every arm was found: held-out loss by rate, of the short runs.

    curves: one an arm.
    """
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column("arm", no_wrap=True)
    table.add_column("rate", justify="right", no_wrap=True)
    table.add_column("held-out loss of short runs, by rate")
    for curve in curves:
        for number, steps in enumerate(sorted({point.steps for point in curve.points})):
            losses = [f"{point.rate:.2g}: {_loss(point.loss)}" for point in curve.points if point.steps == steps]
            first = (shown(curve.arm), f"{curve.rate:.3g}") if number == 0 else ("", "")
            table.add_row(*first, f"{steps} steps  {'  '.join(losses)}")
    share = max((curve.share for curve in curves), default=0.0)
    return Group(table, Text(f"each found for {share:.2f} of a whole run's samples at most", style="dim"))


def _loss(loss: float | None) -> str:
    return "diverged" if loss is None else f"{loss:.4g}"
