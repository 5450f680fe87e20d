"""``layerlens plugins``: what is installed, what it provides, and what failed; and how a new one begins."""

import json
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerlens_core.cli.options import json_option

if TYPE_CHECKING:
    from layerlens_core.plugin.providers import Kind, MetricProvider, Provider


#: Where summaries begin.
_COLUMN = 21


@click.group("plugins", short_help="List plugins and what they provide; begin one.", invoke_without_command=True)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List every plugin that was found, loaded or not, and every name that can be used."""
    if context.invoked_subcommand is None:
        _list(as_json)


@command.command("new", short_help="Begin a plugin, with tests that pass.")
@click.argument("name")
@click.option(
    "--kind",
    required=True,
    type=click.Choice(["metric", "aggregator", "strategy", "method", "exporter"]),
    help="What it provides.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path(), help="Folder in which its directory is made. By default ."
)
@json_option
def new(name: str, kind: "Kind", out: Path, as_json: bool) -> None:
    """Write the distribution layerlens-plugin-NAME: sources, tests, README and CI.

    Its tests pass at once, after `pip install -e` of its directory, and hold it to the contract.
    """
    from layerlens_core.cli.terminal import result, result_document, say
    from layerlens_core.testing.new import new_plugin

    directory = new_plugin(name, kind, out)
    if as_json:
        result_document(directory=str(directory), kind=kind)
    else:
        result(directory)
    say(f"next: pip install -e '{directory}[test]' && pytest {directory}")


def _list(as_json: bool) -> None:
    from layerlens_core.cli.terminal import result, result_json, shown
    from layerlens_core.plugin.discovery import OURS
    from layerlens_core.plugin.providers import KINDS, MetricProvider, StrategyProvider
    from layerlens_core.plugin.registry import default

    registry = default()
    if as_json:
        result_json(json.dumps(_document(), indent=2, ensure_ascii=False))
        return
    for kind in KINDS:
        _line({"strategy": "strategies"}.get(kind, f"{kind}s"), bold=True)
        for name, provider in registry.providers(kind).items():
            origin = registry.plugin_of(kind, name).distribution
            source = "" if origin == OURS else f"  [{origin}]"
            _line(f"  {name:<18} {provider.summary}{source}")
            if isinstance(provider, StrategyProvider) and provider.options:
                _line(f"  {'':<18} --set {' '.join(f'{option}=' for option in provider.options)}", dim=True)
            if isinstance(provider, MetricProvider):
                measure = describe_metric(provider)
                _line(f"  {'':<18} {measure}", fg=None if measure.startswith("in ") else "red", dim=True)
    _line("plugins", bold=True)
    colours = {"loaded": "green", "blocked": "yellow", "failed": "red"}
    for plugin in registry.plugins:
        status = click.style(plugin.status, fg=colours[plugin.status])
        name, origin = shown(plugin.name), shown(f"{plugin.distribution} {plugin.version}")
        result(f"  {name:<18} {status}  {origin}", styled=True)
        if plugin.cause:
            _line(f"  {'':<18} {plugin.cause}" + (f"  ({plugin.where})" if plugin.where else ""))
    for conflict in registry.conflicts:
        _line(f"  {conflict}", fg="red")


def _line(text: str, **style: Any) -> None:
    """A line of the list; on a terminal, what does not fit goes on below its own column."""
    from layerlens_core.cli.terminal import result, results, shown

    lines = [shown(text)]
    if results().isatty():
        width = shutil.get_terminal_size().columns
        begin = lines[0][:_COLUMN] if lines[0].startswith("  ") else ""
        rest = lines[0][len(begin) :]
        wrapped = textwrap.wrap(rest, max(width - len(begin), 20), break_long_words=False, break_on_hyphens=False)
        lines = [(begin if not number else " " * len(begin)) + line for number, line in enumerate(wrapped or [rest])]
    for line in lines:
        result(click.style(line, **style), styled=True)


def describe_metric(metric: "MetricProvider") -> str:
    """Unit, reduction, and what it is computed from; of one that is refused, why."""
    if metric.reduction is None and metric.active:
        return f"in {metric.unit}, of whole layers; runs the model itself"
    if metric.reduction is None:
        return "refused when asked for: it has no reduction, which says how modules' scores make a layer's"
    layer = {
        "sum": "summed over a layer's modules",
        "mean": "averaged over a layer's modules",
        "weighted_mean": "averaged over a layer's weights",
    }[metric.reduction]
    how = "runs the model itself" if metric.active else f"{'' if metric.is_mean else 'no '}mean over samples"
    return f"in {metric.unit}, {layer}; {how}"


def _measure(provider: "Provider") -> dict[str, Any]:
    from layerlens_core.plugin.providers import MetricProvider, StrategyProvider

    if isinstance(provider, StrategyProvider):
        return {"options": list(provider.options), "granularities": list(provider.granularities)}
    if not isinstance(provider, MetricProvider):
        return {}
    return {
        "unit": provider.unit,
        "reduction": provider.reduction,
        "active": provider.active,
        "mean": provider.is_mean,
        "needs": list(provider.needs),
    }


def _document() -> dict[str, Any]:
    import attrs

    from layerlens_core.plugin.providers import KINDS
    from layerlens_core.plugin.registry import default

    registry = default()
    providers = [
        {
            "kind": kind,
            "name": name,
            "summary": provider.summary,
            "plugin": registry.plugin_of(kind, name).name,
            "distribution": registry.plugin_of(kind, name).distribution,
            **_measure(provider),
        }
        for kind in KINDS
        for name, provider in registry.providers(kind).items()
    ]
    plugins = [attrs.asdict(plugin) for plugin in registry.plugins]
    return {"providers": providers, "plugins": plugins, "conflicts": registry.conflicts}
