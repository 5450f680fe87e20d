"""Inventories, profiles and problems drawn at random: shapes, scores and prices that no real model happens to have."""

import random
from collections.abc import Mapping, Sequence
from functools import cache

from layerlens_core.allocation.problem import pose
from layerlens_core.plugin.registry import Registry
from layerlens_core.testing.registries import isolated_registry
from layerlens_core.values.candidates import CandidateSet
from layerlens_core.values.costs import RESOURCES, Activations, Cost, Limits, Training
from layerlens_core.values.inventory import AttentionModule, Inventory, Layer, LinearModule
from layerlens_core.values.profile import Profile
from layerlens_core.values.request import Request
from layerlens_core.values.scores import RawScores

#: What units of random problems choose from.
METHODS = ("none", "adapter", "lora")
#: LoRA is not merged, so that it costs latency as other methods do.
TRAINING = Training(batch=2, length=16, merged=False)
#: By resource; drawing limits that allow nothing at all is tried again so often.
_TRIES = 100


def random_inventory(seed: int, *, layers: int | None = None) -> Inventory:
    """Layers of an attention and two maps behind it, of widths that differ from layer to layer.

    seed: the same gives the same.
    layers: how many; None draws one to six.
    """
    draw = random.Random(f"inventory {seed}")
    made = tuple(_layer(f"model.layers.{i}", draw) for i in range(layers or draw.randint(1, 6)))
    weights = sum(m.in_features * m.out_features for layer in made for m in layer.modules)
    return Inventory(architecture="RandomModel", model_type="random", parameters=weights + 4096, layers=made)


def _layer(name: str, draw: random.Random) -> Layer:
    heads = draw.choice([1, 2, 4])
    width = heads * draw.choice([4, 8, 12])
    inner = draw.randint(8, 96)
    shapes = {"query": (width, width), "output": (width, width), "up": (width, inner), "down": (inner, width)}
    modules = tuple(
        LinearModule(
            name=f"{name}.{part}",
            layer=name,
            kind="linear",
            in_features=n_in,
            out_features=n_out,
            writes_residual=part in ("output", "down"),
        )
        for part, (n_in, n_out) in shapes.items()
    )
    attention = AttentionModule(
        name=f"{name}.attention",
        layer=name,
        query_heads=heads,
        key_value_heads=heads,
        key_dim=width // heads,
        value_dim=width // heads,
    )
    return Layer(name=name, modules=modules, attentions=(attention,))


def random_profile(
    seed: int, *, inventory: Inventory | None = None, scores: Sequence[float] | None = None, metric: str = "given"
) -> Profile:
    """A profile with scores of modules, activations and latencies, so that a budget can bound every resource.

    seed: the same gives the same.
    inventory: of the model; None draws one.
    scores: of the layers, spread evenly over their modules; None draws some: alike, skewed, or with zeros.
    metric: what the scores are called.
    """
    draw = random.Random(f"profile {seed}")
    inventory = inventory or random_inventory(seed)
    kind = draw.choice(["alike", "skewed", "zeros"])
    values = {}
    for index, layer in enumerate(inventory.layers):
        drawn = {"alike": 1.0, "skewed": draw.random() ** 4, "zeros": draw.choice([0.0, draw.random()])}[kind]
        for module in layer.modules:
            part = draw.random() if scores is None and kind == "skewed" else 1.0
            values[module.name] = (drawn if scores is None else scores[index]) * part
    return Profile(
        inventory=inventory,
        task="causal-lm",
        scores=(RawScores(metric=metric, unit="1", granularity="module", values=values, reduction="sum"),),
        statistics=(),
        data="random",
        samples=8,
        loss=1.0,
        settings={"dtype": "float32"},
        activations=Activations(
            through={layer.name: draw.uniform(100, 2000) for layer in inventory.layers},
            adapted={layer.name: draw.uniform(10, 500) for layer in inventory.layers},
            head=draw.uniform(100, 5000),
        ),
        latency={name: (draw.uniform(0, 1e-4), draw.uniform(0, 1e-5)) for name in METHODS if name != "none"},
    )


@cache
def random_problem(seed: int, *, bounds: tuple[str, ...] | None = None) -> tuple[CandidateSet, Limits]:
    """What a strategy gets: all candidates of a random profile, and limits within which at least one of them fits.

    seed: the same gives the same.
    bounds: the resources that are bounded, of `RESOURCES`; None draws one to four of them.
    """
    with isolated_registry() as registry:
        candidates = candidates_of(random_profile(seed), registry)
    draw = random.Random(f"limits {seed} {bounds}")
    bounded = bounds if bounds is not None else tuple(draw.sample(RESOURCES, draw.randint(1, len(RESOURCES))))
    least, most = candidates.base(None), _everything(candidates)
    for _ in range(_TRIES):
        limits = _limits({name: draw.random() ** 2 for name in bounded}, least, most)
        if _allows_any(candidates, limits):
            return candidates, limits
    return candidates, _limits(dict.fromkeys(bounded, 1.0), least, most)


def candidates_of(profile: Profile, registry: Registry, methods: Sequence[str] = METHODS) -> CandidateSet:
    """Every candidate of every layer of a profile.

    profile: with scores.
    registry: of providers.
    methods: to choose from.
    """
    request = Request(strategy="uniform", budget=(), methods=tuple(methods), training=TRAINING, abstain=False)
    return pose(profile, request, registry).candidates


def _everything(candidates: CandidateSet) -> Cost:
    """What the dearest candidate of every unit costs, the frozen model included."""
    total = candidates.base(0)
    for unit in candidates.units:
        dearest = {name: max(getattr(c.cost, name) for c in unit.candidates) for name in RESOURCES}
        total = total + Cost(**dearest)
    return total


def _limits(shares: Mapping[str, float], least: Cost, most: Cost) -> Limits:
    amounts: dict[str, float] = {}
    for name, share in shares.items():
        low = getattr(least, name)
        amount = low + share * (getattr(most, name) - low)
        amounts[name] = int(amount) if name == "params" else amount
    return Limits(**amounts)  # type: ignore[arg-type]


def _allows_any(candidates: CandidateSet, limits: Limits) -> bool:
    """Whether some candidate that trains anything fits alone."""
    return any(
        (candidates.base(unit.depth) + candidate.cost).within(limits)
        for unit in candidates.units
        for candidate in unit.candidates
        if candidate.cost.params > 0
    )
