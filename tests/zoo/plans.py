"""Plans written by hand, for tests that apply them."""

from collections.abc import Mapping

import transformers

from layerlens_core.inspection.inspect import inspect
from layerlens_core.plugin.registry import default
from layerlens_core.values.costs import Cost, Limits, Training
from layerlens_core.values.decisions import Decision
from layerlens_core.values.inventory import Inventory
from layerlens_core.values.plan import Plan
from layerlens_core.values.request import Request


def _plan(inventory: Inventory, decisions: list[Decision], methods: tuple[str, ...], scale: int) -> Plan:
    """A plan of these decisions, without a budget."""
    return Plan(
        profile="0" * 64,
        architecture=inventory.architecture,
        fingerprint=inventory.fingerprint,
        shapes=inventory.shapes,
        task="",
        request=Request(strategy="by hand", budget=(), weights={}, methods=methods, scale=scale),
        limits=Limits(),
        cost=sum((decision.cost for decision in decisions), Cost()),
        decisions=tuple(decisions),
        heads=inventory.heads,
    )


def plan_of(
    model: transformers.PreTrainedModel, ranks: Mapping[str, int], *, scale: int = 2, method: str = "lora"
) -> Plan:
    """A plan for a model with LoRA of these ranks; layers without any are ``none``."""
    inventory = inspect(model)
    decisions = []
    for layer in inventory.layers:
        sizes = {module.name: ranks.get(module.name, 0) for module in layer.modules}
        trains = any(sizes.values())
        decisions.append(
            Decision(
                unit=layer.name,
                method=method if trains else "none",
                size=max(sizes.values()),
                sizes=sizes if trains else {},
                utility=1.0,
                cost=Cost(params=sum(sizes[m.name] * (m.in_features + m.out_features) for m in layer.modules)),
                reason="by hand",
            )
        )
    return _plan(inventory, decisions, ("none", method), scale)


def mixed_ranks(model: transformers.PreTrainedModel) -> dict[str, int]:
    """Ranks 1 to 5 over the modules of a model, its second layer and a module here and there left out."""
    ranks = {}
    for at, layer in enumerate(inspect(model).layers):
        if at != 1:
            for number, module in enumerate(layer.modules):
                if (rank := (at + 2 * number + 3) % 6) > 0:
                    ranks[module.name] = rank
    return ranks


def plan_with(
    model: transformers.PreTrainedModel,
    chosen: Mapping[str, tuple[str, int | Mapping[str, int]]],
    *,
    scale: int = 2,
) -> Plan:
    """A plan that gives layers these methods at these sizes, costed as the methods themselves do; others are ``none``.

    chosen: by layer, the method with one size, or with a size for each place by the end of its name.
    """
    inventory = inspect(model)
    decisions = []
    for layer in inventory.layers:
        method, size = chosen.get(layer.name, ("none", 0))
        targets = default().load("method", method).targets(layer)
        sizes = {
            target.name: size
            if isinstance(size, int)
            else next((n for end, n in size.items() if target.name.endswith(end)), 0)
            for target in targets
        }
        decisions.append(
            Decision(
                unit=layer.name,
                method=method,
                size=max(sizes.values(), default=0),
                sizes=sizes,
                utility=1.0,
                cost=sum((target.cost(sizes[target.name], Training()) for target in targets), Cost()),
                reason="by hand",
            )
        )
    methods = tuple(dict.fromkeys(decision.method for decision in decisions))
    return _plan(inventory, decisions, methods, scale)
