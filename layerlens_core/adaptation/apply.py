"""Build the model that a plan describes: a PeftModel with each planned module at its own rank."""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from layerlens_core.adaptation.inspect import inspect
from layerlens_core.errors import ModelError, PlanError
from layerlens_core.inventory import Inventory
from layerlens_core.plan import Plan

APPLICABLE = frozenset({"none", "lora"})


def apply(model: PreTrainedModel, plan: Plan) -> PeftModel:
    """A PeftModel that trains exactly what the plan says; with B = 0 it computes what ``model`` does.

    The model's own linear modules are wrapped in place, as PEFT does. Task heads of a classifier train in
    full beside the plan, as PEFT's ``modules_to_save``.

    Raises `ModelError` where the model is not the planned one, and `PlanError` where the plan holds a method
    that cannot be applied, or is not consistent in itself; in all cases before anything is changed.
    """
    check_applicable(plan)
    inventory = inspect(model)
    ranks = plan.sizes("lora")
    costs = {module.name: module.in_features + module.out_features for module in inventory.modules}
    # The fingerprint leaves heads out: a causal model and a classifier can have the same layers.
    if (inventory.fingerprint, inventory.heads) != (plan.fingerprint, plan.heads) or not ranks.keys() <= costs.keys():
        raise ModelError(_difference(inventory, plan))
    if not ranks:
        raise PlanError("the plan trains nothing: every layer is 'none'")
    if (cost := sum(rank * costs[name] for name, rank in ranks.items())) != plan.parameters:
        raise PlanError(f"the plan is for {plan.parameters:,} trainable parameters, but its ranks take {cost:,}")
    wrapped = attach_lora(model, ranks, scale=plan.scale, heads=[head.name for head in plan.heads])
    _verify(wrapped, ranks, plan)
    return wrapped


def check_applicable(plan: Plan) -> None:
    """Raises `PlanError` where the plan holds a method that cannot be applied."""
    unsupported = sorted({decision.method for decision in plan.decisions} - APPLICABLE)
    if unsupported:
        raise PlanError(
            f"the plan uses {', '.join(unsupported)}, which cannot be applied yet; allocate again with "
            f"--methods {','.join(sorted(APPLICABLE, reverse=True))}"
        )


def attach_lora(
    model: PreTrainedModel, ranks: Mapping[str, int], *, scale: int, heads: Iterable[str] = ()
) -> PeftModel:
    """LoRA on exactly these modules, each at its rank, α/r = ``scale`` everywhere.

    PEFT matches names by suffix and condenses long lists of names, so that ``layers.1.`` can hit layer 11
    and a vision tower the text model. Here every pattern is one anchored alternation of escaped full names,
    and there is one pattern a rank, so patterns are disjoint and their order, which saving does not keep,
    cannot matter.

    Raises `ModelError`, and leaves the model as it was, where PEFT would take other modules for a head, or
    adapts others than these: it rewrites the patterns of some mixtures of experts to the ends of names.
    """
    heads = list(heads)
    _check_heads(model, heads)
    largest = max(ranks.values())
    by_rank: dict[int, list[str]] = {}
    for name, rank in ranks.items():
        by_rank.setdefault(rank, []).append(name)
    patterns = {rank: exactly(names) for rank, names in sorted(by_rank.items())}
    config = LoraConfig(
        r=largest,
        lora_alpha=scale * largest,
        target_modules=exactly(ranks),
        rank_pattern={pattern: rank for rank, pattern in patterns.items() if rank != largest},
        alpha_pattern={pattern: scale * rank for rank, pattern in patterns.items() if rank != largest},
        modules_to_save=heads or None,
        base_model_name_or_path=model.config._name_or_path or None,
    )
    with warnings.catch_warnings():
        # PEFT 0.21 reads an attribute that transformers 5.23 has renamed and still serves.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        # It finds out by itself that a Conv1D holds its weight transposed, which is right, and says so each time.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
        restore = _remember(model)
        try:
            wrapped = get_peft_model(model, config)
            adapted = lora_layers(wrapped).keys()
            if adapted != ranks.keys():
                raise ModelError(
                    f"PEFT adapts {len(adapted)} modules of {type(model).__name__} where {len(ranks)} were asked for: "
                    f"{min(adapted ^ ranks.keys())} is one of those that differ; this model is not supported yet"
                )
        except BaseException:
            restore()
            raise
    return wrapped


