"""``layerlens compare`` from its options to its files, and the lines that refuse what cannot be compared."""

import importlib.util
import json
import subprocess
import sys

import jsonschema
import pytest

from cli.documents import schemas
from cli.in_process import listing
from cli.rows import rows_of
from layerlens_core.cli.comparing.command import budgets_in, rates_in, share_in
from layerlens_core.errors import ComparisonError
from scripts import environment

SHORT = ("--steps", "24", "--batch", "4", "--seeds", "2")


@pytest.fixture
def run(layerlens, finished_runs, tmp_path):
    """A copy of a finished run of the tiny Llama."""
    for name in ("profile.json", "plan.json", "trace.jsonl"):
        (tmp_path / name).write_bytes((finished_runs["llama"] / name).read_bytes())
    return tmp_path


@pytest.fixture
def given(model, data):
    """The model and the data that a comparison has to be given."""
    return ("--model", model("llama"), "--data", data("text"))


def test_a_comparison_prints_rates_and_a_verdict_and_goes_on_where_it_was(layerlens, run, given):
    first = layerlens.ok("compare", run, *given, "--arms", "plan", *SHORT)
    assert "held-out loss of short runs" in first.stdout
    assert "uniform" in first.stdout
    assert "held out, since no others were given" in first.stderr
    assert str(run / "recipe.json") in first.stdout
    recipe = json.loads((run / "recipe.json").read_text())
    assert recipe["rate"] > 0
    again = layerlens.ok("compare", run, *given, "--arms", "plan", *SHORT, "--json")
    found = json.loads(again.stdout)
    jsonschema.validate(found, schemas()["compare"])
    assert {each["arm"] for each in found["verdict"]["judged"]} == {"uniform", "plan"}


def test_rates_alone(layerlens, run, given):
    result = layerlens.ok("compare", run, *given, "--only", "lr", "--arms", "", *SHORT)
    assert "of a whole run's samples" in result.stdout
    assert json.loads((run / "recipe.json").read_text())["recommended"] == {}


def test_a_picture_and_a_file_of_its_own_to_judge_on(layerlens, run, given, write, tmp_path):
    pytest.importorskip("altair")
    held_out = write("held-out.jsonl", rows_of("text")[:6])
    layerlens.ok(
        "compare", run, *given, "--eval", held_out, "--lr", "1e-2", *SHORT, "--picture", tmp_path / "found.svg"
    )
    assert (tmp_path / "found.svg").read_text().startswith("<svg")


def test_held_out_labels_that_the_training_data_lack_are_left_out_and_said(layerlens, model, data, write, tmp_path):
    labelled = ("--model", model("bert"), "--data", data("labelled"))
    layerlens.ok("plan", model("bert"), "--data", data("labelled"), "--budget", "params=r=2", "--out", tmp_path / "run")
    rows = [*rows_of("labelled"), {"text": "one two", "label": "lion"}, {"text": "one", "label": None}]
    options = (*labelled, "--eval", write("eval.jsonl", rows), "--lr", "1e-2", *SHORT)
    result = layerlens.ok("compare", tmp_path / "run", *options)
    assert "14 rows read, 12 used" in result.stderr
    assert "1 with a label that the training data do not have" in result.stderr
    assert "uniform" in result.stdout
    only = write("only.jsonl", rows[-2:])
    refused = layerlens.refused("compare", tmp_path / "run", *labelled, "--eval", only, *SHORT)
    assert "holds no row that could be judged on" in refused


@pytest.mark.parametrize("rows", [[{"other": "x"}], [{"text": 7, "label": "cat"}], [{"label": "cat"}]])
def test_held_out_rows_of_another_form_are_refused_in_a_line(layerlens, model, data, write, tmp_path, rows):
    labelled = ("--model", model("bert"), "--data", data("labelled"))
    layerlens.ok("plan", model("bert"), "--data", data("labelled"), "--budget", "params=r=2", "--out", tmp_path / "run")
    layerlens.refused("compare", tmp_path / "run", *labelled, "--eval", write("eval.jsonl", rows), *SHORT)


