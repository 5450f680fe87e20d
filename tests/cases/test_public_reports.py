"""Public reports of neighbouring tools, rebuilt as scripts: each says whether we do what its reporter was denied."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
SCRIPTS = sorted(CASES.glob("[0-9]*.py"))
#: Exits of a script, beside success: a package is missing.
ABSENT = 2


@pytest.mark.skipif(not SCRIPTS, reason="needs ../shared/cases")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_we_do_what_the_reporter_was_denied(script, tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        capture_output=True, text=True, cwd=tmp_path, timeout=300, env={**os.environ, "PYTHONPATH": str(CASES)},
    )  # fmt: skip
    if run.returncode == ABSENT:
        pytest.skip(run.stdout.strip())
    assert run.returncode == 0, run.stdout + run.stderr
