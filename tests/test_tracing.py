"""The log of a run: what each event says, that the file is whole or not there, and that the library is quiet."""

import json

import pytest
import structlog
from structlog.testing import LogCapture

from layerlens_core import tracing
from layerlens_core.errors import FileError
from layerlens_core.files import documents
from layerlens_core.plugin.discovery import Plugin
from layerlens_core.plugin.providers import StrategyProvider
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.candidates import Candidate, CandidateSet, Unit
from layerlens_core.values.costs import Cost, Limits
from layerlens_core.values.decisions import Decision
from layerlens_core.values.inventory import Head, Inventory, Skipped
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile
from layerlens_core.values.request import Request
from layerlens_core.values.scores import RawScores, Utilities

DECISION = Decision(
    unit="L0", method="lora", size=2, sizes={"L0.w": 2}, utility=0.75, cost=Cost(params=32, flops=1.0),
    reason="it is worth it", runner_up="none", margin=-0.25,
)  # fmt: skip


@pytest.fixture
def events():
    """Events of an application that configured structlog itself, without what structlog adds."""
    captured = LogCapture()
    structlog.configure(processors=[captured])
    yield captured.entries
    structlog.reset_defaults()


def told(events):
    """What was emitted, by the names of the library alone."""
    return [{name: value for name, value in event.items() if name != "log_level"} for event in events]


# --- what each event says -------------------------------------------------------------------------------------------


def test_a_command_begins_and_ends(events):
    tracing.run_started("plan", {"model": "m", "samples": 8}, {"torch": "2"})
    tracing.run_finished(1.23456)
    assert told(events) == [
        {
            "event": "run.started",
            "command": "plan",
            "arguments": {"model": "m", "samples": 8},
            "versions": {"torch": "2"},
        },
        {"event": "run.finished", "seconds": 1.235},
    ]


def test_every_plugin_is_told_and_so_is_a_name_that_two_provide(events):
    registry = Registry(
        plugins=[
            Plugin(name="good", distribution="d-good", version="1"),
            Plugin(name="bad", distribution="d-bad", version="2", status="failed", cause="ImportError: no"),
            Plugin(name="out", distribution="d-out", version="3", status="blocked", cause="blocked by name"),
        ]
    )
    rivals = [StrategyProvider(name="same", summary="", load=list)]
    for name in ("one", "two"):
        registry._add(Plugin(name=name, distribution="in process"), rivals)
    tracing.plugins_seen(registry)
    good, bad, out, _one, _two, conflict = told(events)
    assert good == {"event": "plugin.loaded", "plugin": "good", "distribution": "d-good", "version": "1"}
    assert bad == {
        "event": "plugin.failed", "plugin": "bad", "distribution": "d-bad", "version": "2", "status": "failed",
        "cause": "ImportError: no",
    }  # fmt: skip
    assert (out["event"], out["status"]) == ("plugin.failed", "blocked")
    assert conflict.keys() == {"event", "cause"}
    assert "strategy 'same' is provided by" in conflict["cause"]


def test_a_profile_is_told_with_what_it_could_not_score(events):
    profile = Profile(
        inventory=Inventory(architecture="Toy", model_type="toy", parameters=1, layers=()),
        task="masked-lm",
        scores=(),
        statistics=(),
        unscored=(Skipped(name="L0.w", reason="never called"),),
        data="digest",
        samples=8,
        loss=1.5,
        settings={"seed": 3},
    )
    tracing.profile_finished(profile)
    assert told(events) == [
        {
            "event": "profile.finished", "task": "masked-lm", "samples": 8, "loss": 1.5, "data": "digest",
            "settings": {"seed": 3}, "digest": profile.digest, "parts": documents.parts(profile),
        },
        {"event": "module.unscored", "module": "L0.w", "reason": "never called"},
    ]  # fmt: skip


def test_raw_scores_are_told_by_unit(events):
    tracing.metric_scored(RawScores(metric="fisher", unit="nats²", granularity="layer", values={"L0": 1.0, "L1": 2.0}))
    common = {"event": "metric.scored", "metric": "fisher", "granularity": "layer", "measure": "nats²"}
    assert told(events) == [{**common, "unit": "L0", "raw": 1.0}, {**common, "unit": "L1", "raw": 2.0}]


