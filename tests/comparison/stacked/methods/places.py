"""Places with random tensors, and their slow reference: one arm after the other, without padding, by autograd."""

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor

from layerlens_core.comparison.stacked.methods.place import Pass, Place

#: One arm's tensors, its inputs and its output, to what comes out.
Formula = Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]


@st.composite
def blocks(draw):
    """Sizes of some arms, which of them run, and a seed."""
    sizes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(any))
    start = draw(st.integers(0, len(sizes) - 1))
    return sizes, slice(start, draw(st.integers(start + 1, len(sizes)))), draw(st.integers(0, 99))


def placed(kind: type[Place], shape, sizes, running: Pass, generator, layouts=None, **more) -> Place:
    """A place in which every arm's own tensors are random, and the rest is padding; ``more`` is of its method."""
    tensors = {}
    for part, padded in kind.shapes(max(sizes), shape).items():
        tensors[part] = torch.zeros(len(sizes), *padded, dtype=torch.float64)
        for arm, size in enumerate(sizes):
            if size:
                own = own_of(kind, shape, size, part)
                length = tensors[part][arm][own].shape
                tensors[part][arm][own] = torch.randn(length, generator=generator, dtype=torch.float64)
    gradients = {part: torch.zeros_like(tensor) for part, tensor in tensors.items()}
    return kind(
        name="m", shape=shape, tensors=tensors, gradients=gradients, sizes=sizes, scale=2.0,
        layouts=layouts or {}, running=running, **more,
    )  # fmt: skip


def own_of(kind, shape, size, part):
    return tuple(slice(length) for length in kind.shapes(size, shape)[part])


def check(place: Place, formula: Formula, inputs: Tensor, output: Tensor, gradient: Tensor, by_arm, *, itself: bool):
    """Compare a place with the formula of one arm: outputs, derivatives, and nothing at all where there is padding.

    by_arm: the parts of a tensor that are each running arm's, as views.
    itself: whether the inputs are the output.
    """
    kind, arms = type(place), range(*place.running.arms.indices(len(place.sizes)))
    found = place.add(inputs, output)
    of_inputs = place.receive(inputs, gradient)
    for at, arm in enumerate(arms):
        size = place.sizes[arm]
        mine = by_arm(output)[at]
        if size == 0:
            assert torch.equal(by_arm(found)[at], mine)
            assert of_inputs is None or not by_arm(of_inputs)[at].any()
            assert not any(tensor[arm].any() for tensor in place.gradients.values())
            continue
        own = {part: own_of(kind, place.shape, size, part) for part in place.tensors}
        leaves = {part: tensor[arm][own[part]].clone().requires_grad_(True) for part, tensor in place.tensors.items()}
        x = by_arm(inputs)[at].clone().requires_grad_(True)
        expected = formula(leaves, x, mine)
        torch.testing.assert_close(by_arm(found)[at], expected.detach())
        expected.backward(by_arm(gradient)[at])
        through = by_arm(gradient)[at] if itself else 0  # the formula's inputs are the output: without the identity
        torch.testing.assert_close(by_arm(of_inputs)[at] + through, x.grad)
        for part, leaf in leaves.items():
            padded = place.gradients[part][arm].clone()
            torch.testing.assert_close(padded[own[part]], leaf.grad)
            padded[own[part]] = 0
            assert not padded.any()
    others = [arm for arm in range(len(place.sizes)) if arm not in arms]
    assert not any(gradients[others].any() for gradients in place.gradients.values())
