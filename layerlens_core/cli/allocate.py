"""``layerlens allocate``: plan a run anew, without the model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerlens_core.cli.options import (
    decision_arguments,
    decision_options,
    json_option,
    parse_weights,
    run_argument,
)

if TYPE_CHECKING:
    from layerlens_core.values.profile import Profile


@click.command("allocate", short_help="Plan a profiled run anew, without the model.")
@run_argument
@click.option("--metric", "metrics", multiple=True, metavar="NAME=WEIGHT", help="A weight for each metric. Repeatable.")
@decision_options
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write another run, and leave RUN as it is.  [default: RUN]"
)
@click.option("--overwrite", is_flag=True, help="Replace the run that is in --out.")
@json_option
def command(
    run: Path, metrics: tuple[str, ...], out: Path | None, overwrite: bool, as_json: bool, **arguments: Any
) -> None:
    """Plan RUN anew from its profile, and replace RUN/plan.json, or write the new plan with the profile to --out.

    What is not given stays as it was in the run's plan; a new strategy or new methods drop the old options,
    a new strategy also --granularity and --abstain. Where a comparison has measured how much the methods gain, that
    counts in place of the curves that they come with, unless --gains says otherwise.
    """
    from layerlens_core.allocation.allocate import allocate
    from layerlens_core.cli.run_directory import check_output, held, print_result, same_directory, writing_run
    from layerlens_core.files.run import GAINS, PLAN
    from layerlens_core.values.plan import Plan
    from layerlens_core.values.profile import Profile

    out = run if out is None or same_directory(out, run) else out
    with held(run):
        if out is not run:
            check_output(out, overwrite)
        profile = Profile.load(run)
        before = Plan.load(run) if (run / PLAN).exists() else None
        given = decision_arguments(arguments, before.request.training if before else None)
        if metrics:
            given["weights"] = parse_weights(metrics)
        if before is not None:
            given = _as_before(before, given) | given
        if arguments["gains"] is None and (run / GAINS).exists():
            given["gains"] = run if all_measured(run, profile, given.get("methods")) else {}
        with writing_run(out, "allocate", {"metrics": metrics, **arguments}, profiled=run) as new:
            planned = allocate(profile, **given)
            planned.save(new)
    print_result(planned, profile, out, as_json)


def all_measured(run: Path, profile: "Profile", methods: Any) -> bool:
    """Whether a run's comparison measured how much all of these methods gain; a line on it where some are lacking.

    run: its directory.
    profile: of the run.
    methods: that the plan chooses from, as `layerlens_core.allocate` takes them.

    Raises `FileError` where what was measured is damaged, or of another profile.
    """
    from layerlens_core.allocation.problem import load_methods
    from layerlens_core.cli.terminal import say
    from layerlens_core.errors import FileError
    from layerlens_core.files.run import GAINS, PROFILE
    from layerlens_core.plugin.registry import default
    from layerlens_core.values.gains import Gains

    gains = Gains.load(run)
    if gains.profile != profile.digest:
        raise FileError(
            f"{run / GAINS} was not measured for {run / PROFILE}; remove it, or compare anew with: layerlens compare "
            f"{run} …"
        )
    if lacking := gains.lacking(load_methods(default(), methods)):
        say(f"{run / GAINS} lacks {', '.join(lacking)}, so that measured gains are left out")
    return not lacking


def _as_before(plan: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The earlier plan's arguments.

    A new strategy drops its options, granularity and abstention, new methods drop its options, penalties and gains.
    """
    import attrs

    from layerlens_core.allocation.budget import Budget

    before = attrs.asdict(plan.request, recurse=False) | {"budget": Budget.parse(plan.request.budget)}
    if given.keys() & {"strategy", "methods"}:
        del before["options"]
    if "strategy" in given:
        del before["granularity"], before["abstain"]
    if "methods" in given:
        del before["penalties"], before["gains"]  # which count only beside each other
    return before