def test_a_utility_is_told_with_all_that_it_follows_from(events):
    tracing.utilities_computed(
        Utilities(
            units=("L0", "L1"),
            values=(0.25, 0.75),
            raw={"fisher": (1.0, 3.0)},
            normalized={"fisher": (0.25, 0.75)},
            weights={"fisher": 2.0},
            normalizer="share",
            aggregator="weighted-mean",
        )
    )
    assert told(events)[1] == {
        "event": "utility.computed", "unit": "L1", "utility": 0.75, "raw": {"fisher": 3.0},
        "normalized": {"fisher": 0.75}, "weights": {"fisher": 2.0}, "normalizer": "share",
        "aggregator": "weighted-mean", "errors": {},
    }  # fmt: skip
    assert [event["unit"] for event in events] == ["L0", "L1"]


def test_candidates_are_counted_and_the_cheapest_is_named(events):
    candidates = (
        Candidate(method="none", size=0, cost=Cost(), gain=0.0),
        Candidate(method="lora", size=1, cost=Cost(params=16), gain=0.5),
    )
    unit = Unit(name="L0", utility=0.5, candidates=candidates, targets={}, notches={})
    tracing.candidates_built(CandidateSet(units=(unit, unit), methods=("none", "lora")))
    tracing.candidates_built(CandidateSet(units=(), methods=("none",)))
    tracing.candidate_refused("L0", "adapter", "the budget is spent")
    assert told(events) == [
        {"event": "candidates.built", "methods": ["none", "lora"], "units": 2, "candidates": 4, "cheapest": 16},
        {"event": "candidates.built", "methods": ["none"], "units": 0, "candidates": 0, "cheapest": None},
        {"event": "candidate.refused", "unit": "L0", "method": "adapter", "cause": "the budget is spent"},
    ]


def test_thresholds_are_told_with_their_origin(events):
    tracing.thresholds_set(("none", "lora"), (0.5,), "quantiles 0.5")
    assert told(events) == [
        {"event": "thresholds.set", "methods": ["none", "lora"], "thresholds": [0.5], "origin": "quantiles 0.5"}
    ]


def test_a_decision_is_told_with_its_reason_and_margin(events):
    tracing.decision_made(DECISION)
    assert told(events) == [
        {
            "event": "decision.made", "unit": "L0", "method": "lora", "size": 2, "sizes": {"L0.w": 2}, "utility": 0.75,
            "parameters": 32, "reason": "it is worth it", "runner_up": "none", "margin": -0.25,
        }
    ]  # fmt: skip


def test_a_budget_is_told_with_what_was_asked_allowed_and_spent(events):
    tracing.budget_settled("params=40", Limits(params=40), Cost(params=32, flops=1.0, memory=2.0, latency=3.0))
    tracing.certificate_found(value=0.5, bound=0.75, exact=False)
    assert told(events) == [
        {
            "event": "budget.settled", "asked": "params=40", "limits": {"params": 40},
            "spent": {"params": 32, "flops": 1.0, "memory": 2.0, "latency": 3.0},
        },
        {"event": "budget.certificate", "value": 0.5, "bound": 0.75, "gap": 0.25, "exact": False},
    ]  # fmt: skip


def test_a_plan_is_told_by_its_id(events):
    plan = Plan(
        profile="0" * 64,
        architecture="Toy", fingerprint="f", shapes={}, task="causal-lm", request=Request(strategy="s", budget=()),
        limits=Limits(), cost=Cost(params=32), decisions=(DECISION,), heads=(Head(name="score", parameters=7),),
    )  # fmt: skip
    tracing.plan_made(plan)
    assert told(events) == [
        {"event": "plan.made", "digest": plan.digest, "parts": documents.parts(plan), "parameters": 32, "heads": 7}
    ]


# --- where events go ------------------------------------------------------------------------------------------------


def test_nothing_is_printed_where_nobody_configured_structlog(capfd):
    tracing.run_finished(1.0)
    assert capfd.readouterr() == ("", "")


def test_what_is_only_tried_is_not_told(events):
    with tracing.silenced():
        tracing.decision_made(DECISION)
        with tracing.silenced():
            pass
        tracing.run_finished(1.0)
    with pytest.raises(ValueError, match="tried"), tracing.silenced():
        raise ValueError("tried")
    tracing.run_finished(2.0)
    assert told(events) == [{"event": "run.finished", "seconds": 2.0}]


