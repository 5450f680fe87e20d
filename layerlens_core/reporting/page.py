"""One HTML file of a run: template, style, script and charts put together, under a policy that lets nothing out."""

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from layerlens_core import __version__
from layerlens_core.comparison.judging.picture import panels
from layerlens_core.reporting import charts, summary, tables
from layerlens_core.reporting.decisions import data_of, normalised
from layerlens_core.reporting.gather import Gathered
from layerlens_core.reporting.heat import SHADES, Group, heat_map
from layerlens_core.reporting.making import making
from layerlens_core.reporting.svg import inline_svg
from layerlens_core.reporting.templates import filled, text_of


def page(gathered: Gathered) -> str:
    """The whole page.

    gathered: the run.
    """
    from markupsafe import Markup

    plan, verdict = gathered.plan, gathered.verdict
    groups = heat_map(plan, gathered.profile, gathered.importance)
    style, script = text_of("page.css"), text_of("page.js")
    left_out = gathered.events.get("margins.left_out", ())
    return filled(
        "page.html",
        version=__version__,
        title=f"{plan.architecture}: a plan for {' '.join(plan.request.budget) or 'no budget'}",
        subtitle=f"LayerLens report of the run {gathered.name}, plan {plan.digest[:16]}",
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        data=Markup(_json(data_of(gathered, groups))),
        headline=summary.headline(gathered),
        facts=summary.facts(gathered),
        notes=summary.notes(gathered),
        shades=SHADES,
        groups=groups,
        scored=any(cell and cell.score is not None for group in groups for row in group.rows for cell in row.cells),
        budget=tables.budget(gathered),
        columns=tables.columns(gathered, groups),
        bounded=bool(plan.limits.bounds),
        comparison=gathered.comparison,
        verdict=verdict,
        earlier=gathered.earlier,
        arms=None if verdict is None else tables.arms(verdict),
        metrics=tables.metrics(gathered),
        scores=tables.scores(gathered),
        decisions=tables.decisions(gathered),
        without_margins=left_out[-1]["cause"] if left_out else "",
        making=making(gathered),
        charts=_charts(gathered, groups),
    )


def _charts(gathered: Gathered, groups: Sequence[Group]) -> dict[str, Any]:
    """The charts by name, each with its caption; None for those of which nothing is known."""
    labels = _labels(groups)
    decisions = gathered.plan.decisions
    names = [labels[each.unit] for each in decisions]
    by_layer = {
        metric: [values.get(each.unit, 0.0) for each in decisions] for metric, values in normalised(gathered).items()
    }
    utilities = [each.utility for each in decisions]
    found: dict[str, Any] = {
        **dict.fromkeys(("frontier", "loss", "differences")),
        "spending": _drawn(
            "spending", charts.spending(decisions, names), "Trainable parameters by layer, the lowest layer first"
        ),
        "scores": _drawn(
            "scores",
            charts.scores(by_layer, utilities, names),
            "Normalised scores by layer, and the utility that they become",
        ),
    }
    if gathered.frontier is not None:
        words = "Predicted gain against budget, by this plan’s strategy and by uniform"
        found["frontier"] = _drawn("frontier", charts.frontier(gathered.frontier), words)
    verdict = gathered.verdict
    if verdict is not None and any(each.loss is not None and each.parameters for each in verdict.judged):
        for name, (words, panel) in zip(("loss", "differences"), panels(verdict), strict=False):
            found[name] = _drawn(name, panel, words)
    return found


def _drawn(name: str, chart: Any, caption: str) -> dict[str, Any]:
    from markupsafe import Markup

    try:
        return {"svg": Markup(inline_svg(chart, label=caption, prefix=name)), "caption": caption}
    except ValueError:  # of a file whose numbers are beyond all scales; the tables hold them all the same
        return {"svg": "", "caption": f"{caption}: its numbers are too large, or its names no text, to be drawn"}


def _labels(groups: Sequence[Group]) -> dict[str, str]:
    """By layer, what a chart calls it: its number, after the beginning of its group's name where there are several."""
    several = len([group for group in groups if group.name]) > 1
    initials = {group.name: group.name.partition(".")[0][:3] for group in groups}
    return {
        row.decision.unit: f"{initials[group.name]} {row.label}" if several and group.name else row.label
        for group in groups
        for row in group.rows
    }


def _json(data: Any) -> str:
    """JSON that ends no script element, whatever a name in it holds."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _policy(style: str, script: str) -> str:
    """Nothing is loaded, sent or run but this page's own style and script, each named by its digest."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; base-uri 'none'; "
        "form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
