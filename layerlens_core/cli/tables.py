"""Plans and explanations as people read them."""

import math
from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.markup import escape as _escaped
from rich.table import Table

from layerlens_core.allocation.budget import readable
from layerlens_core.allocation.explanation import Explanation
from layerlens_core.cli.terminal import results, shown
from layerlens_core.reporting.words import common_prefix, describe_sizes, stability_lines
from layerlens_core.values.decisions import Decision
from layerlens_core.values.inventory import Inventory
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile
from layerlens_core.values.scores import RawScores

_COLOURS = {"none": "dim", "prefix": "cyan", "adapter": "yellow", "lora": "green"}
_BAR = 12


def escape(text: object) -> str:
    """Text of a file or a plugin, as rich prints it: neither its markup nor its control characters do anything."""
    return _escaped(shown(str(text)))


def results_console() -> Console:
    """Prints where a command's results go."""
    return Console(file=results(), highlight=False)


def print_line(console: Console, line: str) -> None:
    """A line of any length: on a terminal it is broken between words, and elsewhere it stays whole.

    console: of `results_console`.
    line: as it is.
    """
    console.print(escape(line), highlight=False, soft_wrap=not console.is_terminal)


def print_plan(plan: Plan, profile: Profile | None = None, *, without_margins: str | None = None) -> None:
    """The table of layers, and what the plan spends. Bars, errors and raw scores are left out where they do not fit.

    plan: to be printed.
    profile: that it was made from, for raw scores.
    without_margins: why it has no margins.
    """
    console = results_console()
    prefix = common_prefix([decision.unit for decision in plan.decisions])
    scores = {each.metric: _cells(each, profile.inventory) for each in profile.scores} if profile else {}
    bare = {metric: {layer: cell.split(" ±")[0] for layer, cell in column.items()} for metric, column in scores.items()}
    unbounded = console.options.update(width=10_000)  # at the console's own width every table seems to fit
    for columns, bars in ((scores, True), (scores, False), (bare, False), ({}, True), ({}, False)):
        table = _layers(plan, prefix, columns, bars)
        if console.measure(table, options=unbounded).maximum <= console.width:
            break
    if prefix:
        console.print(f"layers of [bold]{escape(prefix.rstrip('.'))}[/]")
    console.print(table)
    for line in stability_lines(profile) if profile else ():
        console.print(escape(line), highlight=False)
    if without_margins:
        print_line(console, margins_line(without_margins))
    for line in spending(plan).split("\n"):
        print_line(console, line)


def margins_line(cause: str) -> str:
    """That a plan has no margins, why, and how to get them."""
    return f"no margins (how far layers are from another method): {cause}; --margins finds them all the same"


def warm_up_lines(profile: Profile) -> list[str]:
    """A line on what a warm-up was, and what it took."""
    found = profile.warm_up
    if found is None:
        return []
    peak = f", {readable('memory', found.peak)} at most" if found.peak else ""
    return [
        f"warm-up: {found.steps} steps of {found.batch} of {found.samples} samples at rank {found.rank} and rate "
        f"{found.rate:.3g} took {found.seconds:.1f} s{peak}"
    ]


def _cells(scores: RawScores, inventory: Inventory) -> dict[str, str]:
    """Raw scores by layer, as texts, with their standard errors where they have any."""
    return {
        layer: f"{value:.3g}" + (f" ±{scores.errors[layer]:.1g}" if layer in scores.errors else "")
        for layer, value in scores.by_layer(inventory).items()
    }


