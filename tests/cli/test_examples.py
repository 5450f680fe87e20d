"""The examples of the documentation train a planned model, run as a user would run them."""

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from layerlens_core.values.plan import Plan

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
ROWS = 256
WORDS = ("the", "red", "cat", "sees", "a", "dog", "and", "old", "bird", "finds", "house")


def _labelled(draw: random.Random) -> dict[str, str]:
    label = draw.choice(("cat", "dog", "bird"))
    return {"text": " ".join([label] * 5), "label": label}


def _text(draw: random.Random) -> dict[str, str]:
    start = draw.randrange(4)
    return {"text": " ".join(WORDS[start:])}


def _pair(draw: random.Random) -> dict[str, str]:
    return {"prompt": " ".join(draw.choices(WORDS, k=4)), "completion": " the old bird finds a house"}


#: Example, run, model, and the rows that it learns from: 96 steps on what is easy to learn.
CASES: dict[str, tuple[str, str, str, Callable[[random.Random], dict[str, str]]]] = {
    "trainer": ("trainer.py", "bert-classifier", "bert", _labelled),
    "sft on text": ("sft.py", "llama", "llama", _text),
    "sft on prompts and completions": ("sft.py", "llama", "llama", _pair),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_an_example_trains_the_planned_model(
    run: Callable[[str], Path],
    model: Callable[[str], str],
    write: Callable[[str, Sequence[Mapping[str, Any]]], str],
    name: str,
) -> None:
    example, planned, family, row = CASES[name]
    draw = random.Random(0)
    there, data = run(planned), write("train.jsonl", [row(draw) for _ in range(ROWS)])
    command = [sys.executable, EXAMPLES / example, model(family), data, there]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

    plan = Plan.load(there)
    assert f"trainable params: {plan.parameters + plan.head_parameters:,} " in done.stdout
    state = json.loads((there / "trained" / "trainer_state.json").read_text())
    losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    assert state["global_step"] == 96
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)
    assert losses == sorted(losses, reverse=True), losses
    assert losses[-1] < 0.95 * losses[0], losses

    trained = load_file(there / "trained" / "adapter_model.safetensors")
    moved = {key.removeprefix("base_model.model.").removesuffix(".lora_B.weight") for key in trained if "lora_B" in key}
    assert moved == set(plan.sizes("lora"))
    assert all(trained[f"base_model.model.{name}.lora_B.weight"].any() for name in moved)


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {example for example, *_ in CASES.values()}
