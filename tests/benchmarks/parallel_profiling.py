"""Profiling by several processes against one: the same scores, and how much faster, taken in one interleaved run.

    python tests/benchmarks/parallel_profiling.py                                     # two GPUs, NCCL
    OMP_NUM_THREADS=1 python tests/benchmarks/parallel_profiling.py --device cpu --tiny    # gloo, to try the script

It starts its processes itself. In every repeat the arms take turns: `one`, the first process alone while the others
wait; `data-parallel`, all of them with the whole model each; `sharded`, all of them with FSDP2. A random Llama-shaped
model runs over the same samples in each arm, all tokens labelled; times are those of the slowest process, from
the first piece of work to the merged sums, and a speed-up is the ratio of neighbours in time: median, and least and
largest. Scores must agree within 1e-5 (float32), of the largest where the sketches are concerned; otherwise, or with
data-parallel speed-up below --at-least, the status is 1. It needs torch, transformers, attrs and LayerLens's sources.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from layerlens_core.profiling.engine.settings import Execution, Settings

if TYPE_CHECKING:
    import torch
    import transformers

    from layerlens_core.profiling.engine.measure import Measurements

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
#: What a run with --tiny replaces: enough to see that it works, too little to see a speed.
TINY = {"width": 32, "layers": 2, "tokens": 16, "samples": 20, "batch": 4, "vocabulary": 97, "repeats": 2}
NEEDS = ("gradient_norms", "weight_gradient")
TOLERANCE = 1e-5
ARMS = ("one", "data-parallel", "sharded")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    for name, default in {
        "width": 2048, "layers": 16, "tokens": 512, "samples": 128, "batch": 8, "vocabulary": 32000, "repeats": 5,
    }.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--dtype", default="float32", help="of the weights; scores are held to 1e-5 in float32 alone")
    parser.add_argument("--directions", action="store_true", help="gather the sketches of mean gradients as well")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--at-least", type=float, default=0.0, help="the data-parallel speed-up that is asked for")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.tiny:
        vars(arguments).update(TINY)
    return arguments


def launch(arguments: argparse.Namespace) -> int:
    """Start the processes, and end all where one fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(arguments.processes)}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:]],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(arguments.processes)
    ]
    try:
        while any(process.poll() is None for process in started) and not any(p.returncode for p in started):
            time.sleep(0.2)
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
    return max(abs(process.wait()) for process in started)


def build(arguments: argparse.Namespace) -> "transformers.PreTrainedModel":
    """A random Llama-shaped model, the same in each process."""
    import torch
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=arguments.width, intermediate_size=arguments.width * 11 // 4,
        num_hidden_layers=arguments.layers, num_attention_heads=max(arguments.width // 64, 1),
        num_key_value_heads=max(arguments.width // 64, 1), vocab_size=arguments.vocabulary,
        max_position_embeddings=max(arguments.tokens, 64), pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config).to(getattr(torch, arguments.dtype)).eval()


def work(arguments: argparse.Namespace) -> int:
    import torch

    from layerlens_core.inspection.inspect import inspect
    from layerlens_core.profiling.distributed.sharding import shard
    from layerlens_core.profiling.distributed.workers import ALONE, Workers, by_torchrun, joined
    from layerlens_core.profiling.engine.measure import Measurements, measure

    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, arguments.vocabulary, (arguments.samples, arguments.tokens), generator=generator)
    samples = [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row.clone()} for row in tokens]
    device = torch.device(arguments.device, int(os.environ["LOCAL_RANK"]) if arguments.device == "cuda" else None)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = False

    with joined(by_torchrun()) as workers:
        whole, spread = build(arguments), build(arguments)
        inventory = inspect(whole)
        parameters = sum(parameter.numel() for parameter in whole.parameters())
        whole.to(device)
        shard(spread, inventory, device, workers)
        settings = Settings(needs=NEEDS, micro_batch=arguments.batch, directions=arguments.directions)

        def gather(model: "transformers.PreTrainedModel", together: Workers) -> Measurements:
            return measure(model, inventory.modules, samples, "causal-lm", settings, Execution(workers=together))

        def timed(arm: str) -> tuple[float, Measurements | None]:
            workers.gather(None)  # all begin at once
            if device.type == "cuda":
                torch.cuda.synchronize()
            began, found = time.perf_counter(), None
            if arm == "sharded":
                found = gather(spread, workers)
            elif arm == "data-parallel":
                found = gather(whole, workers)
            elif workers.rank == 0:
                found = gather(whole, ALONE)
            if device.type == "cuda":
                torch.cuda.synchronize()
            return max(workers.gather(time.perf_counter() - began if found else 0.0)), found

        results = {arm: timed(arm)[1] for arm in ARMS}  # also warms up
        seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
        for _ in range(arguments.repeats):
            for arm in ARMS:
                seconds[arm].append(timed(arm)[0])
        if workers.rank:
            return 0
        print(described(arguments, workers.world_size, device, parameters))
        return report(arguments, compared(results, seconds))


