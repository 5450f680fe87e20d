"""Random models on paper: layers of any shapes with scores by module, and the slow count of an arm's parameters."""

from collections.abc import Mapping

from hypothesis import strategies as st

from layerlens_core.comparison.arms.case import Case
from layerlens_core.plugin.registry import default
from layerlens_core.values.comparison import Arm
from layerlens_core.values.costs import Activations
from layerlens_core.values.decisions import Decision
from layerlens_core.values.inventory import AttentionModule, Inventory, Layer, LinearModule
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile
from layerlens_core.values.scores import RawScores
from layerlens_core.values.statistics import ModuleStatistics

_WIDTHS = st.integers(1, 40)


def profile_of(inventory: Inventory, scores: Mapping[str, float], **more: object) -> Profile:
    """A profile whose modules have these scores, and the same numbers for mean |W ⊙ G|."""
    given = RawScores(metric="given", unit="1", granularity="module", values=scores, reduction="sum")
    other = {name: 1.0 + len(name) % 3 for name in scores}
    second = RawScores(metric="second", unit="1", granularity="module", values=other, reduction="sum")
    statistics = tuple(
        ModuleStatistics(
            module=name, weights=1, samples=2, groups=1, group_size=2, sum_weight_gradient=score,
            sum_squared_weight_gradient=score**2,
        )
        for name, score in scores.items()
    )  # fmt: skip
    return Profile(
        inventory=inventory,
        task="causal-lm",
        scores=(given, second),
        statistics=statistics,
        data="none",
        samples=2,
        loss=1.0,
        **more,
    )  # type: ignore[arg-type]


def linear(name: str, layer: str | None, n_in: int, n_out: int) -> LinearModule:
    """A linear module."""
    return LinearModule(
        name=name, layer=layer, kind="linear", in_features=n_in, out_features=n_out,
        writes_residual=name.endswith(("o_proj", "down_proj")),
    )  # fmt: skip


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """One to five layers with attention, a feed-forward or both, alike or not; sometimes a module outside."""
    alike = draw(st.booleans())
    shapes = [draw(_shape()) for _ in range(draw(st.integers(1, 5)))]
    layers = []
    for index in range(len(shapes)):
        name = f"model.layers.{index}"
        shape = shapes[0] if alike else shapes[index]
        modules = tuple(linear(f"{name}.{end}", name, *widths) for end, widths in shape.items())
        attended = any(end.startswith("self_attn") for end in shape)
        attention = AttentionModule(
            name=f"{name}.self_attn", layer=name, query_heads=2, key_value_heads=1, key_dim=3, value_dim=4
        )
        layers.append(Layer(name=name, modules=modules, attentions=(attention,) if attended else ()))
    outside = (linear("pooler", None, draw(_WIDTHS), draw(_WIDTHS)),) if draw(st.booleans()) else ()
    inventory = Inventory(
        architecture="Random", model_type="random", parameters=10**5, layers=tuple(layers), outside=outside
    )
    scores = {module.name: draw(st.floats(0.01, 10.0)) for module in inventory.modules}
    return profile_of(
        inventory,
        scores,
        directions="a" * 64 if draw(st.booleans()) else None,
        activations=Activations(
            through={layer.name: 10.0 for layer in layers}, adapted={layer.name: 7.0 for layer in layers}, head=5.0
        ),
    )


@st.composite
def _shape(draw: st.DrawFn) -> dict[str, tuple[int, int]]:
    ends = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate", "mlp.up_proj", "mlp.down_proj")
    chosen = draw(st.lists(st.sampled_from(ends), min_size=1, unique=True))
    # Few widths, so that modules of equal cost are common.
    return {end: (draw(st.sampled_from((1, 8, 12, 33))), draw(st.sampled_from((8, 12)))) for end in sorted(chosen)}


def case_of(profile: Profile, plan: Plan, budget: str, seed: int = 0) -> Case:
    """A case of a comparison with the installed providers."""
    return Case(profile=profile, plan=plan, budget=budget, seed=seed, registry=default())


def counted(arm: Arm, inventory: Inventory) -> int:
    """An arm's parameters, from the shapes of its places by each method's own formula."""
    total = 0
    for method, sizes in arm.sizes.items():
        for name, size in sizes.items():
            shape = inventory.shapes[name]
            if method == "lora":
                total += size * (shape["in_features"] + shape["out_features"])
            elif method == "core":
                total += size * size
            elif method == "adapter":
                d = shape["out_features"]
                total += 2 * d * size + size + d
            elif method == "prefix":
                heads, width = shape["key_value_heads"], shape["key_dim"] + shape["value_dim"]
                total += size * heads * width + shape["query_heads"]
            else:
                assert method == "full"
                total += shape["in_features"] * shape["out_features"]
    return total


def decisions_of(plan: Plan) -> dict[str, Decision]:
    """A plan's decisions by layer."""
    return {decision.unit: decision for decision in plan.decisions}
