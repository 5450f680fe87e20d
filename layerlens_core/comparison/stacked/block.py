"""A block of arms on one frozen model: their parameters, where they are attached, and the passes through the model."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from attrs import frozen
from torch import Tensor
from transformers import PreTrainedModel

from layerlens_core.comparison.stacked.heads import StackedHead
from layerlens_core.comparison.stacked.methods.beside import beside
from layerlens_core.comparison.stacked.methods.core import Core
from layerlens_core.comparison.stacked.methods.low_rank import LowRank
from layerlens_core.comparison.stacked.methods.place import Pass, Place
from layerlens_core.comparison.stacked.methods.stacked import STACKED, started
from layerlens_core.comparison.stacked.parameters import Parameters
from layerlens_core.comparison.stacked.subspaces import Subspaces
from layerlens_core.comparison.stacked.testbed import Testbed, linears_in
from layerlens_core.profiling.hooks.attach import attached
from layerlens_core.profiling.hooks.tap import Ear
from layerlens_core.profiling.model.devices import input_device
from layerlens_core.values.comparison import Arm, Job

#: Methods that add a function of a linear module's inputs to its output.
OF_INPUTS = (LowRank, Core)


@frozen(eq=False)
class Block:
    """K arms, attached to a model by `attached`.

    jobs: one an arm.
    parameters: what they train.
    places: by method and module.
    heads: that train in full.
    running: for which arms the model runs.
    """

    jobs: Sequence[Job]
    parameters: Parameters
    places: Mapping[tuple[str, str], Place]
    heads: Sequence[StackedHead]
    running: Pass

    @classmethod
    def of(
        cls,
        testbed: Testbed,
        jobs: Sequence[Job],
        directions: Mapping[str, Tensor] | None = None,
        subspaces: Subspaces | None = None,
    ) -> "Block":
        """The arms of these jobs at their start: they add nothing, what is drawn is drawn, heads are the model's.

        testbed: whose model they adapt.
        jobs: whose arms can be stacked (`why_not_stackable`), of one scale.
        directions: leading right singular vectors of the gradient, by module [k, in], for arms that start along them.
        subspaces: that cores lie in; by default those that are made of the model or of noise.

        Raises `ModelError` where a core's subspace is not at hand.
        """
        subspaces = subspaces or Subspaces(testbed=testbed)
        model, inventory, running = testbed.model, testbed.inventory, Pass()
        parameters = Parameters.of(shapes_of(testbed, jobs), len(jobs), model.dtype, input_device(model))
        slots = parameters.slots
        places = {}
        for (method, name), sizes in _sizes(testbed, jobs).items():
            kind, shape = STACKED[method], inventory.shapes[name]
            parts = kind.shapes(max(sizes), shape)
            places[method, name] = kind(
                name=name,
                shape=shape,
                tensors={part: slots[f"{name} {part}"].of(parameters.working) for part in parts},
                gradients={part: slots[f"{name} {part}"].of(parameters.gradients) for part in parts},
                sizes=sizes,
                scale=jobs[0].arm.scale,
                layouts=testbed.established.layouts(name),
                running=running,
                **(_frozen(subspaces, jobs, name, parameters) if kind is Core else {}),
            )
        heads = []
        for name, head in ((head.name, model.get_submodule(head.name)) for head in inventory.heads):
            leaves = {part: _leaves(parameters, f"{name} {part}") for part, _ in head.named_parameters()}
            heads.append(StackedHead(head, leaves, running))
            for part, tensor in head.named_parameters():
                slots[f"{name} {part}"].of(parameters.values).copy_(tensor.detach())
        block = cls(jobs, parameters, places, heads, running)
        block._draw(directions or {}, subspaces)
        return block

    def _draw(self, directions: Mapping[str, Tensor], subspaces: Subspaces) -> None:
        slots, values = self.parameters.slots, self.parameters.values
        for (method, name), place in self.places.items():
            for arm, job in enumerate(self.jobs):
                if place.sizes[arm]:
                    own = started(method, name, place.shape, job, directions, subspaces)
                    for part, tensor in own.items():
                        padded = slots[f"{name} {part}"].of(values)[arm]
                        padded[tuple(slice(length) for length in tensor.shape)] = tensor.to(values)
        self.parameters.written()

    @contextmanager
    def attached(self, model: PreTrainedModel, layers: Collection[str] = ()) -> Iterator[None]:
        """The model computes the arms' outputs inside, for whichever arms `running` says.

        model: frozen.
        layers: to compile.
        """
        of_inputs: dict[str, list[Place]] = {}
        for place in self.places.values():
            if isinstance(place, OF_INPUTS):
                of_inputs.setdefault(place.name, []).append(place)
        ears = {name: _heard(places) for name, places in of_inputs.items()}
        sides = [(method, place) for (method, _), place in self.places.items() if not isinstance(place, OF_INPUTS)]
        with ExitStack() as stack:
            for head in self.heads:
                stack.enter_context(head.attached())
            stack.enter_context(attached(model, ears, layers=layers))
            # After the ears, so that an adapter corrects what LoRA or a core has added to.
            stack.enter_context(beside(model, sides))
            yield

    def penalty(self) -> Tensor | None:
        """What is added to the sum of the arms' losses: nothing."""
        return None


