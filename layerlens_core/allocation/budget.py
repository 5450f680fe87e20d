"""Budgets as people write them, and as numbers."""

import math
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from attrs import field, frozen

from layerlens_core.allocation.flops import full_training_flops
from layerlens_core.errors import BudgetError, nearest
from layerlens_core.values.columns import MOST_EXACT
from layerlens_core.values.costs import RESOURCES, Cost, Limits, Training
from layerlens_core.values.inventory import Inventory

_NUMBER = r"((?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)"
_PERCENT = re.compile(_NUMBER + r"\s*%", re.IGNORECASE)
_RANK = re.compile(r"r\s*=\s*(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})", re.IGNORECASE)
_AMOUNT = re.compile(_NUMBER + r"\s*([a-z]*)", re.IGNORECASE)

_COUNTS: dict[str, float] = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
_BYTES: dict[str, float] = {"": 1, "b": 1} | {
    unit: base**power
    for power, letter in enumerate("kmgt", start=1)
    for unit, base in ((f"{letter}b", 1000), (f"{letter}ib", 1024))
}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_UNITS: dict[str, dict[str, float]] = {"params": _COUNTS, "flops": _COUNTS, "memory": _BYTES, "latency": _SECONDS}
#: Where several budgets stand in one text: before the name of another kind.
_NEXT = re.compile(r"\s*[,;]\s*(?=[a-z]+\s*=)", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(\D|$))")
#: Bytes below which a number without a unit was meant otherwise: 24 is no budget for a GPU.
_FEW_BYTES = 4096
_SPELLINGS = {
    "params": "a count (50k), a share of the model (0.5%) or what uniform LoRA takes (r=8)",
    "flops": "a count a token (2.5G), a share of full fine-tuning's (60%) or what uniform LoRA takes (r=8)",
    "memory": "bytes (24GiB), a share of full fine-tuning's (40%) or what uniform LoRA takes (r=8)",
    "latency": "a time a forward pass (2ms)",
}


def _text(value: object) -> str | None:
    return None if value is None else _THOUSANDS.sub("", str(value).strip().replace("_", ""))


def _check(_instance: object, attribute: Any, value: str | None) -> None:
    if value is not None:
        _parse(attribute.name, value)


def _budget() -> Any:
    return field(default=None, converter=_text, validator=_check)


@frozen(kw_only=True)
class Budget:
    """What a plan may spend; every kind that is given is a hard bound.

    Amounts are numbers or texts: ``50_000``, ``"50k"``, ``"24GiB"``, ``"2ms"``; a share, of all parameters of the model
    for ``params`` and of full fine-tuning for ``flops`` and ``memory``; or ``"r=8"``, what uniform LoRA of that rank
    takes on all linear layers; ``"r=0.25"`` is a quarter of what rank 1 takes.

    params: trainable parameters.
    flops: FLOPs a token of training, forward and backward, the frozen model included.
    memory: bytes while training, the frozen model included.
    latency: seconds of a forward pass, beyond the base model's.

    Raises `BudgetError` where an amount cannot be read.
    """

    params: str | None = _budget()
    flops: str | None = _budget()
    memory: str | None = _budget()
    latency: str | None = _budget()

    @classmethod
    def of(cls, given: "Budget | str | Iterable[str]") -> "Budget":
        """A budget that is one already, or from texts as `parse` takes them."""
        return given if isinstance(given, Budget) else cls.parse(given)

    @classmethod
    def parse(cls, texts: str | Iterable[str]) -> "Budget":
        """A budget from texts such as ``params=50k`` or ``params=r=8,memory=24GiB``; at most one of each kind.

        Raises `BudgetError` where a kind is missing, unknown or given twice, or where an amount cannot be read.
        """
        amounts: dict[str, str] = {}
        if not isinstance(texts, str):
            texts = tuple(texts)
            if wrong := [text for text in texts if not isinstance(text, str)]:
                raise BudgetError(f"budget {wrong[0]!r} is not of the form KIND=AMOUNT, such as params=50k")
        given = [texts] if isinstance(texts, str) else texts
        for text in (part for whole in given for part in _NEXT.split(whole)):
            kind, equals, amount = text.partition("=")
            kind = kind.strip().lower()
            if not equals or not amount.strip() or kind == "r":
                raise BudgetError(f"budget {text!r} is not of the form KIND=AMOUNT, such as {_with_kind(text)}")
            if kind not in RESOURCES:
                known = ", ".join(RESOURCES)
                raise BudgetError(f"no budget is of kind {kind!r}; there are: {known}.{nearest(kind, RESOURCES)}")
            if kind in amounts:
                raise BudgetError(f"two budgets of kind {kind!r}: {amounts[kind]!r} and {amount!r}; give one")
            amounts[kind] = amount
        return cls(**amounts)

    def resolve(self, references: "References") -> Limits:
        """The bounds in numbers.

        references: what shares of the model, and ranks of uniform LoRA, amount to.
        """
        limits: dict[str, float] = {}
        for kind in RESOURCES:
            text = getattr(self, kind)
            if text is None:
                continue
            spelling, number = _parse(kind, text)
            if spelling == "rank":
                limits[kind] = getattr(references.uniform_lora(number), kind)
            elif spelling == "percent":
                limits[kind] = getattr(references.whole, kind) * number / 100
            else:
                limits[kind] = number
        if "params" in limits:
            # Up to 2**53 whole numbers are exact; no model has more, so that a larger bound is none.
            limits["params"] = int(min(limits["params"], MOST_EXACT))
        return Limits(**limits)  # type: ignore[arg-type]

    @property
    def rank(self) -> int | None:
        """The rank of the uniform LoRA that bounds the parameters; None where none does, or one below rank 1."""
        spelling, number = _parse("params", self.params) if self.params is not None else ("", 0.0)
        return (int(number) or None) if spelling == "rank" else None

    def below_rank_one(self, inventory: Inventory) -> bool:
        """Whether the parameters are bounded below what LoRA of rank 1 takes on all linear modules of the layers.

        inventory: of the model.
        """
        if self.params is None:
            return False
        spelling, number = _parse("params", self.params)
        if spelling == "rank":
            return number < 1
        allowed = inventory.parameters * number / 100 if spelling == "percent" else number
        return allowed < sum(module.in_features + module.out_features for module in inventory.modules)

    @property
    def memory_follows_step(self) -> bool:
        """Whether memory is bounded by a share or a rank, whose bytes depend on the step that they are counted for."""
        return self.memory is not None and _parse("memory", self.memory)[0] != "amount"

    def texts(self) -> list[str]:
        """The budget as `parse` reads it, one text for each kind."""
        return [f"{kind}={getattr(self, kind)}" for kind in RESOURCES if getattr(self, kind) is not None]

    def __str__(self) -> str:
        return " ".join(self.texts()) or "unlimited"


