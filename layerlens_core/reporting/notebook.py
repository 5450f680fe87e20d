"""What notebooks show of a profile, a plan and a comparison: small tables without script, in any theme."""

from collections.abc import Iterable, Sequence

from attrs import frozen

from layerlens_core.comparison.compared import Comparison
from layerlens_core.reporting import tables
from layerlens_core.reporting.heat import Cell, heat_map, shade
from layerlens_core.reporting.templates import filled
from layerlens_core.reporting.words import stability_lines
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile

#: By shade, background and text, as in the page's light scheme (`page.css`).
_DARK, _LIGHT = "#10161d", "#ffffff"
_SHADES = (
    ("#f3f7fb", _DARK), ("#deebf7", _DARK), ("#c6dbef", _DARK), ("#9ecae1", _DARK), ("#6baed6", _DARK),
    ("#4d9acb", _DARK), ("#2171b5", _LIGHT), ("#08519c", _LIGHT), ("#08306b", _LIGHT),
)  # fmt: skip


@frozen
class Shown:
    """A cell: its text, and its shade where it has one."""

    text: str
    shade: int | None = None


@frozen
class Line:
    """A row: what it is called, and its cells."""

    label: str
    cells: Sequence[Shown]


@frozen
class Grid:
    """A table: what it shows, its headings, and its rows."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Line]


def of_plan(plan: Plan) -> str:
    """Method and size of every module that is given one, layer by layer, as HTML.

    plan: to be shown.
    """
    grids = [
        Grid(
            f"{group.name or 'layers'}: method and size, darker where larger",
            ("layer", "utility", *group.headings, "parameters"),
            [
                Line(
                    row.label,
                    (
                        Shown(f"{row.decision.utility:.4f}", row.shade),
                        *map(_planned, row.cells),
                        Shown(f"{row.decision.parameters:,}"),
                    ),
                )
                for row in group.rows
            ],
        )
        for group in heat_map(plan)
    ]
    allowed = f" of {plan.limit:,} allowed" if plan.limit is not None else ""
    asked = " ".join(plan.request.budget) or "no budget"
    line = f"{plan.architecture}, {asked}: {plan.parameters:,} trainable parameters{allowed}; gains are predictions"
    return _filled([line, *plan.notes], grids)


def of_profile(profile: Profile) -> str:
    """Raw scores by layer, and those of single modules by the first metric that has them, as HTML.

    profile: to be shown.
    """
    layers = profile.inventory.layers
    by_layer = {each.metric: each.by_layer(profile.inventory) for each in profile.scores}
    rows = [
        Line(layer.name, [_scored(values.get(layer.name), values.values()) for values in by_layer.values()])
        for layer in layers
    ]
    units = [f"{each.metric} ({each.unit})" for each in profile.scores]
    grids = [Grid("raw scores by layer, darker where larger", ("layer", *units), rows)]
    fine = next((each for each in profile.scores if each.granularity == "module"), None)
    if fine is not None:
        names = {
            module.name: module.name.removeprefix(f"{layer.name}.") for layer in layers for module in layer.modules
        }
        columns = tuple(dict.fromkeys(names[name] for name in fine.values if name in names))
        rows = [
            Line(
                layer.name,
                [_scored(fine.values.get(f"{layer.name}.{column}"), fine.values.values()) for column in columns],
            )
            for layer in layers
        ]
        grids.append(Grid(f"{fine.metric} by module, {fine.unit}", ("layer", *columns), rows))
    line = (
        f"{profile.inventory.architecture}, {profile.task}: {profile.samples:,} samples, loss {profile.loss:.4f} nats"
    )
    return _filled([line, *stability_lines(profile)], grids)


def of_comparison(comparison: Comparison) -> str:
    """Every arm as it was measured, and what follows from that, as HTML.

    comparison: to be shown.
    """
    if comparison.verdict is None:
        rates = [f"{curve.arm}: rate {curve.rate:g}" for curve in comparison.curves]
        return _filled([*rates, *comparison.notes], [])
    table = tables.arms(comparison.verdict)
    grid = Grid(table.caption, table.headings, [Line(row[0], list(map(Shown, row[1:]))) for row in table.rows])
    lines = [*comparison.verdict.summary, *(f"Note: {each}" for each in comparison.verdict.warnings)]
    return _filled([*lines, *comparison.notes], [grid])


def _planned(cell: Cell | None) -> Shown:
    if cell is None:
        return Shown("")
    return Shown(f"{cell.size} {cell.method}".strip(), cell.shade)


def _scored(value: float | None, values: Iterable[float]) -> Shown:
    if value is None:
        return Shown(tables.NOTHING)
    return Shown(f"{value:.3g}", shade(value, max(values)))


def _filled(lines: Sequence[str], grids: Sequence[Grid]) -> str:
    return filled("notebook.html", lines=lines, tables=grids, shades=_SHADES)
