"""``layerlens audit``: whether all that a run says follows from what was recorded."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerlens_core.cli.options import json_option, run_argument

if TYPE_CHECKING:
    pass


@click.command("audit", short_help="Replay a run from its files: does everything follow?")
@run_argument
@json_option
def command(run: Path, as_json: bool) -> None:
    """Compute RUN anew from its recorded inputs, without the model, and compare every field of its files.

    Ends with 1 and the first field that does not follow; with 2 for a directory without a run, and for files of another
    version.
    """
    from layerlens_core.auditing.audit import audit
    from layerlens_core.cli.auditing.words import audit_json, finding_lines, print_checked
    from layerlens_core.cli.terminal import result_json, say

    found = audit(run)
    if as_json:
        result_json(audit_json(found))
    else:
        print_checked(found)
    for line in finding_lines(found, run):
        say(line)
    if not found.ok:
        click.get_current_context().exit(1)
