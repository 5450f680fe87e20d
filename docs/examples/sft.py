"""Train a planned causal language model with TRL's SFTTrainer.

    layerlens plan MODEL --data DATA.jsonl --out RUN
    python docs/examples/sft.py MODEL DATA.jsonl RUN

DATA.jsonl has a ``text``, or a ``prompt`` and a ``completion``, or ``messages`` a line. The trained adapter, and the
log, go to RUN/trained. Beside LayerLens it needs trl.
"""

import sys

import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

import layerlens_core as ll

source, data, run = sys.argv[1:]
plan = ll.Plan.load(run)

model = AutoModelForCausalLM.from_pretrained(source)
torch.manual_seed(0)  # LoRA's A is random
model = ll.apply(model, plan)  # a PeftModel: SFTTrainer takes it as it is, without a peft_config
model.print_trainable_parameters()

trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir=f"{run}/trained",
        num_train_epochs=3,
        per_device_train_batch_size=8,
        learning_rate=2e-3,
        max_length=256,
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        logging_strategy="epoch",
        save_strategy="no",
        report_to=[],
    ),
    train_dataset=load_dataset("json", data_files=data, split="train"),
    processing_class=AutoTokenizer.from_pretrained(source),
)
trainer.train()
trainer.save_model()
trainer.save_state()
