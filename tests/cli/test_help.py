"""Every command's help has examples that its options take, and the shell can complete words."""

import shlex
from collections.abc import Iterator

import click
import pytest
from click.shell_completion import BashComplete

from layerlens_core import cli
from layerlens_core.cli.help.examples import COMPLETION, EXAMPLES


def commands(
    group: click.Group = cli.main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_the_help_of_every_command_shows_examples_within_eighty_columns(layerlens, path):
    shown = layerlens.ok(*path, "--help").stdout
    told = " ".join(shown.split("Example", 1)[1].replace("\\\n", " ").split())
    for example in EXAMPLES[path[-1]]:
        assert example in told
    assert all(len(line) <= 80 for line in shown.splitlines() if "--task [" not in line)


@pytest.mark.parametrize("example", [line for lines in EXAMPLES.values() for line in lines])
def test_the_options_of_an_example_exist(example):
    program, *words = shlex.split(example)
    assert program == "layerlens"
    command: click.Command = cli.main
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    with command.make_context(command.name, words):
        pass  # options are parsed and checked


def test_words_are_completed(layerlens):
    for line in COMPLETION:
        assert line in layerlens.ok("--help").stdout
    complete = BashComplete(cli.main, {}, "layerlens", "_LAYERLENS_COMPLETE")
    assert {each.value for each in complete.get_completions([], "pl")} == {"plan", "plugins"}
    options = {each.value for each in complete.get_completions(["allocate", "run"], "--m")}
    assert {"--max-rank", "--min-rank", "--metric", "--methods", "--margins"} <= options
    kinds = [each.value for each in complete.get_completions(["plugins", "new", "own", "--kind"], "")]
    assert kinds == ["metric", "aggregator", "strategy", "method", "exporter"]
    assert "complete" in complete.source()
