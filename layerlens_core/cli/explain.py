"""``layerlens explain``: why a layer got its method and size."""

from pathlib import Path

import click

from layerlens_core.cli.options import json_option, run_argument


@click.command("explain", short_help="Say why a layer got its method and size.")
@run_argument
@click.argument("layer", required=False)
@json_option
def command(run: Path, layer: str | None, as_json: bool) -> None:
    """Print the numbers that led to LAYER's method and size in RUN, or the whole plan and its heat map.

    LAYER is a full name, an ending that is unique, or a number. The model is not needed.
    """
    import json

    from layerlens_core.cli.terminal import result_json
    from layerlens_core.files.run import PLAN
    from layerlens_core.values.plan import Plan, load_run

    if layer is None:
        plan, profile = load_run(run)
        if as_json:
            result_json((run / PLAN).read_text(encoding="utf-8"))
            return
        from layerlens_core.allocation.explanation import without_margins
        from layerlens_core.cli.reading.heat import print_heat_map
        from layerlens_core.cli.tables import print_plan

        print_plan(plan, profile, without_margins=without_margins(run))
        print_heat_map(plan, profile)
        return
    from layerlens_core.allocation.explanation import explain

    explanation = explain(run, layer)
    if as_json:
        import attrs

        result_json(json.dumps(attrs.asdict(explanation), indent=2, sort_keys=True, ensure_ascii=False))
        return
    from layerlens_core.cli.tables import print_explanation

    print_explanation(explanation, Plan.load(run))
