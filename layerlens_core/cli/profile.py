"""``layerlens profile``: score the layers and stop there."""

from pathlib import Path
from typing import Any

import click

from layerlens_core.cli.options import (
    METRIC_HELP,
    data_options,
    json_option,
    output_options,
    parse_weights,
    profile_options,
    source_of,
)


@click.command("profile", short_help="Score a model's layers on your data.")
@click.argument("model")
@data_options
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help=METRIC_HELP)
@profile_options
@output_options
@json_option
def command(model: str, metrics: tuple[str, ...], out: Path, overwrite: bool, as_json: bool, **arguments: Any) -> None:
    """Score the layers of MODEL, a local directory or a hub id, and write RUN/profile.json.

    'layerlens allocate' then makes plans from it without touching the model.
    """
    from layerlens_core.cli.measuring import ProfileArguments, run_profile
    from layerlens_core.cli.run_directory import check_output, writing_run
    from layerlens_core.cli.tables import warm_up_lines
    from layerlens_core.cli.terminal import is_first, result, result_document, say
    from layerlens_core.reporting.words import stability_lines

    profiling = ProfileArguments(**arguments)
    weights = parse_weights(metrics)
    shown = {"model": source_of(model), "metrics": metrics, **arguments}
    with writing_run(out, "profile", shown) as new:
        check_output(out, overwrite, profiling.resume)
        scored = run_profile(model, weights, profiling, out, beside=new)
        if not is_first():
            return
        scored.save(new)
    say(f"{scored.samples} samples, mean loss {scored.loss:.4f} nats, {len(scored.statistics)} modules scored")
    for line in (*warm_up_lines(scored), *stability_lines(scored)):
        say(line)
    for skipped in scored.unscored:
        say(f"not scored: {skipped.name}: {skipped.reason}")
    if as_json:
        result_document(
            run=str(out),
            profile=scored.digest,
            task=scored.task,
            samples=scored.samples,
            loss=scored.loss,
            modules=len(scored.statistics),
            metrics=[scores.metric for scores in scored.scores],
        )
    else:
        result(out)
