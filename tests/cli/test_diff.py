"""``layerlens diff``: what changed and why, as people and as programs read it, and how it ends."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlens_core.auditing.differing.found import (
    ChangedDecision,
    ChangedInput,
    Combination,
    Decided,
    Difference,
    Effect,
)
from layerlens_core.cli.differing.table import print_difference


def anew(layerlens: Any, run: Path, to: Path, *arguments: object) -> Path:
    """A copy of a run, planned anew."""
    shutil.copytree(run, to)
    layerlens.ok("allocate", to, *arguments)
    return to


def test_a_run_is_no_different_from_itself(layerlens: Any, finished_runs: dict[str, Path]) -> None:
    there = finished_runs["bert-classifier"]
    told = layerlens.ok("diff", there, there)
    assert "no decision differs on 4 layers" in told.stdout
    assert "no input differs" in told.stdout
    assert json.loads(layerlens.ok("diff", there, there, "--json").stdout)["same"] is True


def test_what_planning_anew_changed_is_told_and_the_command_ends_with_1(
    layerlens: Any, finished_runs: dict[str, Path], tmp_path: Path
) -> None:
    first = finished_runs["bert-classifier"]
    second = anew(layerlens, first, tmp_path / "second", "--budget", "params=r=8")
    result = layerlens("diff", first, second)
    assert result.exit_code == 1
    assert result.stderr == ""
    text = " ".join(result.stdout.split())
    assert "layers of bert.encoder.layer" in text
    assert "budget params=r=2 params=r=8" in text
    found = json.loads(layerlens("diff", first, second, "--json").stdout)
    assert found["same"] is False
    (budget,) = found["inputs"]
    assert (budget["name"], len(budget["effect"]["explains"])) == ("budget", len(found["changed"]))
    assert f"{len(found['changed'])} of 4 layers differ" in text
    assert found["costs"]["params"][0] < found["costs"]["params"][1]
    assert found["remarks"] == []


def test_a_strategy_brings_along_what_follows_from_it_and_no_more(
    layerlens: Any, finished_runs: dict[str, Path], tmp_path: Path
) -> None:
    first = finished_runs["llama"]
    second = anew(layerlens, first, tmp_path / "second", "--strategy", "budget", "--methods", "lora")
    result = layerlens("diff", first, second, "--json")
    assert [each["name"] for each in json.loads(result.stdout)["inputs"]][:1] == ["strategy"]


def test_bad_input_ends_with_2_and_a_line(layerlens: Any, run: Callable[..., Path], tmp_path: Path) -> None:
    there = run()
    missing = tmp_path / "missing"
    assert "does not exist" in layerlens.refused("diff", there, missing, out=missing)
    assert "does not exist" in layerlens.refused("diff", missing, there, out=missing)
    other = run("llama")
    assert "have no layer in common" in layerlens.refused("diff", there, other, out=there)
    (there / "plan.json").write_text("{}")
    assert "is not a layerlens/plan file" in layerlens.refused("diff", there, other, out=there)
    assert "Missing argument 'RUN_B'" in layerlens.refused("diff", there)


def test_the_ways_to_end_are_in_the_help(layerlens: Any) -> None:
    told = " ".join(layerlens.ok("diff", "--help").stdout.split())
    assert "Ends with 0 where all decisions are the same, with 1 where some differ, and with 2 for bad input." in told


def decision(unit: str, sizes: tuple[int, int], then: tuple[int, int] | None) -> ChangedDecision:
    def of(ranks: tuple[int, int] | None) -> Decided:
        if ranks is None:
            return Decided(method="none", size=0, sizes={})
        return Decided(method="lora", size=max(ranks), sizes={"a": ranks[0], "b": ranks[1]})

    return ChangedDecision(unit=unit, before=of(sizes), after=of(then))


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_all_that_can_be_found_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    units = tuple(f"m.{number}" for number in range(8))
    told = {
        "data": Effect(name="data", explains=("m.0", "m.1"), elsewhere=("m.7",)),
        "weights": Effect(name="weights", explains=(), refused="weights[/] lack [red]gora"),
        "plugins": Effect(name="plugins", explains=None, refused="no strategy"),
    }
    part = Effect(name="scores of fisher", explains=("m.0",))
    found = Difference(
        first="one",
        second="other[/]",
        layers=9,
        changed=(decision("m.0", (1, 2), None), *(decision(unit, (1, 2), (2, 1)) for unit in units[1:])),
        only_second=("m.8",),
        costs={"params": (1000.0, 2000.0), "flops": (1.0, 1.0)},
        inputs=tuple(
            ChangedInput(name=name, before="x[/]", after="y", effect=each, parts=(part,) if name == "data" else ())
            for name, each in told.items()
        ),
        combinations=(Combination(inputs=("data", "weights"), explains=units),),
        together=7,
        unexplained=("m.7",),
        remarks=("what is unknown[/]",),
    )
    print_difference(found)
    text = " ".join(capsys.readouterr().out.split())
    for line in (
        "B: other[/]",
        "0 lora 1–2 none",
        "1 lora 1–2 lora 1–2 (2 modules otherwise)",
        "8 of 9 layers differ",
        "only B has 1 layer of other names: 8",
        "params: 1,000 → 2,000",
        "only by data and weights together: 0, 1, 2, 3, 4, 5 and 2 more",
        "all inputs of B together: 7 of 8",
        "explained by no input: 7",
        "what is unknown[/]",
    ):
        assert line in text
    assert "flops" not in text
    if columns == 120:
        for line in (
            "data x[/] y 2 of 8; 1 more change, not as in B",
            "scores of fisher 1 of 8",
            "weights x[/] y nothing alone: weights[/] lack [red]gora",
            "plugins x[/] y not replayed",
        ):
            assert line in text


def test_inputs_without_effect_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    effects = Effect(name="scale", explains=()), Effect(name="budget", explains=(), elsewhere=("m.1",))
    inputs = tuple(ChangedInput(name=each.name, before="1", after="2", effect=each) for each in effects)
    print_difference(Difference(first="a", second="b", layers=2, changed=(), costs={}, inputs=inputs))
    text = " ".join(capsys.readouterr().out.split())
    assert "no decision differs on 2 layers" in text
    assert "scale 1 2 nothing" in text
    assert "budget 1 2 1 layer" in text
