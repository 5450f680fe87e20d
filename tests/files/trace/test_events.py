"""The table of events: every function that emits keeps to it, and what does not is told by the field."""

import ast
from pathlib import Path

import pytest

import layerlens_core
from layerlens_core import tracing
from layerlens_core.files.trace import kinds
from layerlens_core.files.trace.events import COMMON, EVENTS, FOREIGN, OPENED, SEALED, wrong_event
from layerlens_core.values.costs import RESOURCES

SOURCE = Path(layerlens_core.__file__).parent
#: What may hand an event on; all else calls a function of `tracing`.
EMITTERS = {"_emit", "_emit_for_plugin"}

STAMP = {"run_id": "a", "timestamp": "2026-11-02T09:30:00.000000Z"}
#: One valid event of each name.
EXAMPLES = {
    OPENED: {"schema": "layerlens/trace", "version": 1},
    "run.started": {"command": "plan", "arguments": {"seed": "0", "budgets": ["r=8"]}, "versions": {"torch": "2"}},
    "plugin.loaded": {"plugin": "mine", "distribution": "d-mine", "version": ""},
    "plugin.failed": {"plugin": "p", "distribution": "d", "version": "1", "status": "blocked", "cause": "by name"},
    "plugin.conflict": {"cause": "two"},
    "profile.finished": {
        "digest": "abc", "parts": {"task": "abc"}, "task": "causal-lm", "samples": 8, "loss": 1.5, "data": "d",
        "settings": {"seed": 3},
    },
    "module.unscored": {"module": "L0.w", "reason": "never called"},
    "metric.scored": {"metric": "fisher", "unit": "L0", "granularity": "layer", "raw": 1.0, "measure": "nats²"},
    "utility.computed": {
        "unit": "L0", "utility": 0.5, "raw": {"fisher": 1.0, "gora": 2.0}, "normalized": {"fisher": 0.5, "gora": 0.5},
        "weights": {"fisher": 1.0, "gora": 0.0}, "normalizer": "share", "aggregator": "weighted-mean",
        "errors": {"fisher": 0.1},
    },
    "gain.measured": {"method": "lora", "ceiling": 1.0, "half": 2, "spread": None, "source": "6 arms"},
    "thresholds.set": {"methods": ["none", "lora"], "thresholds": [0.5], "origin": "quantiles"},
    "candidates.built": {"methods": ["none", "lora"], "units": 2, "candidates": 8, "cheapest": None},
    "candidate.refused": {"unit": "L0", "method": "lora", "cause": "too dear"},
    "decision.made": {
        "unit": "L0", "method": "lora", "size": 2, "sizes": {"L0.w": 2}, "utility": 0.75, "parameters": 32,
        "reason": "it is worth it", "runner_up": None, "margin": -0.25,
    },
    "margins.left_out": {"cause": "too many"},
    "budget.settled": {"asked": "params=r=8", "limits": {"params": 3}, "spent": {"params": 2, "flops": 1e9}},
    "budget.certificate": {"value": 0.5, "bound": 0.75, "gap": 0.25, "exact": False},
    "plan.made": {"digest": "abc", "parts": {"task": "abc"}, "parameters": 32, "heads": 0},
    "run.finished": {"seconds": 0.5},
    SEALED: {"lines": 3, "sha256": "0" * 64},
}  # fmt: skip


def example(name):
    return {"event": name, **EXAMPLES[name], **({} if name in (OPENED, SEALED) else STAMP)}


