"""Readers of files that strangers make: adapters, and rows in JSONL, CSV and Parquet."""

import copy
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mutation.content import Mutation, as_json, as_lines, as_safetensors, bytewise
from mutation.readers import Reader, as_text, same_arrays

#: Texts of the words that the tiny tokenizer knows, and of some that it does not.
TEXTS = ("the red cat sees a small dog", "a bird sings", "naïve — “quoted”, 数字 12", "the dog and the cat run")


def adapter_reader(root: Path) -> Reader:
    """``ll.load``: an adapter of every method, on the model that it was made for."""
    import torch
    from safetensors.torch import load_file

    import zoo
    from layerlens_core.adaptation.apply import apply
    from layerlens_core.adaptation.load import load
    from layerlens_core.inspection.inspect import inspect
    from zoo.plans import plan_with
    from zoo.probing import perturb

    model = zoo.find("llama").build()
    folder = root / "adapter"
    if not folder.exists():
        wrapped = copy.deepcopy(model)
        names = [layer.name for layer in inspect(wrapped).layers]
        plan = plan_with(wrapped, {names[0]: ("lora", 3), names[1]: ("adapter", 4), names[2]: ("prefix", 5)})
        adapted = apply(wrapped, plan).eval()
        perturb(adapted)
        adapted.save_pretrained(str(folder))
        (folder / "README.md").unlink(missing_ok=True)

    def read(place: Path) -> dict[str, Any]:
        loaded = load(copy.deepcopy(model), place)
        with torch.no_grad():
            loaded(input_ids=torch.tensor([[5, 6, 7]]))
        own = {name: value for name, value in loaded.named_parameters() if ".default" in name}
        told = sorted(load_file(str(place / "adapter_model.safetensors")))
        if len(own) != len(told):
            raise AssertionError(f"{len(own)} tensors are loaded of {len(told)} in the file")
        return {name: value.detach().numpy() for name, value in own.items()}

    def again(arrays: dict[str, Any], _place: Path) -> dict[str, Any]:
        return arrays  # that the file's tensors are all there is checked as it is read

    targets: dict[str, Sequence[Mutation]] = {
        "adapter_config.json": (as_json, as_json, bytewise),
        "adapter_model.safetensors": (as_safetensors, bytewise),
    }
    return Reader(folder=folder, targets=targets, read=read, same=same_arrays, again=again)


def jsonl_reader(root: Path) -> Reader:
    """``--data FILE.jsonl``."""

    def write(path: Path) -> None:
        path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in TEXTS))

    return _rows(root, "rows.jsonl", write, (as_lines, as_lines, bytewise))


def csv_reader(root: Path) -> Reader:
    """``--data FILE.csv``."""

    def write(path: Path) -> None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=["text", "label"])
            writer.writeheader()
            writer.writerows({"text": text, "label": str(at % 2)} for at, text in enumerate(TEXTS))

    return _rows(root, "rows.csv", write, (bytewise,))


def parquet_reader(root: Path) -> Reader:
    """``--data FILE.parquet``."""

    def write(path: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist([{"text": text} for text in TEXTS]), path)

    return _rows(root, "rows.parquet", write, (bytewise,))


def _rows(root: Path, name: str, write: Callable[[Path], None], how: Sequence[Mutation]) -> Reader:
    """A reader of rows, up to the tokens that are profiled."""
    import zoo
    from layerlens_core.data import prepare as preparing
    from layerlens_core.data.prepare import DataOptions
    from zoo.words import TEMPLATES, tokenizer

    folder, model = root / Path(name).suffix[1:], root / "model"
    if not folder.exists():
        folder.mkdir()
        write(folder / name)
    if not model.exists():
        zoo.build("llama-words", spread=0.2).save_pretrained(model)
        tokenizer(TEMPLATES["llama-words"]).save_pretrained(model)
    loaded: dict[str, Any] = {}
    real = preparing.load  # type: ignore[attr-defined]

    def once(source: str, task: Any, **options: Any) -> Any:
        """The model, loaded once for a task: what is changed here is the data."""
        key = f"{task} {options.get('labels')}"
        if key not in loaded:
            loaded.clear()
            loaded[key] = real(source, task, **options)
        return loaded[key]

    def read(place: Path) -> Any:
        preparing.load = once  # type: ignore[attr-defined]
        try:
            prepared = preparing.prepare(str(model), str(place / name), DataOptions(max_length=32))
        finally:
            preparing.load = real  # type: ignore[attr-defined]
        samples = [{key: value.tolist() for key, value in sample.items()} for sample in prepared.samples]
        return [prepared.task, list(prepared.labels), samples, str(place)]

    def same(one: Any, other: Any) -> bool:
        return as_text(one[:-1], other[:-1])

    def again(found: Any, _place: Path) -> Any:
        return read(Path(found[-1]))

    return Reader(folder=folder, targets={name: how}, read=read, same=same, again=again)
