"""``layerlens report``: a run as one page."""

from pathlib import Path

import click

from layerlens_core.cli.options import json_option, run_argument


@click.command("report", short_help="Write a run as one HTML page to look at and to send on.")
@run_argument
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file, such as report.html.")
@click.option("--overwrite", is_flag=True, help="Replace the file where it exists.")
@json_option
def command(run: Path, out: Path, overwrite: bool, as_json: bool) -> None:
    """Write RUN as one self-contained HTML file: every decision and its reason, scores, budget, and what was measured.

    The page loads nothing from anywhere. The model is not needed; charts need the extra 'report'.
    """
    from layerlens_core.cli.terminal import result, result_document
    from layerlens_core.reporting.report import report

    written = report(run, out, overwrite=overwrite)
    if as_json:
        result_document(file=str(written))
    else:
        result(written)
