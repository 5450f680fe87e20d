"""A budget of memory, 70 % of what uniform LoRA takes: what is best kept, layers, or samples of a batch.

    python tests/benchmarks/study/memory.py TASK --models DIR --data DIR --out DIR --device cuda [--compile]

Arms of at most uniform's parameters and at most 70 % of its memory, as planned for a step of the task's batch at its
mean length: *plan* (the default, which freezes the lowest layers), *top-layers* (one rank in the same layers),
*smaller batch* (uniform on all layers, with as many samples a step as fit; as many epochs, so more steps), *as many
steps* (the same, with as many steps as the others, so fewer samples), and *plan, smaller batch*. Beside them *uniform*
and *plan, accumulated* (the default on all layers: a smaller batch whose gradients are accumulated trains as a whole
one, in 70 % of the memory). Every rate of a grid, all seeds; an arm is judged at the rate of the least mean loss.
"""

import json
import statistics

import attrs
from begin import begun, parser_of

import layerlens_core as ll
from layerlens_core.comparison.arms.of_plan import arm_of_plan
from layerlens_core.comparison.jobs.local import run_local
from layerlens_core.comparison.jobs.store import ResultStore
from layerlens_core.comparison.options import CompareOptions
from layerlens_core.comparison.setting import setting_of
from layerlens_core.comparison.stacked.runner import Runner
from layerlens_core.comparison.stacked.testbed import prepare_testbed
from layerlens_core.values.comparison import Job
from layerlens_core.values.costs import Training

SHARE = 0.7
SIDES = ("in_features", "out_features")


def main(arguments):
    task, out = begun(arguments)
    profile = ll.profile(task.model, task.training[:256], metrics=("weight_gradient",), task=task.kind)
    testbed = prepare_testbed(task.model, task.kind, task.training, task.held_out, compile=arguments.compile)
    setting = setting_of(testbed)
    store = ResultStore.open(out, setting)
    rates = [float(rate) for rate in arguments.rates.split(",")]
    for budget in arguments.budgets.split(","):
        cases = arms(profile, task, budget)
        jobs = {
            (name, rate, seed): Job(arm=arm, rate=rate, seed=seed, schedule=schedule, setting=setting.id)
            for name, (arm, schedule) in cases.items()
            for rate in rates
            for seed in range(arguments.seeds)
        }
        run_local(store, list(jobs.values()), Runner(testbed=testbed))
        results = {key: store.results([job])[0] for key, job in jobs.items()}
        with (out / "memory.jsonl").open("a") as kept:
            for (name, rate, seed), result in results.items():
                arm, schedule = cases[name]
                row = {
                    "task": arguments.task, "budget": budget, "arm": name, "rate": rate, "seed": seed,
                    "batch": schedule.batch, "steps": schedule.steps, "parameters": arm.parameters,
                    "memory": arm.memory, "layers": len(layers_of(profile, arm)),
                    "loss": result.loss(setting.labels), "job": result.job.id,
                }  # fmt: skip
                kept.write(json.dumps(row) + "\n")
        print(f"{budget}: {len(jobs)} runs", flush=True)


def arms(profile, task, budget):
    """By name, an arm and how it trains."""
    length = round(statistics.fmean(len(sample["input_ids"]) for sample in task.training))
    options = CompareOptions(epochs=task.epochs, batch=task.batch)
    whole = options.schedule(len(task.training))

    def planned(strategy, batch, *, limit=None):
        training = Training(batch=batch, length=length)
        bounds = (f"params={budget}", *([f"memory={int(limit)}"] if limit else []))
        plan = ll.allocate(profile, budget=bounds, strategy=strategy, training=training, methods=("none", "lora"),
                           **({"abstain": False} if strategy == "tempered" else {}))  # fmt: skip
        return arm_of_plan(plan, strategy, budget)

    most = SHARE * planned("uniform", task.batch).memory
    batch = max(size for size in range(1, task.batch) if planned("uniform", size).memory <= most)
    more = attrs.evolve(options, batch=batch).schedule(len(task.training))
    fewer = attrs.evolve(whole, batch=batch)
    return {
        "uniform": (planned("uniform", task.batch), whole),
        "plan": (planned("tempered", task.batch, limit=most), whole),
        "top-layers": (even(profile, planned("tempered", task.batch, limit=most)), whole),
        "smaller batch": (planned("uniform", batch), more),
        "as many steps": (planned("uniform", batch), fewer),
        "plan, smaller batch": (planned("tempered", batch, limit=most), more),
        "plan, accumulated": (attrs.evolve(planned("tempered", task.batch), memory=most), whole),
    }


def even(profile, arm):
    """One rank wherever an arm trains, and one more on the uppermost modules for what is left of its parameters."""
    widths = {name: sum(profile.inventory.shapes[name][side] for side in SIDES) for name in arm.sizes["lora"]}
    rank, left = divmod(arm.parameters, sum(widths.values()))
    sizes = dict.fromkeys(widths, rank)
    for name in reversed(widths):
        if widths[name] <= left:
            sizes[name] += 1
            left -= widths[name]
    return attrs.evolve(arm, sizes={"lora": sizes}, parameters=arm.parameters - left)


def layers_of(profile, arm):
    """The layers that an arm trains."""
    names = [name for sizes in arm.sizes.values() for name, size in sizes.items() if size]
    return {layer.name for layer in profile.inventory.layers for name in names if name.startswith(f"{layer.name}.")}


if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.add_argument("--budgets", default="r=4")
    parser.add_argument("--rates", default="5e-3,1e-2,2e-2")
    parser.add_argument("--seeds", type=int, default=3)
    main(parser.parse_args())
