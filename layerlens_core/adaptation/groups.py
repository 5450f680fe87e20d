"""Parameter groups for an optimizer: what each method trains, at its own learning rate.

Cores want larger rates than LoRA. In the study (docs/evidence.md) the best rate of cores was 1 to 8 times LoRA's at as
many parameters, 4 times in the median, so that is what they get where no comparison found their own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import nn

from layerlens_core.adaptation.attached import adapted
from layerlens_core.adaptation.config import LayerLensConfig
from layerlens_core.errors import ModelError, PlanError
from layerlens_core.values.plan import CORE, LORA_METHODS, Plan
from layerlens_core.values.recipe import Recipe

#: By how much a method's rate differs from LoRA's, where its own is not known.
FACTORS: Mapping[str, float] = {CORE: 4.0}
#: The group of task heads, which train in full.
HEAD = "head"


def parameter_groups(
    model: PeftModel, rate: float | None = None, *, run: str | Path | None = None, adapter: str = "default"
) -> list[dict[str, Any]]:
    """What trains in a model, as groups that any optimizer of torch takes, and so the Trainer.

        optimizer = torch.optim.AdamW(ll.parameter_groups(model, 5e-3), weight_decay=0)
        Trainer(..., optimizers=(optimizer, None))

    model: with a plan applied, or an adapter loaded for training.
    rate: of LoRA, adapters, prefixes and heads; cores get four times that.
    run: the directory of a run whose comparison found a rate for every method; it goes before ``rate``.
    adapter: name of the adapter.

    Returns groups with ``params``, ``name`` (the method, or ``head``) and ``lr``, each parameter in exactly one. Raises
    `PlanError` where there is neither a rate nor a recipe of the run's plan, and `ModelError` where nothing trains.
    """
    found = _rates_of(run) if run is not None else {}
    if rate is None and not found:
        raise PlanError(
            "parameter_groups needs a learning rate"
            + ("" if run is None else f": {run} has no recipe for its plan; compare it, or give rate=…")
        )
    base = rate if rate is not None else min(found.values())
    groups = {
        name: parameters
        for name, held in _trained_by(model, adapter).items()
        if (parameters := [p for p in held if p.requires_grad])
    }
    if not groups:
        raise ModelError("nothing in the model trains; load an adapter with trainable=True, and do not disable it")
    return [
        {"params": parameters, "name": name, "lr": found.get(name, base * FACTORS.get(name, 1.0))}
        for name, parameters in groups.items()
    ]


def _trained_by(model: PeftModel, adapter: str) -> dict[str, list[nn.Parameter]]:
    """By method, and for heads, the parameters of an adapter, whether they train or not."""
    config = model.peft_config[adapter]
    entries = config.each() if isinstance(config, LayerLensConfig) else {}
    methods = {name: entry.method for name, entry in entries.items()}
    found: dict[str, list[nn.Parameter]] = {}
    for name, layer in adapted(model.get_base_model()):
        parts = (getattr(layer, part) for part in layer.adapter_layer_names)
        own = [part[adapter] for part in parts if adapter in part]
        parameters = [p for part in own for p in ([part] if isinstance(part, nn.Parameter) else part.parameters())]
        found.setdefault(methods.get(name, "lora"), []).extend(parameters)
    heads = [
        parameter
        for module in model.modules()
        if isinstance(module, ModulesToSaveWrapper) and adapter in module.modules_to_save
        for parameter in module.modules_to_save[adapter].parameters()
    ]
    return dict(sorted(found.items())) | ({HEAD: heads} if heads else {})


def _rates_of(run: str | Path) -> dict[str, float]:
    """By method, the rates that the run's comparison found; heads train at that of LoRA, or of what there is."""
    recipe = Recipe.load(run, Plan.load(run))
    if recipe is None or not recipe.groups:
        return {}
    lora = [rate for method, rate in recipe.groups.items() if method in LORA_METHODS - {CORE}]
    return {**recipe.groups, HEAD: min(lora or recipe.groups.values())}