@frozen(kw_only=True)
class References:
    """What budgets that are shares of the model, or ranks, amount to.

    inventory: of the model.
    training: the step that FLOPs and memory are counted for.
    depths: the frozen model's cost by lowest trained layer.
    adapted: by layer, bytes a token that LoRA's inputs take.
    """

    inventory: Inventory
    training: Training
    depths: tuple[Cost, ...]
    adapted: Mapping[str, float]

    @property
    def whole(self) -> Cost:
        """All parameters, and the FLOPs and memory of full fine-tuning with optimizer states in fp32."""
        params = self.inventory.parameters
        kept = sum(self.adapted.values()) * self.training.tokens
        return Cost(
            params=params,
            flops=full_training_flops(self.inventory, self.training.length),
            memory=self.depths[0].memory + kept + params * self.training.bytes_per_parameter,
        )

    def uniform_lora(self, rank: float) -> Cost:
        """LoRA of one rank on every linear module; the frozen model is in all amounts but ``params``.

        A rank that is no whole number stands for that part of what rank 1 takes, rounded down.
        """
        params = math.floor(Fraction(rank) * self.inventory.lora_parameters(1))
        # The modules' inputs, and of every module the rank's values between A and B.
        between = rank * sum(1 for _ in self.inventory.linears()) * self.training.activation_bytes
        kept = (sum(self.adapted.values()) + between) * self.training.tokens
        own = Cost(params=params, flops=6.0 * params, memory=params * self.training.bytes_per_parameter + kept)
        return self.depths[0] + own


def _parse(kind: str, text: str) -> tuple[str, float]:
    if kind != "latency":
        if match := _RANK.fullmatch(text):
            if float(match[1]) == 0:
                raise BudgetError(f"budget {kind}={text} leaves nothing to train; give a rank above 0, such as r=0.25")
            return "rank", float(match[1])
        if match := _PERCENT.fullmatch(text):
            if not 0 < float(match[1]) <= 100:
                raise BudgetError(f"budget {kind}={text} is not above 0% and at most 100%")
            return "percent", float(match[1])
    units = _UNITS[kind]
    if (match := _AMOUNT.fullmatch(text)) and match[2].lower() in units:
        amount = float(match[1]) * units[match[2].lower()]
        if amount <= 0 and kind != "latency":
            raise BudgetError(f"budget {kind}={text} leaves nothing to train")
        if not math.isfinite(amount):
            raise BudgetError(f"budget {kind}={text[:20]} is beyond all numbers; leave it out for no bound")
        if kind == "memory" and not match[2] and amount < _FEW_BYTES:
            raise BudgetError(f"budget memory={text} is {amount:g} bytes; write a unit, such as memory={text}GiB")
        return "amount", amount
    raise BudgetError(f"budget {kind}={text!r} cannot be read; write {_SPELLINGS[kind]}")


def _with_kind(text: str) -> str:
    """What may have been meant by an amount whose kind is missing."""
    fits = []
    for kind in ("params", "memory", "latency"):
        try:
            _parse(kind, _text(text) or "")
        except BudgetError:
            continue
        fits.append(f"{kind}={text.strip()}")
    return " or ".join(fits[:2]) or "params=50k or params=r=8"


def spell(kind: str, amount: float) -> str:
    """An amount as `Budget` reads it, rounded up so that a plan of exactly this cost fits."""
    if kind == "params":
        return str(math.ceil(amount))
    if kind == "latency":
        return f"{math.ceil(amount * 1e6)}us"
    if kind == "memory":
        return f"{math.ceil(amount / 2**20)}MiB"
    return f"{math.ceil(amount / 1e3)}k"


def readable(kind: str, amount: float) -> str:
    """An amount as people read it.

    kind: of resource, one of `RESOURCES`.
    amount: parameters, FLOPs a token, bytes or seconds.
    """
    if kind == "memory":
        return f"{amount / 2**30:.2f} GiB" if amount >= 2**30 else f"{amount / 2**20:.1f} MiB"
    if kind == "latency":
        return f"{amount * 1e3:.3f} ms"
    return f"{amount:,.0f}" if kind == "params" else f"{amount:.4g}"
