"""Results as files: kept once, refused where they are another's."""

import errno
import json
import os
import threading

import attrs
import pytest

from layerlens_core.comparison.jobs.leases import leasing
from layerlens_core.comparison.jobs.store import ResultStore, same
from layerlens_core.errors import FileError
from layerlens_core.files import documents
from layerlens_core.files.lock import BusyError
from scripts.comparing import SETTING, arm, content, pretended, some_jobs


@pytest.fixture
def store(tmp_path):
    return ResultStore.open(tmp_path, SETTING)


def file_of(store, job):
    return store.directory / "results" / f"{job.id}.json"


def test_what_is_added_is_found_by_another_process(tmp_path, store):
    jobs = some_jobs(12)
    assert {pretended(job).diverged for job in jobs} == {False, True}
    for job in jobs[:10]:
        store.add(pretended(job))
    again = ResultStore.open(tmp_path, SETTING)
    assert again.missing(jobs) == jobs[10:]
    assert again.results(jobs[:10]) == [pretended(job) for job in jobs[:10]]
    with pytest.raises(FileError, match="lacks 2 of 12 results"):
        again.results(jobs)


def test_a_job_that_is_asked_for_twice_is_missing_once_and_answered_under_both_names(store):
    job = some_jobs(1)[0]
    renamed = attrs.evolve(job, arm=arm(1, "plan"))
    assert store.missing([job, renamed]) == [job]
    store.add(pretended(job))
    assert [result.job.arm.name for result in store.results([job, renamed])] == ["uniform", "plan"]


def test_the_first_result_of_a_job_stays(store):
    job = some_jobs(1)[0]
    store.add(pretended(job))
    store.add(attrs.evolve(pretended(job), seconds=9.0))
    assert store.results([job])[0].seconds == 0.0


def beside(monkeypatch, then):
    """Let another process act once a document is written and not yet in its place."""
    write, acted = documents.write, []

    def late(*given, **options):
        write(*given, **options)
        if not acted:
            acted.append(True)
            then()

    monkeypatch.setattr(documents, "write", late)


@pytest.mark.parametrize("tidied", [False, True])
def test_the_first_of_two_results_that_are_written_at_once_stays(tmp_path, store, monkeypatch, tidied):
    (job,), other = some_jobs(1), ResultStore.open(tmp_path, SETTING)

    def first():
        other.add(attrs.evolve(pretended(job), seconds=9.0))
        if tidied:
            other.tidy([job])

    beside(monkeypatch, first)
    store.add(pretended(job))
    assert store.results([job])[0].seconds == 9.0
    assert os.listdir(store.directory / "results") == [file_of(store, job).name]


def test_a_setting_that_another_process_wrote_first_stays(tmp_path, monkeypatch):
    jobs = some_jobs(1)

    def first():
        other = ResultStore.open(tmp_path, SETTING)
        other.tidy(jobs)

    beside(monkeypatch, first)
    ResultStore.open(tmp_path, SETTING)
    assert sorted(os.listdir(tmp_path / "compare")) == ["results", "setting.json"]


def test_results_that_another_process_writes_with_their_setting_just_now_are_taken(tmp_path, monkeypatch):
    names, looked = ResultStore._names, []

    def late(self):
        found = names(self)
        if not looked:
            looked.append(True)
            ResultStore.open(tmp_path, SETTING).add(pretended(some_jobs(1)[0]))
        return found

    monkeypatch.setattr(ResultStore, "_names", late)
    assert ResultStore.open(tmp_path, SETTING).missing(some_jobs(1)) == []


def test_a_disk_without_hard_links_is_written_to_all_the_same(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    store, jobs = ResultStore.open(tmp_path, SETTING), some_jobs(1)
    store.add(pretended(jobs[0]))
    assert store.results(jobs) == [pretended(jobs[0])]
    assert sorted(os.listdir(tmp_path / "compare")) == ["results", "setting.json"]
    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(
        FileError, match=rf"{some_jobs(2)[1].id}.json cannot be written: Operation not permitted"
    ) as told:
        store.add(pretended(some_jobs(2)[1]))
    assert f".{some_jobs(2)[1].id}" not in str(told.value)


def test_equality_leaves_out_what_was_measured_and_nothing_else():
    result = pretended(some_jobs(1)[0])
    assert same(result, attrs.evolve(result, seconds=1.5, stacked=4, peak=7))
    assert not same(result, attrs.evolve(result, losses=(0.0, 0.0, 0.0)))
    assert not same(result, attrs.evolve(result, training=()))
    assert not same(result, pretended(some_jobs(2)[1]))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("model", "f" * 16, "another model (aaaaaaaaaaaaaaaa there, ffffffffffffffff here)"),
        ("task", "masked-lm", "another task (causal-lm there, masked-lm here)"),
        ("data", "e" * 16, "other training data (bbbbbbbbbbbbbbbb there, eeeeeeeeeeeeeeee here)"),
        ("held_out", "e" * 16, "other held-out data (cccccccccccccccc there, eeeeeeeeeeeeeeee here)"),
        ("labels", (3, 1), "other labels of the held-out data (3 samples, 6 labels there, 2 samples, 4 labels here)"),
        ("precision", "bfloat16", "another precision (float32 there, bfloat16 here)"),
        ("versions", {"torch": "2.14.0"}, "other versions (torch 2.13.0 there, torch 2.14.0 here)"),
        ("versions", {}, "other versions (torch 2.13.0 there, torch none here)"),
    ],
)
def test_another_setting_is_refused_by_what_differs(tmp_path, store, name, value, told):
    store.add(pretended(some_jobs(1)[0]))
    before = content(tmp_path)
    with pytest.raises(FileError) as refused:
        ResultStore.open(tmp_path, attrs.evolve(SETTING, **{name: value}))
    assert told in str(refused.value)
    assert "--overwrite drops them" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert content(tmp_path) == before


