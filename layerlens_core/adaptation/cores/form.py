"""Updates of low rank that are no plain LoRA: what a method puts in the place of PEFT's A and B.

PEFT attaches LoRA, wraps the module, switches, merges and saves it; all of that reads ``lora_A.weight`` and
``lora_B.weight``. A form gives modules that have these weights too, and trains something else.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from layerlens_core.adaptation.config import Entry


class LowRankForm(ABC):
    """The base of what a `MethodProvider` of updates in a subspace gives as its ``module``; nothing is instantiated."""

    @classmethod
    @abstractmethod
    def parameters_of(cls, entry: Entry) -> int:
        """How many parameters train at one module."""

    @classmethod
    @abstractmethod
    def factors(cls, entry: Entry, like: Tensor) -> tuple[nn.Module, nn.Module]:
        """What stands for A and B: modules with a ``weight`` [rank, in] and [out, rank], which are called as layers.

        entry: what is attached; its size is the rank.
        like: tells dtype and device.
        """

    @classmethod
    @abstractmethod
    def place(cls, a: nn.Module, b: nn.Module, left: Tensor, right: Tensor) -> None:
        """Put both factors into a subspace; the update is zero afterwards.

        a: what stands for A.
        b: what stands for B.
        left: orthonormal rows [rank, out].
        right: orthonormal rows [rank, in].
        """

    @classmethod
    @abstractmethod
    def subspace(cls, a: nn.Module, b: nn.Module) -> tuple[Tensor, Tensor]:
        """What `place` was given: left [rank, out] and right [rank, in]."""

    @classmethod
    @abstractmethod
    def trained(cls, b: nn.Module) -> nn.Parameter:
        """What trains, a matrix [rank, rank]."""