def calls(path):
    """Every call in a file, with the name of what is called."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node, getattr(node.func, "id", getattr(node.func, "attr", ""))


def emitted():
    """By event, the fields that the functions of `tracing` give it, each time that one is emitted."""
    found = {}
    for node, name in calls(SOURCE / "tracing.py"):
        if name in EMITTERS:
            found.setdefault(ast.literal_eval(node.args[0]), []).append([each.arg for each in node.keywords])
    return found


def test_every_event_that_is_emitted_is_in_the_table_with_its_fields_and_no_other_is():
    found = emitted()
    assert found.keys() | {OPENED, SEALED} == EVENTS.keys()
    for name, times in found.items():
        for fields in times:
            assert None not in fields, f"{name} is given fields that cannot be read off the source"
            assert sorted(fields) == sorted(EVENTS[name].fields), name


def test_nothing_but_tracing_emits():
    for root in (SOURCE, SOURCE.parent / "plugins"):
        for path in root.rglob("*.py"):
            if path == SOURCE / "tracing.py" or "tests" in path.relative_to(root).parts:
                continue
            assert not [name for _node, name in calls(path) if name in EMITTERS], path
            if path.parent != SOURCE / "files" / "trace":
                text = path.read_text(encoding="utf-8")
                assert "structlog" not in text, path
                assert "trace.listening" not in text, path


def test_every_name_of_ours_is_told_from_a_plugins():
    assert not [name for name in EVENTS if FOREIGN in name]
    assert not [name for name in EVENTS if "event" in EVENTS[name].fields or STAMP.keys() & EVENTS[name].fields.keys()]


def test_the_resources_are_those_of_costs():
    assert set(RESOURCES) == kinds.RESOURCES


@pytest.mark.parametrize("name", EVENTS)
def test_every_field_is_missed_and_its_type_is_seen(name):
    assert wrong_event(example(name)) is None
    for field in example(name).keys() - {"event"}:
        without = {key: value for key, value in example(name).items() if key != field}
        assert wrong_event(without) == f"lacks the field {field!r} of {name}"
        for value in ([None, {}], {"a": {"b": [None]}} if field not in ("arguments", "settings") else 1, object()):
            assert f"field {field!r} that {name} cannot have" in wrong_event({**without, field: value})
    assert wrong_event({**example(name), "another": 1}) == f"has a field 'another', which {name} does not have"


@pytest.mark.parametrize(
    ("name", "change", "field"),
    [
        ("utility.computed", {"weights": {"another": 1.0}}, "weights"),
        ("utility.computed", {"weights": {"fisher": 0.0, "gora": 0.0}}, "weights"),
        ("utility.computed", {"normalized": {}}, "normalized"),
        ("utility.computed", {"errors": {"another": 1.0}}, "errors"),
        ("utility.computed", {"utility": float("nan")}, "utility"),
        ("utility.computed", {"utility": True}, "utility"),
        ("thresholds.set", {"thresholds": []}, "thresholds"),
        ("budget.settled", {"limits": {"time": 1}}, "limits"),
        ("budget.settled", {"spent": {}}, "spent"),
        ("budget.certificate", {"exact": 1}, "exact"),
        ("decision.made", {"sizes": {"a": -1}}, "sizes"),
        ("decision.made", {"parameters": 10**30}, "parameters"),
        ("decision.made", {"margin": "much"}, "margin"),
        ("plan.made", {"timestamp": "2026-11-02 09:30"}, "timestamp"),
        (SEALED, {"sha256": "0" * 63 + "g"}, "sha256"),
    ],
)
def test_what_fields_must_be_is_seen(name, change, field):
    assert f"{field!r}" in wrong_event({**example(name), **change})


def test_an_event_that_there_is_not_is_told():
    assert "of an event 'decision.mad'" in wrong_event({**example("decision.made"), "event": "decision.mad"})
    for name in ("", FOREIGN, f"{FOREIGN}what", f"plugin{FOREIGN}"):
        assert "of an event" in wrong_event({**STAMP, "event": name})


def test_an_event_of_a_plugin_holds_what_every_event_has_and_anything_else():
    assert wrong_event({**STAMP, "event": "mine:graph.built", "anything": [1, {}]}) is None
    assert (
        wrong_event({"event": "mine:graph.built", "run_id": "a"}) == "lacks the field 'timestamp' of mine:graph.built"
    )


def test_what_a_function_emits_is_what_the_table_says():
    assert sorted(COMMON) == sorted(["event", *STAMP])
    with tracing.capture_events() as events:
        tracing.run_finished(1.0)
    assert [sorted(event) for event in events] == [sorted([*COMMON, "seconds"])]
