"""The models and data of the study: pretrained models (README.md says which), and three kinds of text."""

import hashlib
import json
import random
import sysconfig
from collections.abc import Callable
from pathlib import Path

import torch
from attrs import frozen
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

MAX_LENGTH = 256
#: Of a text that gets one label.
MAX_LABELLED_LENGTH = 64
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

    name: gsm8k, intents or stdlib for the Llama, gemma for GSM8K with Gemma; labels for MiniLM, mpnet for MPNet.
    models: directory with ``lm``, ``minilm``, ``mpnet`` and ``gemma``, each an ordinary model directory, or one that
        `pack.py` unpacked, with its samples.
    data: directory with ``gsm8k`` and ``clinc150``; not read where the model's directory has samples.
    shuffled: permute the completions or labels of the training samples: nothing is left to learn.
    """
    recipe = RECIPES[name]
    folder = models / recipe.folder
    training, held_out = (rows(name, folder, data, part) for part in ("train", "test"))
    if shuffled:
        training = _permuted(training)
    options = {"dtype": getattr(torch, dtype)}
    if recipe.labels:
        torch.manual_seed(0)  # of the head, which is new
        classes = 1 + max(label for _, label in training)
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=classes, **options)
        training, held_out = ([_labelled(*row) for row in part] for part in (training, held_out))
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, **options)
        parts = ([_pair(*row) for row in part] for part in (training, held_out))
        training, held_out = ([sample for sample in part if (sample["labels"][1:] != -100).any()] for part in parts)
    random.Random(0).shuffle(held_out)
    kind = "sequence-classification" if recipe.labels else "causal-lm"
    return Task(model.to(device).eval(), kind, training, held_out[:MOST_HELD_OUT], recipe.batch, 3.0)


def rows(name: str, folder: Path, data: Path, part: str) -> list:
    """The rows of a task as tokens: pairs of a prompt's ids and a completion's, or of a text's ids and its label.

    name: of the task.
    folder: of the model, with a tokenizer or with ``samples/PART.jsonl``.
    data: as `load` takes it.
    part: train or test.
    """
    recipe = RECIPES[name]
    samples = folder / "samples" / f"{part}.jsonl"
    if samples.exists():
        return [tuple(row) for row in _read(samples)]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    read = recipe.read(data, part)
    if recipe.labels:
        names = sorted({label for _, label in recipe.read(data, "train")})
        return [(tokenizer(text)["input_ids"][:MAX_LABELLED_LENGTH], names.index(label)) for text, label in read]
    return [_tokens(tokenizer, *row) for row in read]


def _tokens(tokenizer, prompt, completion):
    first = tokenizer(prompt)["input_ids"] if prompt else [tokenizer.bos_token_id]
    second = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return first[:MAX_LENGTH], second[:MAX_LENGTH]


def _pair(first, second):
    ids = torch.tensor((first + second)[:MAX_LENGTH])
    labels = torch.tensor(([-100] * len(first) + second)[:MAX_LENGTH])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def _labelled(ids, label):
    ids = torch.tensor(ids)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor(label)}


def _read(path):
    with path.open() as file:
        return [json.loads(line) for line in file]


def _gsm8k(data, part):
    return [(row["prompt"], row["completion"]) for row in _read(data / "gsm8k" / f"{part}.jsonl")]


def _clinc150(data, part):
    return [(row["text"], row["label"]) for row in _read(data / "clinc150" / f"{part}.jsonl")]


def _intents(data, part):
    return [(f"{text}\nIntent:", f" {label.replace('_', ' ')}") for text, label in _clinc150(data, part)]


def _stdlib(_data, part):
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


def _permuted(pairs):
    second = [each for _, each in pairs]
    random.Random(1).shuffle(second)
    return [(first, other) for (first, _), other in zip(pairs, second, strict=True)]


@frozen
class Recipe:
    """How a task is made.

    folder: of its model.
    read: its rows as text, of the data's directory and a part.
    batch: samples a step.
    labels: whether a text gets one label, rather than a completion.
    """

    folder: str
    read: Callable[[Path, str], list[tuple[str, str]]]
    batch: int
    labels: bool = False


RECIPES = {
    "gsm8k": Recipe("lm", _gsm8k, 32),
    "intents": Recipe("lm", _intents, 64),
    "stdlib": Recipe("lm", _stdlib, 64),
    "gemma": Recipe("gemma", _gsm8k, 16),
    "labels": Recipe("minilm", _clinc150, 64, labels=True),
    "mpnet": Recipe("mpnet", _clinc150, 64, labels=True),
}
