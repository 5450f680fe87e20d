"""Python files that come with a model are run where they are asked for, and never otherwise."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from layerlens_core import tracing

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

Path({marker!r}).touch()

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig

class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""

#: Where the pieces of code are named, by what they are for.
NAMED = {
    "model": ("config.json", {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}),
    "tokenizer": ("tokenizer_config.json", {"AutoTokenizer": [None, "own.OwnTokenizer"]}),
}


@pytest.fixture(autouse=True)
def modules_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """transformers copies such files into a cache and imports them from there: one of this test's own."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]:
        del sys.modules[name]


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Is there once the code ran."""
    return tmp_path / "ran"


@pytest.fixture
def own_code(own_model: Callable[[str], Path], marker: Path) -> Callable[[str], Path]:
    """A model with code of its own, for the model or for the tokenizer."""

    def make(what: str) -> Path:
        directory = own_model("llama")
        (directory / "own.py").write_text(CODE.format(marker=str(marker)))
        name, auto_map = NAMED[what]
        settings = json.loads((directory / name).read_text()) | {"auto_map": auto_map}
        if what == "model":
            settings["model_type"] = "own"
        else:
            settings["tokenizer_class"] = "OwnTokenizer"
        (directory / name).write_text(json.dumps(settings))
        return directory

    return make


@pytest.mark.parametrize("what", NAMED)
def test_it_is_refused_without_a_question(
    layerlens: Any,
    data: Callable[[str], str],
    own_code: Callable[[str], Path],
    marker: Path,
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda question="": asked.append(question) or "y")
    directory, out = own_code(what), tmp_path / "run"
    message = layerlens.refused("plan", directory, "--data", data("text"), "--out", out, out=out)
    assert f"the model {directory} brings Python files of its own" in message
    assert "--trust-remote-code" in message
    assert (asked, marker.exists()) == ([], False)


@pytest.mark.parametrize("what", NAMED)
def test_it_runs_where_it_is_trusted_and_the_trace_says_so(
    layerlens: Any, data: Callable[[str], str], own_code: Callable[[str], Path], marker: Path, what: str, tmp_path: Path
) -> None:
    directory, out = own_code(what), tmp_path / "run"
    arguments = ("plan", directory, "--data", data("text"), "--samples", "4", "--budget", "params=r=2", "--out", out)
    layerlens.ok(*arguments, "--trust-remote-code")
    assert marker.exists()
    assert tracing.read(out)[0]["arguments"]["trust_remote_code"] == "True"


def test_apply_and_export_refuse_it_too_and_take_it_where_it_is_trusted(
    layerlens: Any, data: Callable[[str], str], own_code: Callable[[str], Path], marker: Path, tmp_path: Path
) -> None:
    directory, run = own_code("model"), tmp_path / "run"
    planned = ("plan", directory, "--data", data("text"), "--samples", "4", "--budget", "params=r=2", "--out", run)
    layerlens.ok(*planned, "--trust-remote-code")
    marker.unlink()
    for name, command in (("apply", ("apply", run)), ("export", ("export", run, "--to", "peft"))):
        out = tmp_path / name
        arguments = (*command, "--model", directory, "--out", out)
        assert "brings Python files of its own" in layerlens.refused(*arguments, out=out)
        layerlens.ok(*arguments, "--trust-remote-code")
        assert (out / "adapter_model.safetensors").is_file()


def test_the_trace_of_other_runs_says_that_nothing_was_trusted(finished_runs: dict[str, Path]) -> None:
    assert tracing.read(finished_runs["llama"])[0]["arguments"]["trust_remote_code"] == "False"