def test_a_trace_is_one_json_object_a_line_with_the_runs_id(tmp_path):
    with tracing.to_file(tmp_path / "run", run_id="abc"):
        tracing.metric_scored(RawScores(metric="fisher", unit="nats²", granularity="layer", values={"schön": 1.0}))
        tracing.run_finished(1.0)
        assert not (tmp_path / "run" / "trace.jsonl").exists()
    lines = (tmp_path / "run" / "trace.jsonl").read_text(encoding="utf-8").splitlines()
    assert "schön" in lines[1]
    events = tracing.read(tmp_path / "run")
    opening, *told, seal = [json.loads(line) for line in lines]
    assert told == events
    assert opening == {"event": "trace.opened", "schema": "layerlens/trace", "version": 1}
    assert (seal["event"], seal["lines"]) == ("trace.sealed", 3)
    assert [(event["event"], event["run_id"]) for event in events] == [
        ("metric.scored", "abc"),
        ("run.finished", "abc"),
    ]
    assert all(event["timestamp"].endswith("Z") for event in events)
    assert not structlog.is_configured()


def test_a_failure_leaves_the_trace_that_was_there(tmp_path):
    with tracing.to_file(tmp_path, run_id="first"):
        tracing.run_finished(1.0)
    before = (tmp_path / "trace.jsonl").read_bytes()

    def fails(run):
        with tracing.to_file(run, run_id="second"):
            tracing.run_finished(2.0)
            raise KeyboardInterrupt

    for run in (tmp_path, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            fails(run)
    assert (tmp_path / "trace.jsonl").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["trace.jsonl"]
    assert not structlog.is_configured()


def allocated(run, run_id, *, keep_profile):
    with tracing.to_file(run, run_id=run_id, keep_profile=keep_profile):
        tracing.run_started("allocate", {}, {})
        tracing.decision_made(DECISION)


def test_what_profiling_told_stays_when_a_run_is_allocated_anew(tmp_path):
    with tracing.to_file(tmp_path, run_id="first"):
        tracing.run_started("plan", {}, {})
        tracing.metric_scored(RawScores(metric="fisher", unit="1", granularity="layer", values={"L0": 1.0}))
        tracing.decision_made(DECISION)
    for again in ("second", "third"):
        allocated(tmp_path, again, keep_profile=True)
        assert [(event["run_id"], event["event"]) for event in tracing.read(tmp_path)] == [
            ("first", "run.started"),
            ("first", "metric.scored"),
            (again, "run.started"),
            (again, "decision.made"),
        ]
    allocated(tmp_path, "fourth", keep_profile=False)
    assert {event["run_id"] for event in tracing.read(tmp_path)} == {"fourth"}


OPENING = b'{"event": "trace.opened", "schema": "layerlens/trace", "version": 1}\n'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (OPENING + b'{"event": ', "line 2, is not valid JSON"),
        (OPENING + b"\n", "line 2, is not valid JSON"),
        (OPENING + b'{"event": "a"}\n', "line 2, is of an event 'a'"),
        (b"", "is empty"),
        (b'["event"]\n', "line 1, is no event of a trace"),
        (b'{"unit": "L0"}\n', "line 1, is no event of a trace"),
        (b"\xff\xfe", "line 1, is not valid JSON"),
    ],
)
def test_a_damaged_trace_is_told_by_its_line(tmp_path, content, said):
    (tmp_path / "trace.jsonl").write_bytes(content)
    with pytest.raises(FileError) as caught:
        tracing.read(tmp_path)
    assert str(tmp_path / "trace.jsonl") in str(caught.value)
    assert said in str(caught.value)


def test_a_trace_that_is_not_there_asks_for_the_run(tmp_path):
    with pytest.raises(FileError, match=r"trace\.jsonl does not exist; is .* the directory of a run\?"):
        tracing.read(tmp_path)
    (tmp_path / "trace.jsonl").mkdir()
    with pytest.raises(FileError, match=r"trace\.jsonl cannot be read"):
        tracing.read(tmp_path)


def test_a_damaged_trace_is_not_kept_in_part(tmp_path):
    for content in (b"", OPENING):
        (tmp_path / "trace.jsonl").write_bytes(content)
        with pytest.raises(FileError, match="cut short"):
            allocated(tmp_path, "first", keep_profile=True)
        assert (tmp_path / "trace.jsonl").read_bytes() == content
    allocated(tmp_path, "first", keep_profile=False)
    assert [event["event"] for event in tracing.read(tmp_path)] == ["run.started", "decision.made"]
