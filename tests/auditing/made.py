"""Whole runs without a model: profiles with statistics, of two architectures, planned and compared, with a trace."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from comparison.runs import LABELS, SHORT, result
from layerlens_core import tracing
from layerlens_core.allocation.allocate import allocate
from layerlens_core.comparison.compared import Comparison
from layerlens_core.comparison.ending import save
from layerlens_core.comparison.judging.verdict import verdict
from layerlens_core.comparison.recipe import recipe_of
from layerlens_core.demo.scenarios import bert_layer
from layerlens_core.files.directions import write_directions
from layerlens_core.plugin.registry import default
from layerlens_core.values.comparison import Arm
from layerlens_core.values.costs import Activations
from layerlens_core.values.gains import GainCurve, Gains
from layerlens_core.values.inventory import AttentionModule, Head, Inventory, Layer, LinearModule, Skipped
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Evidence, Profile, WarmUp, here, versions
from layerlens_core.values.scores import RawScores
from layerlens_core.values.statistics import ModuleStatistics

SAMPLES, GROUP = 8, 2
METRICS = ("fisher", "weight_gradient")


def llama_layer(index: int, width: int) -> Layer:
    """One layer of a Llama with grouped queries."""
    name = f"model.layers.{index}"
    shapes = {
        "self_attn.q_proj": (width, width), "self_attn.k_proj": (width, width // 4),
        "self_attn.v_proj": (width, width // 4), "self_attn.o_proj": (width, width),
        "mlp.gate_proj": (width, 3 * width), "mlp.up_proj": (width, 3 * width), "mlp.down_proj": (3 * width, width),
    }  # fmt: skip
    modules = tuple(
        LinearModule(
            name=f"{name}.{module}", layer=name, kind="linear", in_features=n_in, out_features=n_out,
            writes_residual=module.endswith(("o_proj", "down_proj")),
        )
        for module, (n_in, n_out) in shapes.items()
    )  # fmt: skip
    attention = AttentionModule(
        name=f"{name}.self_attn", layer=name, query_heads=4, key_value_heads=1, key_dim=width // 4,
        value_dim=width // 4,
    )  # fmt: skip
    return Layer(name=name, modules=modules, attentions=(attention,))


def inventory_of(model: str, layers: int, width: int) -> Inventory:
    """A BERT that classifies, or a Llama that generates."""
    if model == "bert":
        pooler = LinearModule(
            name="bert.pooler.dense", layer=None, kind="linear", in_features=width, out_features=width
        )
        return Inventory(
            architecture="BertForSequenceClassification", model_type="bert", parameters=10**6,
            layers=tuple(bert_layer(index, width) for index in range(layers)), outside=(pooler,),
            heads=(Head(name="classifier", parameters=3 * width + 3),),
        )  # fmt: skip
    head = LinearModule(name="lm_head", layer=None, kind="linear", in_features=width, out_features=1_000)
    return Inventory(
        architecture="LlamaForCausalLM", model_type="llama", parameters=10**6, output=head,
        layers=tuple(llama_layer(index, width) for index in range(layers)),
        skipped=(Skipped(name="lm_head", reason="it is tied to the embedding"),),
    )  # fmt: skip


def statistics_of(module: LinearModule, random: np.random.Generator) -> ModuleStatistics:
    """Sums that gradients of a few samples could have."""
    strength = random.lognormal(0, 1)
    squares, means = (strength * random.gamma(4.0, 0.25, count) for count in (SAMPLES, SAMPLES // GROUP))
    products = 1e-3 * strength * random.gamma(4.0, 0.25, SAMPLES // GROUP)
    singular = np.sort(random.gamma(1.0, 1.0, 4))[::-1]
    return ModuleStatistics(
        module=module.name, weights=module.in_features * module.out_features, samples=SAMPLES,
        groups=SAMPLES // GROUP, group_size=GROUP,
        sum_squared_norm=float(squares.sum()), sum_fourth_power=float((squares**2).sum()),
        sum_group_mean_squared_norm=float(means.sum()), sum_group_mean_fourth_power=float((means**2).sum()),
        sum_grouped_squared_norm=float(squares.sum()),
        sum_weight_gradient=float(products.sum()), sum_squared_weight_gradient=float((products**2).sum()),
        spectrum=(*map(float, singular), 0.5),
    )  # fmt: skip


def scores_of(statistics: Sequence[ModuleStatistics]) -> tuple[RawScores, ...]:
    """What the metrics make of them."""
    found = []
    for name in METRICS:
        provider, score = default().get("metric", name), default().load("metric", name)
        values = {each.module: score(each) for each in statistics}
        found.append(
            RawScores(
                metric=name, unit=provider.unit, granularity=provider.granularity, values=values,
                reduction=provider.reduction,
            )
        )  # fmt: skip
    return tuple(found)


@cache
def profile_of(model: str, *, layers: int = 2, width: int = 48, spectrum: bool = False) -> Profile:
    """A profile with something in every field that a file of a passive profile can have."""
    random = np.random.default_rng(layers)
    inventory = inventory_of(model, layers, width)
    statistics = tuple(statistics_of(module, random) for module in inventory.modules)
    if not spectrum:
        statistics = tuple(attrs.evolve(each, spectrum=()) for each in statistics)
    names = [layer.name for layer in inventory.layers]
    return Profile(
        inventory=inventory,
        task="sequence-classification" if model == "bert" else "causal-lm",
        scores=scores_of(statistics),
        statistics=statistics,
        unscored=(Skipped(name="bert.pooler.dense", reason="it lies in no layer"),) if model == "bert" else (),
        labels=("bad", "good", "odd") if model == "bert" else (),
        data="0123456789abcdef",
        samples=SAMPLES,
        loss=1.25,
        settings={"group": GROUP, "seed": 0, "dtype": "float32", "rows": 9},
        versions=versions(),
        activations=Activations(
            through=dict.fromkeys(names, 96.0), adapted=dict.fromkeys(names, 192.0), head=48.0
        ),
        latency={"adapter": (1e-6, 1e-9), "lora": (2e-6, 1e-9), "prefix": (3e-6, 1e-9)},
        stability=dict.fromkeys(METRICS, 0.9375),
        module_stability=dict.fromkeys(METRICS, 0.875),
        evidence=Evidence(advantage=0.25, error=0.0625, samples=SAMPLES, p=0.001, by="likelihood"),
    )  # fmt: skip


def with_vectors(profile: Profile, run: Path) -> Profile:
    """The profile with both side files, of vectors that are the first axes."""
    vectors = {
        module.name: (np.eye(4, module.out_features), np.eye(4, module.in_features))
        for module in profile.inventory.modules
    }
    given: dict[str, Any] = {"fingerprint": profile.inventory.fingerprint, "seed": 0, "samples": SAMPLES}
    digest = write_directions(run, vectors, **given)
    warmed = write_directions(run, vectors, **given, source="warm-up")
    warm_up = WarmUp(
        steps=3, rank=4, samples=SAMPLES, rate=1e-3, batch=4, start="random", seconds=0.5, peak=0, digest=warmed
    )
    return attrs.evolve(profile, directions=digest, warm_up=warm_up)


def make_run(
    run: Path, profile: Profile, *, vectors: bool = False, compared: bool = False, **asked: Any
) -> tuple[Profile, Plan]:
    """Write a run as the command line does, with its trace.

    run: its directory, which is made.
    profile: of it.
    vectors: whether it has directions and a warm-up's subspace.
    compared: whether it has a comparison, which never ran, with recipe and gains.
    asked: of the plan.
    """
    run.mkdir(parents=True, exist_ok=True)
    if vectors:
        profile = with_vectors(profile, run)
    with tracing.to_file(run, run_id="0123456789ab"):
        tracing.run_started("plan", {"model": "models/made", "budget": ["params=r=2"]}, versions() | here())
        tracing.plugins_seen(default())
        tracing.profile_finished(profile)
        for scores in profile.scores:
            tracing.metric_scored(scores)
        plan = allocate(profile, **asked)
        tracing.run_finished(1.5)
    profile.save(run)
    plan.save(run)
    if compared:
        compare(run, plan)
    return profile, plan


def compare(run: Path, plan: Plan) -> None:
    """Write a comparison of the plan with uniform that never ran, and what comes of it."""
    budget = plan.request.params_budget or "params=r=2"
    sizes = {method: plan.sizes(method) for method in sorted({each.method for each in plan.decisions} - {"none"})}
    arms = tuple(
        Arm(name=name, budget=budget, sizes=sizes, scale=2, parameters=plan.parameters) for name in ("uniform", "plan")
    )
    draw = np.random.default_rng(3)
    results = [
        result(arm, 2 + 0.3 * draw.random(len(LABELS)), rate=rate, seed=seed, schedule=SHORT)
        for arm in arms for rate in (1e-2, 2e-2) for seed in (0, 1)
    ]  # fmt: skip
    curves = {"lora": GainCurve(ceiling=1.0, half=2.5, spread=0.125, source="measured by 2 arms")}
    comparison = Comparison(
        setting="one", samples=1_000, schedule=SHORT, arms=arms, verdict=verdict(results, LABELS),
        gains=Gains(curves=curves, setting="one", profile=plan.profile),
    )  # fmt: skip
    save(comparison, recipe_of(comparison, plan), run)
