"""What other packages offer, as arms of profiling.py: each runs batches and gives the seconds of all but the first.

Those that give ‖gᵢ‖² of every sample leave the sum over samples by module in `FOUND`, so that they can be compared.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch
import transformers
from torch import Tensor

from layerlens_core.profiling.model.losses import per_sample_losses
from layerlens_core.profiling.samples.sample import Sample

Timer = Callable[[], float]
Peer = Callable[[transformers.PreTrainedModel, Sequence[Sample], list[str], Timer], float]

#: By arm, Σ‖gᵢ‖² of every module over all batches.
FOUND: dict[str, list[float]] = {}


class Absent(Exception):
    """A package is not there, or does not do this model."""


def need(package: str) -> None:
    if find_spec(package) is None:
        raise Absent("not installed, skipped")


def trained(model: transformers.PreTrainedModel, names: list[str]) -> list[torch.nn.Parameter]:
    """Weights of the named modules, which alone require gradients from now on."""
    model.requires_grad_(False)
    weights = [model.get_submodule(name).weight for name in names]
    for weight in weights:
        weight.requires_grad_(True)  # type: ignore[union-attr]
    return weights  # type: ignore[return-value]


def over(batches: Sequence[Sample], now: Timer, arm: str, run: Callable[[Sample], Sequence[Tensor]]) -> float:
    """Run every batch, which gives Σ‖gᵢ‖² of every module; seconds of all but the first."""
    total: Tensor | None = None
    began = now()
    for number, batch in enumerate(batches):
        if number == 1:
            began = now()
        norms = torch.stack([norm.double() for norm in run(batch)])
        total = norms if total is None else total + norms
    took = now() - began
    assert total is not None
    FOUND[arm] = total.tolist()
    return took


def squared(gradients: Tensor) -> Tensor:
    return gradients.float().square().sum(dim=-1).sum(dtype=torch.float64)


def loop(model: transformers.PreTrainedModel, batches: Sequence[Sample], names: list[str], now: Timer) -> float:
    """Each sample alone, its gradients formed, their norms taken."""
    weights = trained(model, names)

    def run(batch: Sample) -> list[Tensor]:
        total = [torch.zeros((), dtype=torch.float64, device=model.device) for _ in names]
        for i in range(len(batch["input_ids"])):
            sample = {key: value[i : i + 1].to(model.device) for key, value in batch.items()}
            gradients = torch.autograd.grad(per_sample_losses(model, sample, "causal-lm").sum(), weights)
            total = [a + squared(g) for a, g in zip(total, gradients, strict=True)]
        return total

    try:
        return over(batches, now, "loop", run)
    finally:
        model.requires_grad_(False)


def opacus_per_sample(model: transformers.PreTrainedModel, batches: Sequence[Sample], names: list[str], now: Timer):
    """Opacus's GradSampleModule: per-sample gradients of every weight, held at once."""
    need("opacus")
    from opacus import GradSampleModule

    def norm(weight) -> Tensor:
        return squared(weight.grad_sample)

    return _opacus("opacus per-sample", GradSampleModule, norm, model, batches, names, now)


def opacus_ghost(model: transformers.PreTrainedModel, batches: Sequence[Sample], names: list[str], now: Timer):
    """Opacus's ghost clipping: norms by Gram matrices in the backward pass, beside the plain gradients."""
    need("opacus")
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    def norm(weight) -> Tensor:
        return weight._norm_sample.double().square().sum()

    wrap = functools.partial(GradSampleModuleFastGradientClipping, use_ghost_clipping=True)
    return _opacus("opacus ghost", wrap, norm, model, batches, names, now)


def _opacus(arm: str, wrap, norm, model, batches: Sequence[Sample], names: list[str], now: Timer):
    """wrap: makes opacus's module of a model. norm: Σ‖gᵢ‖² of a weight, from what that left on it."""
    own = copy.deepcopy(model).train()
    weights = trained(own, names)
    wrapped = wrap(own, loss_reduction="sum", strict=False)

    def run(batch: Sample) -> list[Tensor]:
        per_sample_losses(own, batch, "causal-lm").sum().backward()
        norms = [norm(weight) for weight in weights]
        wrapped.zero_grad(set_to_none=True)
        return norms

    try:
        return over(batches, now, arm, run)
    finally:
        wrapped.to_standard_module()


