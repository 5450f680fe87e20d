"""A plan's heat map in a terminal: layers down, modules across, by colour where there is any, and by shading else."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from layerlens_core.cli.tables import results_console
from layerlens_core.cli.terminal import shown
from layerlens_core.reporting.heat import SHADES, Cell, Group, heat_map
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile

#: Backgrounds by shade, as the 256 colours of terminals, with what is legible on them.
_COLOURS = (
    "black on color(255)", "black on color(195)", "black on color(153)", "black on color(117)", "black on color(75)",
    "black on color(69)", "white on color(26)", "white on color(25)", "white on color(18)",
)  # fmt: skip
#: The same without colours.
_SHADING = "·░▒▓█"


def print_heat_map(plan: Plan, profile: Profile) -> None:
    """One table a group of layers: of every module the method's first letter and its size.

    Where the names of modules do not fit, columns are numbered; where not even the numbers do, a line says so.

    plan: to be shown.
    profile: that it was made from.
    """
    console = results_console()
    coloured = console.color_system is not None
    for group in heat_map(plan, profile):
        title = f"{group.name or 'layers'}: method and size by module"
        if not coloured:
            title += f" ({_SHADING[0]} none, {_SHADING[1]} little to {_SHADING[-1]} most of its method)"
        table, numbered = _table(group, coloured, numbered=False), False
        if not _fits(table, console):
            table, numbered = _table(group, coloured, numbered=True), True
        if not _fits(table, console):
            text = f"{len(group.columns)} modules a layer are too many for this width; layerlens report shows them"
            console.print(f"{shown(group.name)}: {text}", markup=False, soft_wrap=True)
            continue
        console.print(shown(title), markup=False, soft_wrap=True)
        console.print(table)
        if numbered:
            names = ", ".join(f"{number} {name}" for number, name in enumerate(group.columns, start=1))
            console.print(shown(names), markup=False, soft_wrap=True)
    methods = dict.fromkeys(each.method for each in plan.decisions if each.method != "none")
    console.print(shown(", ".join(f"{method[:1]}: {method}" for method in methods)), markup=False)


def _table(group: Group, coloured: bool, *, numbered: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("layer", no_wrap=True)
    for number, heading in enumerate(group.headings, start=1):
        told = str(number) if numbered else shown(heading).replace(".", ".\n").replace("_", "_\n")
        table.add_column(Text(told), justify="right", no_wrap=True)
    for row in group.rows:
        table.add_row(Text(shown(row.label)), *(_cell(cell, coloured) for cell in row.cells))
    return table


def _cell(cell: Cell | None, coloured: bool) -> Text:
    if cell is None:
        return Text("")
    if cell.shade is None:
        return Text(_SHADING[0], style="dim")
    text = f"{shown(cell.method[:1])}{cell.size}"
    if coloured:
        return Text(text, style=_COLOURS[cell.shade])
    depth = 1 + cell.shade * (len(_SHADING) - 1) // SHADES
    return Text(f"{_SHADING[depth]}{text}")


def _fits(table: Table, console: Console) -> bool:
    unbounded = console.options.update(width=10_000)  # at the console's own width every table seems to fit
    return console.measure(table, options=unbounded).maximum <= console.width
