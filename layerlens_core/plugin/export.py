"""What an exporter gets, what every trainer asks of a plan, and how keys are written: plain values, no torch."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from layerlens_core.errors import PlanError
from layerlens_core.files import atomic
from layerlens_core.values.plan import CORE, LORA_METHODS, Plan
from layerlens_core.values.profile import Profile
from layerlens_core.values.recipe import Recipe


@frozen(kw_only=True)
class ExportRequest:
    """A plan that is to be handed to a trainer.

    plan: what to hand over.
    profile: of the run: the inventory, the task, the names of the classes.
    model: the planned model, a local directory or a hub id, as it was typed.
    out: the directory to write to; it may not exist yet.
    init: how LoRA starts in the adapter, ``random``, ``gradient`` or ``by-rank``.
    recipe: what a comparison found about training the plan, where there was one: `Recipe.keys` are its rate and
        schedule under the Trainer's names.
    adapter: loads the model, applies the plan and writes the initialised adapter into ``out``, whole or not at all;
        returns the files. An exporter that needs keys alone never calls it, so that no model is loaded.
    say: prints one line for people, beside the results.
    """

    plan: Plan
    profile: Profile
    model: str
    out: Path
    init: str = "random"
    recipe: Recipe | None = None
    adapter: Callable[[], tuple[Path, ...]]
    say: Callable[[str], object]

    @property
    def base(self) -> str:
        """The model, as a configuration can name it from any working directory: a local one by its full path."""
        path = Path(self.model)
        return str(path.resolve()) if path.is_dir() else self.model


def other_methods(plan: Plan) -> dict[str, list[str]]:
    """Layers by method, for what trains something else than LoRA: of a core a trainer would train A and B.

    plan: to be exported.
    """
    layers: dict[str, list[str]] = {}
    for decision in plan.decisions:
        if decision.method not in (LORA_METHODS - {CORE}) | {"none"}:
            layers.setdefault(decision.method, []).append(decision.unit)
    return dict(sorted(layers.items()))


def require_lora(plan: Plan, trainer: str) -> None:
    """Raises `PlanError` where the plan holds what LoRA in this trainer cannot express, or nothing to train.

    plan: to be exported.
    trainer: its name, for messages.
    """
    if others := other_methods(plan):
        named = " and ".join(f"{method} to {_enumerate(layers)}" for method, layers in others.items())
        raise PlanError(
            f"{trainer} trains LoRA alone, but this plan gives {named}; allocate again with --methods lora,none, "
            "or export it --to peft"
        )
    if not any(plan.sizes(method) for method in LORA_METHODS):
        raise PlanError("the plan trains nothing: every layer is 'none'")


def require_causal(plan: Plan, trainer: str) -> None:
    """Raises `PlanError` where the plan is for another task than causal language modelling.

    plan: to be exported.
    trainer: its name, for messages.
    """
    if plan.task != "causal-lm":
        heads = f" with the head {', '.join(head.name for head in plan.heads)}" if plan.heads else ""
        raise PlanError(
            f"the configuration of {trainer} is for causal language models, but this plan is for {plan.task}{heads}; "
            "export it --to peft"
        )


def recipe_keys(request: ExportRequest, **names: str) -> dict[str, Any]:
    """Rate and schedule for a trainer; none where no comparison found them.

    request: with the recipe.
    names: under which this trainer has what the Trainer calls otherwise.
    """
    keys = {} if request.recipe is None else request.recipe.keys
    return {names.get(name, name): value for name, value in keys.items()}


def write_keys(path: Path, keys: Mapping[str, Any], comment: str) -> Path:
    """Write keys as YAML under a comment. Values are JSON, which YAML takes; the keys of mappings may be long.

    path: the file.
    keys: plain values by key.
    comment: what the file begins with.

    Raises `FileError`, and leaves what was there, where the file cannot be written.
    """
    with atomic.replacing(path) as file:
        file.writelines(f"# {line}\n" for line in comment.splitlines())
        for key, value in keys.items():
            if isinstance(value, Mapping):
                # YAML wants a key of more than 1,024 characters, such as a pattern over many names, marked by "?".
                pairs = (f"  ? {_json(name)}\n  : {_json(entry)}\n" for name, entry in value.items())
                file.writelines([f"{key}:\n", *pairs])
            else:
                file.write(f"{key}: {_json(value)}\n")
    return path


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _enumerate(layers: list[str]) -> str:
    return layers[0] if len(layers) == 1 else f"{layers[0]} and {len(layers) - 1} more layers"
