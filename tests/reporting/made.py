"""Runs made by hand, without a model: an encoder, a deep decoder, an encoder-decoder and a mixture of experts."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from comparison.runs import LABELS, LONG, arm, runs
from layerlens_core import tracing
from layerlens_core.allocation.allocate import allocate
from layerlens_core.comparison.compared import COMPARED, SCHEMA, VERSION, Comparison
from layerlens_core.comparison.jobs.store import COMPARISON
from layerlens_core.comparison.judging.verdict import verdict
from layerlens_core.demo.scenarios import bert_layer
from layerlens_core.files import documents
from layerlens_core.plugin.registry import default
from layerlens_core.values.inventory import ExpertWeight, Head, Inventory, Layer, LinearModule, ResidualWriter
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile, versions
from layerlens_core.values.recipe import Recipe
from layerlens_core.values.scores import RawScores

Shapes = Mapping[str, tuple[int, int]]
_LLAMA: Shapes = {
    "self_attn.q_proj": (512, 512), "self_attn.k_proj": (512, 128), "self_attn.v_proj": (512, 128),
    "self_attn.o_proj": (512, 512), "mlp.gate_proj": (512, 1408), "mlp.up_proj": (512, 1408),
    "mlp.down_proj": (1408, 512),
}  # fmt: skip
_T5 = {"q": (64, 64), "k": (64, 64), "v": (64, 64), "o": (64, 64)}
_T5_ENCODER: Shapes = {
    **{f"layer.0.SelfAttention.{name}": shape for name, shape in _T5.items()},
    "layer.1.DenseReluDense.wi": (64, 256), "layer.1.DenseReluDense.wo": (256, 64),
}  # fmt: skip
_T5_DECODER: Shapes = {
    **{f"layer.0.SelfAttention.{name}": shape for name, shape in _T5.items()},
    **{f"layer.1.EncDecAttention.{name}": shape for name, shape in _T5.items()},
    "layer.2.DenseReluDense.wi": (64, 256), "layer.2.DenseReluDense.wo": (256, 64),
}  # fmt: skip


def layers(stem: str, count: int, shapes: Shapes) -> tuple[Layer, ...]:
    """Layers of one kind."""
    return tuple(
        Layer(
            name=f"{stem}.{number}",
            modules=tuple(
                LinearModule(
                    name=f"{stem}.{number}.{name}", layer=f"{stem}.{number}", kind="linear", in_features=inner,
                    out_features=outer, writes_residual=name.endswith(("o_proj", "down_proj", ".o", ".wo")),
                )
                for name, (inner, outer) in shapes.items()
            ),
        )
        for number in range(count)
    )  # fmt: skip


def inventory(architecture: str, layers: Sequence[Layer], heads: tuple[Head, ...] = ()) -> Inventory:
    """A model of these layers, with embeddings of a million parameters."""
    own = sum(module.in_features * module.out_features for layer in layers for module in layer.modules)
    return Inventory(
        architecture=architecture, model_type="made", parameters=own + 10**6, layers=tuple(layers), heads=heads
    )


def encoder(count: int = 6) -> Inventory:
    """BERT's layers, and a classifier."""
    head = (Head(name="classifier", parameters=294),)
    return inventory("BertForSequenceClassification", [bert_layer(number, 96) for number in range(count)], head)


def decoder(count: int = 80) -> Inventory:
    """Llama's layers of seven modules."""
    return inventory("LlamaForCausalLM", layers("model.layers", count, _LLAMA))


def encoder_decoder(count: int = 4) -> Inventory:
    """T5's layers, of two kinds."""
    kinds = layers("encoder.block", count, _T5_ENCODER) + layers("decoder.block", count, _T5_DECODER)
    return inventory("T5ForConditionalGeneration", kinds)


def mixture(count: int = 3, experts: int = 8) -> Inventory:
    """Layers whose experts are single modules, too many for a column each, and a last one whose experts are stacked."""
    attention = {name: shape for name, shape in _LLAMA.items() if name.startswith("self_attn")}
    single = {f"mlp.experts.{n}.{name}": (64, 32) for n in range(experts) for name in ("w1", "w2", "w3")}
    kinds = [*layers("model.layers", count, {**attention, **single})]
    last = layers("model.layers", count + 1, attention)[-1]
    stacked = ExpertWeight(name=f"{last.name}.mlp.experts.gate_up_proj", experts=8, in_features=64, out_features=64)
    block = ResidualWriter(name=f"{last.name}.mlp", features=512)
    return inventory("MixtralForCausalLM", [*kinds, attrs.evolve(last, experts=(stacked,), blocks=(block,))])


