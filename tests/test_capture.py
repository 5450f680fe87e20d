"""Events are heard by whoever captures them, in their context alone, and by the program's own structlog."""

import asyncio
import contextvars
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import structlog

import layerlens_core as ll
from bert_profile import bert_profile
from layerlens_core import tracing
from layerlens_core.errors import FileError, PluginError
from layerlens_core.plugin import candidate_refused, certificate_found, plugin_told, thresholds_set

PROFILE = bert_profile([float(i + 1) for i in range(4)])


def names(events):
    return [event["event"] for event in events]


def test_an_allocation_is_captured_without_configuring_anything():
    with ll.capture_events() as events:
        plan = ll.allocate(PROFILE, strategy="threshold", budget="params=r=2")
        assert names(events)[-1] == "plan.made"  # as they come
    tracing.run_finished(1.0)
    assert names(events)[-1] == "plan.made"
    decided = [event for event in events if event["event"] == "decision.made"]
    assert [event["unit"] for event in decided] == [decision.unit for decision in plan.decisions]
    assert {"utility.computed", "thresholds.set", "candidates.built", "budget.settled"} < set(names(events))
    assert len({event["run_id"] for event in events}) == 1
    assert json.loads(json.dumps(events, allow_nan=False)) == events


def test_a_file_holds_what_the_list_does_and_is_sealed(tmp_path):
    path = tmp_path / "new" / "events.jsonl"
    with ll.capture_events(path) as events:
        ll.allocate(PROFILE, budget="params=r=2")
        plugin_told("mine", "graph.built", nodes=np.int64(3), where=Path("a"), share=np.float32("nan"))
    assert tracing.read(path) == events
    assert events[-1].items() >= {"event": "mine:graph.built", "nodes": 3, "where": "a", "share": "nan"}.items()
    path.write_bytes(path.read_bytes().replace(b'"nodes": 3', b'"nodes": 4'))
    with pytest.raises(FileError, match="was changed after it was written"):
        tracing.read(path)


def test_what_was_captured_before_an_error_is_written_and_the_error_passes(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text("before")

    def fails():
        with ll.capture_events(str(path)):
            tracing.run_finished(1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert names(tracing.read(path)) == ["run.finished"]
    tracing.run_finished(2.0)
    assert [each.name for each in tmp_path.iterdir()] == ["events.jsonl"]


def test_a_place_that_cannot_be_written_is_told_before_anything_is_done(tmp_path):
    (tmp_path / "file").touch()
    done = []
    with pytest.raises(FileError, match="cannot"), ll.capture_events(tmp_path / "file" / "events.jsonl"):
        done.append(1)
    assert not done


def test_captures_inside_of_others_hear_the_same_and_have_their_own():
    with ll.capture_events() as outer:
        tracing.run_finished(1.0)
        with ll.capture_events() as inner:
            tracing.run_started("plan", {"list": [1]}, {})
        tracing.run_finished(2.0)
    assert names(outer) == ["run.finished", "run.started", "run.finished"]
    assert names(inner) == ["run.started"]
    inner[0]["arguments"]["list"].append(2)
    assert outer[1]["arguments"] == {"list": [1]}


def test_threads_hear_their_own_and_a_copy_of_a_context_hears_the_same():
    together = threading.Barrier(4)

    def work(number):
        with ll.capture_events() as events:
            together.wait(60)
            for _ in range(50):
                tracing.run_finished(number)
            together.wait(60)
        return [event["seconds"] for event in events]

    with ll.capture_events() as outer, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [[number] * 50 for number in range(4)]
        assert outer == []
        pool.submit(tracing.run_finished, 1.0).result()
        assert outer == []
        pool.submit(contextvars.copy_context().run, tracing.run_finished, 2.0).result()
    assert [event["seconds"] for event in outer] == [2.0]


def test_tasks_hear_what_was_captured_where_they_began():
    async def part(number):
        with ll.capture_events() as events:
            tracing.run_finished(number)
            await asyncio.sleep(0)
            tracing.run_finished(number)
        return [event["seconds"] for event in events]

    async def whole():
        return await asyncio.gather(*map(part, range(3)))

    # In a thread of its own, as another test's browser may have left an event loop running in this one.
    with ll.capture_events() as outer, ThreadPoolExecutor(1) as pool:
        found = pool.submit(contextvars.copy_context().run, asyncio.run, whole()).result()
        assert found == [[0, 0], [1, 1], [2, 2]]
    assert sorted(event["seconds"] for event in outer) == [0, 0, 1, 1, 2, 2]


def test_the_programs_own_structlog_gets_the_same_events(tmp_path):
    path = tmp_path / "app.log"
    with path.open("w") as file:
        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
            logger_factory=structlog.WriteLoggerFactory(file=file),
        )
        try:
            with structlog.contextvars.bound_contextvars(request="7"), ll.capture_events() as events:
                ll.allocate(PROFILE, strategy="threshold", budget="params=r=2", options={"quantiles": "0.5"})
                plugin_told("mine", "it", record=PROFILE.inventory.layers[0], numbers=np.arange(2))
                with tracing.silenced():
                    tracing.run_finished(1.0)
            assert structlog.is_configured()  # nothing of it was changed
        finally:
            structlog.reset_defaults()
    logged = [json.loads(line) for line in path.read_text().splitlines()]
    assert {each.pop("request") for each in logged} == {"7"}
    own = ("run_id", "timestamp")
    assert logged == [{name: value for name, value in event.items() if name not in own} for event in events]
    assert events[-1]["numbers"] == [0, 1]


def test_capturing_imports_nothing_heavy_and_importing_layerlens_no_structlog():
    code = """
import sys
import layerlens_core as ll
before = set(sys.modules)
with ll.capture_events() as events:
    from layerlens_core import tracing
    tracing.run_finished(1.0)
assert len(events) == 1
assert not {"torch", "numpy", "transformers"} & set(sys.modules)
assert not {"structlog", "layerlens_core.tracing", "attrs"} & before
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- what plugins tell ----------------------------------------------------------------------------------------------


def test_what_a_plugin_gives_that_no_trace_could_hold_is_told_at_once():
    for wrong in (
        lambda: thresholds_set(("none", "lora"), (float("nan"),), "mine"),
        lambda: thresholds_set(("none", "lora"), (0.1, 0.2), "mine"),
        lambda: candidate_refused("L0", "lora", None),
        lambda: certificate_found(value=1.0, bound=float("inf"), exact=True),
        lambda: certificate_found(value=1.0, bound=2.0, exact="yes"),
    ):
        with pytest.raises(PluginError, match="has a field '"), ll.capture_events() as events:
            wrong()
        assert events == []
    with ll.capture_events() as events:
        certificate_found(value=np.float32(1.0), bound=2, exact=np.bool_(True))
    assert (events[0]["value"], events[0]["exact"]) == (1.0, True)


def test_a_plugins_own_event_has_its_name_and_none_of_ours():
    for plugin, what in (("", "it"), ("mine", ""), ("my:ne", "it"), ("mine", "i:t")):
        with pytest.raises(PluginError, match="named by two texts without a colon"):
            plugin_told(plugin, what)
    with pytest.raises(PluginError, match="'run_id', which every event has already"):
        plugin_told("mine", "it", run_id=3)
