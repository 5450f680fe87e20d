"""Models, tokenizers and devices that cannot be used are named, with status 2 and nothing written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

Model = Callable[[str], str]
Data = Callable[[str], str]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


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
