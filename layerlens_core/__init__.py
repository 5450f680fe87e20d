"""LayerLens: which PEFT method, and which size, each layer of a model is worth.

    import layerlens_core as ll

    run = ll.profile(model, batches)
    plan = ll.allocate(run, budget=ll.Budget(params="r=8"))
    model = ll.apply(model, plan)

Names are imported when they are first used, so that ``import layerlens_core`` costs nothing and only what
runs a model imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlens_core.adaptation.apply import apply as apply
    from layerlens_core.adaptation.attachment import load as load
    from layerlens_core.adaptation.gradients import check_gradients as check_gradients
    from layerlens_core.adaptation.inspect import inspect as inspect
    from layerlens_core.allocation import allocate as allocate
    from layerlens_core.budget import Budget as Budget
    from layerlens_core.errors import LayerLensError as LayerLensError
    from layerlens_core.hookspecs import hookimpl as hookimpl
    from layerlens_core.plan import Plan as Plan
    from layerlens_core.profiles import Profile as Profile
    from layerlens_core.profiling.profile import profile as profile
    from layerlens_core.providers import AggregatorProvider as AggregatorProvider
    from layerlens_core.providers import ExporterProvider as ExporterProvider
    from layerlens_core.providers import MethodProvider as MethodProvider
    from layerlens_core.providers import MetricProvider as MetricProvider
    from layerlens_core.providers import StrategyProvider as StrategyProvider
    from layerlens_core.providers import strategy as strategy
    from layerlens_core.registry import register as register

_HOMES = {
    "profile": "profiling.profile",
    "allocate": "allocation",
    "apply": "adaptation.apply",
    "load": "adaptation.attachment",
    "check_gradients": "adaptation.gradients",
    "inspect": "adaptation.inspect",
    "Budget": "budget",
    "Plan": "plan",
    "Profile": "profiles",
    "LayerLensError": "errors",
    "hookimpl": "hookspecs",
    "AggregatorProvider": "providers",
    "ExporterProvider": "providers",
    "MethodProvider": "providers",
    "MetricProvider": "providers",
    "StrategyProvider": "providers",
    "strategy": "providers",
    "register": "registry",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
