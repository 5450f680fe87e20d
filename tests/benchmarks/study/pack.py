"""Make a model of the study small enough to carry to a machine without a network, and an ordinary directory of it there.

    python tests/benchmarks/study/pack.py pack TASK MODEL DATA PACK --step 0.2
    python tests/benchmarks/study/pack.py unpack PACK OUT

A pack is a directory. Its vocabulary is cut to the tokens of the task's samples and the special ones, so that it holds
these samples as tokens instead of a tokenizer. Its matrices are rounded to multiples of a step of each row, and the
multiples are Huffman-coded: at the same size that is closer than a fixed number of bits, as outliers cost no range.
Unpacking needs torch, numpy and safetensors.
"""

import argparse
import json
import lzma
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

#: Tensors with fewer elements, and those that are no matrices, are kept as they are.
LEAST = 65536
#: The step of embeddings, in root mean squares of their rows: they are read by few samples each, and are small here.
FINE = 1 / 16
PARTS = ("train", "test")


def pack(task: str, folder: Path, data: Path, out: Path, step: float) -> None:
    """Write a pack of a model with a task's samples.

    task: a name of `tasks.RECIPES`.
    folder: an ordinary model directory with a tokenizer.
    data: as `tasks.load` takes it.
    out: of the pack; made.
    step: of the layers' matrices, in root mean squares of their rows; 0.25 is about 4 bits an element, half is one more.
    """
    from tasks import rows
    from transformers import AutoTokenizer

    out.mkdir(parents=True, exist_ok=True)
    samples = {part: rows(task, folder, data, part) for part in PARTS}
    kept = set(AutoTokenizer.from_pretrained(folder).all_special_ids)
    kept.update(
        token for part in samples.values() for row in part for ids in row if isinstance(ids, list) for token in ids
    )
    new = {old: at for at, old in enumerate(sorted(kept))}
    for part, found in samples.items():
        lines = [json.dumps([renamed(ids, new) for ids in row], separators=(",", ":")) for row in found]
        (out / f"{part}.jsonl.xz").write_bytes(lzma.compress("\n".join(lines).encode()))
    config = json.loads((folder / "config.json").read_text())
    size = config["vocab_size"]
    named = {key: new.get(value) for key, value in config.items() if key.endswith("_token_id")}
    if named.get("pad_token_id") != config.get(
        "pad_token_id"
    ):  # MPNet counts positions by it, whatever the config says
        raise SystemExit(f"the padding token {config.get('pad_token_id')} would become {named.get('pad_token_id')}")
    (out / "config.json").write_text(json.dumps(config | named | {"vocab_size": len(new)}, indent=2) + "\n")
    coded = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if tensor.ndim == 2 and len(tensor) == size:
            tensor = tensor[sorted(kept)]
        if tensor.ndim != 2 or tensor.numel() < LEAST:
            coded[name] = tensor.contiguous()
            continue
        coded[f"{name}:codes"], coded[f"{name}:steps"] = encode(tensor, FINE if "embed" in name else step)
    save_file(coded, out / "coded.safetensors")
    written = sum(path.stat().st_size for path in out.iterdir())
    print(f"{len(new)} of {size} tokens, {written / 2**20:.1f} MiB")


def renamed(ids: list | int, new: dict) -> list | int:
    """Tokens by their new numbers; a label as it is."""
    return [new[token] for token in ids] if isinstance(ids, list) else ids


def encode(tensor: torch.Tensor, step: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix [rows, columns] as compressed multiples, bytes, and the step of each row [rows], float32.

    tensor: any floats.
    step: in root mean squares of a row; greater where the row's largest element would need more than a byte.
    """
    values = tensor.float()
    steps = torch.maximum(step * values.square().mean(1).sqrt(), values.abs().amax(1) / 127).clamp(min=1e-12)
    codes = (values / steps[:, None]).round().to(torch.int8)
    press = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    packed = press.compress(codes.numpy().tobytes()) + press.flush()
    return torch.from_numpy(np.frombuffer(packed, np.uint8).copy()), steps


def decode(packed: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """The matrix [rows, columns], float32, that `encode` took, up to half a step an element."""
    codes = np.frombuffer(zlib.decompress(packed.numpy().tobytes()), np.int8).reshape(len(steps), -1)
    return torch.from_numpy(codes.astype(np.float32)) * steps[:, None]


def unpack(folder: Path, out: Path) -> None:
    """Write the ordinary model directory of a pack, with ``samples/PART.jsonl``.

    folder: of the pack.
    out: made.
    """
    (out / "samples").mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_bytes((folder / "config.json").read_bytes())
    for part in PARTS:
        (out / "samples" / f"{part}.jsonl").write_bytes(lzma.decompress((folder / f"{part}.jsonl.xz").read_bytes()))
    coded = load_file(folder / "coded.safetensors")
    tensors = {name: tensor for name, tensor in coded.items() if not name.endswith((":codes", ":steps"))}
    for name, packed in coded.items():
        if name.endswith(":codes"):
            name = name.removesuffix(":codes")
            tensors[name] = decode(packed, coded[f"{name}:steps"])
    save_file(tensors, out / "model.safetensors", {"format": "pt"})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("pack")
    command.add_argument("task")
    for name in ("model", "data", "pack"):
        command.add_argument(name, type=Path)
    command.add_argument("--step", type=float, default=0.25)
    command = commands.add_parser("unpack")
    command.add_argument("pack", type=Path)
    command.add_argument("out", type=Path)
    given = parser.parse_args()
    if given.command == "pack":
        pack(given.task, given.model, given.data, given.pack, given.step)
    else:
        unpack(given.pack, given.out)
