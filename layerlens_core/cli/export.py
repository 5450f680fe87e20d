"""``layerlens export``: a plan for the trainer that somebody uses."""

from pathlib import Path
from typing import Unpack

import click

from layerlens_core.cli.apply import Start, check_free, one_rank_option, write_adapter
from layerlens_core.cli.options import json_option, model_option, run_argument, start_options


@click.command("export", short_help="Write the plan for a trainer: PEFT, TRL, axolotl, LLaMA-Factory.")
@run_argument
@click.option("--to", required=True, metavar="EXPORTER", help="peft, trl, axolotl, llama-factory or a plugin's.")
@model_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory of the files.")
@click.option("--overwrite", is_flag=True, help="Write into a directory that holds files already.")
@one_rank_option
@start_options
@json_option
def command(
    run: Path, to: str, model: str | None, out: Path, overwrite: bool, as_json: bool, **start: Unpack[Start]
) -> None:
    """Write what a trainer needs for the plan of RUN: an initialised adapter, its own configuration keys, or both.

    A trainer that cannot express the plan is refused, and nothing is written.
    """
    from layerlens_core.cli.run_directory import model_of
    from layerlens_core.cli.terminal import result, result_document, say
    from layerlens_core.data.source import check_source
    from layerlens_core.errors import PluginError
    from layerlens_core.plugin.export import ExportRequest
    from layerlens_core.plugin.registry import default
    from layerlens_core.values.plan import load_run
    from layerlens_core.values.recipe import Recipe

    export = default().load("exporter", to)
    plan, profile = load_run(run)
    source = model_of(run, model)
    check_free(out, source, overwrite)
    check_source(source)
    request = ExportRequest(
        plan=plan,
        profile=profile,
        model=source,
        out=out,
        init=start["init"],
        recipe=Recipe.load(run, plan),
        adapter=lambda: write_adapter(run, plan, profile, source, out, start),
        say=say,
    )
    written = export(request)
    if not isinstance(written, tuple) or not all(isinstance(path, Path) and path.is_file() for path in written):
        returned = f"{written!r}" if isinstance(written, tuple) else f"a {type(written).__name__}"
        origin = default().origin("exporter", to)
        raise PluginError(f"{origin} must return a tuple of the paths that it wrote, but returned {returned}")
    if as_json:
        result_document(exporter=to, files=[str(path) for path in written])
        return
    for path in written:
        result(path)
