"""Everything that a plugin is written against, and the only address that it imports from.

A metric, an aggregator, a strategy, a method or an exporter is a provider record (`MetricProvider` …) whose ``load``
returns a function or an object of one of the protocols (`Score` …). A marked hook (`hookimpl`) yields the records.
docs/plugins.md goes through all of it. Names are imported when they are first used. Those for metrics that run the
model, `SideModule`, `Entry`, `calls_interface` and `lora_config` import torch; all others do not.
"""

from typing import TYPE_CHECKING

from layerlens_core.lazy import lazily, names_of

if TYPE_CHECKING:
    from layerlens_core.adaptation.attach import temporary_lora as temporary_lora
    from layerlens_core.adaptation.attached import lora_layers as lora_layers
    from layerlens_core.adaptation.config import Entry as Entry
    from layerlens_core.adaptation.config import lora_config as lora_config
    from layerlens_core.adaptation.cores.form import LowRankForm as LowRankForm
    from layerlens_core.adaptation.initialisation import set_along as set_along
    from layerlens_core.adaptation.side_module import SideModule as SideModule
    from layerlens_core.allocation.apportionment import Apportionment as Apportionment
    from layerlens_core.allocation.apportionment import Claim as Claim
    from layerlens_core.allocation.apportionment import apportion as apportion
    from layerlens_core.allocation.budget import Budget as Budget
    from layerlens_core.allocation.budget import readable as readable
    from layerlens_core.allocation.build import coverage as coverage
    from layerlens_core.errors import BudgetError as BudgetError
    from layerlens_core.errors import DataError as DataError
    from layerlens_core.errors import FileError as FileError
    from layerlens_core.errors import LayerLensError as LayerLensError
    from layerlens_core.errors import ModelError as ModelError
    from layerlens_core.errors import NonFiniteError as NonFiniteError
    from layerlens_core.errors import PlanError as PlanError
    from layerlens_core.errors import PluginError as PluginError
    from layerlens_core.errors import ScoreError as ScoreError
    from layerlens_core.inspection.attention import calls_interface as calls_interface
    from layerlens_core.plugin.active import ActiveProfile as ActiveProfile
    from layerlens_core.plugin.contract import check_decisions as check_decisions
    from layerlens_core.plugin.export import ExportRequest as ExportRequest
    from layerlens_core.plugin.export import other_methods as other_methods
    from layerlens_core.plugin.export import recipe_keys as recipe_keys
    from layerlens_core.plugin.export import require_causal as require_causal
    from layerlens_core.plugin.export import require_lora as require_lora
    from layerlens_core.plugin.export import write_keys as write_keys
    from layerlens_core.plugin.hookspecs import hookimpl as hookimpl
    from layerlens_core.plugin.protocols import ActiveScore as ActiveScore
    from layerlens_core.plugin.protocols import Combine as Combine
    from layerlens_core.plugin.protocols import Context as Context
    from layerlens_core.plugin.protocols import Export as Export
    from layerlens_core.plugin.protocols import HalvedScores as HalvedScores
    from layerlens_core.plugin.protocols import Method as Method
    from layerlens_core.plugin.protocols import Score as Score
    from layerlens_core.plugin.protocols import Select as Select
    from layerlens_core.plugin.protocols import Stretching as Stretching
    from layerlens_core.plugin.providers import AggregatorProvider as AggregatorProvider
    from layerlens_core.plugin.providers import ExporterProvider as ExporterProvider
    from layerlens_core.plugin.providers import MethodProvider as MethodProvider
    from layerlens_core.plugin.providers import MetricProvider as MetricProvider
    from layerlens_core.plugin.providers import StrategyProvider as StrategyProvider
    from layerlens_core.plugin.providers import strategy as strategy
    from layerlens_core.plugin.registry import register as register
    from layerlens_core.profiling.hooks.gathered import input_moments as input_moments
    from layerlens_core.profiling.hooks.gathered import mean_gradients as mean_gradients
    from layerlens_core.profiling.hooks.gathered import mean_gradients_of_parts as mean_gradients_of_parts
    from layerlens_core.profiling.hooks.gathered import plain_weight as plain_weight
    from layerlens_core.profiling.hooks.moments import Moments as Moments
    from layerlens_core.profiling.model.devices import input_device as input_device
    from layerlens_core.profiling.model.frozen import untouched as untouched
    from layerlens_core.profiling.model.losses import per_sample_losses as per_sample_losses
    from layerlens_core.profiling.samples.sample import Sample as Sample
    from layerlens_core.profiling.samples.sample import collate as collate
    from layerlens_core.profiling.samples.sample import micro_batches as micro_batches
    from layerlens_core.profiling.samples.tasks import count_labels as count_labels
    from layerlens_core.profiling.samples.tasks import pad_token_id as pad_token_id
    from layerlens_core.profiling.warming.falls import Falls as Falls
    from layerlens_core.profiling.warming.train import Adapters as Adapters
    from layerlens_core.profiling.warming.train import WarmUpRecipe as WarmUpRecipe
    from layerlens_core.profiling.warming.train import add_gradients as add_gradients
    from layerlens_core.profiling.warming.train import disjoint as disjoint
    from layerlens_core.profiling.warming.train import drawn_batches as drawn_batches
    from layerlens_core.profiling.warming.train import labelled as labelled
    from layerlens_core.profiling.warming.train import on_device as on_device
    from layerlens_core.profiling.warming.train import warm_up as warm_up
    from layerlens_core.tracing import candidate_refused as candidate_refused
    from layerlens_core.tracing import certificate_found as certificate_found
    from layerlens_core.tracing import plugin_told as plugin_told
    from layerlens_core.tracing import thresholds_set as thresholds_set
    from layerlens_core.values.candidates import CandidateSet as CandidateSet
    from layerlens_core.values.candidates import Target as Target
    from layerlens_core.values.candidates import Unit as Unit
    from layerlens_core.values.columns import Candidate as Candidate
    from layerlens_core.values.columns import Table as Table
    from layerlens_core.values.costs import RESOURCES as RESOURCES
    from layerlens_core.values.costs import Cost as Cost
    from layerlens_core.values.costs import Limits as Limits
    from layerlens_core.values.costs import Training as Training
    from layerlens_core.values.decisions import Certificate as Certificate
    from layerlens_core.values.decisions import Decision as Decision
    from layerlens_core.values.decisions import Selection as Selection
    from layerlens_core.values.inventory import AttentionModule as AttentionModule
    from layerlens_core.values.inventory import Experts as Experts
    from layerlens_core.values.inventory import ExpertWeight as ExpertWeight
    from layerlens_core.values.inventory import Head as Head
    from layerlens_core.values.inventory import Inventory as Inventory
    from layerlens_core.values.inventory import Layer as Layer
    from layerlens_core.values.inventory import LinearModule as LinearModule
    from layerlens_core.values.inventory import ResidualWriter as ResidualWriter
    from layerlens_core.values.inventory import Skipped as Skipped
    from layerlens_core.values.plan import CORE as CORE
    from layerlens_core.values.plan import LORA_METHODS as LORA_METHODS
    from layerlens_core.values.plan import Plan as Plan
    from layerlens_core.values.profile import Profile as Profile
    from layerlens_core.values.profile import Task as Task
    from layerlens_core.values.request import Request as Request
    from layerlens_core.values.scores import RawScores as RawScores
    from layerlens_core.values.scores import Reduction as Reduction
    from layerlens_core.values.scores import Utilities as Utilities
    from layerlens_core.values.statistics import STATISTICS as STATISTICS
    from layerlens_core.values.statistics import ModuleStatistics as ModuleStatistics
    from layerlens_core.values.statistics import SketchError as SketchError

