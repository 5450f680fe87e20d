"""The command line: parse, call the library, print. Heavy imports are inside the commands."""

import errno
import os
import sys
import traceback
from contextlib import suppress
from typing import Any

import click

from layerlens_core.cli import allocate, apply, demo, explain, export, plan, plugins, profile, scenarios
from layerlens_core.cli.auditing import command as audit
from layerlens_core.cli.comparing import command as compare
from layerlens_core.cli.differing import command as diff
from layerlens_core.cli.estimating import command as estimate
from layerlens_core.cli.reading import report
from layerlens_core.cli.terminal import apart, shown_lines, writes_anything
from layerlens_core.errors import LayerLensError

#: The key in click's context under which it is noted that ``--traceback`` was given, before a command's name or after.
_TRACEBACK = "layerlens.traceback"


class _Commands(click.Group):
    """Errors of ours end in their message and exit status, and in a traceback where it is asked for."""

    def invoke(self, ctx: click.Context) -> object:
        writes_anything(sys.stderr)
        try:
            return super().invoke(ctx)
        except LayerLensError as error:
            _tell(ctx, error, None if error.told_by_another else str(error))
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.errno in (None, errno.EPIPE):  # no error of the system's; nobody reads on, which click ends on
                raise
            where = f"{error.filename}: " if error.filename is not None else ""
            _tell(ctx, error, f"{where}{error.strerror}; nothing was changed that is not complete")
            ctx.exit(LayerLensError.exit_code)

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            return super().main(*args, **options)
        except OSError as error:  # of help, say, that is printed while options are read
            if error.errno is None:
                raise
            with suppress(OSError):
                sys.stdout.close()  # or what it could not write would be tried once more when the process ends
            with suppress(OSError):
                click.echo(f"Error: {error.strerror}", err=True)
            sys.exit(LayerLensError.exit_code)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order in which they are used


def _tell(ctx: click.Context, error: BaseException, message: str | None) -> None:
    """Print an error's message, after the traceback where that is asked for."""
    with suppress(OSError):  # standard error may be what is full
        if ctx.meta.get(_TRACEBACK):
            click.echo("".join(traceback.format_exception(error)), err=True)
        if message is not None:
            click.echo(f"{click.style('Error:', fg='red')} {shown_lines(message)}", err=True)


def _traceback_option() -> click.Option:
    def remember(ctx: click.Context, _option: click.Parameter, given: bool) -> None:
        if given:
            ctx.meta[_TRACEBACK] = True

    return click.Option(
        ["--traceback"], is_flag=True, expose_value=False, callback=remember, help="Show where an error came from."
    )


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="layerlens-core", prog_name="layerlens")
@click.option("--no-plugin", "blocked", multiple=True, metavar="NAME", help="Do not load this plugin. Repeatable.")
def main(blocked: tuple[str, ...]) -> None:
    """Decide which PEFT method and size each layer of a model gets.

    Profiles the layers on your data, chooses within your budget, and says why.
    """
    if blocked:
        from layerlens_core.plugin.discovery import DISABLE_VARIABLE

        os.environ[DISABLE_VARIABLE] = ",".join([os.environ.get(DISABLE_VARIABLE, ""), *blocked])


main.params.append(_traceback_option())
for module in (
    demo,
    estimate,
    plan,
    profile,
    allocate,
    explain,
    report,
    audit,
    diff,
    compare,
    apply,
    export,
    plugins,
    scenarios,
):
    main.add_command(module.command)
    for command in (module.command, *getattr(module.command, "commands", {}).values()):
        command.params.append(_traceback_option())
        command.callback = apart(command.callback)
