"""The README of an adapter's directory: a model card that says what it is, how it came about, and how to use it."""

import json
from collections.abc import Iterable
from pathlib import Path

from layerlens_core.values.plan import CORE, LORA_METHODS, Plan
from layerlens_core.values.profile import Profile
from layerlens_core.values.table import spelled

CARD = "README.md"
#: PEFT's names of tasks. Of classifiers it would train heads by names of its own choice beside the planned ones, so
#: theirs stays open.
PEFT_TASKS = {"causal-lm": "CAUSAL_LM", "seq2seq-lm": "SEQ_2_SEQ_LM"}
#: The hub's names of what the models do.
_PIPELINES = {
    "causal-lm": "text-generation",
    "masked-lm": "fill-mask",
    "seq2seq-lm": "text2text-generation",
    "sequence-classification": "text-classification",
    "token-classification": "token-classification",
}


def write_card(directory: Path, plan: Plan, profile: Profile, model: str) -> Path:
    """Write the card, in place of the empty one that PEFT writes.

    directory: of the adapter.
    plan: that it was made from.
    profile: that the plan was made from.
    model: a local directory or a hub id.
    """
    path = directory / CARD
    path.write_text("\n".join([*_metadata(profile, model), *_text(plan, profile, model)]) + "\n", encoding="utf-8")
    return path


def _metadata(profile: Profile, model: str) -> Iterable[str]:
    yield "---"
    if not Path(model).is_dir():  # the hub refuses what is none of its names
        yield f"base_model: {json.dumps(model)}"
    yield "library_name: peft"
    if profile.task in _PIPELINES:
        yield f"pipeline_tag: {_PIPELINES[profile.task]}"
    yield "tags:\n- layerlens\n- peft\n---\n"


def _text(plan: Plan, profile: Profile, model: str) -> Iterable[str]:
    methods = sorted({decision.method for decision in plan.decisions} - {"none"})
    name = model if not Path(model).is_dir() else Path(model).resolve().name
    yield f"# {name}: {' and '.join(methods)}, planned by layer\n"
    heads = f", and {plan.head_parameters:,} in the head" if plan.heads else ""
    yield (
        f"{plan.parameters:,} trainable parameters{heads}, for {profile.task}. As LayerLens wrote it, it is "
        "initialised and not trained: the model computes what it did without it.\n"
    )
    yield "## Use\n\n```python"
    plain = set(methods) <= LORA_METHODS
    if plain:
        yield "from peft import PeftModel\n"
        yield 'model = PeftModel.from_pretrained(model, "this directory", is_trainable=True)'
    else:
        yield "import layerlens_core as ll\n"
        yield 'model = ll.load(model, "this directory", trainable=True)'
    yield "```\n"
    if CORE in methods:
        yield "`layerlens_core.load` trains the cores; what PEFT loads is the LoRA that they are.\n"
    yield "## The plan\n"
    yield f"By layer of {plan.architecture}" + (f"; α is {plan.scale} times the rank.\n" if plain else ".\n")
    yield "| layer | method | size | parameters |\n|---|---|---|---:|"
    for decision in plan.decisions:
        sizes = spelled(list(decision.sizes.values()))
        yield f"| `{decision.unit}` | {decision.method} | {sizes} | {decision.parameters:,} |"
    yield "\n## How it was made\n"
    yield f"- Budget: {' '.join(plan.request.budget) or 'unlimited'}; strategy: {plan.request.strategy}."
    if plan.abstained is not None:
        yield f"- One size everywhere, as {plan.abstained}."
    metrics = ", ".join(scores.metric for scores in profile.scores)
    yield f"- Layers scored by {metrics}, on {profile.samples:,} samples of a mean loss of {profile.loss:.4f} nats."
    yield f"- Plan {plan.digest[:12]}…, profile {profile.digest[:12]}… (SHA-256)."
    for note in plan.notes:
        yield f"- {note[:1].upper()}{note[1:]}."
