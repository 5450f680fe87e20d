"""A small part of tests/benchmarks/kills.py: what is left of runs that are killed, meet, and meet a full disk."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts import environment

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "kills.py"


@pytest.mark.slow
def test_what_is_left_is_the_old_run_the_new_one_or_one_to_resume():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--runs", "4", "--sizes", "2"],
        env=environment(), capture_output=True, text=True, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all as it should be\n")
    assert "the second is refused in one line" in done.stdout
    assert "full disk: one line, and the old run" in done.stdout
