"""The models and data of the study: a pretrained Llama of 24 M parameters, MiniLM, and three kinds of text."""

import hashlib
import json
import random
import sysconfig
from pathlib import Path

import torch
from attrs import frozen
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

MAX_LENGTH = 256
#: Held-out samples at most, so that judging costs little beside training.
MOST_HELD_OUT = 1500


@frozen
class Task:
    """A model, and what it is trained and judged on.

    model: in evaluation mode.
    kind: as LayerLens names it.
    training, held_out: samples.
    batch: samples a step.
    epochs: through the training samples.
    """

    model: object
    kind: str
    training: list
    held_out: list
    batch: int
    epochs: float


def load(name: str, models: Path, data: Path, *, device: str, dtype: str, shuffled: bool = False) -> Task:
    """A task of the study.

    name: gsm8k, intents or stdlib for the Llama, labels for MiniLM.
    models: directory with ``lm`` and ``minilm``, each an ordinary model directory.
    data: directory with ``gsm8k`` and ``clinc150``.
    shuffled: permute the completions or labels of the training samples: nothing is left to learn.
    """
    if name == "labels":
        return _labels(models / "minilm", data, device, dtype, shuffled)
    tokenizer = AutoTokenizer.from_pretrained(models / "lm")
    model = AutoModelForCausalLM.from_pretrained(models / "lm", dtype=getattr(torch, dtype)).to(device).eval()
    parts = [[_pair(tokenizer, *row) for row in _ROWS[name](data, part, shuffled)] for part in ("train", "test")]
    training, held_out = ([sample for sample in part if (sample["labels"][1:] != -100).any()] for part in parts)
    random.Random(0).shuffle(held_out)
    batch = 32 if name == "gsm8k" else 64
    return Task(model, "causal-lm", training, held_out[:MOST_HELD_OUT], batch, 3.0)


def _pair(tokenizer, prompt, completion):
    first = tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else [0]
    second = [*tokenizer(completion, add_special_tokens=False)["input_ids"], 0]
    ids = torch.tensor((first + second)[:MAX_LENGTH])
    labels = torch.tensor(([-100] * len(first) + second)[:MAX_LENGTH])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def _read(path):
    with path.open() as file:
        return [json.loads(line) for line in file]


def _gsm8k(data, part, shuffled):
    rows = _read(data / "gsm8k" / f"{part}.jsonl")
    return _permuted([(row["prompt"], row["completion"]) for row in rows], shuffled and part == "train")


def _intents(data, part, shuffled):
    rows = _read(data / "clinc150" / f"{part}.jsonl")
    pairs = [(f"{row['text']}\nIntent:", f" {row['label'].replace('_', ' ')}") for row in rows]
    return _permuted(pairs, shuffled and part == "train")


def _stdlib(_data, part, _shuffled):
    """Source of the standard library in pieces, held out by module."""
    root = Path(sysconfig.get_paths()["stdlib"])
    rows = []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if "site-packages" in name or "/test" in name or name.startswith(("test", "lib2to3", "idlelib", "encodings")):
            continue
        if (int(hashlib.sha256(name.encode()).hexdigest(), 16) % 8 == 0) != (part == "test"):
            continue
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError):
            continue
        rows += [("", text[at : at + 600]) for at in range(0, min(len(text), 24_000), 600)]
    return rows


def _permuted(pairs, shuffled):
    if not shuffled:
        return pairs
    second = [completion for _, completion in pairs]
    random.Random(1).shuffle(second)
    return [(prompt, completion) for (prompt, _), completion in zip(pairs, second, strict=True)]


def _labels(folder, data, device, dtype, shuffled):
    parts = [_read(data / "clinc150" / f"{part}.jsonl") for part in ("train", "test")]
    names = sorted({row["label"] for row in parts[0]})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(names), dtype=getattr(torch, dtype)
    )

    def encoded(rows, permuted):
        labels = [names.index(row["label"]) for row in rows]
        if permuted:
            random.Random(1).shuffle(labels)
        found = []
        for row, label in zip(rows, labels, strict=True):
            ids = torch.tensor(tokenizer(row["text"])["input_ids"][:64])
            found.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor(label)})
        return found

    held_out = encoded(parts[1], False)
    random.Random(0).shuffle(held_out)
    return Task(
        model.to(device).eval(),
        "sequence-classification",
        encoded(parts[0], shuffled),
        held_out[:MOST_HELD_OUT],
        64,
        3.0,
    )


_ROWS = {"gsm8k": _gsm8k, "intents": _intents, "stdlib": _stdlib}