def _remember(model: PreTrainedModel) -> Callable[[], None]:
    """A function that makes every module again the very one that it is now, and every weight frozen or not as now.

    The random state, from which PEFT draws, goes back with them.
    """
    children = [(module, dict(module._modules)) for module in model.modules()]
    attributes = dict(vars(model))
    required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    hooks = {module: set(module._forward_hooks) for module in model.modules()}
    random = torch.get_rng_state()

    def restore() -> None:
        for module, named in children:
            for name, child in named.items():
                if module._modules.get(name) is not child:
                    module._modules[name] = child
        for attribute in set(vars(model)) - set(attributes):
            delattr(model, attribute)
        vars(model).update(attributes)
        for parameter, requires_grad in required:
            parameter.requires_grad_(requires_grad)
        for module, known in hooks.items():
            for added in set(module._forward_hooks) - known:
                del module._forward_hooks[added]
        torch.set_rng_state(random)

    return restore


@contextmanager
def temporary_lora(
    model: PreTrainedModel, ranks: Mapping[str, int], *, scale: int, heads: Iterable[str] = ()
) -> Iterator[PeftModel]:
    """LoRA, and trainable copies of heads, that are gone afterwards, also after an exception.

    PEFT's own ``unload`` puts the trained copy of a head in place of the original, leaves the weights frozen,
    and under gradient checkpointing hooks on the embeddings; here every module is again the very one that it
    was, and every weight frozen or not as before.
    """
    restore = _remember(model)
    try:
        yield attach_lora(model, ranks, scale=scale, heads=heads)
    finally:
        restore()


def exactly(names: Iterable[str]) -> str:
    """A pattern that matches these full names and nothing else, under both ways in which PEFT matches."""
    return "^(?:" + "|".join(re.escape(name) for name in sorted(names)) + ")$"


def lora_layers(model: PeftModel) -> dict[str, Any]:
    """PEFT's LoRA layers by the name of the module that they wrap."""
    base = model.get_base_model()
    return {name: module for name, module in base.named_modules() if isinstance(module, LoraLayer)}


def trainable_parameters(model: PeftModel) -> tuple[int, int]:
    """Trainable parameters of the adapters, and of the task heads beside them."""
    adapters = heads = 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            if ".modules_to_save." in name:
                heads += parameter.numel()
            else:
                adapters += parameter.numel()
    return adapters, heads


def _check_heads(model: PreTrainedModel, heads: Iterable[str]) -> None:
    """PEFT finds heads by the end of their names, and adapts nothing inside what it finds."""
    heads = set(heads)
    for name, _ in model.named_modules(remove_duplicate=False):
        if name not in heads and (head := next((head for head in sorted(heads) if name.endswith(head)), None)):
            raise ModelError(
                f"PEFT would train {name} in full, because its name ends like that of the head {head}; rename one"
            )


def _verify(model: PeftModel, ranks: Mapping[str, int], plan: Plan) -> None:
    """Hold PEFT to the plan: every module at its rank and scale, and the exact number of parameters."""
    made = {name: (layer.r["default"], layer.scaling["default"]) for name, layer in lora_layers(model).items()}
    planned = {name: (rank, float(plan.scale)) for name, rank in ranks.items()}
    if made != planned:
        differing = sorted(name for name in made.keys() | planned.keys() if made.get(name) != planned.get(name))
        raise PlanError(f"PEFT built {differing[0]} as {made.get(differing[0])}, planned {planned.get(differing[0])}")
    adapters, heads = trainable_parameters(model)
    if (adapters, heads) != (plan.parameters, plan.head_parameters):
        raise PlanError(
            f"PEFT made {adapters:,} trainable parameters and {heads:,} in heads; "
            f"planned were {plan.parameters:,} and {plan.head_parameters:,}"
        )


def _difference(inventory: Inventory, plan: Plan) -> str:
    message = f"the plan is for another model: {plan.architecture}, but this is {inventory.architecture}"
    have = {module.name for module in inventory.linears()} | {a.name for u in inventory.layers for a in u.attentions}
    missing = [name for decision in plan.decisions for name in decision.sizes if name not in have]
    if missing:
        return message + f"; it has no module {missing[0]} ({len(missing)} planned modules are missing)"
    if inventory.heads != plan.heads:
        have_heads, planned = (
            ", ".join(f"{head.name} of {head.parameters:,} parameters" for head in heads) or "none"
            for heads in (inventory.heads, plan.heads)
        )
        return message + f"; its heads are {have_heads}, planned were {planned}"
    return message + "; modules or their shapes differ"
