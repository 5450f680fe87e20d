"""What metrics that run the model may ask for by module beside numbers: mean gradients, moments of inputs, weights.

These are matrices, which the pass never holds. So modules take turns: as many of them as memory holds are heard in one
pass over the samples, and further passes serve the others.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

import torch
from attrs import define
from torch import Tensor

from layerlens_core.errors import NonFiniteError
from layerlens_core.inspection.packed import packed_tensors
from layerlens_core.plugin.active import ActiveProfile
from layerlens_core.profiling.hooks.attach import attached
from layerlens_core.profiling.hooks.tap import Ear
from layerlens_core.profiling.model.devices import input_device, on
from layerlens_core.profiling.model.frozen import untouched
from layerlens_core.profiling.model.losses import per_sample_losses
from layerlens_core.profiling.model.packed import gradients_pass
from layerlens_core.profiling.model.weights import dense_weight
from layerlens_core.profiling.samples.sample import Sample, collate, runs, shapes, tokens
from layerlens_core.profiling.samples.tasks import count_labels, pad_token_id

#: Bytes of matrices that are held at once; on a CUDA device a quarter of what is free, where that is less.
HELD = 2**31


@define(eq=False)
class Moments:
    """Count, mean and scatter of rows, merged batch by batch (Chan, Golub and LeVeque 1979).

    count: of the rows.
    mean: over the rows [features], float64.
    scatter: Σ (x − mean)(x − mean)ᵀ [features, features], float64.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def nothing(cls, features: int, device: torch.device) -> "Moments":
        """Of no rows."""
        return cls(
            0,
            torch.zeros(features, dtype=torch.float64, device=device),
            torch.zeros(features, features, dtype=torch.float64, device=device),
        )

    def add(self, rows: Tensor) -> None:
        """Take rows [n, features]; products of those in 16 and 32 bits, less their mean, are summed in float32."""
        new = len(rows)
        if not new:
            return
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        mean = rows.double().mean(dim=0)
        centred = rows - mean.to(rows.dtype)
        total = self.count + new
        apart = mean - self.mean
        self.scatter += centred.T @ centred
        self.scatter += torch.outer(apart, apart) * (self.count * new / total)
        self.mean += apart * (new / total)
        self.count = total


def mean_gradients(profile: ActiveProfile, samples: Sequence[Sample] | None = None) -> Iterator[tuple[str, Tensor]]:
    """By module that is scored, the mean over samples of ∂ℓᵢ/∂W [out, in], float32 or wider.

    Each is only held until the next one is asked for. Packed weights are served too, as nothing but a module's inputs
    and output gradients are read.

    profile: what the metric got.
    samples: other ones than the profile's; those without labels are not counted.

    Raises `NonFiniteError`.
    """
    counted = _labelled(profile, profile.samples if samples is None else samples)
    shapes_of = _shapes(profile)
    parts = _turns(profile, lambda n_out, n_in: n_out * n_in * 4)
    device, pad = input_device(profile.model), pad_token_id(profile.model, profile.task, profile.micro_batch)
    ordered = sorted(counted, key=tokens)
    done, work = 0, len(parts) * len(counted)
    for names in parts:
        sums: dict[str, Tensor] = {}
        ears = {name: Ear(_adding(name, sums), _nothing) for name in names}
        with untouched(profile.model), gradients_pass(profile.model), attached(profile.model, ears):
            for _, together in runs(ordered, profile.micro_batch):
                batch = on(device, collate(together, pad))
                with torch.enable_grad():
                    losses = per_sample_losses(profile.model, batch, profile.task)
                if not torch.isfinite(losses).all():
                    raise NonFiniteError(f"a loss is {float(losses[~torch.isfinite(losses)][0].detach())}")
                torch.autograd.backward(losses.sum())
                done += len(together)
                profile.progress(done, work)
        for name in names:
            total = sums.pop(name, None)
            yield name, torch.zeros(shapes_of[name]) if total is None else total / len(counted)


def input_moments(profile: ActiveProfile) -> Iterator[tuple[str, Moments]]:
    """By module that is scored, the moments of its inputs over all tokens of all samples with labels.

    Samples share a batch only where they are equally long, so that no padding is among the rows.

    profile: what the metric got.
    """
    parts = _turns(profile, lambda _out, n_in: n_in * n_in * 8)
    device = input_device(profile.model)
    counted = _labelled(profile, profile.samples)
    ordered = sorted(counted, key=lambda sample: (tokens(sample), str(shapes(sample))))
    done, work = 0, len(parts) * len(ordered)
    for names in parts:
        found: dict[str, Moments] = {}
        handles = []
        try:
            with untouched(profile.model), torch.no_grad():
                for name in names:
                    module = profile.model.get_submodule(name)
                    handles.append(module.register_forward_pre_hook(_measuring(name, found), with_kwargs=True))
                for _, together in runs(ordered, profile.micro_batch, equal=True):
                    per_sample_losses(profile.model, on(device, collate(together, 0)), profile.task)
                    done += len(together)
                    profile.progress(done, work)
        finally:
            for handle in handles:
                handle.remove()
        for name in names:
            yield name, found.pop(name) if name in found else Moments.nothing(_shapes(profile)[name][1], device)


def plain_weight(profile: ActiveProfile, name: str) -> Tensor:
    """A module's weight [out, in], unpacked where it is packed; not to be written to.

    profile: what the metric got.
    name: of a module of the inventory.

    Raises `ModelError` where it cannot be read.
    """
    target = next(module for module in profile.inventory.modules if module.name == name)
    module = profile.model.get_submodule(name)
    # A packed one is run to see whether its weight is unpacked rightly, which evaluation mode must not see.
    with untouched(profile.model) if packed_tensors(module) else nullcontext():
        return dense_weight(module, target, profile.model)()


def _labelled(profile: ActiveProfile, samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if count_labels(sample, profile.task) > 0]


def _shapes(profile: ActiveProfile) -> dict[str, tuple[int, int]]:
    return {module.name: (module.out_features, module.in_features) for module in profile.inventory.modules}


def _turns(profile: ActiveProfile, size: Callable[[int, int], int]) -> list[list[str]]:
    """The names of modules in parts, none of which has matrices of more bytes than may be held, unless it is one."""
    device, held = input_device(profile.model), HELD
    if device.type == "cuda":
        held = min(held, torch.cuda.mem_get_info(device)[0] // 4)
    shape = _shapes(profile)
    parts: list[list[str]] = []
    room = 0
    for name in profile.modules:
        needed = size(*shape[name])
        if needed > room or not parts:
            parts.append([])
            room = held
        parts[-1].append(name)
        room -= needed
    return parts


def _adding(name: str, sums: dict[str, Tensor]) -> Callable[[Tensor, Tensor], None]:
    def add(inputs: Tensor, gradients: Tensor) -> None:
        wide = torch.promote_types(gradients.dtype, torch.float32)
        x, d = (part.detach().reshape(-1, part.shape[-1]).to(wide) for part in (inputs, gradients))
        if name in sums:
            sums[name].addmm_(d.T, x)
        else:
            sums[name] = d.T @ x

    return add


def _measuring(name: str, found: dict[str, Moments]) -> Callable[..., None]:
    def measure(_module: object, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        rows = args[0] if args else next(iter(kwargs.values()))
        if name not in found:
            found[name] = Moments.nothing(rows.shape[-1], rows.device)
        found[name].add(rows.detach().reshape(-1, rows.shape[-1]))

    return measure


def _nothing() -> None:
    pass
