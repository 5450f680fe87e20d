"""``layerlens export``: a plan for the trainer that somebody uses."""

from pathlib import Path
from typing import Unpack

import click

from layerlens_core.cli.apply import Start, check_free, one_rank_option, write_adapter
from layerlens_core.cli.options import run_argument, start_options


@click.command("export", short_help="Write the plan for a trainer: PEFT, TRL, axolotl, LLaMA-Factory.")
@run_argument
@click.option("--to", required=True, metavar="EXPORTER", help="peft, trl, axolotl, llama-factory or a plugin's.")
@click.option("--model", required=True, help="The planned model: a local directory or a hub id.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory of the files.")
@click.option("--overwrite", is_flag=True, help="Write into a directory that holds files already.")
@one_rank_option
@start_options
def command(run: Path, to: str, model: str, out: Path, overwrite: bool, **start: Unpack[Start]) -> None:
    """Write what a trainer needs for the plan of RUN: an initialised adapter, its own configuration keys, or both.

    A trainer that cannot express the plan is refused, and nothing is written.
    """
    from layerlens_core.cli.terminal import result, say
    from layerlens_core.data.source import check_source
    from layerlens_core.errors import PluginError
    from layerlens_core.plugin.export import ExportRequest
    from layerlens_core.plugin.registry import default
    from layerlens_core.values.plan import load_run
    from layerlens_core.values.recipe import Recipe

    export = default().load("exporter", to)
    plan, profile = load_run(run)
    check_free(out, model, overwrite)
    check_source(model)
    request = ExportRequest(
        plan=plan,
        profile=profile,
        model=model,
        out=out,
        init=start["init"],
        recipe=Recipe.load(run, plan),
        adapter=lambda: write_adapter(run, plan, profile, model, out, start),
        say=say,
    )
    written = export(request)
    if not isinstance(written, tuple) or not all(isinstance(path, Path) and path.is_file() for path in written):
        returned = f"{written!r}" if isinstance(written, tuple) else f"a {type(written).__name__}"
        origin = default().origin("exporter", to)
        raise PluginError(f"{origin} must return a tuple of the paths that it wrote, but returned {returned}")
    for path in written:
        result(path)
