"""One training step of a mixed plan, in one process or in several: a program that tests run.

``parallel_step.py DEVICE OUT HOW:DTYPE …`` with torchrun's environment variables. HOW: ``alone``, ``ddp``, ``fsdp``
(every layer and the root), ``fsdp-root`` (the root alone). DTYPE: ``fp32``; ``bf16``, the model in it and the adapters
in float32; or ``bf16-uniform``. The first process writes what it saw of each case to OUT/seen.pt, and adapters to
OUT/HOW:DTYPE. It asks for nothing but torch, transformers, PEFT, attrs and pluggy; LayerLens need not be installed.
"""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

ROOT = Path(__file__).parents[2]
for name, folder in {"layerlens_core": ROOT, "layerlens_builtin": ROOT / "plugins", "zoo": ROOT / "tests"}.items():
    if importlib.util.find_spec(name) is None:
        sys.path.insert(0, str(folder))

import layerlens_builtin  # noqa: E402
import zoo  # noqa: E402
from layerlens_core.adaptation.attach import attach  # noqa: E402
from layerlens_core.adaptation.config import Entry, configure  # noqa: E402
from layerlens_core.adaptation.load import load  # noqa: E402
from layerlens_core.plugin.registry import default  # noqa: E402

if "prefix" not in default().names("method"):
    default().register(layerlens_builtin)

WIDTH, INNER, HEADS, GROUPS, HEAD_WIDTH, LABELS = 64, 96, 4, 2, 16, 3
BATCH, LENGTH, VOCABULARY = 4, 7, 97
PROCESSES = 2
#: How far losses and parameters may lie apart. In bf16 a sum over the batch is rounded to 8 bits.
TOLERANCE = {"fp32": 1e-6, "bf16": 2e-2, "bf16-uniform": 2e-2}


def base(dtype=torch.float32, device="cpu"):
    """A small Llama that classifies, with large enough weights that every layer matters."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_attention_heads": HEADS}
    model = zoo.find("llama-classifier").with_config(**sizes, num_key_value_heads=GROUPS).build()
    return model.to(device, dtype)


def configuration():
    """LoRA in the first layer, adapters in the second, a prefix in the third, and the head."""

    def linear(method, size, n_in, n_out):
        return Entry(method=method, size=size, shape={"in_features": n_in, "out_features": n_out})

    heads = {"query_heads": HEADS, "key_value_heads": GROUPS, "key_dim": HEAD_WIDTH, "value_dim": HEAD_WIDTH}
    entries = {
        "model.layers.0.self_attn.q_proj": linear("lora", 2, WIDTH, WIDTH),
        "model.layers.0.mlp.down_proj": linear("lora", 3, INNER, WIDTH),
        "model.layers.1.self_attn.o_proj": linear("adapter", 3, WIDTH, WIDTH),
        "model.layers.1.mlp.down_proj": linear("adapter", 5, INNER, WIDTH),
        "model.layers.2.self_attn": Entry(method="prefix", size=3, shape=heads),
    }
    return configure(entries, scale=2, heads=["score"])


def mixed(dtype=torch.float32, device="cpu"):
    """That model with all of it attached; as it is at first."""
    return attach(base(dtype, device), configuration())


def randomised(model):
    """As if it had been trained for a while, so that all of it gets a gradient. The same on every device."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                noise = 0.3 * torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise.to(parameter.device, parameter.dtype))
    return model


def inputs(device="cpu"):
    """A batch of sequences, one of them padded, with labels."""
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(4, VOCABULARY, (BATCH, LENGTH), generator=generator)
    mask = torch.ones_like(tokens)
    tokens[1, 5:], mask[1, 5:] = 1, 0
    batch = {"input_ids": tokens, "attention_mask": mask, "labels": torch.tensor([0, 2, 1, 2])}
    return {name: value.to(device) for name, value in batch.items()}