def test_two_commands_may_share_the_work(layerlens, run, given):
    pytest.importorskip("optuna")
    joined = layerlens.ok("compare", run, *given, "--lr", "1e-2", "--join", *SHORT)
    assert "uniform" in joined.stdout
    alone = layerlens.ok("compare", run, *given, "--lr", "1e-2", *SHORT)  # everything is there
    assert alone.stdout == joined.stdout


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_ray_gives_the_figures_of_one_process(layerlens, run, given, tmp_path, tmp_path_factory):
    alone = layerlens.ok("compare", run, *given, "--lr", "1e-2", *SHORT).stdout
    other = tmp_path_factory.mktemp("ray")
    for name in ("profile.json", "plan.json", "trace.jsonl"):
        (other / name).write_bytes((run / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "layerlens_core", "compare", other, *given, "--lr", "1e-2", "--ray", *SHORT],
        capture_output=True, text=True, env=environment(HOME=str(tmp_path_factory.mktemp("home"))), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.replace(str(other), str(run)) == alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lr", "fast"), "--lr fast is neither auto nor numbers"),
        (("--lr", "1e-2,1e-3"), "rates must be above 0, ascending"),
        (("--tolerance", "a lot"), "is no share"),
        (("--arms", "plam"), "no arm is named 'plam'"),
        (("--budgets", "q=4"), "q"),
        (("--eval", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--join", "--overwrite"), "use it alone, then --join"),
        (("--join", "--ray"), "two ways to share the work"),
        (("--picture", "found.pdf"), "as .svg or .png, not as found.pdf"),
        (("--arms", "metric:nowhere"), "no metric is named 'nowhere'"),
        (("--budgets", "params=3"), "the cheapest candidate, lora of size 1, takes 248"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(layerlens, run, given, options, message):
    assert message in layerlens.refused("compare", run, *given, *SHORT, *options, out=run)


@pytest.mark.parametrize("missing", ["altair", "vl_convert"])
def test_a_picture_that_could_not_be_drawn_is_refused_before_anything_is_trained(
    layerlens, run, given, monkeypatch, missing
):
    monkeypatch.setitem(sys.modules, missing, None)
    message = layerlens.refused("compare", run, *given, *SHORT, "--picture", run / "found.svg", out=run)
    assert f"pictures need {missing}" in message


def test_too_little_to_judge_on_is_refused_before_anything_is_trained(layerlens, run, given, write, tmp_path):
    two = ("--model", given[1], "--data", write("two.jsonl", rows_of("text")[:2]))
    assert "held-out samples with labels are needed to judge, and there are 1" in layerlens.refused(
        "compare", run, *two, *SHORT, out=run
    )
    held_out = ("--eval", write("one.jsonl", rows_of("text")[:1]))
    assert "there are 1" in layerlens.refused("compare", run, *given, *held_out, *SHORT, out=run)
    empty = ("--eval", write("empty.jsonl", []))
    assert "holds no row that could be judged on" in layerlens.refused("compare", run, *given, *empty, *SHORT, out=run)


def test_few_held_out_samples_are_a_warning_and_an_arm_beyond_its_budget_is_left_out(layerlens, run, given):
    found = layerlens.ok("compare", run, *given, "--lr", "1e-2", "--budgets", "params=3,r=2", *SHORT)
    assert "only 3 held-out examples have labels" in found.stdout
    assert "left out: plan params=3: budget params=3 allows 3 trainable parameters" in found.stderr


def test_running_out_of_memory_with_one_arm_loses_nothing_that_is_done(layerlens, run, given, monkeypatch):
    import torch

    from layerlens_core.comparison.stacked.train import Training

    layerlens.ok("compare", run, *given, "--lr", "1e-2", *SHORT)
    done = listing(run / "compare" / "results")

    def none_left(training):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Training, "run", none_left)
    message = layerlens.refused("compare", run, *given, "--lr", "1e-2,2e-2", *SHORT)
    assert "has too little memory for a single arm" in message
    assert listing(run / "compare" / "results") == done


def test_another_model_is_refused_by_name(layerlens, run, model, data):
    message = layerlens.refused("compare", run, "--model", model("bert"), "--data", data("text"), *SHORT, out=run)
    assert "bert" in message.lower()


def test_results_of_other_data_are_refused_unless_they_may_go(layerlens, run, given, write):
    layerlens.ok("compare", run, *given, "--lr", "1e-2", *SHORT)
    other = write("other.jsonl", rows_of("text")[:-2])
    options = ("--model", given[1], "--data", other, "--lr", "1e-2", *SHORT)
    message = layerlens.refused("compare", run, *options, out=run)
    assert "holds results of other training data" in message
    assert f"--overwrite drops them; a plan in another directory than {run} keeps them" in message
    layerlens.ok("compare", run, *options, "--overwrite")


def test_budgets_may_share_what_stands_before_the_sign():
    assert budgets_in("r=1,2, 4") == ("r=1", "r=2", "r=4")
    assert budgets_in("params=r=1,2,params=50k") == ("params=r=1", "params=r=2", "params=50k")
    assert budgets_in("") == ()


def test_shares_and_rates():
    assert share_in("1%") == pytest.approx(share_in("0.01"))
    assert rates_in("1e-3,2e-3") == (1e-3, 2e-3)
    assert rates_in("auto") == "auto"
    for wrong in ("100%", "-1%", "nan"):
        with pytest.raises(ComparisonError):
            share_in(wrong)
    for wrong in ("0", "-1", "inf", "nan", "1e-3,1e-3", ""):
        with pytest.raises(ComparisonError):
            rates_in(wrong)
