"""``layerlens explain``: the numbers behind a decision, for people and for machines."""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlens_core import tracing
from layerlens_core.allocation.explanation import explain, find_layer
from layerlens_core.errors import PlanError
from layerlens_core.files.trace.lines import written
from layerlens_core.reporting.words import common_prefix, describe_sizes
from layerlens_core.values.plan import Plan

LAYER = "bert.encoder.layer.2"
MODULES = (
    "attention.self.query", "attention.self.key", "attention.self.value",
    "attention.output.dense", "intermediate.dense", "output.dense",
)  # fmt: skip


@pytest.fixture
def there(finished_runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "80")
    return finished_runs["bert-classifier"]


@pytest.mark.parametrize("name", [LAYER, "encoder.layer.2", "layer.2", "2"])
def test_a_layer_is_found_by_name_ending_or_number(layerlens: Any, there: Path, name: str) -> None:
    assert layerlens.ok("explain", there, name).stdout.startswith(f"{LAYER}: ")


def test_a_number_is_the_place_in_the_plan_where_endings_are_not_unique(
    layerlens: Any, model: Callable[[str], str], data: Callable[[str], str], tmp_path: Path
) -> None:
    layerlens.ok("plan", model("t5"), "--data", data("pairs"), "--out", tmp_path / "run")
    plan = Plan.load(tmp_path / "run")
    assert [d.unit for d in plan.decisions] == [f"{side}.block.{i}" for side in ("encoder", "decoder") for i in (0, 1)]
    assert find_layer(plan, "1") == "encoder.block.1"
    assert find_layer(plan, "3") == "decoder.block.1"
    assert find_layer(plan, "decoder.block.0") == "decoder.block.0"
    with pytest.raises(PlanError, match=r"ending of several layers: encoder\.block\.1, decoder\.block\.1"):
        find_layer(plan, "block.1")
    with pytest.raises(PlanError, match="no layer '²'"):
        find_layer(plan, "²")


@pytest.mark.parametrize("number", range(4))
def test_an_explanation_holds_every_number_that_led_to_it(layerlens: Any, there: Path, number: int) -> None:
    text = layerlens.ok("explain", there, number).stdout
    plan = Plan.load(there)
    decision = plan.decisions[number]
    explanation = explain(there, decision.unit)
    assert explanation.utility is not None
    assert explanation.thresholds is not None
    assert text.startswith(f"{decision.unit}: {decision.method}")
    assert f"{decision.parameters:,} parameters" in text
    assert f"utility {decision.utility:.6f}" in text
    for metric in ("fisher", "weight_gradient"):
        assert f"{explanation.utility['raw'][metric]:.6g}" in text
        assert f"{explanation.utility['normalized'][metric]:.6f}" in text
    assert "2 / 3" in text
    assert "1 / 3" in text
    assert f"none < {explanation.thresholds['thresholds'][0]:.6f} ≤ lora" in text
    assert decision.reason in " ".join(text.split())
    assert f"budget params=r=2: {plan.parameters:,} of {plan.limit:,} params spent by the whole plan" in text
    if decision.method == "lora":
        for module in MODULES:
            size = decision.sizes[f"{decision.unit}.{module}"]
            row = next(line.split() for line in text.splitlines() if line.split()[:1] == [module])
            raw = [f"{explanation.modules[m][f'{decision.unit}.{module}']:.3g}" for m in ("fisher", "weight_gradient")]
            sized = next(each for each in explanation.sizing if each.module == f"{decision.unit}.{module}")
            assert (sized.size, sized.alpha) == (size, size * plan.scale)
            worth = [] if sized.relative is None else [f"{sized.relative:.3g}"]
            assert row == [module, *raw, *worth, str(size), str(sized.alpha), f"{sized.parameters:,}"]
        assert "runner-up: none" in text
        assert any(flip.startswith("none, if its utility were ") for flip in explanation.flips)
    else:
        assert "the layer stays frozen" in text
        assert "runner-up: lora" in text
        assert any(re.match(r"lora of size \d+, if its utility were ", flip) for flip in explanation.flips)
    for flip in explanation.flips:
        assert f"it would be {flip}" in " ".join(text.split())


