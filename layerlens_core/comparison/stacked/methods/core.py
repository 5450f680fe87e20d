"""Cores of K arms at one linear module: s · U R V with U and V frozen, R [n, n] trained; each arm's on its rows.

Where all running arms have their cores in one subspace, x Vᵀ and the product with U are plain matrix products over all
rows, and only the products with the R are batched. The derivatives are written straight into the arms' rows of
gradients. Unlike LoRA's factors, padded rows and columns of R would get a gradient, as U and V are not zero there; so
it is kept from them.
"""

from collections.abc import Mapping, Sequence

import torch
from attrs import field, frozen
from torch import Tensor

from layerlens_core.comparison.stacked.methods.place import Place

#: R, as the module names it that PEFT's LoRA holds as its B.
TRAINED = "lora_B.default.core"


@frozen(eq=False, kw_only=True)
class Core(Place):
    """Cores: R of [K, N, N], N the largest size; functions of the input.

    left: of each subspace at hand, U as rows [S, N, out]; zeros where it has fewer rows, which no arm then uses.
    right: likewise V [S, N, in].
    whose: by arm, which of the subspaces its core is in; 0 where it has no core here.
    index: the same on the device [K].
    masks: one where an arm's R has entries of its own, else zero [K, N, N].
    """

    left: Tensor
    right: Tensor
    whose: Sequence[int]
    index: Tensor = field(init=False)
    masks: Tensor = field(init=False)

    @index.default
    def _index(self) -> Tensor:
        return torch.tensor(self.whose, device=self.having.device)

    @masks.default
    def _masks(self) -> Tensor:
        own = torch.arange(max(self.sizes)) < torch.tensor(self.sizes)[:, None]
        return (own[:, :, None] & own[:, None]).to(self.having.device, self.having.dtype)

    @staticmethod
    def shapes(size: int, shape: Mapping[str, int]) -> Mapping[str, tuple[int, ...]]:
        return {TRAINED: (size, size)}

    @staticmethod
    def start(name: str, size: int, shape: Mapping[str, int], seed: int) -> Mapping[str, Tensor]:
        return {}

    def add(self, inputs: Tensor, output: Tensor) -> Tensor:
        """The output [..., out] with every arm's update on its rows, from the input [..., in]."""
        size = self.size
        if size == 0:
            return output.detach()
        moved = torch.bmm(self._along(inputs, self.right, size), self._cores(size).mT)
        return self._added(moved, self.left, size, output)

    def receive(self, inputs: Tensor, gradient: Tensor) -> Tensor | None:
        """Add to the gradients, and give the derivative by the inputs [..., in], from that by the output [..., out]."""
        size, arms = self.size, self.running.arms
        if size == 0:
            return None
        along, of_moved = self._along(inputs, self.right, size), self._along(gradient, self.left, size)
        of_cores = torch.bmm(of_moved.mT, along)
        self.gradients[TRAINED][arms, :size, :size].addcmul_(of_cores, self.masks[arms, :size, :size], value=self.scale)
        return self._added(torch.bmm(of_moved, self._cores(size)), self.right, size, inputs, alone=True)

    def _cores(self, size: int) -> Tensor:
        return self.tensors[TRAINED][self.running.arms, :size, :size]

    def _along(self, tensor: Tensor, directions: Tensor, size: int) -> Tensor:
        """Coordinates of rows [..., features] along directions [S, N, features], by arm [arms, rows, size]."""
        tensor = tensor.to(self.dtype)
        if (common := self._common) is not None:
            return self._by_arm(torch.nn.functional.linear(tensor, directions[common, :size]))
        return torch.bmm(self._by_arm(tensor), self._of_arms(directions, size).mT)

    def _added(self, coordinates: Tensor, directions: Tensor, size: int, to: Tensor, *, alone: bool = False) -> Tensor:
        """Scaled, what has these coordinates [arms, rows, size], added to rows [..., features]; or alone, in place."""
        one = self._common is not None
        if one:
            basis = directions[self._common, :size]
            rows, coordinates = to.reshape(-1, to.shape[-1]), self._back(coordinates, to).reshape(-1, size)
        else:
            basis, rows = self._of_arms(directions, size), self._by_arm(to)
        if alone:
            found = (coordinates * self.scale @ basis).to(to.dtype)
        elif to.dtype == self.dtype:
            product = torch.addmm if one else torch.baddbmm
            found = product(rows, coordinates, basis, alpha=self.scale)
        else:
            found = rows + self.scale * (coordinates @ basis).to(to.dtype)
        return found.reshape(to.shape) if one else self._back(found, to)

    @property
    def _common(self) -> int | None:
        """The subspace that all running arms share."""
        arms = range(*self.running.arms.indices(len(self.sizes)))
        found = {self.whose[arm] for arm in arms if self.sizes[arm]}
        return found.pop() if len(found) == 1 else None

    def _of_arms(self, directions: Tensor, size: int) -> Tensor:
        """The directions of every running arm [arms, size, features]."""
        return directions[self.index[self.running.arms], :size]
