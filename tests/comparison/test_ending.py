"""Processes that share a comparison end at the same moment, and write the same files."""

import threading

import attrs
import pytest

from bert_profile import bert_profile
from layerlens_core.allocation.allocate import allocate
from layerlens_core.comparison.compared import COMPARED, SCHEMA, VERSION, Comparison
from layerlens_core.comparison.ending import save
from layerlens_core.files import documents
from layerlens_core.files.atomic import writing
from layerlens_core.files.lock import BusyError, is_held
from layerlens_core.values.comparison import Schedule
from layerlens_core.values.gains import GainCurve, Gains
from layerlens_core.values.recipe import Recipe

SCHEDULE = Schedule(steps=30, batch=10)
GAINS = Gains(
    curves={"lora": GainCurve(ceiling=1.0, half=2.0, spread=None, source="measured")}, setting="s", profile="0" * 64
)
FOUND = Comparison(setting="s", samples=100, schedule=SCHEDULE, arms=(), gains=GAINS)
PLAN = allocate(bert_profile([3.0, 2.0, 1.0]), budget="params=r=2")
RECIPE = Recipe(
    plan=PLAN.digest, profile=PLAN.profile, comparison="0" * 64,
    setting="s", rate=None, rates={}, groups={}, scale=2.0, schedule=SCHEDULE, epochs=3.0, recommended={},
    budget="", sentence="nothing",
)  # fmt: skip


def files(run):
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


def test_all_that_was_found_is_written(tmp_path):
    save(FOUND, RECIPE, tmp_path)
    assert documents.read(tmp_path / "compare" / COMPARED, Comparison, schema=SCHEMA, version=VERSION) == FOUND
    assert (Recipe.load(tmp_path, PLAN), Gains.load(tmp_path)) == (RECIPE, GAINS)


def test_gains_go_where_they_are_contradicted_and_stay_where_they_are_not(tmp_path):
    save(FOUND, RECIPE, tmp_path)
    without = attrs.evolve(FOUND, gains=None)
    save(without, RECIPE, tmp_path)
    assert Gains.load(tmp_path) == GAINS
    save(without, RECIPE, tmp_path, contradicted=True)
    assert files(tmp_path) == ["compare/comparison.json", "recipe.json"]


@pytest.mark.parametrize("kind", [Recipe, Gains, documents])
def test_nothing_is_written_beside_another_process(tmp_path, monkeypatch, kind):
    name = "write" if kind is documents else "save"
    write, held = getattr(kind, name), []

    def looks(*given, **options):
        held.append(is_held(tmp_path))
        return write(*given, **options)

    monkeypatch.setattr(kind, name, looks)
    save(FOUND, RECIPE, tmp_path)
    assert held
    assert all(held)


@pytest.fixture
def busy(tmp_path):
    """Another process that writes into the run, as its lock shows it, until it is told to end."""
    import multiprocessing

    context = multiprocessing.get_context("fork")
    there, end = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, there, end))
    process.start()
    assert there.wait(60)
    yield end
    end.set()
    process.join()


def _hold(run, there, end):
    with writing(run):
        there.set()
        end.wait(60)


def test_a_process_that_ends_at_the_same_moment_is_waited_for(tmp_path, busy):
    saving = threading.Thread(target=save, args=(FOUND, RECIPE, tmp_path))
    saving.start()
    saving.join(0.2)
    assert saving.is_alive()
    assert files(tmp_path) == []
    busy.set()
    saving.join()
    assert Gains.load(tmp_path) == GAINS


def test_one_that_goes_on_writing_is_told(tmp_path, busy, monkeypatch):
    monkeypatch.setattr("layerlens_core.comparison.ending.PATIENCE", 0.1)
    with pytest.raises(BusyError):
        save(FOUND, RECIPE, tmp_path)


def test_what_a_process_left_that_was_killed_over_it_goes_away(tmp_path):
    (tmp_path / "compare").mkdir()
    halves = ["compare/.comparison.json.abcdefgh", ".recipe.json.abcdefgh", ".gains.json.abcd_fgh"]
    for half in halves:
        (tmp_path / half).touch()
    save(FOUND, RECIPE, tmp_path)
    assert files(tmp_path) == ["compare/comparison.json", "gains.json", "recipe.json"]
