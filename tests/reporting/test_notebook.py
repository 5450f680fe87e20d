"""What notebooks show: the numbers, and nothing that runs or is fetched."""

import re

import attrs
import pytest

from layerlens_core.comparison.rate_search import Curve
from reporting.made import HOSTILE, RUNS, decoder, encoder, profile, write_comparison, write_run


def words(text):
    return re.sub(r"<[^>]*>", " ", text)


@pytest.mark.parametrize("name", ["encoder", "encoder-decoder", "mixture", "by-layer"])
def test_a_plan_shows_method_and_size_of_every_module(reported, name):
    plan = reported(name).plan
    text = plan._repr_html_()
    assert text.count("<table>") == len({decision.unit.rpartition(".")[0] for decision in plan.decisions})
    assert f"{plan.parameters:,} trainable parameters of {plan.limit:,} allowed" in text
    for decision in plan.decisions:
        assert f"{decision.utility:.4f}" in text
        if name != "mixture":  # whose experts share cells
            for size in set(decision.sizes.values()) - {0}:
                assert re.search(rf"\b{size} {decision.method}\b", words(text))


def test_a_profile_shows_raw_scores_of_layers_and_modules():
    profiled = profile(encoder(3))
    text = words(profiled._repr_html_())
    gora = profiled.scores[0]
    for value in (*gora.by_layer(profiled.inventory).values(), *gora.values.values()):
        assert f"{value:.3g}" in text
    assert "halves of the 64 samples rank the layers alike" in text
    layers_alone = profile(encoder(3), granularity="layer")._repr_html_()
    assert layers_alone.count("<table>") == 1


def test_a_comparison_shows_every_arm_and_the_verdict(tmp_path):
    found = write_comparison(tmp_path, write_run(tmp_path, profile(encoder(3))))
    text = words(found._repr_html_())
    for each in found.verdict.judged:
        assert f"{each.arm} {each.budget}" in text
        assert f"{each.loss:.4f}" in text
    for line in found.verdict.summary:
        assert line.split(":")[0] in text
    curve = Curve(arm="plan r=4", points=(), rate=0.01, steps=10, batch=8)
    assert "plan r=4: rate 0.01" in attrs.evolve(found, verdict=None, curves=(curve,))._repr_html_()


def test_nothing_in_it_runs_or_is_fetched(tmp_path):
    plan = RUNS["hostile"](tmp_path)
    for text in (plan._repr_html_(), profile(decoder(3))._repr_html_()):
        tags = set(re.findall(r"<(\w+)", text))
        assert tags <= {"div", "p", "table", "caption", "thead", "tbody", "tr", "th", "td"}
        assert "url(" not in text
    assert HOSTILE not in plan._repr_html_()


def test_it_is_small():
    assert len(write_run_of_80()) < 120_000


def write_run_of_80():
    from layerlens_core.allocation.allocate import allocate

    return allocate(profile(decoder()), budget="params=r=4", abstain=False)._repr_html_()
