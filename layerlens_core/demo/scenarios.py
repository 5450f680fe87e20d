"""Seven scenarios on a synthetic BERT: what each input changes, and what it must not."""

from collections.abc import Mapping, Sequence

from attrs import field, frozen

from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.budget import Budget
from layerlens_core.values.inventory import AttentionModule, Inventory, Layer, LinearModule
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile
from layerlens_core.values.scores import RawScores

METHODS = ("none", "prefix", "adapter", "lora")
LAYERS, WIDTH, HEADS = 12, 768, 12
BUDGET = "r=4"
COST_WEIGHT = 0.25
#: Gain curves of a model that nobody measured, far enough apart that methods share the layers: what is shown is how
#: strategies weigh, not what methods are worth.
GAINS = {"lora": (1.0, 8.0), "adapter": (0.85, 4.0), "prefix": (0.6, 2.0)}

_UNIFORM = (1.0,) * LAYERS
_EARLY = (4.0,) * 4 + (1.0,) * 8
_RANDOM = (0.81, 0.07, 0.44, 0.29, 0.98, 0.13, 0.63, 0.36, 0.02, 0.71, 0.53, 0.21)


@frozen(kw_only=True)
class Scenario:
    """One set of inputs.

    name: of the scenario.
    sensitivity: raw scores by layer.
    budget: hard bounds.
    penalties: by method.
    utility: the weight of utility in cost-benefit.
    """

    name: str
    sensitivity: tuple[float, ...] = _UNIFORM
    budget: str = BUDGET
    penalties: Mapping[str, float] = field(factory=lambda: {"lora": 1.0, "adapter": 1.2, "prefix": 1.1})
    utility: float = 0.5


SCENARIOS = (
    Scenario(name="default-uniform"),
    Scenario(name="high-budget-uniform", budget="r=16"),
    Scenario(name="early-sensitive", sensitivity=_EARLY),
    Scenario(name="late-sensitive", sensitivity=_EARLY[::-1]),
    Scenario(name="lora-cheap", penalties={"lora": 0.8, "adapter": 1.5, "prefix": 1.3}),
    Scenario(name="utility-focused", utility=0.8),
    Scenario(name="random-sensitivity", sensitivity=_RANDOM),
)


def bert_inventory() -> Inventory:
    """BERT-base's layers: 12 of width 768, with 12 heads and a feed-forward width of 3,072."""
    return Inventory(
        architecture="BertModel",
        model_type="bert",
        parameters=109_482_240,
        layers=tuple(bert_layer(i) for i in range(LAYERS)),
    )


def profile_of(sensitivity: Sequence[float]) -> Profile:
    """A profile in which the layers have the given scores."""
    inventory = bert_inventory()
    values = {layer.name: score for layer, score in zip(inventory.layers, sensitivity, strict=True)}
    return Profile(
        inventory=inventory,
        task="masked-lm",
        scores=(RawScores(metric="sensitivity", unit="1", granularity="layer", values=values),),
        statistics=(),
        data="synthetic",
        samples=2,
        loss=1.0,
    )


def plan_of(scenario: Scenario, strategy: str) -> Plan:
    """The plan that a strategy makes for a scenario."""
    options = {"utility": scenario.utility, "cost": COST_WEIGHT} if strategy == "cost-benefit" else {}
    return allocate(
        profile_of(scenario.sensitivity),
        strategy=strategy,
        budget=Budget(params=scenario.budget),
        methods=METHODS,
        penalties=scenario.penalties,
        options=options,
        gains=GAINS,
    )


def bert_layer(index: int, width: int = WIDTH) -> Layer:
    """One layer of a BERT of this width, with 12 heads and a feed-forward width of four times that."""
    name = f"bert.encoder.layer.{index}"
    shapes = {
        "attention.self.query": (width, width),
        "attention.self.key": (width, width),
        "attention.self.value": (width, width),
        "attention.output.dense": (width, width),
        "intermediate.dense": (width, 4 * width),
        "output.dense": (4 * width, width),
    }
    modules = tuple(
        LinearModule(
            name=f"{name}.{module}",
            layer=name,
            kind="linear",
            in_features=n_in,
            out_features=n_out,
            writes_residual=module.endswith("output.dense"),
        )
        for module, (n_in, n_out) in shapes.items()
    )
    attention = AttentionModule(
        name=f"{name}.attention.self",
        layer=name,
        query_heads=HEADS,
        key_value_heads=HEADS,
        key_dim=width // HEADS,
        value_dim=width // HEADS,
    )
    return Layer(name=name, modules=modules, attentions=(attention,))
