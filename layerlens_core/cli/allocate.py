"""``layerlens allocate``: plan a run anew, without the model."""

from pathlib import Path
from typing import Any

import click

from layerlens_core.cli.options import (
    decision_arguments,
    decision_options,
    json_option,
    parse_weights,
    run_argument,
)


@click.command("allocate", short_help="Plan a profiled run anew, without the model.")
@run_argument
@click.option("--metric", "metrics", multiple=True, metavar="NAME=WEIGHT", help="A weight for each metric. Repeatable.")
@decision_options
@json_option
def command(run: Path, metrics: tuple[str, ...], as_json: bool, **arguments: Any) -> None:
    """Plan RUN anew from its profile, and replace RUN/plan.json.

    What is not given stays as it was in the run's plan; a new strategy or new methods drop the old options,
    a new strategy also --granularity and --abstain.
    """
    from layerlens_core.allocation.allocate import allocate
    from layerlens_core.cli.run_directory import held, print_result, writing_run
    from layerlens_core.files.run import PLAN
    from layerlens_core.values.plan import Plan
    from layerlens_core.values.profile import Profile

    with held(run):
        profile = Profile.load(run)
        before = Plan.load(run) if (run / PLAN).exists() else None
        given = decision_arguments(arguments, before.request.training if before else None)
        if metrics:
            given["weights"] = parse_weights(metrics)
        if before is not None:
            given = _as_before(before, given) | given
        with writing_run(run, "allocate", {"metrics": metrics, **arguments}, keep_profile=True) as new:
            planned = allocate(profile, **given)
            planned.save(new)
    print_result(planned, profile, run, as_json)


def _as_before(plan: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The earlier plan's arguments.

    A new strategy drops its options, granularity and abstention, new methods drop its options and penalties.
    """
    import attrs

    from layerlens_core.allocation.budget import Budget

    before = attrs.asdict(plan.request, recurse=False) | {"budget": Budget.parse(plan.request.budget)}
    if given.keys() & {"strategy", "methods"}:
        del before["options"]
    if "strategy" in given:
        del before["granularity"], before["abstain"]
    if "methods" in given:
        del before["penalties"]
    return before
