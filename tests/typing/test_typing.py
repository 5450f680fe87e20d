"""Plugins are typed: what their authors write is accepted, and what breaks a contract is an error at its line."""

import re
from pathlib import Path

import pytest
from mypy import api

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MARK = re.compile(r"  # type: ignore\[(?P<codes>[a-z, -]+)\]$")


def errors_in(path: Path) -> dict[int, set[str]]:
    """The codes of mypy's errors by line, under --strict; it keeps what it knows where `make lint` does."""
    options = [f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={ROOT / '.mypy_cache'}", "--no-error-summary"]
    out, failed, _ = api.run(["--strict", *options, str(path)])
    assert not failed, failed
    found: dict[int, set[str]] = {}
    for line in out.splitlines():
        if match := re.search(r":(\d+): error: .*\[([a-z-]+)\]$", line):
            found.setdefault(int(match[1]), set()).add(match[2])
    return found


@pytest.mark.slow
def test_each_side_is_as_it_is_marked(tmp_path: Path) -> None:
    assert errors_in(HERE / "accepted.py") == {}
    lines = (HERE / "rejected.py").read_text(encoding="utf-8").splitlines()
    marked = {
        number: {code.strip() for code in match["codes"].split(",")}
        for number, line in enumerate(lines, start=1)
        if (match := MARK.search(line))
    }
    assert len(marked) >= 15
    bare = tmp_path / "rejected.py"
    bare.write_text("\n".join(MARK.sub("", line) for line in lines) + "\n", encoding="utf-8")
    assert errors_in(bare) == marked