def test_every_field_of_a_setting_is_told(tmp_path, store):
    everything = {field.name: "x" for field in attrs.fields(type(SETTING))}
    with pytest.raises(FileError) as refused:
        ResultStore.open(tmp_path, attrs.evolve(SETTING, **{**everything, "labels": (1,), "versions": {"a": "1"}}))
    assert str(refused.value).count(" there, ") == len(everything)


def test_overwriting_drops_everything_of_the_old_setting(tmp_path, store):
    store.add(pretended(some_jobs(1)[0]))
    other = attrs.evolve(SETTING, model="f" * 16)
    assert ResultStore.open(tmp_path, other, overwrite=True).missing(some_jobs(1)) == some_jobs(1)
    assert sorted(content(tmp_path)) == ["setting.json"]
    assert ResultStore.open(tmp_path / "new", other, overwrite=True).missing(some_jobs(1)) == some_jobs(1)


def test_what_another_process_computes_is_not_overwritten(tmp_path, store):
    with leasing(store.leases), pytest.raises(BusyError, match="is being computed by another process"):
        ResultStore.open(tmp_path, SETTING, overwrite=True)
    ResultStore.open(tmp_path, SETTING, overwrite=True)


def test_results_without_their_setting_are_refused(tmp_path, store):
    store.add(pretended(some_jobs(1)[0]))
    (store.directory / "setting.json").unlink()
    with pytest.raises(FileError, match="holds results without their setting"):
        ResultStore.open(tmp_path, SETTING)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text[:-20], "is not valid JSON"),
        (lambda text: text.replace("layerlens/result", "layerlens/plan"), "is not a layerlens/result file"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "is of version 2"),
        (lambda text: text.replace('"seed": 0', '"seed": 5'), "is the result of another job"),
        (lambda text: text.replace('"diverged": false', '"diverged": true'), "has 3 losses and 0 answers of 0"),
        (lambda text: text.replace('"diverged": false', '"diverged": 0'), "is damaged"),
    ],
)
def test_a_damaged_or_foreign_result_is_refused_by_name(tmp_path, store, change, told):
    job = next(job for job in some_jobs(12) if job.seed == 0 and not pretended(job).diverged)
    store.add(pretended(job))
    path = file_of(store, job)
    path.write_text(change(path.read_text()))
    for look in (store.missing, store.results):
        with pytest.raises(FileError, match=told) as refused:
            look([job])
        assert str(path) in str(refused.value)


def test_a_result_of_another_comparison_is_refused(store):
    other = attrs.evolve(SETTING, model="f" * 16)
    with pytest.raises(FileError, match="is of another comparison"):
        store.add(pretended(some_jobs(1, other)[0]))


def test_a_result_that_cannot_be_written_leaves_nothing(store):
    job = next(job for job in some_jobs(12) if not pretended(job).diverged)
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.add(attrs.evolve(pretended(job), training=(float("inf"),)))
    assert os.listdir(store.directory / "results") == []


def test_tidying_takes_away_halves_of_its_own_jobs_alone(store):
    jobs = some_jobs(2)
    own, other = (store.directory / "results" / f".{job.id}.json.abcdefgh" for job in jobs)
    halves = [own.with_name(f".{own.name}.abcd_fgh"), store.directory / ".setting.json.12345678"]
    for path in (own, other, *halves):
        path.touch()
    store.tidy(jobs[:1])
    assert [path.exists() for path in (own, other, *halves)] == [False, True, False, False]


def test_of_many_that_open_at_once_with_two_settings_one_setting_wins(tmp_path):
    settings = [SETTING, attrs.evolve(SETTING, model="f" * 16)]
    told, ready = [], threading.Barrier(8)

    def opens(setting):
        ready.wait()
        try:
            told.append(ResultStore.open(tmp_path, setting).setting.id)
        except FileError as error:
            told.append(str(error))

    threads = [threading.Thread(target=opens, args=(settings[number % 2],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = json.loads((tmp_path / "compare" / "setting.json").read_text())["model"]
    expected = next(setting.id for setting in settings if setting.model == won)
    assert sorted(told.count(each) for each in {expected}) == [4]
    assert sum("another model" in each for each in told) == 4
