"""An estimate as people read it."""

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table

from layerlens_core.allocation.budget import Budget, readable
from layerlens_core.cli.tables import escape, results_console
from layerlens_core.estimating.estimated import PACKED, Estimate, Row

_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def print_estimate(found: Estimate, budget: Budget) -> None:
    """The model, what each way to train it takes, where the memory goes, and what to do where nothing fits.

    found: to be printed.
    budget: as it was asked for.
    """
    console = results_console()
    for line in _head(found, budget):
        console.print(escape(line), soft_wrap=True)
    console.print(_ways(found, bounded=bool(budget.texts())))
    _print_parts(console, found)
    for line in (*_answer(found), *found.remarks, *_caution(found)):
        console.print(escape(line), soft_wrap=True)


def _head(found: Estimate, budget: Budget) -> Iterator[str]:
    step = found.training
    yield (
        f"{found.name}: {found.architecture}, {found.task}, {found.parameters:,} parameters, "
        f"{scaled(found.forward_flops)} FLOPs a token forward"
    )
    checkpointed = ", gradient checkpointing" if found.checkpointing else ""
    asked = f"; budget {budget}" if budget.texts() else ""
    yield f"a step of {step.batch} × {step.length} tokens, {step.dtype}, {step.optimizer}{checkpointed}{asked}"


def _ways(found: Estimate, *, bounded: bool) -> Table:
    """A line for each rank of uniform LoRA, on weights as they are and on packed ones, and full fine-tuning.

    bounded: whether there is a budget.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    columns = ["LoRA\nrank", "trained\nparameters", "FLOPs\na token", "\nmemory"]
    fits = ["fits, to\nbatch"] if bounded else []
    columns += [*fits, "4-bit\nmemory", *fits]
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    plain = [row for row in found.rows if row.weights != PACKED]
    packed = {row.rank: row for row in found.rows if row.weights == PACKED}
    for row in plain:
        table.add_row(
            "full" if row.rank is None else str(row.rank),
            f"{row.cost.params:,}",
            scaled(row.cost.flops),
            *_memory(row, bounded=bounded),
            *(_memory(packed[row.rank], bounded=bounded) if row.rank in packed else ()),
        )
    return table


def _memory(row: Row, *, bounded: bool) -> Iterator[str]:
    yield readable("memory", row.cost.memory)
    if bounded:
        answer = "[green]yes[/]" if row.fits else "[red]no[/]"
        yield f"{answer} {row.largest_batch or '–':>4}"


def _print_parts(console: Console, found: Estimate) -> None:
    total = sum(found.parts.values())
    console.print(f"where the memory of rank {found.parts_rank} goes")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for name, size in found.parts.items():
        table.add_row(f"  {escape(name)}", readable("memory", size), f"{size / total:.1%}")
    console.print(table)
    console.print()


def _answer(found: Estimate) -> Iterator[str]:
    """What fits, or what would."""
    if found.largest_rank is None:
        return
    if found.largest_rank:
        yield f"the largest rank that fits with {found.training.batch} samples a step: {found.largest_rank}"
    elif not found.advice:
        yield "no rank fits"
    if found.advice:
        yield f"rank {found.parts_rank} does not fit; what would:"
        yield from (f"  {line}" for line in found.advice)


def _caution(found: Estimate) -> Iterator[str]:
    yield (
        f"predicted from shapes, for {found.training.length} tokens a sample without padding; CUDA's context and "
        "fragmentation come on top, dropout's masks too. After 'layerlens profile', 'layerlens allocate' counts what "
        "your samples and your kernels keep."
    )


def scaled(amount: float) -> str:
    """A number in thousands, millions and so on, to three digits."""
    for scale, letter in _SCALES:
        if amount >= scale:
            return f"{amount / scale:.3g} {letter}"
    return f"{amount:.3g}"
