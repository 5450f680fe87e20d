"""Bad input ends in a line or two that say what, where and what to do, with status 2 and nothing written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

Model = Callable[[str], str]
Data = Callable[[str], str]
Write = Callable[..., str]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


# ---------------------------------------------------------------------------------------------- data


def test_a_missing_data_file_is_named(layerlens: Any, model: Model, tmp_path: Path, out: Path) -> None:
    path = tmp_path / "nowhere.jsonl"
    message = layerlens.refused("plan", model("llama"), "--data", path, "--out", out, out=out)
    assert message == f"Error: the data file {path} does not exist\n"


def test_an_empty_data_file_is_named(layerlens: Any, model: Model, tmp_path: Path, out: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.touch()
    message = layerlens.refused("plan", model("llama"), "--data", path, "--out", out, out=out)
    assert message == f"Error: {path} holds no rows\n"


def test_a_line_that_is_no_json_is_named_by_its_number(layerlens: Any, model: Model, tmp_path: Path, out: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text('{"text": "the cat"}\n\n{"text": the dog}\n')
    message = layerlens.refused("plan", model("llama"), "--data", path, "--out", out, out=out)
    assert f"{path}, line 3, is no JSON: " in message
    assert "each line must be one JSON object" in message


def test_a_dataset_that_is_not_there_says_what_was_tried(layerlens: Any, model: Model, out: Path) -> None:
    message = layerlens.refused("plan", model("llama"), "--data", "nobody/nothing", "--out", out, out=out)
    assert "nobody/nothing is neither a data file nor a dataset that can be loaded" in message


def test_data_without_a_text_field_name_the_fields_and_the_option(
    layerlens: Any, model: Model, write: Write, out: Path
) -> None:
    path = write("rows.jsonl", [{"body": "the cat", "id": 1}])
    message = layerlens.refused("plan", model("llama"), "--data", path, "--out", out, out=out)
    assert "no text field; found: body, id." in message
    assert "--text-field" in message


def test_data_without_a_label_field_name_the_fields_and_the_option(
    layerlens: Any, model: Model, data: Data, out: Path
) -> None:
    message = layerlens.refused(
        "plan", model("bert"), "--data", data("text"), "--task", "sequence-classification", "--out", out, out=out
    )
    assert "no label field; found: text. Name one with --label-field" in message


def test_a_field_that_is_misspelt_gets_the_nearest_name(layerlens: Any, model: Model, write: Write, out: Path) -> None:
    path = write("rows.jsonl", [{"body": "the cat"}])
    message = layerlens.refused("plan", model("llama"), "--data", path, "--text-field", "boddy", "--out", out, out=out)
    assert "no field 'boddy' (--text-field); they have: body. Did you mean 'body'?" in message


def test_a_row_without_text_is_named_by_its_number(layerlens: Any, model: Model, write: Write, out: Path) -> None:
    path = write("rows.jsonl", [{"text": "the cat"}, {"text": "the dog"}, {"text": None}])
    message = layerlens.refused("plan", model("llama"), "--data", path, "--out", out, out=out)
    assert message == "Error: row 3: field 'text' must hold text, but holds nothing\n"


@pytest.mark.parametrize(
    ("family", "form", "task", "said"),
    [
        ("t5", "text", None, "t5, a sequence-to-sequence model, needs data with prompt and completion"),
        ("bert", "pairs", None, "bert, a masked language model, needs data with text"),
        ("t5", "labelled", "seq2seq-lm", "--task seq2seq-lm needs data with prompt and completion"),
        ("bert", "pairs", "masked-lm", "--task masked-lm needs data with text"),
        ("t5", "text", "causal-lm", "cannot be loaded for causal-lm"),
    ],
)
def test_data_that_the_task_cannot_use_are_refused(
    layerlens: Any, model: Model, data: Data, out: Path, family: str, form: str, task: str | None, said: str
) -> None:
    options = ("--task", task) if task else ()
    message = layerlens.refused("plan", model(family), "--data", data(form), *options, "--out", out, out=out)
    assert said in message


def test_too_few_samples_say_how_many_are_needed(layerlens: Any, model: Model, data: Data, out: Path) -> None:
    message = layerlens.refused("plan", model("llama"), "--data", data("text"), "--samples", 1, "--out", out, out=out)
    assert "1 of 1 samples have a label" in message
    assert "at least one group of 2" in message


# --------------------------------------------------------------------------------------------- model


def test_a_model_directory_without_a_config_is_named(layerlens: Any, data: Data, tmp_path: Path, out: Path) -> None:
    (tmp_path / "model").mkdir()
    message = layerlens.refused("plan", tmp_path / "model", "--data", data("text"), "--out", out, out=out)
    assert f"the model directory {tmp_path / 'model'} has no config.json" in message


def test_a_model_directory_that_does_not_exist_is_named(layerlens: Any, data: Data, tmp_path: Path, out: Path) -> None:
    message = layerlens.refused("plan", tmp_path / "nowhere", "--data", data("text"), "--out", out, out=out)
    assert message == f"Error: the model directory {tmp_path / 'nowhere'} does not exist\n"


def test_a_name_that_is_neither_a_directory_nor_on_the_hub_says_so(layerlens: Any, data: Data, out: Path) -> None:
    message = layerlens.refused("plan", "nobody/no-model", "--data", data("text"), "--out", out, out=out)
    assert "there is no directory nobody/no-model, and the model of that name cannot be loaded" in message


def test_a_model_that_is_a_file_is_refused(layerlens: Any, model: Model, data: Data, out: Path) -> None:
    path = Path(model("llama")) / "model.safetensors"
    message = layerlens.refused("plan", path, "--data", data("text"), "--out", out, out=out)
    assert f"the model {path} is a file; name its directory" in message


def test_damaged_weights_are_refused(layerlens: Any, own_model: Callable[[str], Path], data: Data, out: Path) -> None:
    path = own_model("llama")
    (path / "model.safetensors").write_bytes(b"nothing of the kind")
    message = layerlens.refused("plan", path, "--data", data("text"), "--out", out, out=out)
    assert f"the model {path} cannot be loaded for causal-lm" in message


def test_a_model_without_a_tokenizer_says_how_to_save_one(
    layerlens: Any, own_model: Callable[[str], Path], data: Data, out: Path
) -> None:
    path = own_model("llama")
    for file in path.glob("token*"):
        file.unlink()
    message = layerlens.refused("plan", path, "--data", data("text"), "--out", out, out=out)
    assert f"the model {path} has no tokenizer" in message
    assert "tokenizer.save_pretrained" in message


def test_a_tokenizer_of_another_model_is_found_out(
    layerlens: Any, own_model: Callable[[str], Path], data: Data, out: Path
) -> None:
    path = own_model("llama")
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["cat"] = 1500
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    message = layerlens.refused("plan", path, "--data", data("text"), "--out", out, out=out)
    assert "the tokenizer gives token 1500, but the model has 33" in message


def test_weights_that_are_not_numbers_name_the_module_and_the_batch(
    layerlens: Any, own_model: Callable[[str], Path], data: Data, out: Path
) -> None:
    path = own_model("llama")
    weights = load_file(path / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    message = layerlens.refused("plan", path, "--data", data("text"), "--out", out, out=out)
    assert "the loss is nan in batch 0" in message
    assert "model.layers.1.mlp.up_proj" in message


@pytest.mark.parametrize(
    ("device", "said"),
    [("toaster", "the device toaster cannot be used"), ("cuda:99", "the device cuda:99"), ("meta", "holds no data")],
)
def test_a_device_that_cannot_be_used_is_named(
    layerlens: Any, model: Model, data: Data, out: Path, device: str, said: str
) -> None:
    message = layerlens.refused("plan", model("llama"), "--data", data("text"), "--device", device, "--out", out)
    assert said in message
    assert not out.exists()


# ------------------------------------------------------------------------------- budgets, names, weights


@pytest.mark.parametrize(
    ("budgets", "said"),
    [
        (["params=abc"], "budget params='abc' cannot be read; write a count (50k), a share of the model (0.5%)"),
        (["flops=2GiB"], "budget flops='2GiB' cannot be read; write a count a token (2.5G), a share of full fine-"),
        (["memory=r=8x"], "budget memory='r=8x' cannot be read; write bytes (24GiB), a share of full fine-tuning's"),
        (["memory=r=0"], "budget memory=r=0 leaves nothing to train; give a rank of at least 1"),
        (["latency=50%"], "budget latency='50%' cannot be read; write a time a forward pass (2ms)"),
        (["params=-5"], "budget params='-5' cannot be read"),
        (["params=101%"], "not above 0% and at most 100%"),
        (["params=0"], "leaves nothing to train"),
        (["params=r=0"], "give a rank of at least 1"),
        (["50k"], "not of the form KIND=AMOUNT, such as params=50k"),
        (["params="], "not of the form KIND=AMOUNT"),
        (["parms=50k"], "no budget is of kind 'parms'; there are: params, flops, memory, latency."),
        (["parms=50k"], "Did you mean 'params'?"),
        (["params=1k", "params=2k"], "two budgets of kind 'params': '1k' and '2k'; give one"),
    ],
)
def test_budgets_that_cannot_be_read_are_refused(
    layerlens: Any, model: Model, data: Data, out: Path, budgets: list[str], said: str
) -> None:
    options = [word for budget in budgets for word in ("--budget", budget)]
    message = layerlens.refused("plan", model("bert"), "--data", data("text"), *options, "--out", out, out=out)
    assert said in message


def test_a_budget_below_the_cheapest_candidate_names_its_price(
    layerlens: Any, model: Model, data: Data, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_args: object, **_options: object) -> None:
        raise AssertionError("the model was profiled for a budget that cannot work")

    monkeypatch.setattr("layerlens_core.profiling.profile.measure", never)
    arguments = ("plan", model("bert"), "--data", data("text"), "--budget", "params=207")
    message = layerlens.refused(*arguments, "--out", out, out=out)
    assert "allows 207 trainable parameters, but the cheapest candidate, lora of size 1, takes 208" in message
    assert "give at least params=208" in message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metric", "fischer"], "no metric is named 'fischer'; there are: "),
        (["--metric", "fischer"], "Did you mean 'fisher'?"),
        (["--strategy", "treshold"], "Did you mean 'threshold'?"),
        (["--methods", "loar,none"], "Did you mean 'lora'?"),
        (["--normalizer", "shares"], "no normalizer is named 'shares'; there are: share, max, rank, zscore, log. Did"),
        (["--aggregator", "weighted-men"], "Did you mean 'weighted-mean'?"),
        (["--methods", "none"], "name at least one that trains something, such as lora"),
        (["--set", "quantile=0.5"], "has no option 'quantile'; it takes: thresholds, quantiles. Did you mean 'quantil"),
        (["--set", "quantiles"], "--set 'quantiles' is not of the form NAME=VALUE"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_one(
    layerlens: Any, model: Model, data: Data, out: Path, options: list[str], said: str
) -> None:
    message = layerlens.refused("plan", model("bert"), "--data", data("text"), *options, "--out", out, out=out)
    assert said in message


@pytest.mark.parametrize(
    "options",
    [
        ["--metric", "fischer"],
        ["--strategy", "treshold"],
        ["--methods", "loar"],
        ["--normalizer", "shares"],
        ["--aggregator", "weighted-men"],
        ["--budget", "params=abc"],
        ["--device", "toaster"],
    ],
)
def test_a_typing_error_does_not_cost_the_loading_of_the_model(
    layerlens: Any, data: Data, tmp_path: Path, out: Path, options: list[str]
) -> None:
    message = layerlens.refused("plan", tmp_path / "nowhere", "--data", data("text"), *options, "--out", out, out=out)
    assert "nowhere" not in message


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (["fisher=1", "fisher=2"], "metric 'fisher' is given twice"),
        (["fisher=-1"], "the weight of fisher is -1; weights are finite and at least 0"),
        (["fisher=nan"], "the weight of fisher is nan"),
        (["fisher=0", "weight_gradient=0"], "all weights are 0 (fisher, weight_gradient)"),
        (["fisher=much"], "--metric 'fisher=much' is not of the form NAME=WEIGHT"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(
    layerlens: Any, model: Model, data: Data, out: Path, metrics: list[str], said: str
) -> None:
    options = [word for metric in metrics for word in ("--metric", metric)]
    message = layerlens.refused("plan", model("bert"), "--data", data("text"), *options, "--out", out, out=out)
    assert said in message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--thresholds", "0.1,0.2"], "2 methods (none < lora) need 1 "),
        (["--methods", "lora,prefix", "--thresholds", "0.2,0.1"], "must ascend from none to lora: 0.2,0.1"),
        (["--thresholds", "low"], "thresholds must be numbers separated by commas, but are 'low'"),
        (["--quantiles", "1.5"], "quantiles lie between 0 and 1"),
        (["--quantiles", "0.5", "--thresholds", "0.5"], "give thresholds or quantiles, not both"),
    ],
)
def test_thresholds_that_do_not_fit_the_methods_are_refused(
    layerlens: Any, model: Model, data: Data, out: Path, options: list[str], said: str
) -> None:
    message = layerlens.refused("plan", model("bert"), "--data", data("text"), *options, "--out", out, out=out)
    assert said in message


def test_a_seed_that_no_generator_takes_is_refused(layerlens: Any, model: Model, data: Data, out: Path) -> None:
    message = layerlens.refused("plan", model("bert"), "--data", data("text"), "--seed", 10**20, "--out", out, out=out)
    assert "Invalid value for '--seed'" in message


# --------------------------------------------------------------------------------------------- output


@pytest.mark.parametrize("name", ["profile.json", "plan.json", "trace.jsonl"])
def test_another_run_is_in_the_way_before_the_model_is_loaded(
    layerlens: Any, data: Data, tmp_path: Path, out: Path, name: str
) -> None:
    out.mkdir()
    (out / name).write_text("precious")
    arguments = (tmp_path / "no-model", "--data", data("text"), "--out", out)
    for command in ("plan", "profile"):
        message = layerlens.refused(command, *arguments, out=out)
        assert f"{out} already holds a run ({name}); use --overwrite or another --out" in message


def test_an_output_that_is_a_file_is_refused(layerlens: Any, model: Model, data: Data, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    for place in (file, file / "below"):
        message = layerlens.refused("plan", model("llama"), "--data", data("text"), "--out", place, out=file)
        assert message == f"Error: {file} is a file; --out must name a directory\n"


def test_a_failure_takes_away_the_directories_that_it_made_and_no_other(
    layerlens: Any, model: Model, data: Data, tmp_path: Path
) -> None:
    (tmp_path / "old").mkdir()
    arguments = ("plan", model("llama"), "--data", data("text"), "--samples", 1)
    layerlens.refused(*arguments, "--out", tmp_path / "old" / "new" / "run")
    assert list((tmp_path / "old").iterdir()) == []


def test_a_failure_leaves_the_run_that_was_to_be_overwritten(
    layerlens: Any, run: Callable[..., Path], model: Model, data: Data
) -> None:
    there = run()
    layerlens.refused(
        "plan", model("llama"), "--data", data("text"), "--samples", 1, "--out", there, "--overwrite", out=there
    )


# --------------------------------------------------------------------------------- runs that are not right


def _needed(command: str, tmp_path: Path) -> tuple[object, ...]:
    """Options without which a command on a run does not start."""
    model = ("--model", "any", "--out", tmp_path / "adapter")
    return {"apply": model, "export": (*model, "--to", "peft")}.get(command, ())


@pytest.mark.parametrize("command", ["allocate", "explain", "apply", "export"])
def test_a_run_that_does_not_exist_is_named(layerlens: Any, tmp_path: Path, command: str) -> None:
    options = _needed(command, tmp_path)
    message = layerlens.refused(command, tmp_path / "nowhere", *options)
    assert f"{tmp_path / 'nowhere'}" in message
    assert f"does not exist; is {tmp_path / 'nowhere'} the directory of a run?" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["allocate", "explain", "apply", "export"])
def test_a_run_that_is_a_file_is_named(layerlens: Any, tmp_path: Path, command: str) -> None:
    file = tmp_path / "file"
    file.touch()
    options = _needed(command, tmp_path)
    assert "is " + str(file) + " the directory of a run?" in layerlens.refused(command, file, *options)


def _damage(path: Path, change: str) -> None:
    document = json.loads(path.read_text())
    if change == "cut":
        path.write_text(path.read_text()[:200])
    elif change == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    else:
        if change == "list":
            document = [document]
        elif change == "version":
            document["version"] = 99
        elif change == "schema":
            document["schema"] = "somebody/else"
        elif change == "missing":
            del document["task"]
        elif change == "more":
            document["surprise"] = 1
        elif change == "type":
            document["decisions" if path.name == "plan.json" else "statistics"] = [{"unit": 5}]
        path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("cut", "is not valid JSON"),
        ("binary", "is not valid JSON"),
        ("list", "is not a layerlens/"),
        ("schema", "is not a layerlens/"),
        ("version", "is of version 99; this LayerLens reads version 2"),
        ("missing", "is damaged: required field missing"),
        ("more", "is damaged: extra fields found (surprise)"),
        ("type", "is damaged: "),
    ],
)
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("explain", "plan.json"),
        ("apply", "plan.json"),
        ("export", "plan.json"),
        ("allocate", "plan.json"),
        ("allocate", "profile.json"),
    ],
)
def test_files_that_are_damaged_or_of_another_version_are_named(
    layerlens: Any, run: Callable[..., Path], tmp_path: Path, command: str, name: str, change: str, said: str
) -> None:
    there = run()
    _damage(there / name, change)
    options = _needed(command, tmp_path)
    message = layerlens.refused(command, there, *options, out=there)
    assert f"{there / name} {said}" in message
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        (None, "trace.jsonl does not exist"),
        ("", "is not the trace of"),
        ("{}\n", "line 1, is no event of a trace"),
        ("[]\n", "line 1, is no event of a trace"),
        ('{"event": "plan.ma', "line 1, is not valid JSON"),
        ('{"event": "plan.made", "plan_id": "another"}\n', "is not the trace of"),
    ],
)
def test_a_trace_that_is_not_the_plans_is_named(
    layerlens: Any, run: Callable[..., Path], trace: str | None, said: str
) -> None:
    there = run()
    (there / "trace.jsonl").unlink()
    if trace is not None:
        (there / "trace.jsonl").write_text(trace)
    message = layerlens.refused("explain", there, "0", out=there)
    assert str(there / "trace.jsonl") in message
    assert said in message


def test_allocate_refuses_a_damaged_trace_and_leaves_the_run(layerlens: Any, run: Callable[..., Path]) -> None:
    there = run()
    (there / "trace.jsonl").write_text("{}\n")
    assert "line 1, is no event" in layerlens.refused("allocate", there, "--budget", "params=r=1", out=there)


def test_an_unknown_layer_is_answered_with_those_that_there_are(layerlens: Any, finished_runs: dict[str, Path]) -> None:
    there = finished_runs["bert-classifier"]
    message = layerlens.refused("explain", there, "bert.encoder.layer.7", out=there)
    assert "no layer 'bert.encoder.layer.7'; it has bert.encoder.layer.0 to bert.encoder.layer.3 (0 to 3)." in message
    assert "Did you mean 'bert.encoder.layer." in message
    assert "no layer '4'" in layerlens.refused("explain", there, "4", out=there)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--budget", "params=207"], "the cheapest candidate, lora of size 1, takes 208"),
        (["--metric", "fisher=1"], "without a weight: weight_gradient"),
        (["--metric", "fisher=1", "--metric", "weight_gradien=1"], "Did you mean 'weight_gradient'?"),
        (["--strategy", "treshold"], "Did you mean 'threshold'?"),
        (["--thresholds", "1,2"], "need 1 "),
        (["--normalizer", "shares"], "Did you mean 'share'?"),
    ],
)
def test_a_plan_that_cannot_be_made_anew_leaves_the_old_one(
    layerlens: Any, run: Callable[..., Path], options: list[str], said: str
) -> None:
    there = run()
    assert said in layerlens.refused("allocate", there, *options, out=there)


# --------------------------------------------------------------------------------------------- apply


def test_apply_refuses_another_model(layerlens: Any, run: Callable[..., Path], model: Model, tmp_path: Path) -> None:
    there, out = run("llama"), tmp_path / "adapter"
    message = layerlens.refused("apply", there, "--model", model("bert"), "--out", out, out=out)
    assert "the plan is for another model: LlamaForCausalLM, but this is Bert" in message
    assert "it has no module model.layers.0." in message


def test_apply_refuses_a_model_of_another_shape(
    layerlens: Any, run: Callable[..., Path], own_model: Callable[[str], Path], tmp_path: Path
) -> None:
    there, other, out = run("llama"), own_model("llama"), tmp_path / "adapter"
    config = json.loads((other / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (other / "config.json").write_text(json.dumps(config))
    message = layerlens.refused("apply", there, "--model", other, "--out", out, out=out)
    assert "the plan is for another model" in message


def test_apply_refuses_a_method_whose_provider_is_gone_before_loading(
    layerlens: Any, run: Callable[..., Path], tmp_path: Path
) -> None:
    there, out = run(), tmp_path / "adapter"
    plan = (there / "plan.json").read_text()
    (there / "plan.json").write_text(plan.replace('"method": "lora"', '"method": "vera"'))
    message = layerlens.refused("apply", there, "--model", tmp_path / "no-model", "--out", out, out=out)
    assert "no method is named 'vera'" in message


def test_apply_refuses_a_plan_that_trains_nothing(
    layerlens: Any, run: Callable[..., Path], model: Model, tmp_path: Path
) -> None:
    there, out = run("llama"), tmp_path / "adapter"
    layerlens.ok("allocate", there, "--thresholds", "1000")
    message = layerlens.refused("apply", there, "--model", model("llama"), "--out", out, out=out)
    assert "the plan trains nothing" in message


def test_apply_refuses_the_directory_of_the_model(
    layerlens: Any, finished_runs: dict[str, Path], own_model: Callable[[str], Path]
) -> None:
    model = own_model("llama")
    message = layerlens.refused(
        "apply", finished_runs["llama"], "--model", model, "--out", model, "--overwrite", out=model
    )
    assert "is the directory of the model" in message


def test_apply_refuses_an_output_that_is_a_file(
    layerlens: Any, finished_runs: dict[str, Path], model: Model, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    for place in (file, file / "below"):
        message = layerlens.refused(
            "apply", finished_runs["llama"], "--model", model("llama"), "--out", place, out=file
        )
        assert f"{file} is a file" in message


# --------------------------------------------------------------------------------------------- export


@pytest.mark.parametrize("to", ["peft", "trl"])
def test_export_names_a_model_that_is_not_there(
    layerlens: Any, finished_runs: dict[str, Path], tmp_path: Path, out: Path, to: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    said = {"file": "is a file; name its directory", "empty": "has no config.json", "nowhere": "does not exist"}
    for name, reason in said.items():
        arguments = ("export", finished_runs["llama"], "--to", to, "--model", tmp_path / name)
        message = layerlens.refused(*arguments, "--out", out, out=out)
        assert f"{tmp_path / name} {reason}" in message


def test_export_refuses_an_output_that_is_a_file(
    layerlens: Any, finished_runs: dict[str, Path], model: Model, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    for place in (file, file / "below"):
        arguments = ("export", finished_runs["llama"], "--to", "peft", "--model", model("llama"))
        message = layerlens.refused(*arguments, "--out", place, out=file)
        assert message == f"Error: {file} is a file; --out must name a directory\n"