def test_a_dropped_layer_is_told_that_it_was_refused(layerlens: Any, run: Callable[..., Path]) -> None:
    there = run()
    layerlens.ok("allocate", there, "--budget", "params=208")
    dropped = [d for d in Plan.load(there).decisions if "refused" in d.reason]
    assert len(dropped) == 2
    dropped.sort(key=lambda decision: decision.utility)
    for decision, least in zip(dropped, (3 * 208, 2 * 208), strict=True):
        text = " ".join(layerlens.ok("explain", there, decision.unit).stdout.split())
        assert (
            "refused: lora, because the smallest size for every layer as useful as this one would take "
            f"{least} of params, above 208"
        ) in text
        assert "it would be lora of size 1, if" in text


def test_an_explanation_for_machines_holds_the_same_numbers(layerlens: Any, there: Path) -> None:
    document = json.loads(layerlens.ok("explain", there, "2", "--json").stdout)
    plan = Plan.load(there)
    assert document["layer"] == LAYER
    assert document["decision"]["sizes"] == plan.decisions[2].sizes
    assert document["utility"]["utility"] == plan.decisions[2].utility
    assert set(document["modules"]) == {"fisher", "weight_gradient"}
    assert set(document["modules"]["fisher"]) == {f"{LAYER}.{module}" for module in MODULES}
    assert document["units"]["fisher"] == "(nats/weight)²"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_table_is_never_cut(layerlens: Any, there: Path, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = layerlens.ok("explain", there).stdout
    # The lines below the table may be folded by the terminal.
    table = list(itertools.takewhile(lambda line: "planned" not in line, text.splitlines()))
    assert "…" not in text
    assert max(map(len, table)) <= columns
    assert table[0] == "layers of bert.encoder.layer"
    for number, decision in enumerate(Plan.load(there).decisions):
        row = next(line.split() for line in table if line.split()[:1] == [str(number)])
        assert f"{decision.utility:.4f}" in row
        assert decision.method in row
        assert f"{decision.parameters:,}" == row[-1]
    assert ("fisher" in text.partition("halves of the")[0]) == (columns >= 80)
    assert "█" in text
    assert "layerlens explain" not in text


def test_nothing_is_said_to_be_written_where_nothing_is(layerlens: Any, there: Path) -> None:
    assert layerlens.ok("explain", there).stderr == ""
    assert layerlens.ok("explain", there, "0").stderr == ""


def test_what_a_strategy_writes_is_not_taken_for_markup(layerlens: Any, run: Callable[..., Path]) -> None:
    there = run()
    events = tracing.read(there)
    for event in events:
        if event["event"] == "decision.made":
            event["reason"] = "[/] in [red]brackets[/red]"
    (there / "trace.jsonl").write_text(written(events))
    assert "[/] in [red]brackets[/red]" in layerlens.ok("explain", there, "0").stdout


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["a.b.1", "a.b.10", "a.b.11"], "a.b."),
        (["encoder.block.0", "decoder.block.0"], ""),
        (["t.encoder.block.0", "t.decoder.block.0"], "t."),
        (["a.b", "a.b.c"], "a."),
        (["a.b.1"], ""),
        ([], ""),
    ],
)
def test_the_common_prefix_ends_in_a_dot(names: list[str], prefix: str) -> None:
    assert common_prefix(names) == prefix


def test_sizes_are_told_as_a_range_where_modules_differ() -> None:
    assert describe_sizes({}) == "–"
    assert describe_sizes({"a": 3, "b": 3}) == "3"
    assert describe_sizes({"a": 3, "b": 5, "c": 4}) == "3–5"