def _layers(plan: Plan, prefix: str, columns: Mapping[str, Mapping[str, str]], bars: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("layer", no_wrap=True)
    for metric in columns:
        table.add_column(escape(metric).replace("_", "\n"), justify="right", no_wrap=True)
    table.add_column("utility", justify="right", no_wrap=True)
    if bars:
        table.add_column("of largest", no_wrap=True)
    table.add_column("method", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    largest = max((decision.utility for decision in plan.decisions), default=0.0)
    for decision in plan.decisions:
        filled = round(_BAR * (max(decision.utility, 0) / largest)) if largest > 0 else 0
        style = _COLOURS.get(decision.method, "magenta")
        table.add_row(
            escape(decision.unit.removeprefix(prefix)),
            *(column.get(decision.unit, "–") for column in columns.values()),
            f"{decision.utility:.4f}",
            *(["█" * filled + "·" * (_BAR - filled)] if bars else []),
            f"[{style}]{escape(decision.method)}[/]",
            describe_sizes(decision.sizes),
            f"{decision.parameters:,}",
        )
    return table


def spending(plan: Plan) -> str:
    """What was asked for, allowed and planned, in a line."""
    text = f"{plan.parameters:,} trainable parameters planned"
    if plan.limit is not None:
        asked = plan.request.params_budget or "params"
        text += f" of {plan.limit:,} allowed by {asked}{_share(plan.parameters, plan.limit)}"
    if plan.heads:
        text += f"; the head ({', '.join(head.name for head in plan.heads)}) adds {plan.head_parameters:,}"
    if plan.certificate is not None:
        value, bound = plan.certificate.value, plan.certificate.bound
        gap = "an optimum" if plan.certificate.gap <= 1e-9 else f"at most {plan.certificate.gap:.2g} from the best plan"
        text += f"\npredicted gain {value:.4f} of at most {bound:.4f}: {gap}"
    for name, bound in plan.limits.bounds.items():
        if name != "params":
            amount = getattr(plan.cost, name)
            text += f"\n{readable(name, amount)} of {name} planned of {readable(name, bound)} allowed"
            text += _share(amount, bound)
    for note in plan.notes:
        text += f"\n{note}"
    if plan.abstained is not None:
        text += f"\nabstained from {plan.request.strategy}, as {plan.abstained}; --no-abstain overrides this"
    return text


def _share(amount: float, bound: float) -> str:
    """What share of a bound is used, in brackets; nothing where that says nothing."""
    share = amount / bound if bound > 0 else math.inf
    return f" ({share:.1%})" if share <= 10 else ""


def print_explanation(explanation: Explanation, plan: Plan) -> None:
    """The numbers that led to one layer's method and size, step by step."""
    console = results_console()
    decision = explanation.decision
    size = f" of size {describe_sizes(decision['sizes'])}" if decision["sizes"] else ""
    method = escape(decision["method"])
    console.print(f"[bold]{escape(explanation.layer)}[/]: {method}{size}, {decision['parameters']:,} parameters\n")
    if explanation.utility is None:
        console.print(f"It was not scored: {escape(decision['reason'])}")
        return
    scored = explanation.utility
    total = sum(scored["weights"].values())
    console.print("[bold]1  utility[/]")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("metric", "raw", "unit", f"normalised ({escape(scored['normalizer'])})", "weight"):
        table.add_column(heading, justify="left" if heading in ("metric", "unit") else "right")
    errors = scored.get("errors", {})
    for metric, raw in scored["raw"].items():
        spread = f" ± {errors[metric]:.2g}" if metric in errors else ""
        table.add_row(
            escape(metric), f"{raw:.6g}{spread}", escape(explanation.units.get(metric, "")),
            f"{scored['normalized'][metric]:.6f}",
            f"{scored['weights'][metric]:g}" + (f" / {total:g}" if math.isfinite(total) else ""),
        )  # fmt: skip
    console.print(table)
    if errors:
        console.print(f"of {escape(', '.join(errors))} only what exceeds the standard errors counts")
    console.print(
        f"{escape(scored['aggregator'])} of the normalised scores: utility [bold]{scored['utility']:.6f}[/]\n"
    )
    console.print("[bold]2  method[/]")
    if explanation.thresholds is not None:
        methods, thresholds = explanation.thresholds["methods"], explanation.thresholds["thresholds"]
        steps = "".join(f" < {t:.6f} ≤ {escape(m)}" for t, m in zip(thresholds, methods[1:], strict=True))
        console.print(f"thresholds ({escape(explanation.thresholds['origin'])}): {escape(methods[0])}{steps}")
    console.print(escape(decision["reason"]))
    for event in explanation.refused:
        console.print(f"refused: {escape(event['method'])}, because {escape(event['cause'])}")
    if decision["runner_up"] not in (None, decision["method"]):
        console.print(f"runner-up: {escape(decision['runner_up'])}")
    for flip in explanation.flips:
        console.print(f"it would be {escape(flip)}")
    if explanation.untried:
        console.print(f"what changes of {' and '.join(explanation.untried)} would do was not tried to the end: no time")
    if explanation.without_margins:
        console.print(margins_line(explanation.without_margins), highlight=False)
    console.print("\n[bold]3  size[/]")
    budget = explanation.budget
    for name, bound in budget["limits"].items():
        spent = f"{readable(name, budget['spent'][name])} of {readable(name, bound)}"
        console.print(f"budget {escape(budget['asked'])}: {spent} {name} spent by the whole plan")
    for note in plan.notes:
        console.print(escape(note), highlight=False)
    if explanation.sizing:
        console.print(_modules(explanation))
        for line in explanation.bounds:
            console.print(escape(line), highlight=False)
        if any(each.relative is not None for each in explanation.sizing):
            console.print("×mean: the module's utility for each parameter, over the mean of all modules of the plan")
    else:
        console.print("nothing to train: the layer stays frozen")
    others = sorted({d.size for d in plan.decisions if d.method == decision["method"]})
    if decision["sizes"] and len(others) > 1:
        console.print(f"the {method} layers of the plan have sizes {', '.join(map(str, others))}")


def _modules(explanation: Explanation) -> Table:
    """The size of every module, beside its own raw scores."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("module")
    for metric in explanation.modules:
        table.add_column(escape(metric).replace("_", "\n"), justify="right", no_wrap=True)
    relative = any(each.relative is not None for each in explanation.sizing)
    alpha = any(each.alpha is not None for each in explanation.sizing)
    for heading in (*["×mean"] * relative, "size", *["α"] * alpha, "parameters"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in explanation.sizing:
        columns = explanation.modules.values()
        scores = (f"{values[each.module]:.3g}" if each.module in values else "–" for values in columns)
        worth = "–" if each.relative is None else f"{each.relative:.3g}"
        table.add_row(
            escape(each.module.removeprefix(f"{explanation.layer}.")),
            *scores,
            *[worth] * relative,
            str(each.size),
            *["–" if each.alpha is None else str(each.alpha)] * alpha,
            f"{each.parameters:,}",
        )
    return table


def print_scenarios(plans: Mapping[str, Mapping[str, Plan]]) -> None:
    """One table: a row a scenario and strategy, with methods and sizes by layer, and what is spent."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("scenario", no_wrap=True)
    table.add_column("strategy", no_wrap=True)
    table.add_column("method and size of every layer, the lowest first")
    table.add_column("parameters", justify="right", no_wrap=True)
    for scenario, by_strategy in plans.items():
        for number, (strategy, plan) in enumerate(by_strategy.items()):
            layers = " ".join(_short(decision) for decision in plan.decisions)
            last = number == len(by_strategy) - 1
            table.add_row(
                "" if number else scenario, escape(strategy), layers, f"{plan.parameters:,}", end_section=last
            )
    console = results_console()
    console.print(table)
    console.print("l: rank of LoRA, a: width of the adapter, p: length of the prefix, ·: none", highlight=False)


def _short(decision: Decision) -> str:
    style = _COLOURS.get(decision.method, "magenta")
    return f"[{style}]{escape(decision.method[:1])}{decision.size}[/]" if decision.size else "[dim]·[/]"
