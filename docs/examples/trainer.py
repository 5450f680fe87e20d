"""Train a planned classifier with the Hugging Face Trainer.

    layerlens plan MODEL --data DATA.jsonl --out RUN
    python docs/examples/trainer.py MODEL DATA.jsonl RUN

DATA.jsonl has a ``text`` and a ``label`` a line. The trained adapter, and the log, go to RUN/trained.
Beside LayerLens it needs accelerate and datasets.
"""

import sys

import torch
from datasets import load_dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

import layerlens_core as ll

source, data, run = sys.argv[1:]
plan, labels = ll.Plan.load(run), ll.Profile.load(run).labels

tokenizer = AutoTokenizer.from_pretrained(source)
torch.manual_seed(0)  # the new head is random, and so is LoRA's A
model = AutoModelForSequenceClassification.from_pretrained(
    source, id2label=dict(enumerate(labels)), label2id={label: index for index, label in enumerate(labels)}
)
model = ll.apply(model, plan)
model.print_trainable_parameters()


def encode(row):
    return {**tokenizer(row["text"], truncation=True, max_length=256), "labels": labels.index(row["label"])}


rows = load_dataset("json", data_files=data, split="train")
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir=f"{run}/trained",
        num_train_epochs=3,
        per_device_train_batch_size=8,
        learning_rate=2e-3,
        logging_strategy="epoch",
        save_strategy="no",
        report_to=[],
    ),
    train_dataset=rows.map(encode, remove_columns=rows.column_names),
    data_collator=DataCollatorWithPadding(tokenizer),
)
trainer.train()
trainer.save_model()
trainer.save_state()
