"""``layerlens scenarios``: what the strategies make of seven synthetic cases."""

import click

from layerlens_core.cli.options import json_option


@click.command("scenarios", short_help="Show what each strategy makes of seven synthetic cases.")
@click.option("--strategy", "strategies", multiple=True, help="Repeatable.  [default: all that are installed]")
@json_option
def command(strategies: tuple[str, ...], as_json: bool) -> None:
    """Plan seven scenarios on a BERT-shaped model with synthetic scores, and print them side by side."""
    import json

    from layerlens_core.cli.terminal import result_json
    from layerlens_core.demo.scenarios import SCENARIOS, plan_of
    from layerlens_core.plugin.registry import default

    chosen = strategies or default().names("strategy")
    plans = {scenario.name: {strategy: plan_of(scenario, strategy) for strategy in chosen} for scenario in SCENARIOS}
    if as_json:
        document = {
            name: {
                strategy: [{"method": d.method, "size": d.size, "reason": d.reason} for d in plan.decisions]
                for strategy, plan in by_strategy.items()
            }
            for name, by_strategy in plans.items()
        }
        result_json(json.dumps(document, indent=2, ensure_ascii=False))
        return
    from layerlens_core.cli.tables import print_scenarios

    print_scenarios(plans)
