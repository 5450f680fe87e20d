"""``layerlens plugins new``: distributions that pass their own tests at once; what is refused leaves nothing behind."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner
from mypy import api

from installed import Python, environment
from layerlens_core.cli import main
from layerlens_core.errors import FileError, PluginError
from layerlens_core.plugin.providers import Kind
from layerlens_core.testing import new_plugin

ROOT = Path(__file__).resolve().parents[2]
KINDS = get_args(Kind)
#: As long as a name may be.
LONG = "a-name-that-is-as-long-as-any-name-may-b"


def name_of(kind):
    return f"my-{kind}"


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """One distribution of each kind, and a folder in which their metadata lie as if they were installed."""
    folder = tmp_path_factory.mktemp("plugins")
    for kind in KINDS:
        directory = new_plugin(name_of(kind), kind, folder)
        package = f"layerlens_plugin_my_{kind}"
        metadata = folder / "site" / f"{package}-0.1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {directory.name}\nVersion: 0.1.0\n")
        (metadata / "entry_points.txt").write_text(f"[layerlens]\n{name_of(kind)} = {package}\n")
    return folder


def path_to(plugins):
    return os.pathsep.join(map(str, [plugins / "site", *sorted(plugins.glob("*/src"))]))


@pytest.fixture(scope="module")
def outcomes(plugins):
    """What pytest says of each of their tests, all run in one process."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-rA", "--import-mode=importlib", "-p", "no:cacheprovider"),
            *(f"--config-file={plugins / 'layerlens-plugin-my-metric' / 'pyproject.toml'}", f"--rootdir={plugins}"),
            *sorted(map(str, plugins.glob("*/tests"))),
        ],
        cwd=plugins,
        env=environment(PYTHONPATH=path_to(plugins)),
        capture_output=True,
        text=True,
    )
    return re.findall(r"^([A-Z]+) \S*layerlens-plugin-my-(\w+)/tests/test_contract\.py::(\S+)", done.stdout, re.M)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_its_tests_pass_at_once(outcomes, kind):
    found = [(result, test) for result, of, test in outcomes if of == kind]
    assert {result for result, _ in found} == {"PASSED"}
    assert len([test for _, test in found if test.startswith("test_it_keeps_the_contract[")]) >= 7


@pytest.mark.slow
def test_it_is_found_by_its_entry_point(plugins, tmp_path):
    listing = Python(tmp_path).listing(PYTHONPATH=path_to(plugins))
    for kind in KINDS:
        assert listing.providers[kind, name_of(kind)] == f"layerlens-plugin-my-{kind}"
        assert listing.plugins[f"layerlens-plugin-my-{kind}"]["status"] == "loaded"


@pytest.mark.slow
def test_it_can_be_installed_editably_and_then_passes(tmp_path):
    directory = new_plugin("mine", "strategy", tmp_path)
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    interpreter = venv / "bin" / "python"
    (site,) = (venv / "lib").glob("python*/site-packages")
    (site / "beside.pth").write_text("\n".join(entry for entry in sys.path if Path(entry).is_dir()) + "\n")
    pip = (sys.executable, "-m", "pip", f"--python={interpreter}", "install", "--no-deps", "--no-build-isolation")
    for command in ([*pip, "-e", "."], [interpreter, "-m", "pytest", "-q"]):
        done = subprocess.run(command, cwd=directory, env=environment(PIP_NO_INDEX="1"), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a", LONG])
def test_it_is_clean_under_ruff_whatever_its_name(tmp_path, kind, name):
    directory = new_plugin(name, kind, tmp_path)
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", "."], cwd=directory, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert not [path for path in directory.rglob("*") if "example" in path.name]
    texts = [path.read_text(encoding="utf-8") for path in directory.rglob("*") if path.is_file()]
    assert not [text for text in texts if re.search(r"example.name|KIND|\bUSE\b|\bFILES\b", text)]


@pytest.mark.slow
def test_it_is_clean_under_mypy_strict(plugins, tmp_path, monkeypatch):
    for kind in KINDS:  # one module of each name
        shutil.copy(plugins / f"layerlens-plugin-my-{kind}" / "tests" / "test_contract.py", tmp_path / f"of_{kind}.py")
    monkeypatch.setenv("MYPYPATH", path_to(plugins))
    options = ["--strict", f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={ROOT / '.mypy_cache'}"]
    files = [*plugins.glob("*/src/*/*.py"), *tmp_path.glob("of_*.py")]
    out, failed, status = api.run([*options, *map(str, files)])
    assert (failed, status) == ("", 0), out
    assert f"no issues found in {len(files)} source files" in out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My_Plugin", "a plugin cannot be named 'My_Plugin': .*, such as 'my-plugin'"),
        ("a--b", "such as 'a-b'"),
        ("1st", r"cannot be named '1st': names are .* 40 characters$"),
        ("", "cannot be named ''"),
        ("../up", "cannot be named"),
        ("a/b", "cannot be named"),
        ("ä", "cannot be named"),
        ("x" * 41, "at most 40 characters"),
        ("layerlens-plugin-mine", "leave out the beginning of .*: 'mine'"),
        ("uniform", "strategy 'uniform' is provided by builtin .*; choose another name"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path, name, message):
    with pytest.raises(PluginError, match=message) as caught:
        new_plugin(name, "strategy", tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(PluginError, match=r"no provider is of the kind 'metrics'.* Did you mean 'metric'\?"):
        new_plugin("mine", "metrics", tmp_path)


@pytest.mark.parametrize("there", ["a directory", "a file", "a dangling link"])
def test_what_is_there_is_left_alone(tmp_path, there):
    directory = tmp_path / "layerlens-plugin-mine"
    if there == "a directory":
        directory.mkdir()
        (directory / "notes.txt").write_text("mine")
    elif there == "a file":
        directory.write_text("mine")
    else:
        directory.symlink_to(tmp_path / "gone")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileError, match=r"layerlens-plugin-mine is there already, and nothing in it was changed"):
        new_plugin("mine", "metric", tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_cannot_be_made_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot be made: "):
        new_plugin("mine", "metric", tmp_path / "file")

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(FileError, match="layerlens-plugin-mine cannot be made: No space left on device"):
        new_plugin("mine", "metric", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_from_the_command_line(tmp_path):
    run = CliRunner().invoke
    done = run(main, ["plugins", "new", "mine", "--kind", "metric", "--out", str(tmp_path / "new")])
    assert done.exit_code == 0
    directory = tmp_path / "new" / "layerlens-plugin-mine"
    assert done.stdout == f"{directory}\n"
    assert f"pip install -e '{directory}[test]'" in done.stderr
    again = run(main, ["plugins", "new", "mine", "--kind", "metric", "--out", str(tmp_path / "new")])
    assert (again.exit_code, again.stdout) == (2, "")
    assert again.stderr.startswith(f"Error: {directory} is there already")
    assert run(main, ["plugins", "new", "mine", "--kind", "metrics"]).exit_code == 2
    assert run(main, ["plugins", "--json"]).exit_code == 0
