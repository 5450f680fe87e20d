"""``layerlens plugins`` says of each metric its unit, how modules make a layer, and whether it is a mean."""

import json

import pytest

from layerlens_core.cli.plugins import describe_metric
from layerlens_core.plugin import MetricProvider


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"reduction": "sum", "needs": ("sample_norms",)}, "in nats, summed over a layer's modules; mean over samples"),
        (
            {"reduction": "mean", "needs": ("spectrum",)},
            "in nats, averaged over a layer's modules; no mean over samples",
        ),
        ({"reduction": "weighted_mean"}, "in nats, averaged over a layer's weights; no mean over samples"),
        ({"active": True}, "in nats, of whole layers; runs the model itself"),
        ({"active": True, "reduction": "sum"}, "in nats, summed over a layer's modules; runs the model itself"),
        ({}, "refused when asked for: it has no reduction, which says how modules' scores make a layer's"),
    ],
)
def test_a_metric_is_described(fields, said):
    assert describe_metric(MetricProvider(name="m", summary="", unit="nats", load=lambda: len, **fields)) == said


def test_the_list_and_the_document_say_it_of_ours(layerlens):
    printed = layerlens.ok("plugins").stdout
    assert "in nats/weight, averaged over a layer's weights; mean over samples" in printed
    found = {each["name"]: each for each in json.loads(layerlens.ok("plugins", "--json").stdout)["providers"]}
    assert found["fisher"]["reduction"] == "sum"
    assert found["fisher"]["unit"] == "(nats/weight)²"
    assert found["fisher"]["mean"] is True
    assert found["proxy_eval"]["active"] is True
    assert "unit" not in found["threshold"]
