"""Profiles made by hand: a BERT-shaped model whose layers score what a test says."""

from collections.abc import Sequence

from layerlens_core.demo.scenarios import bert_layer
from layerlens_core.values.inventory import Inventory
from layerlens_core.values.profile import Profile
from layerlens_core.values.scores import RawScores


def bert_profile(scores: Sequence[float], *, width: int = 96, granularity: str = "layer") -> Profile:
    """A profile whose layers have these raw scores; ``granularity="module"`` spreads them over the modules."""
    layers = tuple(bert_layer(i, width) for i in range(len(scores)))
    inventory = Inventory(architecture="BertModel", model_type="bert", parameters=10**6 * len(layers), layers=layers)
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
        scores=(RawScores(metric="given", unit="1", granularity=granularity, values=values, reduction="sum"),),
        statistics=(),
        data="none",
        samples=2,
        loss=1.0,
    )
