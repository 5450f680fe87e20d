"""Calls into plugins: whatever a provider's function raises is told with who provides it and what it was called for.

Errors of LayerLens that a plugin raises on purpose (a budget that is too small, data that lack labels) pass unchanged;
so do an interrupt and a lack of memory, of which the plugin is not the cause. All else becomes a `PluginError`, with
the cause chained to it.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

from attrs import frozen

from layerlens_core.errors import LayerLensError, PluginError
from layerlens_core.plugin import given
from layerlens_core.plugin.active import UNIT_AT_HAND
from layerlens_core.plugin.discovery import Plugin, describe
from layerlens_core.plugin.given_scores import score_given, utilities_given
from layerlens_core.plugin.protocols import Method, Stretching
from layerlens_core.values.candidates import Target
from layerlens_core.values.decisions import Decision, Selection
from layerlens_core.values.inventory import Layer


@frozen
class Origin:
    """Whom an error is blamed on: a provider, and the plugin that gave it.

    kind: of the provider, as in `layerlens_core.plugin.providers.KINDS`.
    name: of the provider.
    plugin: that gave it.
    """

    kind: str
    name: str
    plugin: Plugin

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} of plugin {self.plugin}"


@contextmanager
def blamed(origin: Origin, *, on: str | None = None, does: str = "failed") -> Iterator[None]:
    """Around a call into a plugin.

    origin: whom to blame.
    on: the module or layer at hand.
    does: the verb of the message, such as ``failed``.

    Raises `PluginError` in place of what the plugin raises.
    """
    try:
        yield
    except (LayerLensError, KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # as on import: a plugin may exit
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for this
            raise
        at_hand = on or getattr(error, UNIT_AT_HAND, None)
        where = f" on {at_hand}" if at_hand else ""
        raise PluginError(f"{origin} {does}{where}: {describe(error)}") from error


def guarded(origin: Origin, loaded: Any) -> Any:
    """What a provider loads, with each call to it `blamed`; a result that is lazy is computed within the call."""
    if origin.kind == "method":
        return GuardedMethod.of(origin, loaded)
    if not callable(loaded):
        raise PluginError(f"{origin} must load a function, but loads {type(loaded).__name__}")
    complete: Callable[[Origin, Any, Any], Any] = _COMPLETE.get(origin.kind, _as_it_is)

    @wraps(loaded)
    def call(*args: Any, **kwargs: Any) -> Any:
        on = getattr(args[0], "module", None) if args and origin.kind == "metric" else None
        with blamed(origin, on=on):
            return complete(origin, loaded(*args, **kwargs), args[0] if args else None)

    return call


def _as_it_is(_origin: Origin, result: Any, _argument: object) -> Any:
    return result


def _selected(_origin: Origin, result: Any, _argument: object) -> Any:
    if isinstance(result, Selection):
        return Selection(
            decisions=_decisions(result.decisions),
            certificate=None if result.certificate is None else given.certificate(result.certificate),
            notes=given.notes(result.notes),
        )
    return _decisions(result)


def _decisions(result: Any) -> tuple[Any, ...]:
    # What is no decision at all is told by the contract, which knows the units.
    return tuple(given.decision(each) if isinstance(each, Decision) else each for each in result)


#: By kind, what checks a result, and computes all of one that may be lazy, such as a generator: from whom it is
#: named after, the result, and the first argument of the call.
_COMPLETE: Mapping[str, Callable[[Origin, Any, Any], Any]] = {
    "metric": score_given,
    "aggregator": utilities_given,
    "strategy": _selected,
}


@frozen(kw_only=True)
class GuardedMethod:
    """A `Method` whose calls are `blamed`, and whose numbers are read once, when it is loaded."""

    notch: int
    ceiling: float
    half: float
    penalty: float
    updates_weights: bool
    _origin: Origin
    _method: Method

    @classmethod
    def of(cls, origin: Origin, method: Method) -> "GuardedMethod":
        """The method, guarded."""
        with blamed(origin):
            return cls(
                notch=given.whole(method.notch, "its notch", least=1),
                ceiling=given.number(method.ceiling, "its ceiling", least=0.0),
                half=given.number(method.half, "its half", least=0.0),
                penalty=given.number(method.penalty, "its penalty", least=sys.float_info.min),
                updates_weights=bool(method.updates_weights),
                origin=origin,
                method=method,
            )

    def targets(self, layer: Layer) -> tuple[Target, ...]:
        """See `Method.targets`."""
        with blamed(self._origin, on=layer.name):
            return given.targets(self._method.targets(layer), layer)

    def largest(self, layer: Layer) -> int:
        """See `Method.largest`."""
        with blamed(self._origin, on=layer.name):
            return given.largest(self._method.largest(layer), self.notch)

    def possible(self, layer: Layer) -> int:
        """See `Stretching.possible`; of a method that says nothing of it, its largest."""
        if not isinstance(self._method, Stretching):
            return self.largest(layer)
        with blamed(self._origin, on=layer.name):
            return given.largest(self._method.possible(layer), self.notch)