def _heard(places: Sequence[Place]) -> Ear:
    """What hears a linear module at which some arms have one method and others another."""
    if len(places) == 1:
        return Ear(places[0].receive, lambda: None, add=places[0].add)

    def add(inputs: Tensor, output: Tensor) -> Tensor:
        for place in places:
            output = place.add(inputs, output)
        return output

    def receive(inputs: Tensor, gradient: Tensor) -> Tensor | None:
        found = [part for place in places if (part := place.receive(inputs, gradient)) is not None]
        return torch.stack(found).sum(dim=0) if found else None

    return Ear(receive, lambda: None, add=add)


def _frozen(subspaces: Subspaces, jobs: Sequence[Job], name: str, like: Parameters) -> dict[str, Any]:
    """What cores at a module have beside their parameters."""
    left, right, whose = subspaces.bases(jobs, name)
    return {"left": left.to(like.working), "right": right.to(like.working), "whose": whose}


def shapes_of(testbed: Testbed, jobs: Sequence[Job]) -> Mapping[str, tuple[int, ...]]:
    """The tensors of an arm that the arms of these jobs have together, each as large as the largest.

    testbed: whose model they adapt.
    jobs: one an arm.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for (method, name), sizes in _sizes(testbed, jobs).items():
        for part, shape in STACKED[method].shapes(max(sizes), testbed.inventory.shapes[name]).items():
            shapes[f"{name} {part}"] = shape
    for head in testbed.inventory.heads:
        for part, tensor in testbed.model.get_submodule(head.name).named_parameters():
            shapes[f"{head.name} {part}"] = tuple(tensor.shape)
    return shapes


def _sizes(testbed: Testbed, jobs: Sequence[Job]) -> Mapping[tuple[str, str], list[int]]:
    """By method and module, the size in every arm, where any is above 0."""
    sizes = {
        (method, name): [job.arm.sizes.get(method, {}).get(name, 0) for job in jobs]
        for method in STACKED
        for name in testbed.inventory.shapes
    }
    return {place: of_arms for place, of_arms in sizes.items() if any(of_arms)}


def why_not_stackable(testbed: Testbed, arm: Arm) -> str | None:
    """Why an arm cannot share a batch of a model with others; None where it can.

    testbed: whose model is trained.
    arm: one of them.
    """
    model, established = testbed.model, testbed.established
    if arm.tuner != "layerlens":
        return f"{arm.tuner} trains a model of its own"
    if unknown := sorted(arm.sizes.keys() - STACKED.keys()):
        return f"{unknown[0]} is not computed for several arms at once"
    if established.company == "alone":
        return f"the samples of a batch depend on each other in {type(model).__name__}"
    for method, sizes in arm.sizes.items():
        for name, size in sizes.items():
            if size and (reason := STACKED[method].refusal(testbed, name)) is not None:
                return reason
    for head in testbed.inventory.heads:
        for name in linears_in(model, head.name):
            layouts = established.layouts(name).values()
            if not layouts or any(layout.dim or layout.fold == "inner" for layout in layouts):
                return f"{name}, which is part of a head, does not keep its samples along its first dimension"
    return None


def _leaves(parameters: Parameters, name: str) -> list[Tensor]:
    """A tensor of every arm as leaves, whose gradients are the arm's row."""
    slot = parameters.slots[name]
    leaves = []
    for value, gradient in zip(slot.of(parameters.working), slot.of(parameters.gradients), strict=True):
        leaf = value.detach().requires_grad_(True)
        leaf.grad = gradient
        leaves.append(leaf)
    return leaves
