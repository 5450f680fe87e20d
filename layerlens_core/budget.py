"""Budgets as people write them, and as numbers."""

import re
from collections.abc import Iterable
from typing import Any

from attrs import field, frozen

from layerlens_core.errors import BudgetError, nearest
from layerlens_core.inventory import Inventory

KINDS = ("params",)
_MULTIPLES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9}
_COUNT = re.compile(r"(\d+(?:\.\d+)?|\.\d+)([kmbg]?)", re.IGNORECASE)
_PERCENT = re.compile(r"(\d+(?:\.\d+)?|\.\d+)%")
_RANK = re.compile(r"r=(\d+)", re.IGNORECASE)
_SPELLINGS = "a count (50000, 50k, 1.5M), a share of the model (0.5%) or what uniform LoRA takes (r=8)"


def _amount(value: object) -> str | None:
    return None if value is None else str(value).strip().replace("_", "").replace(",", "")


def _check(_instance: object, _attribute: Any, value: str | None) -> None:
    if value is not None:
        _parse(value)


@frozen(kw_only=True)
class Budget:
    """What a plan may spend.

    params: trainable parameters, as a count (``50_000``, ``"50k"``), a share of all parameters of the model
        (``"0.5%"``), or what uniform LoRA of a rank takes on all linear layers (``"r=8"``).

    Raises `BudgetError` where the amount cannot be read.
    """

    params: str | None = field(default=None, converter=_amount, validator=_check)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "Budget":
        """A budget from texts such as ``params=50k``; one of a kind at most."""
        amounts: dict[str, str] = {}
        for text in texts:
            kind, equals, amount = text.partition("=")
            kind = kind.strip().lower()
            if not equals or not amount.strip():
                raise BudgetError(f"budget {text!r} is not of the form KIND=AMOUNT, such as params=50k or params=r=8")
            if kind not in KINDS:
                raise BudgetError(
                    f"no budget is of kind {kind!r}; there are: {', '.join(KINDS)}.{nearest(kind, KINDS)}"
                )
            if kind in amounts:
                raise BudgetError(f"two budgets of kind {kind!r}: {amounts[kind]!r} and {amount!r}; give one")
            amounts[kind] = amount
        return cls(**amounts)

    def resolve(self, inventory: Inventory) -> "Limits":
        """The bounds in numbers, for this model."""
        if self.params is None:
            return Limits()
        spelling, number = _parse(self.params)
        if spelling == "rank":
            return Limits(parameters=inventory.lora_parameters(int(number)))
        if spelling == "percent":
            return Limits(parameters=int(inventory.parameters * number / 100))
        return Limits(parameters=int(number))

    def __str__(self) -> str:
        return f"params={self.params}" if self.params is not None else "unlimited"


@frozen(kw_only=True)
class Limits:
    """Hard bounds on a plan; None where there is none. parameters: trainable parameters."""

    parameters: int | None = None


def _parse(text: str) -> tuple[str, float]:
    if match := _RANK.fullmatch(text):
        if int(match[1]) == 0:
            raise BudgetError("budget params=r=0 leaves nothing to train; give a rank of at least 1")
        return "rank", float(match[1])
    if match := _PERCENT.fullmatch(text):
        if not 0 < float(match[1]) <= 100:
            raise BudgetError(f"budget params={text} is not above 0% and at most 100%")
        return "percent", float(match[1])
    if match := _COUNT.fullmatch(text):
        count = float(match[1]) * _MULTIPLES[match[2].lower()]
        if count < 1:
            raise BudgetError(f"budget params={text} leaves nothing to train")
        return "count", count
    raise BudgetError(f"budget params={text!r} cannot be read; write {_SPELLINGS}")
