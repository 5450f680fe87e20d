"""LayerLens: which PEFT method, and which size, each layer of a model is worth.

    import layerlens_core as ll

    run = ll.profile(model, batches)
    plan = ll.allocate(run, budget=ll.Budget(params="r=8"))
    model = ll.apply(model, plan)

Names are imported when they are first used, so that ``import layerlens_core`` costs nothing and only what
runs a model imports torch. Plugins are written against `layerlens_core.plugin`.
"""

from typing import TYPE_CHECKING

from layerlens_core.lazy import lazily, names_of

if TYPE_CHECKING:
    from layerlens_core.adaptation.apply import apply as apply
    from layerlens_core.adaptation.check import check_gradients as check_gradients
    from layerlens_core.adaptation.cores.compact import as_lora as as_lora
    from layerlens_core.adaptation.cores.compact import save_compact as save_compact
    from layerlens_core.adaptation.groups import parameter_groups as parameter_groups
    from layerlens_core.adaptation.load import load as load
    from layerlens_core.allocation.allocate import allocate as allocate
    from layerlens_core.allocation.budget import Budget as Budget
    from layerlens_core.auditing.audit import audit as audit
    from layerlens_core.auditing.differing.diff import diff as diff
    from layerlens_core.comparison.compare import compare as compare
    from layerlens_core.errors import LayerLensError as LayerLensError
    from layerlens_core.estimating.estimate import estimate as estimate
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
    from layerlens_core.profiling.warming.options import WarmUpOptions as WarmUpOptions
    from layerlens_core.reporting.report import report as report
    from layerlens_core.tracing import capture_events as capture_events
    from layerlens_core.values.plan import Plan as Plan
    from layerlens_core.values.profile import Profile as Profile

__version__ = "0.1.0"

_HOMES = {
    "profiling.profile": ("profile",),
    "profiling.warming.options": ("WarmUpOptions",),
    "allocation.allocate": ("allocate",),
    "adaptation.apply": ("apply",),
    "adaptation.load": ("load",),
    "adaptation.groups": ("parameter_groups",),
    "adaptation.cores.compact": ("save_compact", "as_lora"),
    "adaptation.check": ("check_gradients",),
    "comparison.compare": ("compare",),
    "auditing.audit": ("audit",),
    "auditing.differing.diff": ("diff",),
    "reporting.report": ("report",),
    "estimating.estimate": ("estimate",),
    "inspection.inspect": ("inspect",),
    "allocation.budget": ("Budget",),
    "tracing": ("capture_events",),
    "values.plan": ("Plan",),
    "values.profile": ("Profile",),
    "errors": ("LayerLensError",),
    "plugin.hookspecs": ("hookimpl",),
    "plugin.providers": (
        "AggregatorProvider",
        "ExporterProvider",
        "MethodProvider",
        "MetricProvider",
        "StrategyProvider",
        "strategy",
    ),
    "plugin.registry": ("register",),
}

__all__ = ["__version__", *names_of(_HOMES)]

if not TYPE_CHECKING:  # a type checker would take any name for one of ours
    __getattr__, __dir__ = lazily(__name__, _HOMES)
