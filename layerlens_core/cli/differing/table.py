"""How two runs differ, as people read it."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from layerlens_core.allocation.budget import readable
from layerlens_core.auditing.differing.diff import counted
from layerlens_core.auditing.differing.found import Decided, Difference, Effect
from layerlens_core.cli.tables import escape, results_console
from layerlens_core.reporting.words import common_prefix, describe_sizes

#: More layers than these are not named one by one in a sentence.
_NAMED = 6


def print_difference(found: Difference) -> None:
    """The changed decisions, what each run spends, and the inputs with what they explain."""
    console = results_console()
    units = [*(each.unit for each in found.changed), *found.only_first, *found.only_second]
    prefix = common_prefix(units)
    console.print(f"A: {escape(found.first)}", soft_wrap=True)
    console.print(f"B: {escape(found.second)}", soft_wrap=True)
    if found.changed:
        if prefix:
            console.print(f"layers of [bold]{escape(prefix.rstrip('.'))}[/]")
        console.print(_decisions(found, prefix))
    for line in _counts(found, prefix):
        console.print(line, soft_wrap=True)
    if found.inputs:
        _print_inputs(console, found)
    else:
        console.print("no input differs")
    for line in _sentences(found, prefix):
        console.print(line, soft_wrap=True)


def _decisions(found: Difference, prefix: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("layer", "A", "B"):
        table.add_column(name, no_wrap=name == "layer")
    for each in found.changed:
        before, after = _decided(each.before), _decided(each.after)
        if before == after:
            sizes = {**each.before.sizes, **each.after.sizes}
            others = sum(each.before.sizes.get(name) != each.after.sizes.get(name) for name in sizes)
            after += f" ({counted(others, 'module')} otherwise)"
        table.add_row(escape(each.unit.removeprefix(prefix)), escape(before), escape(after))
    return table


def _decided(decided: Decided) -> str:
    return decided.method if decided.method == "none" else f"{decided.method} {describe_sizes(decided.sizes)}"


def _counts(found: Difference, prefix: str) -> Iterable[str]:
    if found.changed:
        yield f"{len(found.changed)} of {counted(found.layers, 'layer')} differ"
    else:
        yield f"no decision differs on {counted(found.layers, 'layer')}"
    for run, only in (("A", found.only_first), ("B", found.only_second)):
        if only:
            yield f"only {run} has {counted(len(only), 'layer')} of other names: {escape(_named(only, prefix))}"
    for name, (before, after) in found.costs.items():
        texts = readable(name, before), readable(name, after)
        if texts[0] != texts[1]:
            yield f"{name}: {texts[0]} → {texts[1]}"


def _print_inputs(console: Console, found: Difference) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("input", "A", "B"):
        table.add_column(name, overflow="fold")
    table.add_column("explains" if found.changed else "would change", overflow="fold")
    for each in found.inputs:
        table.add_row(*map(escape, (each.name, each.before, each.after, _effect(each.effect, found))))
        if found.changed:
            for part in (part for part in each.parts if part.explains or part.elsewhere or part.refused):
                table.add_row(f"  {escape(part.name)}", "", "", escape(_effect(part, found)))
    console.print(table)


def _effect(effect: Effect, found: Difference) -> str:
    if effect.explains is None:
        return "not replayed"
    if effect.refused is not None:
        return f"nothing alone: {effect.refused}"
    elsewhere = len(effect.elsewhere)
    if not found.changed:
        return counted(elsewhere, "layer") if elsewhere else "nothing"
    text = f"{len(effect.explains)} of {len(found.changed)}" if effect.explains else "none"
    return f"{text}; {elsewhere} more change, not as in B" if elsewhere else text


def _sentences(found: Difference, prefix: str) -> Iterable[str]:
    for each in found.combinations:
        *names, last = each.inputs
        yield escape(f"only by {', '.join(names)} and {last} together: {_named(each.explains, prefix)}")
    if found.together is not None and len(found.inputs) > 1 and found.changed:
        yield f"all inputs of B together: {found.together} of {len(found.changed)}"
    if found.unexplained:
        yield escape(f"explained by no input: {_named(found.unexplained, prefix)}")
    for remark in found.remarks:
        yield escape(remark)


def _named(units: Sequence[str], prefix: str) -> str:
    names = [unit.removeprefix(prefix) for unit in units]
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
