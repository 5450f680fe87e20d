"""Profiles and runs that differ in what a test says."""

import random

import attrs

from bert_profile import bert_profile
from layerlens_core.plugin.discovery import Plugin
from layerlens_core.values.scores import RawScores

VERSIONS = {"layerlens": "0.1.0", "python": "3.11.9", "torch": "2.13.0"}
PLUGINS = (Plugin(name="mine", distribution="d-mine", version="1"),)
LAYERS = 8


def scores(metric, seed):
    draw = random.Random(seed)
    made = bert_profile([0.2 + draw.random() for _ in range(LAYERS)], granularity="module")
    return attrs.evolve(made.scores[0], metric=metric)


def measured(*found: RawScores, data="a", **more):
    """A profile that supports departing from uniform, with these scores."""
    stability = {each.metric: 0.9 for each in found}
    return attrs.evolve(
        bert_profile([1.0] * LAYERS),
        **{
            "scores": found, "samples": 64, "stability": stability, "module_stability": stability, "data": data * 64,
            "versions": VERSIONS, "settings": {"group": 2, "seed": 0, "dtype": "float32"}, **more,
        },
    )  # fmt: skip


PROFILE = measured(scores("fisher", 1), scores("gora", 2))


def names(found):
    return [each.name for each in found.inputs]


def explains(found):
    return {each.name: None if each.effect.explains is None else len(each.effect.explains) for each in found.inputs}


def decided_otherwise(plan):
    """The plan as another version would have made it: rank 1 more for the first layer, 1 less for the second."""
    one, other, *rest = plan.decisions
    return attrs.evolve(plan, decisions=(swapped(one, other), swapped(other, one), *rest))


def swapped(decision, other):
    """A decision with the sizes and the cost of another layer's."""
    sizes = {name.replace(other.unit, decision.unit): size for name, size in other.sizes.items()}
    return attrs.evolve(decision, sizes=sizes, size=other.size, cost=other.cost)


def of_layers(number, prefix="bert"):
    profile = bert_profile([1.0 + layer for layer in range(number)])
    if prefix != "bert":
        names = profile.inventory
        layers = tuple(
            attrs.evolve(
                layer,
                name=layer.name.replace("bert", prefix),
                attentions=(),
                modules=tuple(
                    attrs.evolve(each, name=each.name.replace("bert", prefix), layer=each.layer.replace("bert", prefix))
                    for each in layer.modules
                ),
            )
            for layer in names.layers
        )
        values = {layer.name: 1.0 for layer in layers}
        scores = attrs.evolve(profile.scores[0], values=values)
        profile = attrs.evolve(profile, inventory=attrs.evolve(names, layers=layers), scores=(scores,))
    return attrs.evolve(profile, data="a" * 64, versions=VERSIONS)
