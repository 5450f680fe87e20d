"""What providers give, as plain numbers and texts: a numpy integer is an integer, and what cannot be one is named.

Nothing else gets into a plan, since a plan that is written has to be readable again. What is wrong raises ``TypeError``
or ``ValueError``, for which `layerlens_core.plugin.guard` blames the provider.
"""

import math
import operator
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any

import attrs

from layerlens_core.values.candidates import Target
from layerlens_core.values.columns import MOST_EXACT
from layerlens_core.values.costs import Cost
from layerlens_core.values.decisions import Certificate, Decision
from layerlens_core.values.inventory import Layer

#: A method may offer this many sizes in a layer.
MOST_SIZES = 100_000


def whole(value: Any, what: str, *, least: int = 0) -> int:
    """A whole number, which may be numpy's. Raises ``TypeError``, and ``ValueError`` for one that is out of range."""
    if type(value) is not int:
        try:
            if isinstance(value, bool):
                raise TypeError
            value = operator.index(value)
        except TypeError:
            raise TypeError(f"{what} must be a whole number, but is {_shown(value)}") from None
    if not least <= value <= MOST_EXACT:
        raise ValueError(f"{what} must be from {max(least, 0)} to 2**53, but is {_shown(value)}")
    return int(value)


def number(value: Any, what: str, *, least: float = -math.inf) -> float:
    """A finite number, which may be numpy's. Raises ``TypeError``, and ``ValueError`` for one that is out of range."""
    if type(value) is not float:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError(f"{what} must be a number, but is {_shown(value)}")
        try:
            value = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{what} must be a number, but is {_shown(value)}") from None
    if not math.isfinite(value) or value < least:
        bound = "" if least == -math.inf else f" and at least {least:g}"
        raise ValueError(f"{what} must be finite{bound}, but is {value}")
    return float(value)


def text(value: Any, what: str) -> str:
    """A text that can be written. Raises ``TypeError`` and ``ValueError``."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a text, but is {_shown(value)}")
    if not _is_writable(value):
        raise ValueError(f"{what} cannot be written as UTF-8: {_shown(value)}")
    return str(value)


def decision(given: Decision) -> Decision:
    """A decision of plain numbers and texts; whether they make sense for the unit is the contract's."""
    if _is_plain_decision(given):
        return given
    where = f"the decision on {_shown(given.unit)}"
    sizes = given.sizes
    if not isinstance(sizes, Mapping):
        raise TypeError(f"{where} must have its sizes by module, but has {_shown(sizes)}")
    return Decision(
        unit=text(given.unit, "the unit of a decision"),
        method=text(given.method, f"the method of {where}"),
        size=whole(given.size, f"the size of {where}", least=-MOST_EXACT),
        sizes={
            text(name, f"a module of {where}"): whole(size, f"the size of {_shown(name)} in {where}", least=-MOST_EXACT)
            for name, size in sizes.items()
        },
        utility=number(given.utility, f"the utility of {where}"),
        cost=cost(given.cost, f"the cost of {where}"),
        reason=text(given.reason, f"the reason of {where}"),
        runner_up=None if given.runner_up is None else text(given.runner_up, f"the runner-up of {where}"),
        margin=None if given.margin is None else number(given.margin, f"the margin of {where}"),
    )


def _is_plain_decision(given: Decision) -> bool:
    """Whether there is nothing to do: of thousands of decisions, nearly all are so."""
    texts = (given.unit, given.method, given.reason, given.runner_up or "")
    amounts = given.cost
    numbers = (given.utility, given.margin or 0.0, amounts.flops, amounts.memory, amounts.latency)
    return (
        all(type(value) is str and (value.isascii() or _is_writable(value)) for value in texts)
        and type(given.margin) in (float, NoneType)
        and all(type(value) is float and -math.inf < value < math.inf for value in numbers)
        and type(given.size) is type(amounts.params) is int
        and type(given.sizes) is dict
        and all(type(name) is str and type(size) is int for name, size in given.sizes.items())
        and max(given.size, amounts.params, *given.sizes.values()) <= MOST_EXACT
    )


def _is_writable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def cost(given: Cost, what: str) -> Cost:
    """A cost of plain numbers."""
    if not isinstance(given, Cost):
        raise TypeError(f"{what} must be a Cost, but is {_shown(given)}")
    return Cost(
        params=whole(given.params, f"parameters in {what}"),
        flops=number(given.flops, f"flops in {what}"),
        memory=number(given.memory, f"memory in {what}"),
        latency=number(given.latency, f"latency in {what}"),
    )


def certificate(given: Certificate) -> Certificate:
    """A certificate of plain numbers, whose bound is not below its value."""
    if not isinstance(given, Certificate):
        raise TypeError(f"the certificate of a selection must be a Certificate, but is {_shown(given)}")
    value, bound = number(given.value, "a certificate's value"), number(given.bound, "a certificate's bound")
    if value > bound:
        raise ValueError(f"a certificate's value of {value:g} must not be above its bound of {bound:g}")
    return Certificate(value=value, bound=bound)


def notes(given: Iterable[str]) -> tuple[str, ...]:
    """A selection's notes, of plain texts."""
    if isinstance(given, str):
        raise TypeError(f"the notes of a selection must be several texts, but are {_shown(given)}")
    return tuple(text(note, "a note of a selection") for note in given)


def targets(given: Iterable[Target], layer: Layer) -> tuple[Target, ...]:
    """A method's places in a layer, of plain numbers: each is a place of the layer, and is there once."""
    here = {module.name for module in layer.modules} | {attention.name for attention in layer.attentions}
    here |= {block.name for block in layer.blocks} | {weight.name for weight in layer.experts}
    found: dict[str, Target] = {}
    for target in given:
        if not isinstance(target, Target):
            raise TypeError(f"a place must be a Target, but is {_shown(target)}")
        name = text(target.name, "the name of a place")
        if name not in here:
            raise ValueError(f"{name!r} is no module, attention, block or expert weight of this layer")
        if name in found:
            raise ValueError(f"{name!r} is given twice")
        found[name] = target if _is_plain(target) else _plain(target)
    return tuple(found.values())


def largest(given: Any, notch: int) -> int:
    """A method's largest size in a layer."""
    size = whole(given, "the largest size")
    if size // notch > MOST_SIZES:
        raise ValueError(f"the largest size of {size:,} makes more than {MOST_SIZES:,} sizes in notches of {notch:,}")
    return size


def _is_plain(target: Target) -> bool:
    counts = (target.fixed, target.per_size, target.per_square)
    others = (
        target.held_bytes, target.flops_frozen, target.flops_square, target.flops,
        target.flops_pass, target.values_pass, target.kept_bytes, target.kept_fixed, target.kept,
        target.seconds_fixed, target.seconds,
    )  # fmt: skip
    return (
        all(type(count) is int and 0 <= count <= MOST_EXACT for count in counts)
        and type(target.keeps_input) is bool
        and all(type(value) in (int, float) and 0 <= value < math.inf for value in others)
    )


def _plain(target: Target) -> Target:
    fields: dict[str, Any] = {}
    for name, value in attrs.asdict(target, recurse=False).items():
        what = f"{name} of {target.name}"
        if name == "name":
            fields[name] = str(value)
        elif name == "keeps_input":
            fields[name] = bool(value)
        elif name in ("fixed", "per_size", "per_square"):
            fields[name] = whole(value, what)
        else:
            fields[name] = number(value, what, least=0.0)
    return Target(**fields)


def _shown(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
