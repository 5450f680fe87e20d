"""The selection of tests that need no torch, tried on small tests of its own."""

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
OPTIONS = ("-m", "pytest", "-p", "without_torch", "-p", "no:cacheprovider", "-q", "-rA", "--rootdir=.", "-c", "own.ini")
OWN = {
    "own.ini": "[pytest]\nmarkers =\n    slow\n    torch\n",
    "test_plain.py": "def test_plain():\n    import json\n",
    "test_above.py": "import torch\n\ndef test_above():\n    pass\n",
    "test_below.py": "import layerlens_core.adaptation.apply\n\ndef test_below():\n    pass\n",
    "test_hidden.py": "def test_hidden():\n    import torch\n",
    "test_marked.py": (
        "import pytest\n\n@pytest.mark.torch\ndef test_torch():\n    import torch\n\n"
        "@pytest.mark.slow\ndef test_slow():\n    pass\n"
    ),
    "folder/conftest.py": "import transformers\n",
    "folder/test_inside.py": "def test_inside():\n    pass\n",
}


@pytest.fixture
def outcome(python):
    """What the selection says of the tests above."""
    for name, text in OWN.items():
        (python.directory / name).parent.mkdir(exist_ok=True)
        (python.directory / name).write_text(text)
    return python(*OPTIONS, PYTHONPATH=str(TESTS), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")


def test_what_needs_torch_is_left_out_and_what_hides_it_fails(outcome):
    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    lines = outcome.stdout.splitlines()
    assert "PASSED test_plain.py::test_plain" in lines
    assert any(line.startswith("FAILED test_hidden.py::test_hidden") for line in lines)
    assert "does the test lack the marker `torch`?" in outcome.stdout
    assert lines[-1].startswith("1 failed, 1 passed, 2 skipped, 2 deselected")


def test_it_refuses_to_begin_where_torch_is_imported_already(python):
    (python.directory / "own.ini").write_text(OWN["own.ini"])
    (python.directory / "torch.py").touch()  # by this name, and nothing else of it
    begin = f"import sys, torch; sys.path.insert(0, {str(TESTS)!r}); import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    done = python("-c", begin, *OPTIONS[2:])
    assert done.returncode != 0
    assert "imported before any test: torch" in done.stdout + done.stderr
