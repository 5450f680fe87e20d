"""A check with a name, and the checks that providers of every kind have in common."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from attrs import frozen

from layerlens_core.plugin.providers import Provider, kind_of

#: What listing plugins must not import.
HEAVY = ("accelerate", "peft", "torch", "transformers")
#: Seconds that a plugin may take to be imported.
SECONDS = 120

_LIST = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
from layerlens_core.plugin.discovery import providers_of
from layerlens_core.plugin.providers import kind_of
hooks = any(name.startswith("layerlens_") and callable(getattr(module, name)) for name in dir(module))
given = [[kind_of(provider), provider.name] for provider in providers_of(module)] if hooks else None
print(json.dumps({"given": given, "heavy": sorted(set(sys.argv[2:]) & set(sys.modules))}))
"""


class Failed(AssertionError):
    """A check that failed: whose, and what was found instead of what."""


@frozen
class Check:
    """One clause of a provider's contract; call it to hold the provider to it.

    name: of the clause, in words joined by dashes, as pytest shows it.
    holds: raises `Failed` where it does not hold.
    """

    name: str
    holds: Callable[[], None]

    def __call__(self) -> None:
        """Raises `Failed`, or whatever the provider raises, where the clause does not hold."""
        self.holds()

    def __str__(self) -> str:
        return self.name


def require(condition: object, message: str) -> None:
    """Raises `Failed` with the message unless the condition holds."""
    if not condition:
        raise Failed(message)


def named(provider: Provider) -> str:
    """A provider, as messages name it."""
    return f"{kind_of(provider)} {provider.name!r}"


def common_checks(provider: Provider, module: str | None) -> list[Check]:
    """What every provider owes: a record that can be listed, at no cost.

    provider: of any kind.
    module: where its hooks are; None takes the module of its ``load``.
    """
    return [
        Check("says-in-one-line-what-it-is-for", lambda: _check_summary(provider)),
        Check("registers-without-torch", lambda: _check_light(provider, module)),
    ]


def _check_summary(provider: Provider) -> None:
    summary = provider.summary.strip()
    require(summary and len(summary.splitlines()) == 1, f"{named(provider)} has the summary {provider.summary!r}")


def _check_light(provider: Provider, module: str | None) -> None:
    where = module or _home(provider)
    found = _listed(where)
    require("error" not in found, f"{where} cannot be imported by itself: {found.get('error')}")
    require(not found["heavy"], f"importing {where} imports {', '.join(found['heavy'])}; import them inside of load")
    given = found["given"]
    require(
        given is None or [kind_of(provider), provider.name] in given,
        f"the hooks of {where} do not give {named(provider)}",
    )


def _home(provider: Provider) -> str:
    """The module that a provider is of: its ``load``'s; where that is one of ours, as of `strategy`, its function's."""
    home = str(getattr(provider.load, "__module__", ""))
    if home.partition(".")[0] == "layerlens_core":
        home = str(getattr(provider.load(), "__module__", home))
    return home


@cache
def _listed(module: str) -> dict[str, Any]:
    """What a process that imports nothing but this module finds: what its hooks give, and what heavy libraries came."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", _LIST, module, *HEAVY],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
