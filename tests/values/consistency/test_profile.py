"""A profile that contradicts itself is not read, and says by what."""

import json
import math
from pathlib import Path

import pytest

from layerlens_core.errors import FileError
from layerlens_core.files.run import PROFILE
from layerlens_core.values.profile import Profile
from mutation.readers import a_run


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = a_run(tmp_path_factory.mktemp("consistent") / "run")
    Profile.load(run)
    return (run / PROFILE).read_text()


def first(document: dict, *path: object) -> dict:
    for key in path:
        document = document[key]  # type: ignore[index]
    return document


WARM_UP = {
    "steps": 1, "rank": 64, "samples": 7, "rate": 0.1, "batch": 7, "start": "random", "seconds": 1.0,
    "peak": 0, "digest": "0" * 64,
}  # fmt: skip
LAYER = ("inventory", "layers", 0)
#: Where something is changed, to what, and what is said.
CONTRADICTIONS = [
    (LAYER, {"name": "model.layers.1"}, "the layer model.layers.1 is there twice"),
    ((*LAYER, "modules", 0), {"layer": None}, "but says that it lies in None"),
    ((*LAYER, "modules", 0), {"layer": "nowhere"}, "lies in nowhere, which is no layer"),
    ((*LAYER, "modules", 0), {"in_features": 0}, "in_features of model.layers.0.self_attn.q_proj is 0"),
    ((*LAYER, "modules", 0), {"name": "model.layers.0.self_attn.k_proj"}, "k_proj is there twice"),
    ((*LAYER, "attentions", 0), {"key_dim": -1}, "key_dim of model.layers.0.self_attn is -1"),
    ((*LAYER, "attentions", 0), {"layer": "model.layers.1"}, "but says that it lies in model.layers.1"),
    (("inventory",), {"parameters": -1}, "parameters of the model is -1"),
    ((), {"task": "poetry"}, "no task is named 'poetry'"),
    ((), {"settings": {"group": math.nan}}, "the setting group is nan"),
    ((), {"settings": {"group": 2**63}}, "the setting group is 9223372036854775808"),
    ((), {"settings": {"group": True}}, "the setting group is True"),
    ((), {"samples": 0}, "samples of the profile is 0"),
    ((), {"directions": "0" * 63}, "directions is no sha256 digest"),
    ((), {"warm_up": {**WARM_UP, "digest": "x"}}, "the warm-up's digest is no sha256 digest"),
    ((), {"warm_up": {**WARM_UP, "steps": 0}}, "steps of the warm-up is 0"),
    ((), {"warm_up": {**WARM_UP, "rate": 0.0}}, "the warm-up has a rate of 0"),
    ((), {"warm_up": {**WARM_UP, "seconds": -1.0}}, "seconds of the warm-up is -1"),
    ((), {"warm_up": {**WARM_UP, "batch": 8}}, "has batches of 8 of 7 samples"),
    ((), {"labels": ["a", "a"]}, "the label a is there twice"),
    ((), {"stability": {"fisher": 1.5}}, "the stability of fisher is 1.5, which is no correlation"),
    ((), {"stability": {"another": 0.5}}, "there is a stability of another, which is no metric here"),
    ((), {"latency": {"lora": [-1.0, 0.0]}}, "fixed of the latency of lora is -1"),
    ((), {"unscored": [{"name": "model.layers.0.self_attn.q_proj", "reason": ""}]}, "and a reason to have none"),
    (("scores", 0), {"metric": "weight_gradient"}, "the metric weight_gradient is there twice"),
    (("scores", 0), {"values": {"nowhere": 1.0}}, "fisher scores nowhere, which is no module of the model"),
    (("scores", 0), {"granularity": "layer"}, "which is no layer of the model"),
    (("statistics", 0), {"module": "nowhere"}, "there are statistics of nowhere, which is no module"),
    (("statistics", 0), {"samples": 8, "groups": 4}, "has seen 8 of 7 samples"),
    (("statistics", 0), {"groups": 7}, "has 7 groups of 2 in 7 samples"),
    (("statistics", 0), {"sum_squared_norm": -1.0}, "sum_squared_norm of model.layers.0"),
    (("statistics", 0), {"sum_squared_norm": 1e9}, "no 7 numbers have this sum_squared_norm"),
    (("statistics", 0), {"sum_fourth_power": None}, "only one of sum_squared_norm and sum_fourth_power"),
    (("statistics", 0), {"spectrum": [1.0, 2.0, 0.5]}, "singular values that do not descend"),
    (("activations",), {"head": -1.0}, "head of activations is -1"),
    (("activations",), {"through": {"nowhere": 1.0}}, "activations are kept through nowhere"),
]


@pytest.mark.parametrize(("path", "change", "said"), CONTRADICTIONS)
def test_a_profile_that_contradicts_itself_is_not_read(
    document: str, tmp_path: Path, path: tuple[object, ...], change: dict, said: str
) -> None:
    changed = json.loads(document)
    first(changed, *path).update(change)
    (tmp_path / PROFILE).write_text(json.dumps(changed))
    with pytest.raises(FileError) as caught:
        Profile.load(tmp_path)
    assert f"{tmp_path / PROFILE} was changed or damaged: " in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"samples": 2**63}, "samples"),
        ({"samples": 7.0}, "samples"),
        ({"loss": float("inf")}, "loss"),
        ({"loss": True}, "loss"),
    ],
)
def test_a_value_that_is_no_number_is_told_by_its_place(document: str, tmp_path: Path, change: dict, said: str) -> None:
    (tmp_path / PROFILE).write_text(json.dumps({**json.loads(document), **change}))
    with pytest.raises(FileError, match=rf"is damaged: .*{said}"):
        Profile.load(tmp_path)


def test_a_name_that_stands_twice_is_told(document: str, tmp_path: Path) -> None:
    (tmp_path / PROFILE).write_text(document.replace('"loss":', '"loss": 1.0, "loss":', 1))
    with pytest.raises(FileError, match="'loss' stands twice in one object"):
        Profile.load(tmp_path)
