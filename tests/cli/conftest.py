"""Tiny random models saved with a tiny tokenizer, data files for them, and the command line run in this process."""

import csv
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cli.in_process import Layerlens
from cli.rows import rows_of


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The saved models, each in a folder of its family's name."""
    import zoo  # here, so that tests of the command line that need no model need no torch
    from zoo.words import TEMPLATES, tokenizer

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
        # By thresholds, which stay in the trace, and with a layer that is frozen.
        "bert-classifier": (
            *("bert", "labelled", "--metric", "fisher=2", "--metric", "weight_gradient=1"),
            *("--quantiles", "0.1"),
        ),
        "llama": ("llama", "text", "--no-abstain"),  # of several ranks
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
