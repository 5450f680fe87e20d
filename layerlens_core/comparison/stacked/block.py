"""A block of arms on one frozen model: their parameters, where they are attached, and the passes through the model."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from attrs import frozen
from torch import Tensor
from transformers import PreTrainedModel

from layerlens_core.comparison.stacked.heads import StackedHead
from layerlens_core.comparison.stacked.low_rank import LowRank, Pass, drawn
from layerlens_core.comparison.stacked.parameters import Parameters
from layerlens_core.comparison.stacked.testbed import Testbed, linears_in
from layerlens_core.profiling.hooks.attach import attached
from layerlens_core.profiling.hooks.tap import Ear
from layerlens_core.profiling.model.devices import input_device
from layerlens_core.values.comparison import Job


@frozen(eq=False)
class Block:
    """K arms, attached to a model by `attached`.

    jobs: one an arm.
    parameters: what they train.
    places: the modules with LoRA.
    heads: that train in full.
    running: for which arms the model runs.
    """

    jobs: Sequence[Job]
    parameters: Parameters
    places: Sequence[LowRank]
    heads: Sequence[StackedHead]
    running: Pass

    @classmethod
    def of(
        cls,
        testbed: Testbed,
        jobs: Sequence[Job],
        directions: Mapping[str, Tensor] | None = None,
    ) -> "Block":
        """The arms of these jobs at their start: B is zero, A is drawn or aligned, heads are the model's.

        testbed: whose model they adapt.
        jobs: whose arms can be stacked (`stackable`), of one scale.
        directions: leading right singular vectors of the gradient, by module [k, in], for arms that start along them.
        """
        model, inventory, running = testbed.model, testbed.inventory, Pass()
        ranks = {name: [job.arm.sizes.get("lora", {}).get(name, 0) for job in jobs] for name in inventory.shapes}
        ranks = {name: of_arms for name, of_arms in ranks.items() if any(of_arms)}
        shapes: dict[str, tuple[int, ...]] = {}
        for name, of_arms in ranks.items():
            shape, most = inventory.shapes[name], max(of_arms)
            shapes[f"{name} A"] = (most, shape["in_features"])
            shapes[f"{name} B"] = (shape["out_features"], most)
        heads = {head.name: model.get_submodule(head.name) for head in inventory.heads}
        for name, head in heads.items():
            for part, tensor in head.named_parameters():
                shapes[f"{name} {part}"] = tuple(tensor.shape)
        parameters = Parameters.of(shapes, len(jobs), model.dtype, input_device(model))
        slots, working, gradients = parameters.slots, parameters.working, parameters.gradients
        places = [
            LowRank(
                name=name,
                a=slots[f"{name} A"].of(working),
                b=slots[f"{name} B"].of(working),
                gradient_a=slots[f"{name} A"].of(gradients),
                gradient_b=slots[f"{name} B"].of(gradients),
                ranks=of_arms,
                scale=jobs[0].arm.scale,
                layouts=testbed.established.layouts(name),
                running=running,
            )
            for name, of_arms in ranks.items()
        ]
        stacked = []
        for name, head in heads.items():
            leaves = {part: _leaves(parameters, f"{name} {part}") for part, _ in head.named_parameters()}
            stacked.append(StackedHead(head, leaves, running))
            for part, tensor in head.named_parameters():
                slots[f"{name} {part}"].of(parameters.values).copy_(tensor.detach())
        block = cls(jobs, parameters, places, stacked, running)
        block._draw(directions or {})
        return block

    def _draw(self, directions: Mapping[str, Tensor]) -> None:
        from layerlens_core.adaptation.initialisation import ROW_NORM

        for place in self.places:
            start = self.parameters.slots[f"{place.name} A"].of(self.parameters.values)
            for arm, (job, rank) in enumerate(zip(self.jobs, place.ranks, strict=True)):
                rows = drawn(place.name, rank, start.shape[-1], job.seed)
                if job.arm.start == "gradient" and place.name in directions:
                    leading = directions[place.name][:rank]
                    rows[: len(leading)] = ROW_NORM * leading.to(rows.dtype)
                start[arm, :rank].copy_(rows)
        self.parameters.written()

    @contextmanager
    def attached(self, model: PreTrainedModel, layers: Collection[str] = ()) -> Iterator[None]:
        """The model computes the arms' outputs inside, for whichever arms `running` says.

        model: frozen.
        layers: to compile.
        """
        ears = {place.name: Ear(place.receive, lambda: None, add=place.add) for place in self.places}
        with ExitStack() as stack:
            for head in self.heads:
                stack.enter_context(head.attached())
            stack.enter_context(attached(model, ears, layers=layers))
            yield

    def penalty(self) -> Tensor | None:
        """What is added to the sum of the arms' losses: nothing."""
        return None


def stackable(job: Job) -> bool:
    """Whether a job's arm is of a kind that is trained beside others: LoRA on linear modules."""
    return job.arm.tuner == "layerlens" and set(job.arm.sizes) <= {"lora"}


def why_not_stackable(testbed: Testbed, modules: Collection[str]) -> str | None:
    """Why arms on these modules cannot share a batch of a model; None where they can.

    testbed: whose model is trained.
    modules: that arms adapt.
    """
    model, established = testbed.model, testbed.established
    if established.company == "alone":
        return f"the samples of a batch depend on each other in {type(model).__name__}"
    for module in modules:
        if (reason := established.reason(module)) is not None or not established.layouts(module):
            return f"{module}: {reason or 'where it keeps its samples is not known'}"
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
