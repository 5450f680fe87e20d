"""Charts of a report as Altair specifications: how the budget is spent, the frontier, scores by layer."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from layerlens_core.allocation.problem import UNIFORM
from layerlens_core.errors import FileError
from layerlens_core.reporting.frontier import Frontier
from layerlens_core.values.decisions import Decision

#: Stand-ins that the page's style sheet gives other colours, light or dark (`page.css`).
INK, RULE, PAGE, MUTED = "#111213", "#d8d9da", "#fefdfc", "#777777"
#: Okabe and Ito's colours, which people tell apart whatever colours they see.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933", "#332288")
WIDTH, HEIGHT = 430, 240
_RESOURCES = {
    "params": "trainable parameters allowed", "flops": "FLOPs a token allowed", "memory": "bytes of memory allowed",
    "latency": "seconds of latency allowed",
}  # fmt: skip
#: What no XML may hold, and at which vl-convert ends the whole process; names in a run's files may hold it.
_UNDRAWN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
#: More layers than this are numbered every so often alone.
_MOST_LABELS = 16


def altair() -> Any:
    """The library that draws. Raises `FileError` with what to install where it, or what makes SVG of it, is missing."""
    try:
        import altair
        import vl_convert  # noqa: F401  (told now, not after all has been gathered)
    except ImportError as error:
        raise FileError(f"a report needs {error.name}: pip install altair vl-convert-python") from None
    return altair


def drawable(text: str) -> str:
    """A text without what cannot be drawn.

    text: of a name in a run's files.
    """
    return _UNDRAWN.sub("\ufffd", text)


def configured(chart: Any) -> Any:
    """A chart in the page's own colours.

    chart: of Altair, without a configuration.
    """
    return (
        chart.configure(background="transparent", font="sans-serif", aria=False)
        .configure_view(stroke=None)
        .configure_axis(
            gridColor=RULE, domainColor=MUTED, tickColor=MUTED, titleFontWeight="normal", titleColor=INK,
            labelColor=INK, labelFontSize=11, titleFontSize=12,
        )
        .configure_legend(orient="top", title=None, labelColor=INK, labelFontSize=12, symbolStrokeWidth=2)
        .configure_title(anchor="start", fontWeight="normal", fontSize=13, color=INK)
    )  # fmt: skip


def spending(decisions: Sequence[Decision], labels: Sequence[str]) -> Any:
    """Trainable parameters by layer, in the colours of the methods.

    decisions: in the order of the model.
    labels: of the layers, in the same order.
    """
    alt = altair()
    methods = list(dict.fromkeys(each.method for each in decisions if each.parameters))
    rows = [
        {"at": number, "layer": label, "parameters": each.parameters, "method": each.method}
        for number, (each, label) in enumerate(zip(decisions, labels, strict=True))
    ]
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_bar()
        .encode(
            x=_layers(alt, labels, scale="band"),
            y=alt.Y("parameters:Q", title="trainable parameters", axis=alt.Axis(format="~s", tickCount=5)),
            color=alt.Color("method:N", scale=alt.Scale(domain=methods, range=SERIES[: len(methods)] or [MUTED])),
        )
        .properties(width=WIDTH, height=HEIGHT)
    )


def scores(normalised: Mapping[str, Sequence[float]], utilities: Sequence[float], labels: Sequence[str]) -> Any:
    """Normalised scores by layer, one line a metric, and the utility that they become.

    normalised: by metric, in the order of the layers.
    utilities: in the same order.
    labels: of the layers.
    """
    alt = altair()
    lines = {"utility": utilities, **normalised}
    rows = [
        {"at": number, "value": value, "metric": metric}
        for metric, values in lines.items()
        for number, value in enumerate(values)
    ]
    names = list(lines)
    colours = [INK, *(SERIES[number % len(SERIES)] for number in range(len(names) - 1))]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=_layers(alt, labels, scale="point"),
        y=alt.Y("value:Q", title="normalised score, and utility", axis=alt.Axis(tickCount=5)),
        color=alt.Color("metric:N", scale=alt.Scale(domain=names, range=colours), sort=names),
        strokeDash=alt.StrokeDash(
            "metric:N",
            scale=alt.Scale(domain=names, range=[[1, 0], *([4 + n, 2] for n in range(len(names) - 1))]),
            sort=names,
        ),
    )
    return base.mark_line(strokeWidth=1.8, point=len(labels) <= _MOST_LABELS).properties(width=WIDTH, height=HEIGHT)


def frontier(found: Frontier) -> Any:
    """Predicted gain against what the budget allows, with this plan marked.

    found: by `layerlens_core.reporting.frontier.frontier`.
    """
    alt = altair()
    points = [point for point in found.points if point.allowed > 0]
    names = list(dict.fromkeys(point.strategy for point in points))
    colours = [MUTED if name == UNIFORM else SERIES[0] for name in names]
    rows = [{"strategy": each.strategy, "allowed": each.allowed, "gain": each.gain} for each in points]
    own = [{"allowed": found.own.allowed, "gain": found.own.gain, "text": "this plan"}]
    ticks = sorted({each.allowed for each in points if each.factor in (0.125, 0.25, 0.5, 1, 2, 4, 8)})
    x = alt.X(
        "allowed:Q", title=_RESOURCES[found.resource], scale=alt.Scale(type="log", nice=False, padding=8),
        axis=alt.Axis(values=ticks or [found.own.allowed], format=".3~s", grid=False, labelOverlap=True),
    )  # fmt: skip
    y = alt.Y("gain:Q", title="predicted gain", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5))
    line = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=24))
        .encode(
            x=x, y=y, color=alt.Color("strategy:N", scale=alt.Scale(domain=names, range=colours), sort=names)
        )
    )  # fmt: skip
    base = alt.Chart(alt.Data(values=own)).encode(x=x, y=y)
    mark = base.mark_point(shape="diamond", filled=True, size=130, color=SERIES[1], opacity=1)
    text = base.mark_text(dx=9, dy=15, align="left", color=INK, fontSize=12).encode(text="text:N")
    return alt.layer(line, mark, text).properties(width=WIDTH, height=HEIGHT)


def _layers(alt: Any, labels: Sequence[str], *, scale: str) -> Any:
    """The axis of layers: numbers of their places, shown as their labels, some of them where there are many."""
    every = max(1, -(-len(labels) // _MOST_LABELS))
    values = list(range(0, len(labels), every))
    shown = {number: labels[number] for number in values}
    expression = "".join(f"datum.value == {number} ? {_quoted(label)} : " for number, label in shown.items()) + "''"
    angle = -45 if max((len(label) for label in shown.values()), default=0) > 3 else 0
    return alt.X(
        "at:O", title="layer", scale=alt.Scale(type=scale, padding=0.15),
        axis=alt.Axis(values=values, labelExpr=expression, labelAngle=angle, labelOverlap=False),
    )  # fmt: skip


def _quoted(label: str) -> str:
    """A label as an expression of Vega's."""
    return json.dumps(drawable(label))