def described(arguments: argparse.Namespace, processes: int, device: "torch.device", parameters: int) -> str:
    """On what was measured, and how much memory it took."""
    import torch
    import transformers

    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")
    return (
        f"{processes} × {name}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"{parameters / 1e6:,.1f} M parameters in {arguments.dtype}, "
        f"{arguments.samples} × {arguments.tokens} tokens, micro-batch {arguments.batch}, "
        f"{arguments.repeats} repeats, peak {peak:.1f} GiB"
    )


def compared(results: "dict[str, Measurements | None]", seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """By arm: how much faster than one process, in how many seconds, and how far the scores are off."""
    one = results["one"]
    assert one is not None
    rows = {}
    for arm in ARMS:
        ratios = [alone / took for alone, took in zip(seconds["one"], seconds[arm], strict=True)]
        found = results[arm]
        assert found is not None
        rows[arm] = {
            "speed-up": statistics.median(ratios), "least": min(ratios), "largest": max(ratios),
            "seconds": statistics.median(seconds[arm]), "off": difference(one, found),
        }  # fmt: skip
    return rows


def report(arguments: argparse.Namespace, rows: dict[str, dict[str, float]]) -> int:
    """Print the table, and write it where that was asked for; the exit status."""
    print("| arm | speed-up | seconds | largest relative difference of a score |\n|---|---|---|---|")
    for arm, row in rows.items():
        print(
            f"| {arm} | {row['speed-up']:.2f} ({row['least']:.2f}–{row['largest']:.2f}) | {row['seconds']:.2f} | "
            f"{row['off']:.1e} |"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"arguments": {k: str(v) for k, v in vars(arguments).items()}, **rows}))
    wrong = [arm for arm, row in rows.items() if row["off"] > TOLERANCE and arguments.dtype == "float32"]
    slow = rows["data-parallel"]["speed-up"] < arguments.at_least
    print(f"scores {'differ: ' + ', '.join(wrong) if wrong else 'agree'}; speed-up {'too small' if slow else 'ok'}")
    return int(bool(wrong) or slow)


def difference(one: "Measurements", other: "Measurements") -> float:
    """The largest relative difference of any module's score."""
    worst = 0.0
    for a, b in zip(one.statistics, other.statistics, strict=True):
        for name in ("fisher", "gradient_energy", "weight_gradient"):
            worst = max(worst, abs(getattr(a, name) - getattr(b, name)) / abs(getattr(a, name)))
    for name, pair in one.subspace.items():  # the leading direction; further ones may be as good as equal
        for ours, theirs in zip(pair, other.subspace[name], strict=True):
            worst = max(worst, 1.0 - abs(float(ours[0] @ theirs[0])))
    return worst


if __name__ == "__main__":
    given = parse()
    sys.exit(work(given) if "RANK" in os.environ else launch(given))
