"""An arm that cannot share a model with others: attached as `apply` attaches it, and trained on the same batches."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from attrs import define, field
from peft import AdaLoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from layerlens_core.adaptation.attach import attach, quietly
from layerlens_core.adaptation.attached import adapted
from layerlens_core.adaptation.config import Entry, configure
from layerlens_core.adaptation.cores.subspaces import place_cores
from layerlens_core.adaptation.snapshot import remember
from layerlens_core.adaptation.target_patterns import exactly
from layerlens_core.comparison.arms.peers import adalora_ranks
from layerlens_core.comparison.stacked.methods.place import Pass
from layerlens_core.comparison.stacked.methods.stacked import STACKED, scaled_by, started
from layerlens_core.comparison.stacked.parameters import BETAS, EPSILON, WEIGHT_DECAY
from layerlens_core.comparison.stacked.schedule import factor
from layerlens_core.comparison.stacked.subspaces import Subspaces
from layerlens_core.comparison.stacked.testbed import Testbed
from layerlens_core.profiling.model.devices import input_device
from layerlens_core.profiling.model.vocabulary_head import at_least_float32
from layerlens_core.values.comparison import Job, Schedule
from layerlens_core.values.plan import CORE, LORA_METHODS

#: AdaLoRA trains all its ranks for the first, and only what is left of them for the last of these shares of the run.
_ADALORA_FIRST, _ADALORA_LAST = 0.1, 0.3
#: How often it prunes in a run.
_ADALORA_PRUNES = 100


@define(eq=False)
class Masters:
    """What one arm trains, with copies in float32 of what the model keeps in fewer bits.

    trained: of the model.
    masters: of each, at least in float32; the parameter itself where that is the same.
    diverged: whether a gradient was not finite [1].
    adalora: prunes after each step, where the arm is one of AdaLoRA.
    """

    trained: Sequence[nn.Parameter]
    masters: Sequence[nn.Parameter]
    diverged: Tensor
    optimizer: torch.optim.AdamW
    adalora: PeftModel | None = None

    @classmethod
    def of(cls, model: nn.Module, device: torch.device, adalora: PeftModel | None = None) -> "Masters":
        """Everything in a model that requires a gradient."""
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        masters = []
        for parameter in trained:
            wide = at_least_float32(parameter.detach())
            masters.append(parameter if wide.dtype == parameter.dtype else nn.Parameter(wide))
        optimizer = torch.optim.AdamW(masters, betas=BETAS, eps=EPSILON, weight_decay=WEIGHT_DECAY, fused=True)
        return cls(trained, masters, torch.zeros(1, dtype=torch.bool, device=device), optimizer, adalora)

    def forget(self, _arms: slice) -> None:
        """Drop what the backward pass has added to the gradients."""
        for parameter in self.trained:
            parameter.grad = None

    @torch.no_grad()
    def step(self, at: int, rates: Sequence[float], schedule: Schedule) -> None:
        """As `Parameters.step`."""
        for parameter, master in zip(self.trained, self.masters, strict=True):
            if master is not parameter and parameter.grad is not None:
                master.grad = parameter.grad.to(master.dtype)
        norm = torch.nn.utils.clip_grad_norm_(self.masters, schedule.clip or math.inf)
        self.diverged |= ~norm.isfinite().to(self.diverged.device)
        self.optimizer.param_groups[0]["lr"] = rates[0] * factor(at, schedule)
        if not self.diverged:
            self.optimizer.step()
        if self.adalora is not None:
            self.adalora.base_model.update_and_allocate(at)
        for parameter, master in zip(self.trained, self.masters, strict=True):
            if master is not parameter:
                parameter.copy_(master)
        self.optimizer.zero_grad()
        self.forget(slice(0, 1))


@define(eq=False)
class Alone:
    """One arm, attached to a model by `attached`; with the same uses as a `Block`.

    testbed: whose model it adapts.
    jobs: the one.
    directions: as in `Block.of`.
    subspaces: likewise.
    """

    testbed: Testbed
    jobs: Sequence[Job]
    directions: Mapping[str, Tensor] = field(factory=dict)
    subspaces: Subspaces | None = None
    running: Pass = field(factory=Pass)
    _parameters: Masters | None = None

    @property
    def parameters(self) -> Masters:
        """What it trains, while it is attached."""
        assert self._parameters is not None
        return self._parameters

    @contextmanager
    def attached(self, model: nn.Module, layers: Collection[str] = ()) -> Iterator[None]:
        """The model is the arm's inside, and as before afterwards, weights that trained in full included.

        model: frozen.
        layers: never compiled; an arm alone trains as the Trainer trains it.

        Raises `ModelError` where the subspace of its cores is not at hand.
        """
        (job,) = self.jobs
        restore = remember(model)
        kept: list[tuple[nn.Parameter, Tensor]] = []
        try:
            torch.manual_seed(job.seed)
            adalora = None
            if job.arm.tuner == "full" or not job.arm.sizes:
                kept = self._unfrozen(job)
            elif job.arm.tuner == "adalora":
                adalora = self._adalora(job)
            else:
                self._attach(job)
            self._parameters = Masters.of(model, input_device(self.testbed.model), adalora)
            yield
        finally:
            self._parameters = None
            with torch.no_grad():
                for parameter, weights in kept:
                    parameter.copy_(weights)
            restore()
            for parameter in model.parameters():
                parameter.grad = None

    def penalty(self) -> Tensor | None:
        """AdaLoRA's own term of the loss: how far its factors are from orthogonal (as in PEFT's `AdaLoraModel`)."""
        adalora = None if self._parameters is None else self._parameters.adalora
        if adalora is None:
            return None
        terms = []
        for name, factor_ in adalora.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                products = factor_ @ factor_.T if "lora_A" in name else factor_.T @ factor_
                terms.append(torch.linalg.matrix_norm(products - torch.eye(len(products)).to(products)))
        weight: float = adalora.peft_config["default"].orth_reg_weight
        return weight * torch.stack(terms).mean()

    def _attach(self, job: Job) -> None:
        inventory = self.testbed.inventory
        entries = {
            name: Entry(method=method, size=size, shape=inventory.shapes[name])
            for method, sizes in job.arm.sizes.items()
            for name, size in sizes.items()
            if size > 0
        }
        # Of the weights as they are before anything is attached to them.
        subspaces = self.subspaces or Subspaces(testbed=self.testbed)
        cores = {name: size for name, size in job.arm.sizes.get(CORE, {}).items() if size}
        found = {name: subspaces.of(job, name, size) for name, size in cores.items()}
        heads = [head.name for head in inventory.heads]
        wrapped = attach(self.testbed.model, configure(entries, scale=job.arm.scale, heads=heads))
        if found:
            place_cores(wrapped, found, digest=job.arm.subspace, fingerprint=inventory.fingerprint)
        self._draw(wrapped, job)

    @torch.no_grad()
    def _draw(self, wrapped: PeftModel, job: Job) -> None:
        """The same noise that stacked arms of this seed start from, in the methods that are stacked."""
        layers = dict(adapted(wrapped.get_base_model()))
        for method, sizes in job.arm.sizes.items():
            for name in [name for name, size in sizes.items() if size > 0 and method in STACKED]:
                shape = self.testbed.inventory.shapes[name]
                parts = dict(layers[name].named_parameters())
                for part, tensor in started(method, name, shape, job, self.directions, self.subspaces).items():
                    parts[part].copy_(tensor)
            if job.arm.start == "by-rank" and method in LORA_METHODS - STACKED.keys():
                for name in [name for name, size in sizes.items() if size > 0]:
                    layers[name].lora_A["default"].weight.mul_(scaled_by(job.arm, sizes[name]))

    def _adalora(self, job: Job) -> PeftModel:
        initial, target = adalora_ranks(job.arm)
        steps = job.schedule.steps
        config = AdaLoraConfig(
            init_r=initial, target_r=target, lora_alpha=job.arm.scale * initial, total_step=steps,
            tinit=round(_ADALORA_FIRST * steps), tfinal=round(_ADALORA_LAST * steps),
            deltaT=max(1, steps // _ADALORA_PRUNES), target_modules=exactly(job.arm.sizes["lora"]),
            modules_to_save=[head.name for head in self.testbed.inventory.heads] or None,
        )  # fmt: skip
        with quietly():
            return get_peft_model(self.testbed.model, config)

    def _unfrozen(self, job: Job) -> list[tuple[nn.Parameter, Tensor]]:
        """Let the weights of the arm's modules and of all heads train; returns them with copies."""
        kept = []
        modules: list[Any] = [self.testbed.model.get_submodule(name) for name in job.arm.sizes.get("full", ())]
        weights = [module.weight for module in modules]
        for head in self.testbed.inventory.heads:
            weights += self.testbed.model.get_submodule(head.name).parameters()
        for weight in weights:
            kept.append((weight, weight.detach().clone()))
            weight.requires_grad_(True)
        return kept
