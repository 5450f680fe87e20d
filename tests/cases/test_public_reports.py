"""Public reports of neighbouring tools, rebuilt as scripts: each says whether we do what its reporter was denied."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cases.as_script import run_forked

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
SCRIPTS = sorted(CASES.glob("[0-9]*.py"))
#: Exits of a script, beside success: a package is missing.
ABSENT = 2
PACKED = Path(sys.prefix) / "packed"
#: What a script imports, and where it is now.
MOVED = {
    "from layerlens_core.costs import Training, depth_costs": (
        "from layerlens_core.allocation.flops import depth_costs; from layerlens_core.values.costs import Training"
    )
}


@pytest.mark.slow
@pytest.mark.skipif(not SCRIPTS, reason="needs ../shared/cases")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_we_do_what_the_reporter_was_denied(script, tmp_path, tmp_path_factory):
    text = script.read_text(encoding="utf-8")
    for old, new in MOVED.items():
        text = text.replace(old, new)
    copy = tmp_path / script.name
    copy.write_text(text, encoding="utf-8")
    extras = tmp_path / ".cache" / "layerlens-cases"  # where scripts look for packages beside the environment
    extras.mkdir(parents=True)
    if PACKED.is_dir():
        (extras / "bnb").symlink_to(PACKED)
    temporary = str(tmp_path_factory.getbasetemp())  # where scripts unpack a model once: not while another process does
    environment = {"PYTHONPATH": str(CASES), "HOME": str(tmp_path), "TMPDIR": temporary}
    if extras.name in text:  # transformers looks once for such packages, when it is imported
        run = subprocess.run(
            [sys.executable, "-W", "ignore", str(copy)],
            capture_output=True, text=True, cwd=tmp_path, timeout=300, env={**os.environ, **environment},
        )  # fmt: skip
        code, output = run.returncode, run.stdout + run.stderr
    else:
        code, output = run_forked(copy, path=CASES, environment=environment, seconds=300)
    if code == ABSENT:
        pytest.skip(output.strip())
    assert code == 0, output


@pytest.mark.slow
def test_a_script_that_fails_is_seen_to_fail(tmp_path):
    for text, expected, said in (
        ("import sys; print('absent'); sys.exit(2)", ABSENT, "absent"),
        ("assert 1 > 2, 'as it should not be'", 1, "as it should not be"),
        ("import os; os._exit(7)", 7, ""),
        ("import sys, os; assert sys.argv == [__file__]; assert os.environ['HOME'] == 'here'", 0, ""),
    ):
        script = tmp_path / "script.py"
        script.write_text(text)
        code, output = run_forked(script, path=tmp_path, environment={"HOME": "here"}, seconds=60)
        assert code == expected, output
        assert said in output