_HOMES = {
    # What makes a plugin.
    "plugin.hookspecs": ("hookimpl",),
    "plugin.providers": (
        "MetricProvider",
        "AggregatorProvider",
        "StrategyProvider",
        "MethodProvider",
        "ExporterProvider",
        "strategy",
    ),
    "plugin.registry": ("register",),
    "plugin.protocols": (
        "Score",
        "ActiveScore",
        "HalvedScores",
        "Combine",
        "Select",
        "Method",
        "Stretching",
        "Export",
        "Context",
    ),
    # What providers get and give.
    "values.statistics": ("STATISTICS", "ModuleStatistics", "SketchError"),
    "values.inventory": (
        "Inventory",
        "Layer",
        "LinearModule",
        "AttentionModule",
        "ResidualWriter",
        "ExpertWeight",
        "Experts",
        "Head",
        "Skipped",
    ),
    "values.scores": ("RawScores", "Reduction", "Utilities"),
    "values.costs": ("RESOURCES", "Cost", "Limits", "Training"),
    "values.candidates": ("Target", "Unit", "CandidateSet"),
    "values.columns": ("Candidate", "Table"),
    "values.decisions": ("Decision", "Certificate", "Selection"),
    "values.request": ("Request",),
    "values.plan": ("CORE", "LORA_METHODS", "Plan"),
    "values.profile": ("Profile", "Task"),
    # For strategies.
    "allocation.apportionment": ("Apportionment", "Claim", "apportion"),
    "allocation.budget": ("Budget", "readable"),
    "allocation.build": ("coverage",),
    "plugin.contract": ("check_decisions",),
    "tracing": ("candidate_refused", "certificate_found", "plugin_told", "thresholds_set"),
    # For metrics that run the model.
    "plugin.active": ("ActiveProfile",),
    "adaptation.attach": ("temporary_lora",),
    "adaptation.attached": ("lora_layers",),
    "adaptation.initialisation": ("set_along",),
    "profiling.hooks.gathered": ("mean_gradients", "mean_gradients_of_parts", "input_moments", "plain_weight"),
    "profiling.hooks.moments": ("Moments",),
    "profiling.model.devices": ("input_device",),
    "profiling.model.frozen": ("untouched",),
    "profiling.model.losses": ("per_sample_losses",),
    "profiling.samples.sample": ("Sample", "collate", "micro_batches"),
    "profiling.samples.tasks": ("count_labels", "pad_token_id"),
    "profiling.warming.falls": ("Falls",),
    "profiling.warming.train": (
        "Adapters",
        "WarmUpRecipe",
        "add_gradients",
        "disjoint",
        "drawn_batches",
        "labelled",
        "on_device",
        "warm_up",
    ),
    # For methods.
    "adaptation.config": ("Entry", "lora_config"),
    "adaptation.side_module": ("SideModule",),
    "adaptation.cores.form": ("LowRankForm",),
    "inspection.attention": ("calls_interface",),
    # For exporters.
    "plugin.export": ("ExportRequest", "other_methods", "recipe_keys", "require_causal", "require_lora", "write_keys"),
    # What they raise on purpose.
    "errors": (
        "LayerLensError",
        "BudgetError",
        "DataError",
        "FileError",
        "ModelError",
        "NonFiniteError",
        "PlanError",
        "PluginError",
        "ScoreError",
    ),
}

__all__ = names_of(_HOMES)

if not TYPE_CHECKING:  # a type checker would take any name for one of ours
    __getattr__, __dir__ = lazily(__name__, _HOMES)
