"""A plan as rows and columns: for programs a list of rows, for people a text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlens_core.values.plan import Plan


class Rows(list[dict[str, Any]]):
    """Rows of a table, each a dict with the same keys, so that ``pandas.DataFrame(rows)`` takes them; shown aligned."""

    def __repr__(self) -> str:
        if not self:
            return "(no rows)"
        lines = [list(self[0]), *([_cell(value) for value in row.values()] for row in self)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        right = [isinstance(value, int | float) for value in self[0].values()]
        return "\n".join(_aligned(line, widths, right) for line in lines)

    __str__ = __repr__


def rows_of(plan: "Plan") -> Rows:
    """See `Plan.table`."""
    return Rows(
        {
            "layer": decision.unit,
            "utility": decision.utility,
            "method": decision.method,
            "size": spelled(list(decision.sizes.values())),
            "parameters": decision.parameters,
        }
        for decision in plan.decisions
    )


def spelled(sizes: Sequence[int]) -> str:
    """Sizes of a layer's modules as one text: ``4``, or ``3–8`` where they differ."""
    if not sizes or not max(sizes):
        return "–"
    return str(min(sizes)) if min(sizes) == max(sizes) else f"{min(sizes)}–{max(sizes)}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _aligned(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    found = (
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    )
    return "  ".join(found).rstrip()
