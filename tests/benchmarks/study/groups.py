"""How near `weight_gradient` comes to GoRA's importance as its groups grow: mean |W ⊙ ḡ| of 2 to 256 samples.

    python tests/benchmarks/study/groups.py TASK --models DIR --data DIR

GoRA takes the gradient of all samples at once, which is 4 bytes a weight to be held; groups need no such memory.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from tasks import load

from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.samples.sample import collate

SAMPLES, SIZES = 256, (2, 8, 32, 128, 256)


def importances(task):
    """By size of the groups, mean |W ⊙ ḡ| by module."""
    order = torch.randperm(len(task.training), generator=torch.Generator().manual_seed(0)).tolist()
    samples = [task.training[i] for i in order[:SAMPLES]]
    names = [module.name for layer in inspect(task.model).layers for module in layer.modules]
    weights = {name: task.model.get_submodule(name).weight for name in names}
    for parameter in task.model.parameters():
        parameter.requires_grad_(any(parameter is weight for weight in weights.values()))
    found = {size: dict.fromkeys(names, 0.0) for size in SIZES}
    sums = {size: {name: torch.zeros_like(weight) for name, weight in weights.items()} for size in SIZES}
    for start in range(0, SAMPLES, 2):
        task.model(**collate(samples[start : start + 2], 0)).loss.backward()
        for name, weight in weights.items():
            for size in SIZES:
                sums[size][name] += weight.grad
                if (start + 2) % size == 0:
                    found[size][name] += float((weight * sums[size][name]).detach().abs().mean())
                    sums[size][name].zero_()
            weight.grad = None
    return found


def main(arguments):
    task = load(arguments.task, Path(arguments.models), Path(arguments.data), device="cpu", dtype="float32")
    found = importances(task)
    shares = {size: np.log(list(of.values())) - np.log(sum(of.values())) for size, of in found.items()}
    for size in SIZES:
        rank = stats.spearmanr(shares[size], shares[SAMPLES])[0]
        log = np.corrcoef(shares[size], shares[SAMPLES])[0, 1]
        spread = shares[size].std()
        print(f"groups of {size}: rank correlation {rank:.3f}, of logarithms {log:.3f}; spread {spread:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task")
    parser.add_argument("--models", required=True)
    parser.add_argument("--data", required=True)
    main(parser.parse_args())
