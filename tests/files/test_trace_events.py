"""Every event that is written passes, and one that lacks a field, or mistypes it, is told by the field."""

import json

import pytest

from layerlens_core import tracing
from layerlens_core.errors import FileError
from layerlens_core.files.run import TRACE
from layerlens_core.files.trace_events import FIELDS, wrong_field
from layerlens_core.values.costs import RESOURCES
from mutation.readers import a_run


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    return tracing.read(a_run(tmp_path_factory.mktemp("traced") / "run"))


def test_the_resources_are_those_of_costs():
    from layerlens_core.files.trace_events import RESOURCES as known

    assert known == set(RESOURCES)


def test_every_field_is_missed_and_its_type_is_seen(events, tmp_path):
    seen = {event["event"]: event for event in events}
    for name, fields in FIELDS.items():
        if name not in seen:
            continue
        assert wrong_field(seen[name]) is None
        for field in fields:
            without = {key: value for key, value in seen[name].items() if key != field}
            for event in (without, {**without, field: [None, {}]}):
                (tmp_path / TRACE).write_text(json.dumps(seen["run.started"]) + "\n" + json.dumps(event) + "\n")
                with pytest.raises(FileError, match=rf"line 2, .*'{field}'"):
                    tracing.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "field"),
    [
        ("utility.computed", {"weights": {"another": 1.0}}, "weights"),
        ("utility.computed", {"normalized": {}}, "normalized"),
        ("utility.computed", {"utility": float("nan")}, "utility"),
        ("utility.computed", {"utility": True}, "utility"),
        ("thresholds.set", {"thresholds": []}, "thresholds"),
        ("budget.settled", {"limits": {"time": 1}}, "limits"),
        ("budget.settled", {"spent": {}}, "spent"),
        ("decision.made", {"sizes": {"a": -1}}, "sizes"),
        ("decision.made", {"parameters": 10**30}, "parameters"),
        ("decision.made", {"margin": "much"}, "margin"),
    ],
)
def test_what_fields_must_be_together_is_seen(events, name, change, field):
    event = next(event for event in events if event["event"] == name)
    assert f"{field!r}" in wrong_field({**event, **change})


def test_events_of_other_names_pass():
    assert wrong_field({"event": "mine", "anything": [1]}) is None
