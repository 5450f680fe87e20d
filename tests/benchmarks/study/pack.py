"""Make a model of the study small enough to carry to a machine without a network, and unpack it there.

    python tests/benchmarks/study/pack.py pack TASK MODEL DATA PACK --step 0.25 --most 56
    python tests/benchmarks/study/pack.py unpack PACK OUT

A pack is a directory. Its vocabulary is cut to the tokens of the task's samples and the special ones, so that it holds
these samples as tokens instead of a tokenizer. Its matrices are rounded to multiples of a step of each row, and the
multiples are Huffman-coded: at the same size that is closer than a fixed number of bits, as outliers cost no range.
Matrices of more than ``--most`` MiB go on in PACK-2 and so on, each of which is unpacked into the same OUT.
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


def pack(task: str, folder: Path, data: Path, out: Path, step: float, most: float) -> None:
    """Write packs of a model with a task's samples.

    task: a name of `tasks.RECIPES`.
    folder: an ordinary model directory with a tokenizer.
    data: as `tasks.load` takes it.
    out: of the first pack; made.
    step: of the layers' matrices, in root mean squares of their rows; 0.25 is about 4 bits an element, 0.125 is 5.
    most: MiB of matrices in a pack.
    """
    from tasks import rows
    from transformers import AutoTokenizer

    out.mkdir(parents=True, exist_ok=True)
    samples = {part: rows(task, folder, data, part) for part in PARTS}
    kept = set(AutoTokenizer.from_pretrained(folder).all_special_ids)
    for row in (*samples["train"], *samples["test"]):
        kept.update(token for ids in row if isinstance(ids, list) for token in ids)
    new = {old: at for at, old in enumerate(sorted(kept))}
    for part, found in samples.items():
        lines = [json.dumps([renamed(ids, new) for ids in row], separators=(",", ":")) for row in found]
        (out / f"{part}.jsonl.xz").write_bytes(lzma.compress("\n".join(lines).encode()))
    config = json.loads((folder / "config.json").read_text())
    size = config["vocab_size"]
    named = {key: new.get(value) for key, value in config.items() if key.endswith("_token_id")}
    padding = config["pad_token_id"]
    if new[padding] != padding:  # MPNet takes it to be 1, whatever the config says
        raise SystemExit(f"the padding token {padding} would become {new[padding]}")
    (out / "config.json").write_text(json.dumps(config | named | {"vocab_size": len(new)}, indent=2) + "\n")
    packs, written = [{}], 0
    for name, tensor in load_file(folder / "model.safetensors").items():
        if tensor.ndim == 2 and len(tensor) == size:
            tensor = tensor[sorted(kept)]
        if tensor.ndim != 2 or tensor.numel() < LEAST:
            found = {name: tensor.contiguous()}
        else:
            codes, steps = encode(tensor, min(FINE, step) if "embed" in name else step)
            found = {f"{name}:codes": codes, f"{name}:steps": steps}
        written += sum(each.nbytes for each in found.values())
        if written > len(packs) * most * 2**20:
            packs.append({})
        packs[-1].update(found)
    for number, coded in enumerate(packs, 1):
        place = out if number == 1 else out.with_name(f"{out.name}-{number}")
        place.mkdir(exist_ok=True)
        save_file(coded, place / "coded.safetensors")
        print(f"{place}: {sum(path.stat().st_size for path in place.iterdir()) / 2**20:.1f} MiB")
    print(f"{len(new)} of {size} tokens")


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
    """Write the ordinary model directory of a pack, with ``samples/PART.jsonl``, or add a further pack to it.

    folder: of the pack.
    out: made.
    """
    (out / "samples").mkdir(parents=True, exist_ok=True)
    for path in folder.glob("config.json"):
        (out / path.name).write_bytes(path.read_bytes())
    for path in folder.glob("*.jsonl.xz"):
        (out / "samples" / path.stem).write_bytes(lzma.decompress(path.read_bytes()))
    coded, model = load_file(folder / "coded.safetensors"), out / "model.safetensors"
    tensors = load_file(model) if model.exists() else {}
    for name, tensor in coded.items():
        name, _, what = name.partition(":")
        if what == "codes":
            tensors[name] = decode(tensor, coded[f"{name}:steps"])
        elif not what:
            tensors[name] = tensor
    written = out / "written.safetensors"  # the old one is mapped to memory until it is replaced
    save_file(tensors, written, {"format": "pt"})
    written.replace(model)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("pack")
    command.add_argument("task")
    for name in ("model", "data", "pack"):
        command.add_argument(name, type=Path)
    command.add_argument("--step", type=float, default=0.25)
    command.add_argument("--most", type=float, default=56)
    command = commands.add_parser("unpack")
    command.add_argument("pack", type=Path)
    command.add_argument("out", type=Path)
    given = parser.parse_args()
    if given.command == "pack":
        pack(given.task, given.model, given.data, given.pack, given.step, given.most)
    else:
        unpack(given.pack, given.out)
