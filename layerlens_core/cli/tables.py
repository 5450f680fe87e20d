"""Plans and explanations as people read them."""

from collections.abc import Sequence
from os.path import commonpath

from rich import box
from rich.console import Console
from rich.table import Table

from layerlens_core.decisions import Decision
from layerlens_core.explanation import Explanation
from layerlens_core.plan import Plan
from layerlens_core.profiles import Profile

_COLOURS = {"none": "dim", "prefix": "cyan", "adapter": "yellow", "lora": "green"}
_BAR = 12
#: Columns from which there is room for bars.
_WIDE = 100


def print_plan(plan: Plan, profile: Profile | None = None) -> None:
    """The table of layers, and what the plan spends."""
    console = Console()
    wide = console.width >= _WIDE
    names = [decision.unit for decision in plan.decisions]
    prefix = common_prefix(names)
    columns = {scores.metric: scores.by_layer(profile.inventory) for scores in profile.scores} if profile else {}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("layer", no_wrap=True)
    for metric in columns:
        table.add_column(metric.replace("_", "\n"), justify="right", no_wrap=True)
    table.add_column("utility", justify="right", no_wrap=True)
    if wide:
        table.add_column("", no_wrap=True)
    table.add_column("method", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    largest = max((decision.utility for decision in plan.decisions), default=0.0)
    for decision in plan.decisions:
        filled = round(_BAR * max(decision.utility, 0) / largest) if largest > 0 else 0
        style = _COLOURS.get(decision.method, "magenta")
        table.add_row(
            decision.unit.removeprefix(prefix),
            *(f"{column[decision.unit]:.3g}" if decision.unit in column else "–" for column in columns.values()),
            f"{decision.utility:.4f}",
            *(["█" * filled + "·" * (_BAR - filled)] if wide else []),
            f"[{style}]{decision.method}[/]",
            describe_sizes(decision),
            f"{decision.parameters:,}",
        )
    if prefix:
        console.print(f"layers of {prefix.rstrip('.')}", highlight=False)
    console.print(table)
    console.print(spending(plan), highlight=False, soft_wrap=True)


def common_prefix(names: Sequence[str]) -> str:
    """What all names begin with, up to a dot; nothing for a single name."""
    if len(names) < 2:
        return ""
    shared = commonpath(names)
    return shared[: shared.rfind(".") + 1]


def describe_sizes(decision: Decision) -> str:
    """A layer's size, with what single modules got beyond it."""
    sizes = sorted(set(decision.sizes.values()))
    if not sizes:
        return "–"
    return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}–{sizes[-1]}"


def spending(plan: Plan) -> str:
    """What was asked, allowed and planned, in a line."""
    text = f"{plan.parameters:,} trainable parameters planned"
    if plan.limit is not None:
        text += f" of {plan.limit:,} allowed by {plan.budget} ({plan.parameters / plan.limit:.1%})"
    if plan.heads:
        text += f"; the head ({', '.join(head.name for head in plan.heads)}) adds {plan.head_parameters:,}"
    return text


def print_explanation(explanation: Explanation, plan: Plan) -> None:
    """The numbers that led to one layer's method and size, step by step."""
    console = Console(highlight=False)
    decision = explanation.decision
    size = f" of size {decision['size']}" if decision["size"] else ""
    console.print(f"[bold]{explanation.layer}[/]: {decision['method']}{size}, {decision['parameters']:,} parameters\n")
    if explanation.utility is None:
        console.print(f"It was not scored: {decision['reason']}")
        return
    scored = explanation.utility
    total = sum(scored["weights"].values())
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="1  utility", title_justify="left")
    for heading in ("metric", "raw", "unit", f"normalised ({scored['normalizer']})", "weight"):
        table.add_column(heading, justify="left" if heading in ("metric", "unit") else "right")
    for metric, raw in scored["raw"].items():
        table.add_row(
            metric, f"{raw:.6g}", explanation.units.get(metric, ""), f"{scored['normalized'][metric]:.6f}",
            f"{scored['weights'][metric]:g} / {total:g}",
        )  # fmt: skip
    console.print(table)
    console.print(f"{scored['aggregator']} of the normalised scores: utility [bold]{scored['utility']:.6f}[/]\n")
    console.print("2  method")
    if explanation.thresholds is not None:
        methods, thresholds = explanation.thresholds["methods"], explanation.thresholds["thresholds"]
        steps = "".join(f" < {t:.6f} ≤ {m}" for t, m in zip(thresholds, methods[1:], strict=True))
        console.print(f"thresholds ({explanation.thresholds['origin']}): {methods[0]}{steps}")
    console.print(decision["reason"])
    for event in explanation.refused:
        console.print(f"refused: {event['method']}, because {event['cause']}")
    if decision["margin"] is not None:
        console.print(f"runner-up: {decision['runner_up']}, if the utility moved by {decision['margin']:.6f}")
    console.print("\n3  size")
    budget = explanation.budget
    if budget["limit"] is not None:
        console.print(f"budget {budget['asked']}: {budget['spent']:,} of {budget['limit']:,} spent over all layers")
    for module, module_size in decision["sizes"].items():
        scores = ", ".join(
            f"{metric} {values[module]:.3g}" for metric, values in explanation.modules.items() if module in values
        )
        console.print(f"  {module}: {module_size}" + (f"   ({scores})" if scores else ""))
    if any(d.method == decision["method"] and d.size != decision["size"] for d in plan.decisions):
        others = sorted({d.size for d in plan.decisions if d.method == decision["method"]})
        console.print(f"sizes of all {decision['method']} layers, by utility: {', '.join(map(str, others))}")
