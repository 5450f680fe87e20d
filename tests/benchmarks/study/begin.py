"""What the study's scripts have in common: their options, and the task that they begin with."""

import argparse
from pathlib import Path

import attrs
from tasks import RECIPES, load


def parser_of(doc: str) -> argparse.ArgumentParser:
    """A parser with the options that all scripts have.

    doc: of the script.
    """
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("task", choices=list(RECIPES))
    parser.add_argument("--models", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--training", type=int, default=0, help="training and held-out samples; 0 for all")
    parser.add_argument("--compile", action="store_true")
    return parser


def begun(arguments):
    """The task, and the directory of its results."""
    out = Path(arguments.out) / arguments.task
    out.mkdir(parents=True, exist_ok=True)
    models, data = Path(arguments.models), Path(arguments.data)
    task = load(arguments.task, models, data, device=arguments.device, dtype=arguments.dtype)
    if arguments.training:
        most = arguments.training
        task = attrs.evolve(task, training=task.training[:most], held_out=task.held_out[:most])
    return task, out