def profile(made: Inventory, *, granularity: str = "module", seed: int = 0) -> Profile:
    """Two metrics whose scores rise with depth, the first with standard errors of layers."""
    draw = random.Random(seed)
    depth = {layer.name: (number + 1) / len(made.layers) for number, layer in enumerate(made.layers)}

    def value(layer: str) -> float:
        return depth[layer] ** 2 * draw.uniform(0.5, 1.5)

    def scores(name: str, unit: str, *, errors: bool = False) -> RawScores:
        given = {module.name: value(module.layer or "") for module in made.modules}
        if granularity == "layer":
            given = {layer.name: value(layer.name) for layer in made.layers}
        spread = {layer: 0.05 * share for layer, share in depth.items()} if errors else {}
        return RawScores(
            metric=name, unit=unit, granularity=granularity, values=given, errors=spread,
            reduction="sum" if granularity == "module" else None,
        )  # fmt: skip

    return Profile(
        inventory=made, task="causal-lm", scores=(scores("gora", "nats/weight"), scores("fisher", "(nats/weight)²")),
        statistics=(), data="made", samples=64, loss=2.5, versions=versions(),
        stability={"gora": 0.93, "fisher": 0.88}, module_stability={"gora": 0.9} if granularity == "module" else {},
        settings={"seed": 0, "group": 2},
    )  # fmt: skip


def write_run(folder: Path, profiled: Profile, **asked: object) -> Plan:
    """Plan from a profile, and leave the run with its trace as the command line does."""
    folder.mkdir(parents=True, exist_ok=True)
    with tracing.to_file(folder, run_id="made"):
        tracing.run_started("plan", {"model": "made", "data": "made.jsonl"}, versions())
        tracing.plugins_seen(default())
        tracing.profile_finished(profiled)
        for scores in profiled.scores:
            tracing.metric_scored(scores)
        plan = allocate(profiled, **{"budget": "params=r=4", "abstain": False, **asked})
        profiled.save(folder)
        plan.save(folder)
        tracing.run_finished(1.0)
    return plan


def write_comparison(folder: Path, plan: Plan, *, of: str | None = None, effect: float = -0.02) -> Comparison:
    """A comparison of the plan at two budgets, with a recipe.

    folder: of the run.
    plan: of the run.
    of: digest of the plan that was compared, where it is another one.
    effect: what the plan's loss differs from uniform's by.
    """
    effects = {
        ("uniform", 2): 0.0,
        ("uniform", 4): 0.0,
        ("plan", 2): effect,
        ("plan", 4): effect,
        ("shuffled", 4): 0.03,
    }
    found = verdict(runs(effects, right=True), LABELS)
    compared = Comparison(setting="made", samples=500, schedule=LONG, arms=(arm(), arm("plan")), verdict=found)
    documents.write(folder / COMPARISON / COMPARED, compared, schema=SCHEMA, version=VERSION)
    Recipe(
        plan=of or plan.digest, profile=plan.profile, comparison="c" * 64, setting="made", rate=1e-2,
        rates={"plan r=4": 1e-2, "uniform r=4": 1e-2},
        groups={"lora": 1e-2}, scale=2.0, schedule=LONG, epochs=3.0, recommended={"r=4": "plan"}, budget="r=4",
        sentence="plan is better than uniform",
    ).save(folder)  # fmt: skip
    return compared


def _compared_encoder(folder: Path) -> Plan:
    plan = write_run(folder, profile(encoder()))
    write_comparison(folder, plan)
    return plan


#: What would be markup, if it were not taken for text.
HOSTILE = '</script><script>document.title="taken"</script><b id="injected">&amp;'


def _hostile(folder: Path) -> Plan:
    """A run in which architecture, layers, modules, metrics and units are called by markup."""
    named = inventory(HOSTILE, layers(HOSTILE, 3, {HOSTILE: (64, 64), "plain": (64, 64)}))
    profiled = profile(named)
    scores = tuple(attrs.evolve(each, unit=HOSTILE, metric=f"{each.metric}{HOSTILE}") for each in profiled.scores)
    return write_run(folder, attrs.evolve(profiled, scores=scores, stability={}, module_stability={}))


#: By name, what makes a run in a folder.
RUNS: Mapping[str, Callable[[Path], Plan]] = {
    "encoder": _compared_encoder,
    "decoder": lambda folder: write_run(folder, profile(decoder())),
    "encoder-decoder": lambda folder: write_run(
        folder, profile(encoder_decoder()), strategy="budget", methods=("none", "adapter", "lora")
    ),
    "mixture": lambda folder: write_run(folder, profile(mixture()), methods=("none", "lora")),
    "hostile": _hostile,
    "by-layer": lambda folder: write_run(
        folder, profile(encoder(), granularity="layer"), strategy="threshold",
        methods=("none", "prefix", "adapter", "lora"),
    ),
}  # fmt: skip
