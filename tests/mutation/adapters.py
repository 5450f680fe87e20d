"""Readers of adapters that strangers make: of every method, and of LoRA alone in both forms that PEFT itself reads.

Accepted is what means the same three times: as it is read, as its plain files say, and once it is written anew. For
LoRA alone the plain meaning is what PEFT computes of the same files; for other methods, whose type no one else reads,
it is every tensor of the file, to the last bit, and α/r.
"""

import copy
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mutation.content import Mutation, as_json, as_safetensors, bytewise
from mutation.readers import Reader, as_text, same_arrays

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: What a configuration says of who wrote it.
_NOTES = ("auto_mapping", "peft_version")


def adapter_reader(root: Path) -> Reader:
    """``ll.load`` of a plan that plain PEFT cannot express: LoRA, an adapter, a prefix."""
    from layerlens_core.inspection.inspect import inspect
    from zoo.plans import plan_with

    def plan(model: Any) -> Any:
        names = [layer.name for layer in inspect(model).layers]
        return plan_with(model, {names[0]: ("lora", 3), names[1]: ("adapter", 4), names[2]: ("prefix", 5)})

    return _reader(root / "adapter", "llama", plan, one_rank=False)


def patterns_reader(root: Path) -> Reader:
    """``ll.load`` of LoRA at several ranks, by PEFT's patterns, beside a classifier's head that trains in full."""
    return _reader(root / "patterns", "bert-classifier", _ranks, one_rank=False)


def names_reader(root: Path) -> Reader:
    """``ll.load`` of LoRA that was padded to one rank, by names."""
    return _reader(root / "names", "llama", _ranks, one_rank=True)


def _ranks(model: Any) -> Any:
    from zoo.plans import mixed_ranks, plan_of

    return plan_of(model, mixed_ranks(model))


def _reader(folder: Path, family: str, plan: Callable[[Any], Any], *, one_rank: bool) -> Reader:
    import torch

    import zoo
    from layerlens_core.adaptation.apply import apply
    from layerlens_core.adaptation.load import load
    from zoo.probing import perturb

    torch.manual_seed(0)
    model = zoo.find(family).build().eval()
    if not folder.exists():
        wrapped = copy.deepcopy(model)
        adapted = apply(wrapped, plan(wrapped), one_rank=one_rank)
        perturb(adapted)
        adapted.save_pretrained(str(folder))
        (folder / "README.md").unlink(missing_ok=True)

    def read(place: Path) -> dict[str, Any]:
        loaded = load(copy.deepcopy(model), place).eval()
        meaning = _meaning(loaded)
        _check_tensors(meaning["tensors"], place)
        said = json.loads((place / _CONFIG).read_text(encoding="utf-8"))
        if said["peft_type"] == "LORA":
            _check_as_peft(meaning["logits"], copy.deepcopy(model), place)
        elif loaded.peft_config["default"].scale != said["scale"]:
            raise AssertionError("another α/r was read than the file says")
        return meaning | {"loaded": loaded}

    def again(found: dict[str, Any], place: Path) -> dict[str, Any]:
        found["loaded"].save_pretrained(str(place))
        return _meaning(load(copy.deepcopy(model), place).eval())

    targets: dict[str, Sequence[Mutation]] = {
        _CONFIG: (as_json, as_json, bytewise),
        _WEIGHTS: (as_safetensors, bytewise),
    }
    return Reader(folder=folder, targets=targets, read=read, same=_same, again=again)


def _meaning(loaded: Any) -> dict[str, Any]:
    """What an adapted model computes, its tensors as they are saved, and its settings."""
    from peft.utils import get_peft_model_state_dict

    tensors = get_peft_model_state_dict(loaded, save_embedding_layers=False)
    config = {name: value for name, value in loaded.peft_config["default"].to_dict().items() if name not in _NOTES}
    return {
        "logits": {"logits": _logits(loaded)},
        "tensors": {name: tensor.detach().numpy() for name, tensor in tensors.items()},
        "config": {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()},
    }


def _logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(input_ids=torch.tensor([[5, 6, 7, 11], [9, 5, 8, 6]])).logits.numpy()


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (
        same_arrays(one["tensors"], other["tensors"])
        and same_arrays(one["logits"], other["logits"])
        and as_text(one["config"], other["config"])
    )


def _check_tensors(tensors: Mapping[str, Any], place: Path) -> None:
    """Raises where what was read is not, to the last bit, what the file says: its tensors, and nothing beside them."""
    from safetensors.torch import load_file

    told = load_file(str(place / _WEIGHTS))
    if told.keys() != tensors.keys():
        raise AssertionError(f"other tensors than in the file: {sorted(told.keys() ^ tensors.keys())[:2]}")
    for name, tensor in told.items():
        if not np.array_equal(tensor.double().numpy(), tensors[name].astype(np.float64)):
            raise AssertionError(f"{name} has other values than in the file")


def _check_as_peft(logits: Mapping[str, Any], model: Any, place: Path) -> None:
    """Raises where PEFT itself computes something else of the same files, but for rounding."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = _logits(PeftModel.from_pretrained(model, str(place)).eval())
    if not np.allclose(plain, logits["logits"], rtol=1e-4, atol=1e-5, equal_nan=True):
        raise AssertionError("PEFT computes something else of the same files")
