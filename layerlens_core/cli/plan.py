"""``layerlens plan``: profile and allocate in one go."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerlens_core.cli.options import (
    DECISION_NAMES,
    METRIC_HELP,
    data_options,
    decision_arguments,
    decision_options,
    json_option,
    output_options,
    parse_weights,
    profile_options,
    source_of,
)

if TYPE_CHECKING:
    from layerlens_core.cli.measuring import ProfileArguments
    from layerlens_core.data.prepare import Prepared
    from layerlens_core.values.profile import Profile


@click.command("plan", short_help="Profile a model and plan its fine-tuning.")
@click.argument("model")
@data_options
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME[=WEIGHT]",
    help=METRIC_HELP,
)
@decision_options
@profile_options
@output_options
@json_option
def command(
    model: str,
    metrics: tuple[str, ...],
    out: Path,
    overwrite: bool,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Plan MODEL, a local directory or a hub id, for your data and budget.

    Writes RUN/profile.json, RUN/plan.json, RUN/trace.jsonl and, with --directions, RUN/directions.safetensors, or with
    --warm-up RUN/subspace.safetensors.
    """
    shown = {"model": source_of(model), "metrics": metrics, **arguments}
    weights = parse_weights(metrics)
    decision = decision_arguments({name: arguments.pop(name) for name in DECISION_NAMES})
    check_names(decision, weights)
    if "budget" in decision and decision["budget"].latency is not None:
        arguments["latency"] = True
    # Errors in the command line are told before torch is imported, which takes seconds.
    from layerlens_core.allocation.allocate import allocate
    from layerlens_core.cli.measuring import ProfileArguments, run_profile
    from layerlens_core.cli.run_directory import check_output, print_result, writing_run
    from layerlens_core.cli.terminal import is_first

    profiling = ProfileArguments(**arguments)
    with writing_run(out, "plan", shown) as new:
        check_output(out, overwrite, profiling.resume)
        result = run_profile(
            model,
            weights,
            profiling,
            out,
            beside=new,
            rehearse=lambda prepared: rehearse(prepared, weights, decision, profiling),
        )
        if not is_first():
            return
        planned = allocate(result, weights=weights_of(result, weights), **decision)
        result.save(new)
        planned.save(new)
    print_result(planned, result, out, as_json)


def weights_of(profile: "Profile", given: dict[str, float]) -> dict[str, float] | None:
    """Weights for all metrics of a profile: a metric that nobody named, as it came with a warm-up, has none of it.

    profile: with its scores.
    given: by name of metric; none weighs all alike.
    """
    return {scores.metric: given.get(scores.metric, 0.0) for scores in profile.scores} if given else None


def check_names(decision: dict[str, Any], weights: dict[str, float]) -> None:
    """Raises for names and weights that are wrong, before the model is loaded."""
    from layerlens_core.allocation.utilities import check_weights, normalize
    from layerlens_core.plugin.registry import default

    for name in weights:
        default().get("metric", name)
    for kind in ("strategy", "aggregator"):
        if kind in decision:
            default().get(kind, decision[kind])
    for name in decision.get("methods", ()):
        default().get("method", name)
    if "normalizer" in decision:
        normalize([], decision["normalizer"])
    if weights:
        check_weights(list(weights), weights)


def rehearse(
    prepared: "Prepared", weights: dict[str, float], decision: dict[str, Any], profiling: "ProfileArguments"
) -> None:
    """Allocate once with equal scores, so that a budget or an option that cannot work is told before profiling."""
    from layerlens_core import tracing
    from layerlens_core.allocation.allocate import allocate
    from layerlens_core.allocation.budget import Budget
    from layerlens_core.plugin.registry import default
    from layerlens_core.values.profile import Profile, WarmUp
    from layerlens_core.values.scores import RawScores

    equal = {module.name: 1.0 for module in prepared.inventory.modules}
    scores = tuple(
        RawScores(metric=name, unit="", granularity="module", values=equal, reduction="weighted_mean")
        for name in weights or ("equal",)
    )
    warming = profiling.warm_up_into(Path())
    unknown = "0" * 64  # the digest of what is not yet there
    profile = Profile(
        inventory=prepared.inventory,
        task="",
        scores=scores,
        statistics=(),
        data="",
        samples=0,
        loss=0.0,
        latency=dict.fromkeys(default().names("method"), (0.0, 0.0)),
        settings={"dtype": str(prepared.model.dtype).removeprefix("torch.")},
        directions=unknown if profiling.directions else None,
        warm_up=None
        if warming is None
        else WarmUp(
            steps=1,
            rank=warming.rank,
            samples=1,
            rate=1.0,
            batch=1,
            start="random",
            seconds=0.0,
            peak=0,
            digest=unknown,
        ),
    )
    if "budget" in decision:
        # What the plan takes in FLOPs, memory and latency is known only once the model was profiled.
        decision = {**decision, "budget": Budget(params=decision["budget"].params)}
    with tracing.silenced():
        allocate(profile, weights=weights or None, **{**decision, "margins": False})
