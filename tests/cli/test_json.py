"""What commands print with ``--json`` is what docs/json.md says, for every command that has it."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest

from cli.documents import schemas
from layerlens_core import cli

#: Commands of a run that train, or that have no result but files; what they print is held to the page elsewhere.
ELSEWHERE = {"compare"}


def with_json(group: click.Group = cli.main, path: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if any("--json" in param.opts for param in command.params):
            yield f"{path}{name}"
        if isinstance(command, click.Group):
            yield from with_json(command, f"{path}{name} ")


def test_every_command_with_a_result_has_the_option_and_a_section():
    assert {name.split(" RUN")[0] for name in schemas()} == set(with_json())
    assert set(cli.main.commands) - {name.split()[0] for name in with_json()} == {"demo"}


@pytest.mark.parametrize("name", [name for name in schemas() if name not in ELSEWHERE])
def test_what_is_printed_is_what_the_page_says(
    layerlens: Any, finished_runs: dict[str, Path], models_dir: Path, data: Callable[[str], str], tmp_path: Path,
    name: str,
) -> None:  # fmt: skip
    run, other = (Path(shutil.copytree(finished_runs["llama"], tmp_path / each)) for each in ("run", "other"))
    layerlens.ok("allocate", other, "--budget", "params=r=1")
    profiled = (models_dir / "llama", "--data", data("text"), "--samples", "4", "--metric", "fisher")
    arguments: dict[str, tuple[object, ...]] = {
        "estimate": ("estimate", models_dir / "llama", "--budget", "memory=1GiB"),
        "plan": ("plan", *profiled, "--out", tmp_path / "new"),
        "profile": ("profile", *profiled, "--out", tmp_path / "new"),
        "allocate": ("allocate", run, "--strategy", "budget"),
        "explain RUN": ("explain", run),
        "explain RUN LAYER": ("explain", run, "1"),
        "report": ("report", run, "--out", tmp_path / "report.html"),
        "audit": ("audit", run),
        "diff": ("diff", run, other),
        "apply": ("apply", run, "--out", tmp_path / "adapter"),
        "export": ("export", run, "--to", "axolotl", "--out", tmp_path / "adapter"),
        "plugins": ("plugins",),
        "plugins new": ("plugins", "new", "own", "--kind", "metric", "--out", tmp_path),
        "scenarios": ("scenarios", "--strategy", "uniform"),
    }
    result = layerlens(*arguments[name], "--json")
    assert result.exit_code == (name == "diff"), result.output
    document = json.loads(result.stdout)
    jsonschema.validate(document, schemas()[name], cls=jsonschema.Draft202012Validator)
    for place in ("file", "directory", "adapter", "run"):
        assert Path(document.get(place, tmp_path)).exists()
    assert all(Path(path).is_file() for path in document.get("files", ()))


@pytest.mark.parametrize("name", schemas())
def test_a_document_that_lacks_a_field_is_refused(name: str) -> None:
    schema = schemas()[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    if "required" in schema:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({}, schema, cls=jsonschema.Draft202012Validator)
