"""Every block of code in README and docs runs as it stands there, a page in one session, on a tiny model."""

import contextlib
import io
import json
import shutil
import sys
import warnings
from collections import Counter

import pytest

import layerlens_plugin_costbenefit
from cli.in_process import Layerlens
from cli.rows import rows_of
from documentation.blocks import COMMANDS, PAGES, PYTHON, SHOWN, blocks_of, commands_in
from documentation.commands import check
from layerlens_core.plugin.discovery import providers_of

BLOCKS = {page: blocks_of(page) for page in PAGES}
#: Pages with anything that runs. The guide's modules are run by tests/testing/test_guide.py.
RUN = [
    page
    for page, blocks in BLOCKS.items()
    if any(block.runs and block.language in (*COMMANDS, *PYTHON) and not block.module for block in blocks)
]
#: What is not run, by page, program and reason, and how many blocks. A line that is added here has to be worth it.
NOT_RUN = {
    ("CONTRIBUTING.md", "", "it installs, and runs all tests"): 1,
    ("CONTRIBUTING.md", "", "tests do not run tests"): 1,
    ("README.md", "make", "it installs, and runs all tests"): 1,
    ("README.md", "pip", "it installs, which the packages' own tests do"): 1,
    ("README.md", "", "it takes several GPUs"): 1,
    ("README.md", "", "tests/packaging/test_newcomer.py runs it in an environment of its own"): 1,
    ("docs/benchmarks.md", "", "these are measurements of minutes to hours, many of them on a GPU"): 18,
    ("docs/evidence.md", "", "these are measurements of minutes to hours, many of them on a GPU"): 1,
    ("docs/exactness.md", "", "these are measurements of minutes to hours, many of them on a GPU"): 1,
    ("docs/how-to/compare-on-several-machines.md", "", "it takes two GPUs"): 1,
    ("docs/how-to/compare-on-several-machines.md", "", "it takes a cluster"): 2,
    ("docs/how-to/release.md", "", "it takes minutes, and CI does it"): 1,
    ("docs/how-to/several-gpus.md", "", "it takes several GPUs"): 3,
    ("docs/plugins.md", "pip, pytest", "it installs; tests/testing/test_new.py does it"): 1,
    ("plugins/layerlens-plugin-costbenefit/README.md", "pip", "it installs"): 1,
    ("docs/tutorial.md", "", "it installs, which tests of the packages do"): 1,
}
#: Names of models, files and runs in pages. A run that the page itself makes is not there before.
MODELS = ("path/to/model", "MODEL")
ROWS = ("train.jsonl", "test.jsonl")
PLACEHOLDERS = {"FILE": "train.jsonl"}
#: What a page estimates from, without weights.
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16", "vocab_size": 128256,
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "max_position_embeddings": 131072,
}  # fmt: skip
#: Command -> options that it gets beside its own where it has none of them, so that it ends soon.
SHORTER = {"compare": ("--seeds", "1", "--lr", "1e-2")}
RUNS = ("runs/first", "runs/second", "runs/before", "runs/after", "RUN")


@pytest.fixture(scope="session")
def ground(tmp_path_factory):
    """A model with a tokenizer, rows for it, and two runs that are planned already."""
    import zoo
    from zoo.words import TEMPLATES, tokenizer

    root = tmp_path_factory.mktemp("documentation")
    zoo.build("llama-words", spread=0.2).save_pretrained(root / "model")
    tokenizer(TEMPLATES["llama-words"]).save_pretrained(root / "model")
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of("pairs", 32)))
    plan = ("--data", root / "rows.jsonl", "--no-check-labels", "--no-abstain")
    Layerlens().ok("plan", root / "model", *plan, "--budget", "params=r=2", "--out", root / "first")
    shutil.copytree(root / "first", root / "second")
    Layerlens().ok("allocate", root / "second", "--budget", "params=r=3")
    (root / "llama").mkdir()
    (root / "llama" / "config.json").write_text(json.dumps(LLAMA))
    return root


@pytest.fixture
def session(ground, tmp_path, monkeypatch):
    """A function that makes the folder of a page's session, and gives the names that its Python finds."""

    def begin(made):
        for name in MODELS:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).symlink_to(ground / "model")
        (tmp_path / "path" / "to" / "llama-3.1-8b").symlink_to(ground / "llama")
        for name in ROWS:
            shutil.copy(ground / "rows.jsonl", tmp_path / name)
        for name in RUNS:
            if name not in made:
                shutil.copytree(
                    ground / ("second" if name in ("runs/second", "runs/after") else "first"), tmp_path / name
                )
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        return _names()

    modules = set(sys.modules)
    yield begin
    for name in set(sys.modules) - modules:
        if name.startswith("layerlens_plugin_"):
            del sys.modules[name]


