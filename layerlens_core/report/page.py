"""One HTML file of a run: template, style, script and charts put together, under a policy that lets nothing out."""

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from layerlens_core import __version__
from layerlens_core.report import charts, content
from layerlens_core.report.decisions import data_of, normalised
from layerlens_core.report.gather import Gathered
from layerlens_core.report.heat import SHADES, Group, heat_map
from layerlens_core.report.svg import inline_svg

if TYPE_CHECKING:
    from jinja2 import Environment


def page(gathered: Gathered) -> str:
    """The whole page.

    gathered: the run.
    """
    from markupsafe import Markup

    plan = gathered.plan
    groups = heat_map(plan, gathered.profile, gathered.importance)
    scores = content.score_table(gathered)
    style, script = _file("page.css"), _file("page.js")
    verdict = None if gathered.comparison is None else gathered.comparison.verdict
    comparison = None
    if gathered.comparison is not None:
        comparison = {
            "earlier": gathered.earlier,
            "summary": verdict.summary if verdict else ["Only learning rates were looked for."],
            "rows": content.comparison_rows(verdict) if verdict else [],
            "caption": "" if verdict is None else f"Held-out loss in nats a label over {verdict.examples:,} examples; "
            f"{verdict.confidence:.0%} intervals over seeds and examples; p is corrected for all arms",
            "warnings": [*(verdict.warnings if verdict else ()), *gathered.comparison.notes],
        }  # fmt: skip
    return _environment().get_template("page.html").render(
        version=__version__,
        title=f"{plan.architecture}: a plan for {' '.join(plan.request.budget) or 'no budget'}",
        subtitle=f"LayerLens report of the run {gathered.name}, plan {plan.id}",
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        data=Markup(_json(data_of(gathered, groups))),
        shades=SHADES,
        groups=groups,
        scored=any(cell and cell.score is not None for group in groups for row in group.rows for cell in row.cells),
        headline=content.headline(gathered),
        facts=content.facts(gathered),
        notes=content.notes(gathered),
        budget=[tuple(row.values()) for row in content.budget_rows(gathered)],
        columns=[tuple(row.values()) for row in content.column_rows(gathered, groups)],
        without_frontier="Nothing bounds this plan, so there is no budget to change."
        if gathered.problem is not None
        else "It was not made; see the notes above.",
        comparison=comparison,
        metrics=[tuple(column.values()) for column in scores["columns"]],
        scores=scores,
        decisions=content.decision_rows(gathered),
        without_margins=content.without_margins(gathered),
        making=content.making(gathered),
        charts=_charts(gathered, groups),
    )  # fmt: skip


def _charts(gathered: Gathered, groups: list[Group]) -> dict[str, Any]:
    from markupsafe import Markup

    from layerlens_core.comparison.judging.picture import panels

    def drawn(name: str, chart: Any, caption: str) -> dict[str, Any]:
        return {"svg": Markup(inline_svg(chart, label=caption, prefix=name)), "caption": caption}

    plan = gathered.plan
    labels = _labels(groups)
    order = [each.unit for each in plan.decisions]
    names = [labels[unit] for unit in order]
    by_layer = {
        metric: [values.get(unit, 0.0) for unit in order] for metric, values in normalised(gathered).items()
    }
    found: dict[str, Any] = {
        "spending": drawn(
            "spending", charts.spending(plan.decisions, names), "Trainable parameters by layer, lowest layer first"
        ),
        "scores": drawn(
            "scores",
            charts.scores(by_layer, [each.utility for each in plan.decisions], names),
            "Normalised scores by layer, and the utility that they become",
        ),
        "frontier": None,
        "measured": [],
    }
    if gathered.frontier is not None:
        caption = "Predicted gain against budget, by this plan’s strategy and by uniform"
        found["frontier"] = drawn("frontier", charts.frontier(gathered.frontier), caption)
    verdict = None if gathered.comparison is None else gathered.comparison.verdict
    if verdict is not None:
        for number, (title, panel) in enumerate(panels(verdict)):
            found["measured"].append(drawn(f"measured{number}", panel, title))
    return found


def _labels(groups: list[Group]) -> dict[str, str]:
    """By layer, what tells it apart in a chart: its number, and the first letter of its group where there are several."""
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


@cache
def _file(name: str) -> str:
    return (files("layerlens_core.report") / name).read_text(encoding="utf-8")


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(_file), trim_blocks=True)
