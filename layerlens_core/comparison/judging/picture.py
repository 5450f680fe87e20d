"""A comparison as a picture: loss against parameters, memory and time, with intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from layerlens_core.comparison.judging.judgement import UNIFORM, Judged, Verdict
from layerlens_core.errors import ComparisonError
from layerlens_core.files.atomic import replacing

if TYPE_CHECKING:
    import altair

#: What a loss is drawn against.
Axis = Literal["parameters", "memory", "step"]

_TITLES = {"parameters": "trainable parameters", "memory": "device memory of a run, MiB", "step": "seconds a step"}
#: Okabe and Ito's colours, which people tell apart whatever colours they see; uniform is grey.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933", "#332288")
_GREY = "#777777"
_WIDTH, _HEIGHT = 430, 290


def picture(verdict: Verdict, *, axes: Sequence[Axis] = ("parameters",)) -> "altair.VConcatChart":
    """A chart for notebooks and files: the loss against each axis, and the difference to uniform by budget.

    Beside a loss uniform's band is the interval of its own loss over seeds, on these held-out examples; the bars of
    differences are paired intervals over seeds and examples. The two differ on purpose: arms share seeds and examples,
    so that their difference is surer than either loss.

    verdict: to be drawn; arms that diverged are left out, and one without parameters, beside which others look alike.
    axes: what losses are drawn against; one of which nothing is known is left out.

    Raises `ComparisonError` where the extra ``report`` is not installed, or nothing has a loss.
    """
    alt = _altair()
    drawn = [panel for _, panel in panels(verdict, axes=axes)]
    rows = [alt.hconcat(*drawn[start : start + 2]) for start in range(0, len(drawn), 2)]
    chart: altair.VConcatChart = (
        alt.vconcat(*rows)
        .configure_view(stroke=None)
        .configure_axis(gridColor="#e8e8e8", domainColor="#999999", tickColor="#999999", titleFontWeight="normal")
        .configure_legend(orient="top", symbolStrokeWidth=2)
        .configure_title(anchor="start", fontWeight="normal", fontSize=13)
    )
    return chart


def panels(verdict: Verdict, *, axes: Sequence[Axis] = ("parameters",)) -> "list[tuple[str, altair.LayerChart]]":
    """The charts of which `picture` is made, each with what it shows in words, for whoever lays them out otherwise.

    verdict, axes: as for `picture`.

    Raises `ComparisonError` as `picture` does.
    """
    alt = _altair()
    drawn = [each for each in verdict.judged if each.loss is not None and each.parameters]
    if not drawn:
        raise ComparisonError("there is nothing to draw: no arm has a finite loss")
    names = [UNIFORM, *dict.fromkeys(each.arm for each in drawn if each.arm != UNIFORM)]
    palette = [_GREY, *(_COLOURS[n % len(_COLOURS)] for n in range(len(names) - 1))]
    colour = alt.Color("arm:N", title=None, scale=alt.Scale(domain=names, range=palette), sort=names)
    known = [axis for axis in axes if all(_at(each, axis) > 0 for each in drawn)] or ["parameters"]
    found = [(f"Held-out loss against {_TITLES[axis]}, by arm", _losses(alt, drawn, axis, colour)) for axis in known]
    if any(each.ratio is not None for each in drawn):
        words = "Difference of each arm's loss to uniform's by budget, with intervals"
        found.insert(1, (words, _differences(alt, drawn, colour, names, verdict.confidence)))
    return found


def write_picture(verdict: Verdict, path: Path, *, axes: Sequence[Axis] = ("parameters",)) -> None:
    """Write the picture as a file that needs nothing else, and asks no other host for anything.

    verdict, axes: as for `picture`.
    path: ends in ``.svg`` or ``.png``.

    Raises `ComparisonError` as `picture` does, and for any other ending.
    """
    check_picture(path)
    chart = picture(verdict, axes=axes).to_json()
    import vl_convert

    content = (
        vl_convert.vegalite_to_svg(chart).encode()
        if path.suffix == ".svg"
        else vl_convert.vegalite_to_png(chart, scale=2)
    )
    with replacing(path) as file:
        file.buffer.write(content)


def check_picture(path: Path) -> None:
    """Refuse a picture that could not be written, before anything is trained for it.

    path: as for `write_picture`.

    Raises `ComparisonError` for another ending, and where a package is missing.
    """
    if path.suffix not in (".svg", ".png"):
        raise ComparisonError(f"a picture is written as .svg or .png, not as {path.name}")
    _altair()


def _altair() -> Any:
    try:
        import altair
        import vl_convert  # noqa: F401  (told now, not after all has been drawn)
    except ImportError as error:
        raise ComparisonError(
            f"pictures need {error.name}: pip install altair vl-convert-python; the table and the JSON need nothing"
        ) from None
    return altair


def _at(each: Judged, axis: Axis) -> float:
    if axis == "parameters":
        return float(each.parameters)
    return each.memory / 2**20 if axis == "memory" else each.step


def _x(alt: Any, axis: Axis, drawn: Sequence[Judged]) -> Any:
    """The axis: a logarithm for parameters, which double from budget to budget."""
    if axis != "parameters":
        scale = alt.Scale(zero=False, nice=True)
        return alt.X("at:Q", title=_TITLES[axis], scale=scale, axis=alt.Axis(tickCount=6, labelOverlap=True))
    values = [each.parameters for each in drawn]
    ends = [min(values) / 1.25, max(values) * 1.25]
    ticks = sorted({each.parameters for each in drawn if each.arm == UNIFORM}) or sorted(set(values))
    return alt.X(
        "at:Q", title=_TITLES[axis], scale=alt.Scale(type="log", domain=ends, nice=False),
        axis=alt.Axis(values=ticks, format=".3~s", grid=False, labelOverlap=True),
    )  # fmt: skip


def _losses(alt: Any, drawn: Sequence[Judged], axis: Axis, colour: Any) -> Any:
    """Every arm's loss, and uniform's band over seeds."""
    rows = [
        {
            "arm": each.arm, "budget": each.budget, "at": _at(each, axis), "loss": each.loss, "rate": each.rate,
            "low": each.seeds_low, "high": each.seeds_high,
        }
        for each in drawn
    ]  # fmt: skip
    base = alt.Chart(alt.Data(values=rows))
    x = _x(alt, axis, drawn)
    y = alt.Y("loss:Q", title="held-out loss, nats a label", scale=alt.Scale(zero=False))
    band = (
        base.transform_filter(f"datum.arm == '{UNIFORM}' && isValid(datum.low)")
        .mark_area(opacity=0.25, color=_GREY)
        .encode(x=x, y=alt.Y("low:Q", title="held-out loss, nats a label", scale=alt.Scale(zero=False)), y2="high:Q")
    )
    line = base.mark_line(strokeWidth=1.6).encode(x=x, y=y, color=colour)
    points = base.mark_point(filled=True, size=36, opacity=1).encode(
        x=x, y=y, color=colour, tooltip=["arm:N", "budget:N", "loss:Q", "rate:Q"]
    )
    title = "loss; the band is uniform's over seeds"
    return alt.layer(band, line, points).properties(width=_WIDTH, height=_HEIGHT, title=title)


def _differences(alt: Any, drawn: Sequence[Judged], colour: Any, names: Sequence[str], confidence: float) -> Any:
    """What each arm differs from uniform by at the same budget, side by side."""
    compared = [each for each in drawn if each.ratio is not None]
    budgets = list(dict.fromkeys(each.budget for each in compared))
    rows = [
        {
            "arm": each.arm, "budget": each.budget, "ratio": 100 * each.ratio.estimate, "low": 100 * each.ratio.low,
            "high": 100 * each.ratio.high, "shown": each.finding in ("better", "worse"),
        }
        for each in compared
        if each.ratio is not None
    ]  # fmt: skip
    base = alt.Chart(alt.Data(values=rows))
    x = alt.X("budget:N", sort=budgets, title="budget", axis=alt.Axis(labelAngle=0))
    aside = alt.XOffset("arm:N", sort=list(names[1:]), scale=alt.Scale(paddingInner=0.2, paddingOuter=0.6))
    title = "% of uniform's loss"
    bars = base.mark_rule(strokeWidth=2).encode(
        x=x, xOffset=aside, y=alt.Y("low:Q", title=title), y2="high:Q", color=colour
    )
    points = base.mark_point(size=46, opacity=1, strokeWidth=1.6).encode(
        x=x, xOffset=aside, y=alt.Y("ratio:Q", title=title), color=colour,
        fill=alt.condition("datum.shown", colour, alt.value("white")),
    )  # fmt: skip
    zero = alt.Chart(alt.Data(values=[{"y": 0}])).mark_rule(color=_GREY, strokeDash=[4, 3]).encode(y="y:Q")
    heading = f"difference to uniform, {confidence:.0%} intervals; filled where it is shown"
    return alt.layer(zero, bars, points).properties(width=_WIDTH, height=_HEIGHT, title=heading)
