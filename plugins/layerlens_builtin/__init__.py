"""The providers that come with LayerLens, given through the same hooks as any plugin's."""

from collections.abc import Iterable
from typing import Any

from layerlens_builtin.methods import curves
from layerlens_core.plugin import (
    AggregatorProvider,
    ExporterProvider,
    MethodProvider,
    MetricProvider,
    Reduction,
    StrategyProvider,
    hookimpl,
)


def _load(module: str, attribute: str) -> Any:
    from importlib import import_module

    return getattr(import_module(f"layerlens_builtin.{module}"), attribute)


#: Name, summary, unit and reduction of the metrics that run the model and score modules.
_RUN_THE_MODEL: tuple[tuple[str, str, str, Reduction], ...] = (
    ("loss_change", "share of the first-order fall in loss along a short LoRA warm-up", "1", "sum"),
    ("candidate_gradient", "squared norm of the gradient of LoRA's B where it starts", "(nats/weight)²", "sum"),
    ("adalora", "AdaLoRA's sensitivity |θ∇θ|, smoothed, along a short LoRA warm-up", "nats²", "sum"),
    ("gora", "GoRA's importance: mean |W ⊙ Ḡ| of the mean gradient over all samples", "nats/weight", "weighted_mean"),
    ("effective_rank", "effective rank of the mean gradient: exp of its spectrum's entropy", "directions", "mean"),
    ("eva", "EVA's ranks: leading explained variance ratios of a module's inputs", "ranks", "mean"),
    ("snr", "Spectrum's signal to noise of the weights' singular values; needs no data", "1/weight", "mean"),
    ("kappa", "1/κ, κ the weights' condition number, which KappaTune wants low; needs no data", "1", "mean"),
)


def _of_modules(name: str, summary: str, unit: str, reduction: Reduction) -> MetricProvider:
    return MetricProvider(
        name=name,
        summary=summary,
        unit=unit,
        reduction=reduction,
        active=True,
        load=lambda: _load(f"metrics.{name}", "score"),
    )


@hookimpl
def layerlens_metrics() -> Iterable[MetricProvider]:
    yield MetricProvider(
        name="gradient_energy",
        summary="mean squared norm of the gradient of a group of samples",
        unit="(nats/weight)²",
        needs=("gradient_norms",),
        reduction="sum",
        load=lambda: _load("metrics.gradient_energy", "score"),
    )
    yield MetricProvider(
        name="fisher",
        summary="trace of the empirical Fisher information: mean squared norm of per-sample gradients",
        unit="(nats/weight)²",
        needs=("sample_norms",),
        reduction="sum",
        load=lambda: _load("metrics.fisher", "score"),
    )
    yield MetricProvider(
        name="weight_gradient",
        summary="mean |W ⊙ G|: first-order change of the loss if a weight were taken away",
        unit="nats/weight",
        needs=("weight_gradient",),
        reduction="weighted_mean",
        load=lambda: _load("metrics.weight_gradient", "score"),
    )
    yield MetricProvider(
        name="proxy_eval",
        summary="short proxy fine-tune: rise of held-out loss when a layer's adapters alone are off",
        unit="nats",
        active=True,
        load=lambda: _load("metrics.proxy_eval", "score"),
    )
    yield from (_of_modules(*record) for record in _RUN_THE_MODEL)


@hookimpl
def layerlens_aggregators() -> Iterable[AggregatorProvider]:
    yield AggregatorProvider(
        name="weighted-mean",
        summary="weighted arithmetic mean of the normalised scores",
        load=lambda: _load("aggregators.weighted_mean", "combine"),
    )
    yield AggregatorProvider(
        name="weighted-max",
        summary="the largest weighted score: a layer that one metric finds important is important",
        load=lambda: _load("aggregators.weighted_max", "combine"),
    )


@hookimpl
def layerlens_strategies() -> Iterable[StrategyProvider]:
    yield StrategyProvider(
        name="tempered",
        summary="ranks by module in proportion to utility, tempered towards uniform; uniform where nothing supports it",
        options=("temper",),
        granularities=("module", "layer"),
        abstains=True,
        load=lambda: _load("strategies.tempered", "select"),
    )
    yield StrategyProvider(
        name="uniform",
        summary="one rank on every linear module, the largest that the budget allows",
        load=lambda: _load("strategies.uniform", "select"),
    )
    yield StrategyProvider(
        name="threshold",
        summary="methods by ascending thresholds on utility; sizes follow utility within the budget",
        options=("thresholds", "quantiles"),
        load=lambda: _load("strategies.threshold", "select"),
    )
    yield StrategyProvider(
        name="budget",
        summary="the largest predicted gain that the budget can buy, with a certificate",
        options=("exact", "freeze"),
        load=lambda: _load("strategies.budget", "select"),
    )


@hookimpl
def layerlens_methods() -> Iterable[MethodProvider]:
    yield MethodProvider(
        name="none",
        summary="the layer stays frozen",
        capacity=0,
        applicable=True,
        load=lambda: _load("methods.none", "METHOD"),
    )
    yield MethodProvider(
        name="core",
        summary="a small matrix between frozen subspaces, for budgets below LoRA of rank 1",
        capacity=5,
        applicable=True,
        default=False,
        load=lambda: _load("methods.core", "METHOD"),
        gain_source=curves.CORE.source,
        module=lambda: _load("modules.core", "Core"),
    )
    yield MethodProvider(
        name="prefix",
        summary="trained keys and values beside every attention, behind a gate",
        capacity=10,
        applicable=True,
        default=False,
        load=lambda: _load("methods.prefix", "METHOD"),
        gain_source=curves.PREFIX.source,
        module=lambda: _load("modules.gated_prefix", "GatedPrefix"),
    )
    yield MethodProvider(
        name="adapter",
        summary="bottleneck on what writes to the residual stream",
        capacity=20,
        applicable=True,
        default=False,
        load=lambda: _load("methods.adapter", "METHOD"),
        gain_source=curves.ADAPTER.source,
        module=lambda: _load("modules.bottleneck", "Bottleneck"),
    )
    yield MethodProvider(
        name="lora",
        summary="low-rank update of every linear module of the layer",
        capacity=30,
        applicable=True,
        load=lambda: _load("methods.lora", "METHOD"),
        gain_source=curves.LORA.source,
    )
    yield MethodProvider(
        name="lora-experts",
        summary="as lora, and of every expert that is stacked in one parameter",
        capacity=40,
        applicable=True,
        default=False,
        load=lambda: _load("methods.lora_experts", "METHOD"),
        gain_source=curves.LORA.source,
    )


@hookimpl
def layerlens_exporters() -> Iterable[ExporterProvider]:
    yield ExporterProvider(
        name="peft",
        summary="an initialised adapter directory, which trainers on PEFT take ranks from",
        load=lambda: _load("exporters.peft", "export"),
    )
    yield ExporterProvider(
        name="trl",
        summary="keys for TRL's command line, where one rank serves all modules",
        load=lambda: _load("exporters.trl", "export"),
    )
    yield ExporterProvider(
        name="axolotl",
        summary="an initialised adapter and axolotl's keys, patterns included",
        load=lambda: _load("exporters.axolotl", "export"),
    )
    yield ExporterProvider(
        name="llama-factory",
        summary="an initialised adapter and the keys with which LLaMA-Factory continues it",
        load=lambda: _load("exporters.llama_factory", "export"),
    )