class _Names(dict):
    """What a page may take for granted, made when it is first asked for."""

    def __missing__(self, name):
        if name not in _GIVEN:
            raise KeyError(name)
        self[name] = _GIVEN[name]()
        return self[name]


def _model():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained("path/to/model")


def _samples():
    from layerlens_core.testing import tiny_samples

    samples = tiny_samples(count=40)
    for sample in samples:
        sample["input_ids"] %= 32
        sample["labels"] = sample["input_ids"].clone()
    return samples


def _collate(samples):
    from layerlens_core.plugin import collate

    return collate(samples, 0)


def _arguments():
    from transformers import TrainingArguments

    return TrainingArguments("trained", max_steps=2, per_device_train_batch_size=2, report_to=[], save_strategy="no")


def _trainer():
    from transformers import Trainer

    return Trainer


def _module(name):
    return lambda: __import__(name)


def _loaded(kind):
    def load():
        import layerlens_core

        return getattr(layerlens_core, kind).load("runs/first")

    return load


_GIVEN = {
    "model": _model,
    "base": _model,
    "samples": _samples,
    "collate": lambda: _collate,
    "batches": lambda: [_collate(_samples()[at : at + 2]) for at in range(0, 40, 2)],
    "held_out": lambda: [_collate(_samples()[:4])],
    "batch": lambda: _collate(_samples()[:2]),
    "path": lambda: "runs/first",
    "other": lambda: "runs/second",
    "run": _loaded("Profile"),
    "profile": _loaded("Profile"),
    "plan": _loaded("Plan"),
    "arguments": _arguments,
    "Trainer": _trainer,
    "ll": _module("layerlens_core"),
    "torch": _module("torch"),
}


def _names():
    return _Names(__name__="__main__")


def _run_commands(block):
    for words in commands_in(block):
        if words[0] in block.programs:
            check(words)
        elif words[0] == "cd":
            continue
        else:
            assert words[0] == "layerlens", (
                f"{block}: {words[0]} does not run here; say why in a comment before the block"
            )
            shorter = SHORTER.get(words[1], ())
            shorter = () if {"--only", *shorter[::2]} & set(words) else shorter
            result = Layerlens()(*(PLACEHOLDERS.get(word, word) for word in words[1:]), *shorter)
            fine = (0, 1) if words[1] == "diff" else (0,)
            assert result.exit_code in fine, f"{block}: {' '.join(words)}\n{result.output}"


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("page", RUN)
def test_a_page_runs(page, session, tmp_path):
    from layerlens_core.testing import isolated_registry

    blocks = [block for block in BLOCKS[page] if block.runs]
    made = {
        words[words.index("--out") + 1]
        for block in blocks
        if block.language in COMMANDS
        for words in commands_in(block)
        if "--out" in words
    }
    names = session(made)
    with isolated_registry(*providers_of(layerlens_plugin_costbenefit)), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that few samples rank by chance
        for block in blocks:
            if block.language in COMMANDS:
                _run_commands(block)
            elif block.language in PYTHON and block.module:
                (tmp_path / block.module).write_text(block.code)
                compile(block.code, block.module, "exec")
            elif block.language in PYTHON:
                with contextlib.redirect_stdout(io.StringIO()):
                    code = compile("\n" * block.line + block.code, block.page, "exec")
                    exec(code, names)


def test_every_block_runs_is_checked_or_shows_something():
    """No other language, so that nothing is left out because of how it is marked."""
    for blocks in BLOCKS.values():
        for block in blocks:
            assert block.language in (*COMMANDS, *PYTHON, *SHOWN), f"{block}: {block.language}"


def test_what_is_not_run_is_listed():
    found = Counter()
    for blocks in BLOCKS.values():
        for block in blocks:
            if block.reason is not None and block.language in (*COMMANDS, *PYTHON):
                found[block.page, ", ".join(block.programs), block.reason] += 1
    assert dict(found) == NOT_RUN


@pytest.mark.parametrize("block", [block for blocks in BLOCKS.values() for block in blocks if not block.runs], ids=str)
def test_what_is_not_run_could_be(block):
    if block.language in PYTHON:
        compile(block.code, block.page, "exec")
    elif block.language in COMMANDS:
        for words in commands_in(block):
            check(words)


@pytest.mark.parametrize(
    "block", [block for blocks in BLOCKS.values() for block in blocks if block.language in ("json", "toml")], ids=str
)
def test_what_is_shown_can_be_read(block):
    import tomllib

    {"json": json.loads, "toml": tomllib.loads}[block.language](block.code)
