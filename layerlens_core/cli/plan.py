"""``layerlens plan``: profile and allocate in one go."""

from pathlib import Path
from typing import Any

import click

from layerlens_core.cli.options import (
    data_options,
    decision_arguments,
    decision_options,
    json_option,
    output_options,
    parse_weights,
    profile_options,
)

DECISION_NAMES = (
    "budgets", "strategy", "methods", "thresholds", "quantiles", "settings", "normalizer", "aggregator",
)  # fmt: skip


@click.command("plan", short_help="Profile a model and plan its fine-tuning.")
@click.argument("model")
@data_options
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME[=WEIGHT]",
    help="Repeatable.  [default: weight_gradient]",
)
@decision_options
@profile_options
@output_options
@json_option
def command(model: str, metrics: tuple[str, ...], out: Path, overwrite: bool, as_json: bool, **arguments: Any) -> None:
    """Plan MODEL, a local directory or a hub id, for your data and budget.

    Writes RUN/profile.json, RUN/plan.json and RUN/trace.jsonl.
    """
    from layerlens_core.cli.running import check_output, print_result, run_profile, traced

    check_output(out, overwrite)
    weights = parse_weights(metrics)
    shown = {"model": model, "metrics": metrics, **arguments}
    decision = decision_arguments(**{name: arguments.pop(name) for name in DECISION_NAMES})
    check_names(decision, weights)
    with traced(out, "plan", shown):
        result, _ = run_profile(model, metrics=weights, **arguments)
        from layerlens_core.allocation import allocate

        planned = allocate(result, weights=weights or None, **decision)
        result.save(out)
        planned.save(out)
    print_result(planned, result, out, as_json)


def check_names(decision: dict[str, Any], weights: dict[str, float]) -> None:
    """Find names and weights that are wrong before the model is loaded."""
    from layerlens_core.registry import default
    from layerlens_core.scores import check_weights

    for kind in ("strategy", "aggregator"):
        if kind in decision:
            default().get(kind, decision[kind])
    for name in decision.get("methods", ()):
        default().get("method", name)
    if weights:
        check_weights(list(weights), weights)
