"""One arm, stacked beside others or alone, against the Hugging Face Trainer on the same adapters, batches and rates."""

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from layerlens_core.comparison.stacked.runner import Runner
from layerlens_core.comparison.stacked.schedule import order
from layerlens_core.comparison.stacked.testbed import prepare_testbed
from layerlens_core.profiling.samples.sample import collate
from layerlens_core.values.comparison import Schedule
from zoo.compared import arm, job, mixed, model_and_samples, tuned

#: OPT folds samples and tokens, ALBERT calls its modules again and again, Falcon and MPT write to outputs in place.
FAMILIES = ["llama", "gpt2", "opt", "mpt", "falcon", "mamba", "bert", "albert", "t5"]
FAMILIES += [f"{name}-classifier" for name in ("llama", "bert", "roberta", "distilbert")]
#: Phi computes attention and feed-forward side by side; of most others `PREFIXED` mixes these methods too.
MIXED = ["llama", "falcon", "phi", "t5"]
#: Attentions on transformers' interface: with fewer key-value heads, keys wider than values, positions in the scores.
PREFIXED = ["llama", "gpt2", "opt", "bert-classifier", "albert", "t5", "bart"]
SCHEDULE = Schedule(steps=7, batch=4, warmup=2, clip=0.5)


class _InOrder(Trainer):
    def _get_train_sampler(self, *_args, **_kwargs):
        return torch.utils.data.SequentialSampler(self.train_dataset)


class _Losses(TrainerCallback):
    def __init__(self):
        self.losses = []

    def on_log(self, _args, _state, _control, logs=None, **_kwargs):
        if "loss" in (logs or {}):
            self.losses.append(logs["loss"])


def trained_by_trainer(model, samples, one, schedule, tmp_path):
    """The Trainer's loss in every step, and its model."""
    wrapped = tuned(model, one)
    batches = order(samples, schedule, one.seed)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=schedule.steps, learning_rate=one.rate, lr_scheduler_type="linear",
        warmup_steps=schedule.warmup, max_grad_norm=schedule.clip, per_device_train_batch_size=schedule.batch,
        logging_steps=1, logging_nan_inf_filter=False, save_strategy="no", report_to=[], disable_tqdm=True,
        use_cpu=True, dataloader_pin_memory=False, remove_unused_columns=False, seed=0,
    )  # fmt: skip
    seen = _Losses()
    _InOrder(
        model=wrapped,
        args=arguments,
        train_dataset=[samples[i] for batch in batches for i in batch],
        data_collator=lambda rows: collate(rows, 1),
        callbacks=[seen],
    ).train()
    return seen.losses, wrapped


def check(family, jobs_of, tmp_path):
    """Trains jobs beside each other, and each by the Trainer."""
    model, samples, task = model_and_samples(family)
    testbed = prepare_testbed(model, task, samples[4:], samples[:4])
    jobs = jobs_of(model)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    results = {result.job.id: result for result in Runner(testbed=testbed)(jobs)}
    after = model.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in after.items())
    assert {result.stacked for result in results.values()} == {len(jobs)}
    for one in jobs:
        fresh, *_ = model_and_samples(family)
        losses, trained = trained_by_trainer(fresh, testbed.training, one, SCHEDULE, tmp_path)
        found = results[one.id]
        assert found.training == pytest.approx(losses, rel=2e-5)
        trained.eval()
        with torch.no_grad():
            for sample, loss in zip(testbed.held_out, found.losses, strict=True):
                assert loss == pytest.approx(trained(**collate([sample], 1)).loss.item(), rel=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_of_several_arms_trains_as_the_trainer_trains_it_alone(family, tmp_path):
    def jobs_of(model):
        return [
            job(arm(model, 2), rate=1e-2, schedule=SCHEDULE),
            job(arm(model, 4), rate=3e-2, schedule=SCHEDULE),
            job(arm(model, 3, every=2), rate=2e-2, schedule=SCHEDULE),
        ]

    check(family, jobs_of, tmp_path)


@pytest.mark.parametrize("family", MIXED)
def test_so_do_arms_of_other_methods_and_of_several(family, tmp_path):
    def jobs_of(model):
        return [
            job(arm(model, 2), rate=1e-2, schedule=SCHEDULE),
            job(mixed(model, 3, methods=["adapter"]), rate=1e-2, schedule=SCHEDULE),
            job(mixed(model, 5, methods=["adapter", "lora"]), rate=2e-2, schedule=SCHEDULE),
            job(mixed(model, 2, methods=["lora", "adapter"]), rate=3e-2, schedule=SCHEDULE),
        ]

    check(family, jobs_of, tmp_path)


@pytest.mark.parametrize("family", PREFIXED)
def test_so_do_arms_with_prefixes(family, tmp_path):
    def jobs_of(model):
        return [
            job(mixed(model, 2, methods=["adapter"]), rate=1e-2, schedule=SCHEDULE),
            job(mixed(model, 3, methods=["prefix"]), rate=3e-2, schedule=SCHEDULE),
            job(mixed(model, 5, methods=["lora", "prefix"]), rate=2e-2, schedule=SCHEDULE),
            job(mixed(model, 2, methods=["prefix", "adapter", "lora"]), rate=3e-2, schedule=SCHEDULE),
        ]

    check(family, jobs_of, tmp_path)