def backpack_norms(model: transformers.PreTrainedModel, batches: Sequence[Sample], names: list[str], now: Timer):
    """BackPACK's BatchL2Grad on the linear modules."""
    need("backpack")
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    own = copy.deepcopy(model).train()
    weights = trained(own, names)
    for name in names:
        extend(own.get_submodule(name))

    def run(batch: Sample) -> list[Tensor]:
        with backpack(BatchGrad()):
            per_sample_losses(own, batch, "causal-lm").sum().backward()
        norms = [squared(weight.grad_batch) for weight in weights]  # type: ignore[attr-defined]
        for weight in weights:
            weight.grad = None
            del weight.grad_batch  # type: ignore[attr-defined]
        return norms

    return over(batches, now, "backpack", run)


def vmap_grad(model: transformers.PreTrainedModel, batches: Sequence[Sample], names: list[str], now: Timer):
    """torch.func: vmap over samples of grad."""
    from torch.func import functional_call, grad, vmap
    from transformers.masking_utils import create_causal_mask  # noqa: F401  (its presence shows a recent version)

    own = copy.deepcopy(model)
    own.config._attn_implementation = "eager"
    for module in own.modules():
        if hasattr(module, "config"):
            module.config._attn_implementation = "eager"
    trained(own, names)
    weights = {f"{name}.weight": own.get_submodule(name).weight.detach() for name in names}
    tokens = batches[0]["input_ids"].shape[1]
    causal = torch.full(
        (1, 1, tokens, tokens), torch.finfo(own.dtype).min, dtype=own.dtype, device=own.device
    ).triu(1)  # fmt: skip

    def loss(parameters: dict[str, Tensor], ids: Tensor) -> Tensor:
        options = {"input_ids": ids[None], "attention_mask": causal, "use_cache": False}
        logits = functional_call(own, parameters, (), options).logits[0, :-1].float()
        return torch.nn.functional.cross_entropy(logits, ids[1:])

    def run(batch: Sample) -> list[Tensor]:
        found = vmap(grad(loss), in_dims=(None, 0))(weights, batch["input_ids"])
        return [squared(found[f"{name}.weight"]) for name in names]

    return over(batches, now, "vmap(grad)", run)


def eva(model: transformers.PreTrainedModel, batches: Sequence[Sample], names: list[str], now: Timer) -> float:
    """PEFT's EVA initialisation, over as many of the batches as it takes until it has converged: other numbers."""
    from peft import EvaConfig, LoraConfig, get_peft_model, initialize_lora_eva_weights

    targets = sorted({name.rpartition(".")[2] for name in names})
    config = LoraConfig(r=8, target_modules=targets, init_lora_weights="eva", eva_config=EvaConfig(rho=1.0))
    tuned = get_peft_model(copy.deepcopy(model), config)
    began = now()
    initialize_lora_eva_weights(tuned, list(batches), show_progress_bar=False, gather_distributed_inputs=False)
    return (now() - began) * (len(batches) - 1) / len(batches)


def lora_ga(model: transformers.PreTrainedModel, batches: Sequence[Sample], names: list[str], now: Timer) -> float:
    """The pass in which PEFT's LoRA-GA sums gradients up, without its decompositions: the mean gradient alone."""
    from peft import LoraConfig, LoraGAConfig
    from peft.tuners.lora import loraga

    own = copy.deepcopy(model)
    targets = sorted({name.rpartition(".")[2] for name in names})
    marks: list[float] = []

    def train_step() -> None:
        for batch in batches:
            per_sample_losses(own, batch, "causal-lm").sum().backward()
            marks.append(now())

    config = LoraConfig(r=8, target_modules=targets, init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig())
    loraga.estimate_gradients(own, config, train_step)
    return marks[-1] - marks[0]


PEERS: dict[str, Peer] = {
    "loop": loop,
    "opacus per-sample": opacus_per_sample,
    "opacus ghost": opacus_ghost,
    "backpack": backpack_norms,
    "vmap(grad)": vmap_grad,
    "EVA": eva,
    "LoRA-GA": lora_ga,
}
