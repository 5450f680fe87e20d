"""``layerlens diff``: which decisions changed between two runs, and by which input."""

from pathlib import Path

import click

from layerlens_core.cli.options import json_option


@click.command("diff", short_help="Say which decisions differ between two runs, and why.")
@click.argument("first", type=click.Path(path_type=Path), metavar="RUN_A")
@click.argument("second", type=click.Path(path_type=Path), metavar="RUN_B")
@json_option
def command(first: Path, second: Path, as_json: bool) -> None:
    """Say which layers RUN_A and RUN_B decide on differently, and which inputs that comes from. No model is needed.

    RUN_A is planned anew with each input of RUN_B in place of its own, one at a time. An input explains those layers
    that then get what RUN_B gives them.

    Ends with 0 where all decisions are the same, with 1 where some differ, and with 2 for bad input.
    """
    import json

    import attrs

    from layerlens_core.auditing.differing.diff import diff
    from layerlens_core.cli.terminal import result_json

    found = diff(first, second)
    if as_json:
        result_json(json.dumps({"same": found.same, **attrs.asdict(found)}, indent=2, ensure_ascii=False))
    else:
        from layerlens_core.cli.differing.table import print_difference

        print_difference(found)
    if not found.same:
        click.get_current_context().exit(1)