def train(how, dtype, device, out=None, *, rank=0, world=1):
    """What one step makes of the loss and the logits of the whole batch and of what trains; saved to ``out``."""
    wrapped = randomised(mixed(torch.float32 if dtype == "fp32" else torch.bfloat16, device))
    if dtype == "bf16-uniform":
        wrapped = wrapped.to(torch.bfloat16)
    model = wrapped
    if how == "ddp":
        model = DistributedDataParallel(wrapped)
    elif how.startswith("fsdp"):
        mesh = dist.device_mesh.init_device_mesh(device, (world,))
        if how == "fsdp":
            for layer in wrapped.get_base_model().model.layers:
                fully_shard(layer, mesh=mesh)
        fully_shard(wrapped, mesh=mesh)
    whole = inputs(device)
    share = BATCH // PROCESSES
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    # One process takes the same shares one by one: how a sum over the whole batch is rounded depends on the machine.
    for number in range(PROCESSES) if world == 1 else [rank]:
        part = {name: value[number * share : (number + 1) * share] for name, value in whole.items()}
        (model(**part).loss / (PROCESSES // world)).backward()
    optimizer.step()
    with torch.no_grad():
        after = model(**whole)
    trained = [name for name, parameter in wrapped.named_parameters() if parameter.requires_grad]
    state = wrapped.state_dict()
    if how.startswith("fsdp"):
        state = get_model_state_dict(wrapped, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if rank == 0 and out is not None:
        wrapped.save_pretrained(out, state_dict=state)
    return {
        "loss": after.loss.float().item(),
        "logits": after.logits.float().cpu(),
        # The other processes of FSDP have nothing.
        "trained": {name: state[name].float().cpu() for name in trained if name in state},
    }


def main(device, out, *cases):
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if device == "cuda":
        torch.cuda.set_device(rank)
    torch.set_num_threads(1)
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    seen = {}
    for case in cases:
        try:
            seen[case] = train(*case.split(":"), device, Path(out) / case, rank=rank, world=world)
        except AssertionError as error:
            seen[case] = str(error)
        dist.barrier()
    if rank == 0:
        torch.save(seen, Path(out) / "seen.pt")
    dist.destroy_process_group()


def launch(device, out, *cases):
    """`main` in several processes: for each case what it saw, or why it was refused."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(PROCESSES), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, device, str(out), *cases],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(PROCESSES)
    ]
    try:
        errors = [process.communicate(timeout=300)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert not any(process.returncode for process in started), "\n".join(errors)
    return torch.load(Path(out) / "seen.pt")


def check(seen, expected, dtype, adapter, device="cpu"):
    """Hold a case to what one process saw, and what it saved to what it had."""
    assert isinstance(seen, dict), seen
    # On a GPU sums of halves of a batch differ from those of the whole by more.
    tolerance = TOLERANCE[dtype] * (5 if device == "cuda" else 1)
    start = randomised(mixed(torch.float32 if dtype == "fp32" else torch.bfloat16))
    start = {
        name: parameter.detach().float() for name, parameter in start.named_parameters() if parameter.requires_grad
    }
    assert seen["trained"].keys() == expected["trained"].keys() == start.keys()
    for name, parameter in expected["trained"].items():
        torch.testing.assert_close(seen["trained"][name], parameter, rtol=0, atol=tolerance, msg=name)
        moved = (parameter - start[name]).abs().max()
        assert moved > 3e-5, name
        if dtype == "fp32":
            assert moved > 20 * (seen["trained"][name] - parameter).abs().max(), name
    assert abs(seen["loss"] - expected["loss"]) <= tolerance
    torch.testing.assert_close(seen["logits"], expected["logits"], rtol=0, atol=4 * tolerance)

    loaded = load(base(torch.float32 if dtype == "fp32" else torch.bfloat16, device), adapter)
    loaded_parameters = dict(loaded.named_parameters())
    for name, parameter in seen["trained"].items():
        assert torch.equal(loaded_parameters[name].float().cpu(), parameter), name
    with torch.no_grad():
        logits = loaded(**inputs(device)).logits.float().cpu()
    torch.testing.assert_close(logits, seen["logits"], rtol=0, atol=tolerance)


if __name__ == "__main__":
    main(*sys.argv[1:])
