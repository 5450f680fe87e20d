"""Profiles made by hand: a BERT-shaped model whose layers score what a test says."""

from collections.abc import Callable, Sequence

import pytest

from layerlens_core.inventory import AttentionModule, Inventory, Layer, LinearModule
from layerlens_core.profiles import Profile
from layerlens_core.scores import RawScores


def _layer(index: int, width: int) -> Layer:
    name = f"bert.encoder.layer.{index}"
    shapes = {
        "attention.self.query": (width, width),
        "attention.self.key": (width, width),
        "attention.self.value": (width, width),
        "attention.output.dense": (width, width),
        "intermediate.dense": (width, 4 * width),
        "output.dense": (4 * width, width),
    }
    return Layer(
        name=name,
        modules=tuple(
            LinearModule(
                name=f"{name}.{module}",
                layer=name,
                kind="linear",
                in_features=n_in,
                out_features=n_out,
                writes_residual=module.endswith("output.dense"),
            )
            for module, (n_in, n_out) in shapes.items()
        ),
        attentions=(
            AttentionModule(
                name=f"{name}.attention.self",
                layer=name,
                query_heads=12,
                key_value_heads=12,
                key_dim=width // 12,
                value_dim=width // 12,
            ),
        ),
    )


@pytest.fixture
def make_profile() -> Callable[..., Profile]:
    """A profile whose layers have these raw scores; ``granularity="module"`` spreads them over the modules."""

    def make(scores: Sequence[float], *, width: int = 96, granularity: str = "layer") -> Profile:
        layers = tuple(_layer(i, width) for i in range(len(scores)))
        inventory = Inventory(
            architecture="BertModel", model_type="bert", parameters=10**6 * len(layers), layers=layers
        )
        if granularity == "layer":
            values = {layer.name: score for layer, score in zip(layers, scores, strict=True)}
        else:
            values = {
                module.name: score * (position + 1) / 21
                for layer, score in zip(layers, scores, strict=True)
                for position, module in enumerate(layer.modules)
            }
        return Profile(
            inventory=inventory,
            task="masked-lm",
            scores=(RawScores(metric="given", unit="1", granularity=granularity, values=values),),
            statistics=(),
            data="none",
            samples=2,
            loss=1.0,
        )

    return make
