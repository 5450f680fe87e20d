"""What names and options tell already is told before torch is imported: these tests are among those without torch."""

from pathlib import Path
from typing import Any

import pytest

#: Whose model and data look well from outside, and are never read.
FINE = {"model": "somebody/model", "--data": "rows.jsonl"}


@pytest.mark.parametrize("command", ["plan", "profile"])
@pytest.mark.parametrize(
    ("wrong", "options", "said"),
    [
        ({"model": "./nowhere"}, (), "the model directory ./nowhere does not exist"),
        ({"model": "rows.jsonl"}, (), "the model rows.jsonl is a file; name its directory"),
        ({"--data": "nowhere.jsonl"}, (), "the data file nowhere.jsonl does not exist"),
        ({"--data": "notes.txt"}, (), "notes.txt is not of a known kind"),
        (
            {},
            ("--scores", "sketch"),
            "sketches give gradient_norms and sample_norms alone, but asked for were w",
        ),
        ({}, ("--scores", "auto", "--metric", "weight_gradient"), "use --scores exact, or metrics such as fisher"),
        ({}, ("--scores", "sketch", "--metric", "fisher", "--spectrum"), "asked for were sample_norms, spectrum"),
        ({}, ("--scores", "sketch", "--metric", "fisher", "--directions"), "asked for were directions, sample_norms"),
        ({}, ("--metric", "fischer"), "Did you mean 'fisher'?"),
    ],
)
def test_it_is_refused_at_once(
    layerlens: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    wrong: dict[str, str],
    options: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"text": "the cat"}\n')
    Path("notes.txt").write_text("the cat")
    given = FINE | wrong
    arguments = (command, given["model"], "--data", given["--data"], *options, "--out", "run")
    assert said in layerlens.refused(*arguments, out=Path("run"))
