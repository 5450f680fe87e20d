"""``layerlens estimate``: what it prints, and what it refuses."""

import json

import pytest

pytestmark = pytest.mark.torch


@pytest.fixture
def directory(tmp_path):
    """A configuration alone."""
    from zoo.configured import configuration

    configuration("llama-wide").save_pretrained(tmp_path / "llama")
    return str(tmp_path / "llama")


def test_it_says_what_fits_where_memory_goes_and_what_would_fit(layerlens, directory):
    shown = layerlens.ok("estimate", directory, "--length", 128, "--budget", "memory=50MiB").stdout
    assert "LlamaForCausalLM, causal-lm, 1,506,432 parameters" in shown
    assert "a step of 8 × 128 tokens, float32, adamw; budget memory=50MiB" in shown
    assert "activations: feed-forward" in shown
    assert "rank 8 does not fit; what would:" in shown
    assert "--checkpointing, which computes layers twice" in shown
    assert "predicted from shapes" in shown
    assert "layerlens allocate" in shown
    rows = {line.split()[0]: line.split() for line in shown.splitlines() if line.split()[:1] in (["8"], ["full"])}
    assert rows["8"][1] == "143,360"
    assert "no" in rows["8"]
    assert rows["full"][1] == "1,506,432"
    assert max(map(len, shown.split("where the memory")[0].splitlines()[2:])) <= 80
    assert "…" not in shown.split("where the memory")[0]


def test_a_budget_that_holds_all_names_the_largest_rank_and_batch(layerlens, directory):
    shown = layerlens.ok("estimate", directory, "--length", 64, "--budget", "memory=1GiB").stdout
    assert "the largest rank that fits with 8 samples a step: 128" in shown
    assert "does not fit" not in shown


def test_without_a_budget_nothing_is_said_of_fitting(layerlens, directory):
    shown = layerlens.ok("estimate", directory, "--length", 64, "--checkpointing", "--optimizer", "sgd").stdout
    assert "fit" not in shown
    assert "gradient checkpointing" in shown
    assert "inputs of layers" in shown


def test_json_is_the_estimate(layerlens, directory):
    found = json.loads(layerlens.ok("estimate", directory, "--budget", "memory=1GiB", "--json").stdout)
    assert found["parameters"] == 1_506_432
    assert found["limits"] == {"memory": 2**30}
    assert found["training"] == {"batch": 8, "length": 512, "optimizer": "adamw", "dtype": "float32", "merged": True}
    assert {row["weights"] for row in found["rows"]} == {"float32", "nf4"}
    assert sum(found["parts"].values()) == pytest.approx(found["rows"][3]["cost"]["memory"])


@pytest.mark.parametrize(("arguments", "message"), [
    (("--budget", "24GiB"), "is not of the form KIND=AMOUNT"),
    (("--budget", "latency=2ms"), "latency is measured on a device"),
    (("--task", "masked-lm"), "has no model of llama for masked-lm"),
])  # fmt: skip
def test_what_it_cannot_answer_is_refused_in_a_line(layerlens, directory, arguments, message):
    assert message in layerlens.refused("estimate", directory, *arguments)


def test_a_directory_without_a_configuration_is_refused(layerlens, tmp_path):
    assert "has no config.json" in layerlens.refused("estimate", str(tmp_path))
