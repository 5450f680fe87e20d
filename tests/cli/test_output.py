"""Results alone are on standard output, on every terminal, and no name in a file does anything to one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from installed import Python, environment
from layerlens_core import tracing
from layerlens_core.files.trace.lines import written

LOUD = """
import atexit, os, subprocess, threading, time
from layerlens_core import StrategyProvider, hookimpl

print("at import")
os.write(1, b"past Python\\n")
atexit.register(print, "at the end")
atexit.register(os.write, 1, b"past Python at the end\\n")
threading.Thread(target=lambda: (time.sleep(0.2), print("of a thread"))).start()


def select(candidates, limits, context):
    print("when called")
    os.write(1, b"past Python when called\\n")
    subprocess.run(["echo", "of a child"])
    return [unit.decide("none", reason="silence") for unit in candidates.units]


@hookimpl
def layerlens_strategies():
    print("in a hook")
    yield StrategyProvider(name="loud", summary="loud", load=lambda: (print("when loaded"), select)[1])
"""
AT_ONCE = ("at import", "past Python", "in a hook", "of a thread", "at the end", "past Python at the end")
WHEN_CALLED = ("when loaded", "when called", "past Python when called", "of a child")


def install(folder: Path, name: str, code: str) -> None:
    """A plugin as pip would have installed it."""
    (folder / f"layerlens_plugin_{name}.py").write_text(code)
    metadata = folder / f"layerlens_plugin_{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: layerlens-plugin-{name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[layerlens]\n{name} = layerlens_plugin_{name}\n")


@pytest.fixture
def python(tmp_path: Path) -> Python:
    (tmp_path / "site").mkdir()
    return Python(tmp_path, tmp_path / "site")


def test_whatever_a_plugin_prints_json_is_json(python: Python) -> None:
    install(python.path, "loud", LOUD)
    for command in (("plugins", "--json"), ("scenarios", "--strategy", "loud", "--json")):
        done = python.layerlens(*command)
        assert done.returncode == 0, done.stderr
        json.loads(done.stdout)
        for line in (*AT_ONCE, *(WHEN_CALLED if "loud" in command else ())):
            assert line in done.stderr.splitlines(), line


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("while True: pass", "it took longer than 1 s"),
        ("import time\ntry:\n    time.sleep(600)\nexcept Exception:\n    pass", "it took longer than 1 s"),
        (
            "from layerlens_core import StrategyProvider, hookimpl\n"
            "@hookimpl\ndef layerlens_strategies():\n    n = 0\n    while True:\n        n += 1\n"
            "        yield StrategyProvider(name=f's{n}', summary='', load=list)",
            "gives more than 10,000 records",
        ),
    ],
)
def test_a_plugin_that_does_not_end_is_reported_as_failed(python: Python, code: str, cause: str) -> None:
    install(python.path, "endless", code)
    plugin = python.listing(LAYERLENS_PLUGIN_TIMEOUT="1").plugins["layerlens-plugin-endless"]
    assert plugin["status"] == "failed"
    assert cause in plugin["cause"]


def test_a_name_in_a_file_does_nothing_to_a_terminal(layerlens, run) -> None:
    there = run()
    for name in ("plan.json", "profile.json", "trace.jsonl"):
        path = there / name
        text = path.read_text().replace('"weight_gradient"', '"[red]\\u001b[2Jgradient[/red]"')
        text = text.replace("bert.encoder", "bert[/]\\u009b31mencoder\\u202e.x")
        path.write_text(text)
    _rebind(there)
    for arguments in ((), ("0",)):
        result = layerlens.ok("explain", there, *arguments)
        assert not {"\x1b", "\x9b", "\u202e"} & set(result.output)
        assert "[red]\\x1b[2Jgradient[/red]" in result.output.replace("\n", "_") or not arguments
        assert "bert[/]\\x9b31mencoder\\u202e" in result.output


def _rebind(there: Path) -> None:
    """Let the plan and its trace be of the profile again, whose names were changed."""
    from layerlens_core.values.plan import Plan
    from layerlens_core.values.profile import Profile

    plan = json.loads((there / "plan.json").read_text())
    before = Plan.load(there).digest
    profile = Profile.load(there)
    plan |= {"fingerprint": profile.inventory.fingerprint, "profile": profile.digest}
    (there / "plan.json").write_text(json.dumps(plan))
    trace = there / "trace.jsonl"
    events = tracing.read_what_is_there(there).events
    assert before != Plan.load(there).digest
    for event in events:
        if event["event"] in ("plan.made", "profile.finished"):
            event["digest"] = (Plan.load(there) if event["event"] == "plan.made" else profile).digest
    trace.write_text(written(events))


def printed(*arguments: object, stdout: Any = subprocess.PIPE, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """The command line as a process of its own, and the bytes that it printed."""
    command = [sys.executable, "-m", "layerlens_core", *map(str, arguments)]
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, env=environment(**variables), timeout=300, check=False
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_every_terminal_gets_what_it_can_show(finished_runs: dict[str, Path], encoding: str) -> None:
    there = finished_runs["bert-classifier"]
    for arguments in ((there,), (there, "0")):
        done = printed("explain", *arguments, PYTHONIOENCODING=encoding, COLUMNS="100")
        assert done.returncode == 0, done.stderr
        assert ("█" in done.stdout.decode(encoding)) == (encoding == "utf-8" and len(arguments) == 1)
    done = printed("explain", there, "0", "--json", PYTHONIOENCODING=encoding)
    assert json.loads(done.stdout.decode(encoding)) == json.loads(printed("explain", there, "0", "--json").stdout)


@pytest.mark.parametrize("command", [("--help",), ("plugins",), ("plugins", "--json"), ("scenarios",)])
def test_a_full_standard_output_is_told_in_one_line(command: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = printed(*command, stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith(b"Error: No space left on device")
    assert done.stderr.count(b"\n") == 1
