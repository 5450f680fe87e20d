"""A part of tests/benchmarks/audit_mutations.py: every change of a single field is found, and where."""

import json
import shutil
from pathlib import Path

import pytest
from auditing.made import make_run, profile_of
from auditing.single import FILES, changes, forge

from layerlens_core.auditing.audit import audit
from layerlens_core.errors import VersionError
from layerlens_core.files.run import GAINS, PLAN, PROFILE, RECIPE, TRACE

#: Of all changes of a file, every so manieth is tried.
STRIDE = 29
RUNS = {
    "threshold": ("bert", {"strategy": "threshold"}),
    "budget": ("llama", {"strategy": "budget", "methods": "lora,adapter"}),
    "cost-benefit": ("llama", {"strategy": "cost-benefit"}),
    "tempered": ("bert", {}),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for at, (name, (model, asked)) in enumerate(RUNS.items()):
        make_run(root / name, profile_of(model), compared=True, vectors=at % 2 == 0, budget="params=r=2", **asked)
    return root


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", RUNS)
def test_a_change_of_one_field_is_found(runs, tmp_path, name, file):
    run = Path(shutil.copytree(runs / name, tmp_path / "run"))
    tried = 0
    for change in changes(run, file, first=list(RUNS).index(name), stride=STRIDE):
        (run / file).write_bytes(change.content)
        try:
            found = audit(run).findings
        except VersionError:
            found = ("of another version",)
        assert found, change
        tried += 1
    assert tried > (0 if file == GAINS else 2)


def test_what_is_computed_is_named_by_its_field_though_all_digests_are_made_anew(runs, tmp_path):
    for file, edit, field in (
        (PROFILE, lambda it: it["scores"][0]["values"].update({"model.layers.1.mlp.up_proj": 9.0}), "scores[0].values"),
        (PROFILE, lambda it: it["statistics"][3].update(weights=5), "statistics[3].weights"),
        (PLAN, lambda it: it["decisions"][1].update(reason="because"), "decisions[1].reason"),
        (PLAN, lambda it: it["decisions"][0].update(margin=0.125), "decisions[0].margin"),
        (PLAN, lambda it: it["limits"].update(params=it["limits"]["params"] + 1), "limits.params"),
        (PLAN, lambda it: it["certificate"].update(bound=it["certificate"]["bound"] + 1), "certificate.bound"),
        (PLAN, lambda it: it["notes"].append("one more"), "notes (entries)"),
        (RECIPE, lambda it: it.update(rate=0.5), "rate"),
        (GAINS, lambda it: it["curves"]["lora"].update(half=3.5), "curves.lora.half"),
    ):
        run = Path(shutil.copytree(runs / "budget", tmp_path / field))
        document = json.loads((run / file).read_text())
        edit(document)
        (run / file).write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
        forge(run)
        first = audit(run).findings[0]
        assert (first.file, first.kind) == (file, "derivation"), field
        assert first.field.startswith(field)


@pytest.mark.parametrize(
    ("event", "change"),
    [
        ("utility.computed", {"utility": 0.25}),
        ("utility.computed", {"normalizer": "rank"}),
        ("thresholds.set", {"thresholds": [0.25]}),
        ("candidates.built", {"candidates": 7}),
        ("decision.made", {"reason": "because"}),
        ("budget.settled", {"asked": "params=r=3"}),
        ("metric.scored", {"raw": 0.5}),
    ],
)
def test_an_event_that_does_not_follow_is_named_by_its_line(runs, tmp_path, event, change):
    run = Path(shutil.copytree(runs / "threshold", tmp_path / "run"))
    lines = (run / TRACE).read_text().splitlines()
    at = next(at for at, line in enumerate(lines) if json.loads(line)["event"] == event)
    lines[at] = json.dumps(json.loads(lines[at]) | change)
    (run / TRACE).write_text("\n".join(lines) + "\n")
    forge(run)
    first = audit(run).findings[0]
    assert (first.file, first.kind) == (TRACE, "derivation")
    assert first.field.startswith(f"line {at + 1}: {event}")
    assert next(iter(change)) in first.field


def test_a_field_that_follows_from_nothing_is_named_by_its_own_digest(runs, tmp_path):
    run = Path(shutil.copytree(runs / "threshold", tmp_path / "run"))
    document = json.loads((run / PROFILE).read_text())
    document["evidence"]["p"] = 0.5
    (run / PROFILE).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    first = audit(run).findings[0]
    assert (first.file, first.field, first.kind) == (PROFILE, "evidence", "digest")


def test_who_makes_all_digests_anew_and_changes_nothing_is_not_found(runs, tmp_path):
    run = Path(shutil.copytree(runs / "budget", tmp_path / "run"))
    forge(run)
    assert audit(run).ok
