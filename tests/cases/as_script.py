"""Runs a script in a process that has the heavy libraries already: forked from a server that imported them once."""

import multiprocessing
import os
import runpy
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

#: What nearly every script imports, in eight seconds each.
HEAVY = ["torch", "transformers", "peft"]


def run_forked(script: Path, *, path: Path, environment: Mapping[str, str], seconds: float) -> tuple[int, str]:
    """The exit and the output of a script that runs as ``python SCRIPT`` does, in the script's folder.

    script: to run.
    path: that it imports from, beside its own folder.
    environment: beside this process's.
    seconds: after which it is killed, and its exit is −9.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    output = script.with_suffix(".output")
    process = context.Process(target=_run, args=(str(script), str(path), dict(environment), str(output)))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
    assert process.exitcode is not None
    return process.exitcode, output.read_text(encoding="utf-8") if output.exists() else ""


def _run(script: str, path: str, environment: Mapping[str, str], output: str) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.chdir(Path(script).parent)
    os.environ.update(environment)
    tempfile.tempdir = None
    sys.argv, sys.path = [script], [str(Path(script).parent), path, *sys.path]
    warnings.simplefilter("ignore")
    runpy.run_path(script, run_name="__main__")
