"""An error is one line on the command line, and ``--traceback`` shows the rest, before a command's name or after it."""

import pytest
from click.testing import CliRunner

import layerlens_core as ll
from layerlens_core.cli import main
from layerlens_core.plugin import strategy
from layerlens_core.plugin.registry import default


def divide(candidates, limits, context):
    """A careless strategy."""
    return [1 / 0]


@pytest.fixture
def careless():
    """A registry in which a careless plugin provides a strategy."""
    default.cache_clear()
    ll.register(strategy("careless", divide))
    yield "careless"
    default.cache_clear()


def test_a_plugin_that_raises_is_one_line(careless):
    done = CliRunner().invoke(main, ["scenarios", "--strategy", careless])
    assert done.exit_code == 2
    assert done.stderr == (
        "Error: strategy 'careless' of plugin careless (in process) failed: ZeroDivisionError: division by zero\n"
    )


@pytest.mark.parametrize("before", [True, False])
def test_a_traceback_is_shown_where_it_is_asked_for(careless, before):
    command = ["scenarios", "--strategy", careless]
    done = CliRunner().invoke(main, ["--traceback", *command] if before else [*command, "--traceback"])
    assert done.exit_code == 2
    assert "return [1 / 0]" in done.stderr
    assert "The above exception was the direct cause" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: strategy 'careless' of plugin")


def test_every_command_takes_it():
    for name, command in main.commands.items():
        assert any("--traceback" in parameter.opts for parameter in command.params), name
