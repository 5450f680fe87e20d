"""Plugins, strategies and profiles made by hand, for what the registry does with them."""

import layerlens_core as ll
from layerlens_core.plugin.hookspecs import hookimpl
from layerlens_core.values.inventory import Inventory, Layer, LinearModule
from layerlens_core.values.scores import RawScores


def plugin(**hooks):
    """A plugin object: marked hooks by name."""
    return type("Plugin", (), {name: staticmethod(hookimpl(function)) for name, function in hooks.items()})()


def profile(*scores: float) -> ll.Profile:
    """Layers L0, L1 … of one linear module each, scored so."""
    layers = tuple(
        Layer(
            name=f"L{i}",
            modules=(LinearModule(name=f"L{i}.w", layer=f"L{i}", kind="linear", in_features=16, out_features=16),),
        )
        for i in range(len(scores))
    )
    values = {layer.name: score for layer, score in zip(layers, scores, strict=True)}
    return ll.Profile(
        inventory=Inventory(architecture="Toy", model_type="toy", parameters=10_000, layers=layers),
        task="causal-lm",
        scores=(RawScores(metric="fisher", unit="1", granularity="layer", values=values),),
        statistics=(),
        data="none",
        samples=1,
        loss=0.0,
    )


def rank_two_for_the_best(candidates, limits, context):
    best = max(candidates.units, key=lambda unit: unit.utility)
    return [
        unit.decide("lora", 2, reason="best") if unit is best else unit.decide("none", reason="not the best")
        for unit in candidates.units
    ]


def unused(*_arguments):
    raise AssertionError("nobody asked for this")


def nothing():
    return []
