"""What metrics that run the model may ask for by module beside numbers: mean gradients, moments of inputs, weights.

These are matrices, which the pass for statistics never holds. So modules take turns
(`layerlens_core.profiling.hooks.turns`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext

import torch
from attrs import define, field
from torch import Tensor

from layerlens_core.errors import NonFiniteError
from layerlens_core.inspection.packed import packed_tensors
from layerlens_core.plugin.active import ActiveProfile
from layerlens_core.profiling.hooks.attach import attached
from layerlens_core.profiling.hooks.moments import Moments
from layerlens_core.profiling.hooks.tap import Ear
from layerlens_core.profiling.hooks.turns import in_turns
from layerlens_core.profiling.model.devices import input_device, on, weight_device
from layerlens_core.profiling.model.frozen import untouched
from layerlens_core.profiling.model.losses import per_sample_losses, vocabulary_head
from layerlens_core.profiling.model.packed import gradients_pass
from layerlens_core.profiling.model.vocabulary_head import VocabularyHead
from layerlens_core.profiling.model.weights import dense_weight
from layerlens_core.profiling.samples.sample import Sample, collate, runs, shapes, tokens
from layerlens_core.profiling.samples.tasks import count_labels, pad_token_id


def mean_gradients(profile: ActiveProfile, samples: Sequence[Sample] | None = None) -> Iterator[tuple[str, Tensor]]:
    """By module that is scored, the mean over samples of ∂ℓᵢ/∂W [out, in], float32 or wider.

    Each is only held until the next one is asked for. Packed weights are served too, as nothing but a module's inputs
    and output gradients are read.

    profile: what the metric got.
    samples: other ones than the profile's; those without labels are not counted.

    Raises `NonFiniteError`.
    """
    for name, (gradient,) in mean_gradients_of_parts(profile, [profile.samples if samples is None else samples]):
        yield name, gradient


def mean_gradients_of_parts(
    profile: ActiveProfile, parts: Sequence[Sequence[Sample]]
) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    """As `mean_gradients`, of each of several parts of the samples, in the passes that one part takes.

    profile: what the metric got.
    parts: samples; those without labels are not counted, and a part without any has gradients of zero.

    Raises `NonFiniteError`.
    """
    device, pad = input_device(profile.model), pad_token_id(profile.model, profile.task, profile.micro_batch)
    ordered = [_ordered(profile, part) for part in parts]
    counts = [len(part) for part in ordered]
    head = _head(profile, [sample for part in ordered for sample in part[-1:]], pad)

    def gather(names: Sequence[str], micro_batch: int, report: Callable[[int], None]) -> dict[str, _Sums]:
        sums = {name: _Sums() for name in names}
        ears = {name: Ear(each.add, _nothing) for name, each in sums.items()}
        done = 0
        with untouched(profile.model), gradients_pass(profile.model), attached(profile.model, ears):
            for number, part in enumerate(ordered):
                for each in sums.values():
                    each.part = number
                for _, together in runs(part, micro_batch, equal=profile.equal_lengths):
                    _backward(profile, on(device, collate(together, pad)), head)
                    done += len(together)
                    report(done)
        _check_finite(sums)
        return sums

    for name, found in in_turns(profile, lambda n_out, n_in: len(parts) * n_out * n_in * 4, sum(counts), gather):
        known = {part: total.div_(counts[part]) for part, total in found.by_part.items()}
        like = next(iter(known.values())) if known else _zeros(profile, name)
        yield name, tuple(known[part] if part in known else torch.zeros_like(like) for part in range(len(parts)))


def input_moments(profile: ActiveProfile) -> Iterator[tuple[str, Moments]]:
    """By module that is scored, the moments of its inputs over all tokens of all samples with labels.

    Samples share a batch only where they are equally long, so that no padding is among the rows.

    profile: what the metric got.
    """
    device = input_device(profile.model)
    ordered = _ordered(profile, profile.samples)

    def gather(names: Sequence[str], micro_batch: int, report: Callable[[int], None]) -> dict[str, Moments]:
        found: dict[str, Moments] = {}
        done = 0
        with ExitStack() as hooks, untouched(profile.model), torch.no_grad():
            for name in names:
                module = profile.model.get_submodule(name)
                handle = module.register_forward_pre_hook(_measuring(name, found), with_kwargs=True)
                hooks.callback(handle.remove)
            for _, together in runs(ordered, micro_batch, equal=True):
                per_sample_losses(profile.model, on(device, collate(together, 0)), profile.task)
                done += len(together)
                report(done)
        missing = set(names) - set(found)
        return found | {name: Moments.nothing(_shape(profile, name)[1], device) for name in missing}

    yield from in_turns(profile, lambda _out, n_in: n_in * n_in * 8, len(ordered), gather)


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


def _ordered(profile: ActiveProfile, samples: Sequence[Sample]) -> list[Sample]:
    """Those with labels: like ones beside each other, and the longest first, so that memory runs out early if it does.

    Order does not show in means but for rounding.
    """
    counted = (sample for sample in samples if count_labels(sample, profile.task) > 0)
    return sorted(counted, key=lambda sample: (tokens(sample), str(shapes(sample))), reverse=True)


def _shape(profile: ActiveProfile, name: str) -> tuple[int, int]:
    return next((each.out_features, each.in_features) for each in profile.inventory.modules if each.name == name)


def _zeros(profile: ActiveProfile, name: str) -> Tensor:
    return torch.zeros(_shape(profile, name), device=weight_device(profile.model.get_submodule(name), profile.model))


def _head(profile: ActiveProfile, samples: Sequence[Sample], pad: int) -> VocabularyHead | None:
    """The head as the pass for statistics has it, so that logits take no more memory than there."""
    if not samples:
        return None
    shortest = on(input_device(profile.model), collate([min(samples, key=tokens)], pad))
    with untouched(profile.model):
        return vocabulary_head(profile.model, shortest, profile.task)


def _backward(profile: ActiveProfile, batch: Sample, head: VocabularyHead | None) -> None:
    with torch.enable_grad():
        losses = per_sample_losses(profile.model, batch, profile.task, head)
    if not torch.isfinite(losses).all():
        raise NonFiniteError(f"a loss is {float(losses[~torch.isfinite(losses)][0].detach())}")
    torch.autograd.backward(losses.sum())


def _check_finite(sums: dict[str, "_Sums"]) -> None:
    """Raises `NonFiniteError` that names the module where it began: gradients flow from the last one to the first."""
    for name in reversed(sums):
        if not all(total.isfinite().all() for total in sums[name].by_part.values()):
            raise NonFiniteError(
                f"the gradient of {name} is not finite; load the model in float32, or profile with --metric "
                "weight_gradient, which tells in which batch it arises"
            )


@define(eq=False)
class _Sums:
    """The sum over samples of one module's gradients ∂ℓᵢ/∂W [out, in], by number of the samples' part."""

    part: int = 0
    by_part: dict[int, Tensor] = field(factory=dict)

    def add(self, inputs: Tensor, gradients: Tensor) -> None:
        """Take a call's inputs [..., in] and the gradients of its outputs [..., out]."""
        wide = torch.promote_types(gradients.dtype, torch.float32)
        x, d = (part.detach().reshape(-1, part.shape[-1]).to(wide) for part in (inputs, gradients))
        if self.part in self.by_part:
            self.by_part[self.part].addmm_(d.T, x)
        else:
            self.by_part[self.part] = d.T @ x


def _measuring(name: str, found: dict[str, Moments]) -> Callable[..., None]:
    def measure(_module: object, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        rows = args[0] if args else next(iter(kwargs.values()))
        if name not in found:
            found[name] = Moments.nothing(rows.shape[-1], rows.device)
        found[name].add(rows.detach().reshape(-1, rows.shape[-1]))

    return measure


def _nothing() -> None:
    pass
