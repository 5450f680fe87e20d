"""``layerlens`` in this process: what it printed, how it ended, and what it left."""

from pathlib import Path

import click.testing

from layerlens_core import cli


class Layerlens:
    """``layerlens`` in this process: what it printed, and how it ended."""

    def __call__(self, *arguments: object) -> click.testing.Result:
        return click.testing.CliRunner().invoke(cli.main, [str(argument) for argument in arguments])

    def ok(self, *arguments: object) -> click.testing.Result:
        """A command that must end well."""
        result = self(*arguments)
        assert result.exit_code == 0, result.output
        return result

    def refused(self, *arguments: object, out: Path | None = None) -> str:
        """The message, for people, of a command that must refuse its input and write nothing to ``out``."""
        before = listing(out) if out is not None else None
        result = self(*arguments)
        assert result.exit_code == 2, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        message = result.stderr
        if message.startswith("Error: "):  # one of ours, not click's usage
            assert len(message.strip().splitlines()) <= 2, message
            assert len(message) < 600, message
        if out is not None:
            assert listing(out) == before
        return message


def listing(path: Path) -> dict[str, bytes] | None:
    """What lies in a directory, hidden files too; None where there is none."""
    if not path.exists():
        return None
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else b"" for p in sorted(path.rglob("*"))}
