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
    from layerlens_core.adaptation.attach import load as load
    from layerlens_core.adaptation.check import check_gradients as check_gradients
    from layerlens_core.allocation.allocate import allocate as allocate
    from layerlens_core.allocation.budget import Budget as Budget
    from layerlens_core.errors import LayerLensError as LayerLensError
    from layerlens_core.inspection.inspect import inspect as inspect
    from layerlens_core.plugin.hookspecs import hookimpl as hookimpl
    from layerlens_core.plugin.providers import AggregatorProvider as AggregatorProvider
    from layerlens_core.plugin.providers import ExporterProvider as ExporterProvider
    from layerlens_core.plugin.providers import MethodProvider as MethodProvider
    from layerlens_core.plugin.providers import MetricProvider as MetricProvider
    from layerlens_core.plugin.providers import StrategyProvider as StrategyProvider
    from layerlens_core.plugin.providers import strategy as strategy
    from layerlens_core.plugin.registry import register as register
    from layerlens_core.profiling.profile import profile as profile
    from layerlens_core.values.plan import Plan as Plan
    from layerlens_core.values.profile import Profile as Profile

_HOMES = {
    "profile": "profiling.profile",
    "allocate": "allocation.allocate",
    "apply": "adaptation.apply",
    "load": "adaptation.attach",
    "check_gradients": "adaptation.check",
    "inspect": "inspection.inspect",
    "Budget": "allocation.budget",
    "Plan": "values.plan",
    "Profile": "values.profile",
    "LayerLensError": "errors",
    "hookimpl": "plugin.hookspecs",
    "AggregatorProvider": "plugin.providers",
    "ExporterProvider": "plugin.providers",
    "MethodProvider": "plugin.providers",
    "MetricProvider": "plugin.providers",
    "StrategyProvider": "plugin.providers",
    "strategy": "plugin.providers",
    "register": "plugin.registry",
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
