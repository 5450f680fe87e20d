"""Tiny random models saved with a tiny tokenizer, data files for them, and the command line run in this process."""

import csv
import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click.testing
import pytest

import zoo
from layerlens_core import cli
from zoo.words import TEMPLATES, WORDS, tokenizer


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The saved models, each in a folder of its family's name."""
    root = tmp_path_factory.mktemp("models")
    for name, template in TEMPLATES.items():
        folder = root / name.removesuffix("-words")
        zoo.build(name, spread=0.2).save_pretrained(folder)
        tokenizer(template).save_pretrained(folder)
    return root


@pytest.fixture
def model(models_dir: Path) -> Callable[[str], str]:
    """The directory of a saved model by its family."""
    return lambda name: str(models_dir / name)


@pytest.fixture
def own_model(models_dir: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a saved model, for tests that damage it."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(models_dir / name, tmp_path / f"own-{name}"))

    return copy


def sentence(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words))


def rows_of(form: str, count: int = 12) -> list[dict[str, Any]]:
    """Rows of a form, with texts of different lengths."""
    draw = random.Random(1)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        text, other = sentence(draw, 5 + number % 7), sentence(draw, 3 + number % 4)
        rows.append(
            {
                "text": {"text": text},
                "labelled": {"text": text, "label": ("cat", "dog", "bird")[number % 3]},
                "pairs": {"prompt": text, "completion": other},
            }[form]
        )
    return rows


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """A data file by the form of its rows: text, labelled, pairs."""
    root = tmp_path_factory.mktemp("data")
    for form in ("text", "labelled", "pairs"):
        (root / f"{form}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(form)))
    return lambda form: str(root / f"{form}.jsonl")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Sequence[Mapping[str, Any]]], str]:
    """Write rows, of this test, as JSONL or CSV by the file's name."""

    def make(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
        path = tmp_path / name
        if path.suffix == ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return make


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


@pytest.fixture
def layerlens() -> Layerlens:
    return Layerlens()


@pytest.fixture(scope="session")
def finished_runs(
    models_dir: Path, data: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Runs that are planned already; tests must not change them."""
    root = tmp_path_factory.mktemp("runs")
    call = Layerlens()
    wanted: dict[str, Sequence[object]] = {
        "bert-classifier": ("bert", "labelled", "--metric", "fisher=2", "--metric", "weight_gradient=1"),
        "llama": ("llama", "text"),
    }
    for name, (family, form, *options) in wanted.items():
        arguments = ("--data", data(str(form)), "--budget", "params=r=2", *options, "--out", root / name)
        call.ok("plan", models_dir / str(family), *arguments)
    return {name: root / name for name in wanted}


@pytest.fixture
def run(finished_runs: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a run that is planned already."""

    def copy(name: str = "bert-classifier") -> Path:
        return Path(shutil.copytree(finished_runs[name], tmp_path / f"run-{name}"))

    return copy
