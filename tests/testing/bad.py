"""Providers that each break one clause of their contract, and nothing else."""

import itertools
import random

import attrs

from layerlens_builtin.methods.adapter import METHOD
from layerlens_core.plugin import (
    AggregatorProvider,
    ExporterProvider,
    MethodProvider,
    MetricProvider,
    PlanError,
    StrategyProvider,
    require_lora,
    write_keys,
)

CALLS = itertools.count()


def metric(name, score, **fields):
    return MetricProvider(name=name, summary="bad", unit="1", reduction="sum", load=lambda: score, **fields)


def active(name, score):
    return metric(name, score, active=True)


def coherence_unguarded(statistics):
    """No number for a module that no gradient reaches."""
    return statistics.mean_gradient_squared_norm / statistics.fisher if statistics.fisher else float("nan")


def undeclared(statistics):
    return statistics.fisher


def drawn(statistics):
    return statistics.fisher * random.random()


def counted(profile):
    """Draws for which the seed of the whole process is not enough: it remembers how often it was called."""
    return {unit: float(len(unit) + next(CALLS)) for unit in profile.units}


def all_but_one(profile):
    return dict.fromkeys(profile.units[:-1], 1.0)


def as_tensors(profile):
    import torch

    return {unit: torch.tensor(1.0) for unit in profile.units}


def leaves_frozen(profile):
    profile.model.requires_grad_(False)
    return dict.fromkeys(profile.units, 1.0)


def leaves_a_hook(profile):
    profile.model.register_forward_hook(lambda module, arguments, output: None)
    return dict.fromkeys(profile.units, 1.0)


def draws_without_end(profile):
    """Deterministic, but torch goes on from another random state than before."""
    import torch

    torch.rand(3)
    return dict.fromkeys(profile.units, 1.0)


def aggregator(name, combine, summary="bad"):
    return AggregatorProvider(name=name, summary=summary, load=lambda: combine)


def sorted_away(columns, weights):
    (column, *_) = columns.values()
    return sorted(column)


def one_short(columns, weights):
    (column, *_) = columns.values()
    return [*column[1:]] if len(set(column)) == 1 else column


def first(columns, weights):
    (column, *_) = columns.values()
    return column


def consuming(columns, weights):
    column = first(columns, weights)
    weights.clear()
    return column


def strategy(name, select, **fields):
    return StrategyProvider(name=name, summary="bad", load=lambda: select, **fields)


def _greedy(candidates, limits, rank=1):
    """LoRA of one rank from the top, as far as it fits."""
    decisions = {unit.name: unit.decide("none", reason="no room") for unit in candidates.units}
    for unit in reversed(candidates.units):
        if rank in unit.sizes("lora"):
            tried = decisions | {unit.name: unit.decide("lora", rank, reason="there is room")}
            decisions = tried if candidates.total(tried.values()).within(limits) else decisions
    return list(decisions.values())


def spends_memory(candidates, limits, context):
    return _greedy(candidates, attrs.evolve(limits, memory=None))


def ignores_depth(candidates, limits, context):
    """Adds up what units cost, and forgets what the frozen model costs as training goes deeper."""
    shallow = attrs.evolve(candidates, depths=candidates.depths[-1:] * len(candidates.depths))
    return _greedy(shallow, limits)


def forgets_one(candidates, limits, context):
    return _greedy(candidates, limits)[:-1] if len(candidates.units) > 2 else _greedy(candidates, limits)


def undersells(candidates, limits, context):
    """Says that a decision costs a parameter less."""
    decisions = _greedy(candidates, limits)
    return [
        attrs.evolve(each, cost=attrs.evolve(each.cost, params=max(each.parameters - 1, 0)), reason="a bargain")
        for each in decisions
    ]


def draws(candidates, limits, context):
    return _greedy(candidates, limits) if random.random() < 0.8 else _greedy(candidates, limits, rank=2)


def careless_option(candidates, limits, context):
    return _greedy(candidates, limits, int(context.options.get("rank", "1")))


def any_option(candidates, limits, context):
    return _greedy(candidates, limits, 2 if context.options.get("rank") == "2" else 1)


def undeclared_option(candidates, limits, context):
    return _greedy(candidates, limits, 2 if context.options.get("rank") == "2" else 1)


def never_trains(candidates, limits, context):
    return [unit.decide("none", reason="better not") for unit in candidates.units]


def loses_one_asked_for(candidates, limits, context):
    if context.only is not None:
        return [unit.decide("none", reason="nobody looks") for unit in candidates.units]
    return _greedy(candidates, limits)


def largest_lora(candidates, limits, context):
    """Takes for granted that LoRA has a place in every layer."""
    for unit in candidates.units:
        unit.sizes("lora")[0]
    return _greedy(candidates, limits)


def method(name, module, places=METHOD):
    return MethodProvider(name=name, summary="bad", capacity=25, applicable=True, load=lambda: places, module=module)


class _Miscounted:
    """A bottleneck that counts a parameter too few at each place."""

    notch, ceiling, half, penalty, updates_weights = 4, 1.0, 1.0, 1.0, False
    largest = METHOD.largest

    def targets(self, layer):
        return tuple(attrs.evolve(target, fixed=target.fixed - 1) for target in METHOD.targets(layer))


class _Anywhere(_Miscounted):
    """Takes for granted that a layer has linear modules."""

    def targets(self, layer):
        first = layer.modules[0]
        return METHOD.targets(layer) if first.out_features else ()


def side_module(change):
    """What ``module`` gives: a bottleneck with its first weights, or its names, changed."""

    def module():
        from torch import nn

        from layerlens_builtin.modules import bottleneck

        class Bad(bottleneck.Bottleneck):
            child = "layerlens_bad"

            def add(self, adapter, entry):
                super().add(adapter, entry)
                if change == "starts anywhere":
                    nn.init.constant_(self.lora_up[adapter].weight, 1e-3)
                elif change == "starts anew":
                    nn.init.constant_(self.lora_down[adapter].bias, 1e-3 * (next(CALLS) % 1000))
                elif change == "unsaved":
                    self.lora_up[adapter]._save_to_state_dict = lambda *arguments: None
                elif change == "never moves":
                    self.lora_down[adapter].register_full_backward_pre_hook(lambda module, gradient: None)
                    self.lora_up[adapter].weight.register_hook(lambda gradient: gradient * 0)
                    self.lora_up[adapter].bias.register_hook(lambda gradient: gradient * 0)

            def connect(self):
                if change == "bound to one":
                    hook = lambda host, arguments, output: corrected(self, output)  # noqa: E731
                    self.handle = self.host.register_forward_hook(hook)
                else:
                    self.host.register_forward_hook(correct)

            def disconnect(self):
                if change == "stays":
                    return
                if change == "bound to one":
                    self.handle.remove()
                hooks = self.host._forward_hooks
                for key in [key for key, hook in hooks.items() if hook is correct]:
                    del hooks[key]

            def running(self):
                # Also where it is switched off.
                yield from self.active_adapters if change == "always on" else super().running()

        def correct(host, arguments, output):
            return corrected(host._modules.get(Bad.child), output)

        def corrected(side, output):
            if side is None:  # it was taken away, but its hook was not
                return output * 1.5 if not isinstance(output, tuple) else (output[0] * 1.5, *output[1:])
            return (side(output[0]), *output[1:]) if isinstance(output, tuple) else side(output)

        return Bad

    return module


def exporter(name, export):
    return ExporterProvider(name=name, summary="bad", load=lambda: export)


def broken_yaml(request):
    require_lora(request.plan, "Bad")
    request.out.mkdir(parents=True, exist_ok=True)
    path = request.out / "keys.yaml"
    path.write_text("ranks: [1, 2\n")
    return (path,)


def writes_first(request):
    path = write_keys(request.out / "keys.yaml", {"base": request.base}, "written too early")
    require_lora(request.plan, "Bad")
    return (path,)


def returns_a_list(request):
    require_lora(request.plan, "Bad")
    return [write_keys(request.out / "keys.yaml", {"base": request.base}, "keys")]


def keeps_quiet(request):
    """Does not return one of its files."""
    require_lora(request.plan, "Bad")
    write_keys(request.out / "more.yaml", {"base": request.base}, "keys")
    return (write_keys(request.out / "keys.yaml", {"base": request.base}, "keys"),)


def dated(request):
    require_lora(request.plan, "Bad")
    return (write_keys(request.out / "keys.yaml", {"when": next(CALLS)}, "keys"),)


def asserts(request):
    """Refuses by an error that is none of LayerLens's."""
    if any(each.method not in ("none", "lora") for each in request.plan.decisions):
        raise NotImplementedError("only LoRA")
    require_lora(request.plan, "Bad")
    return (write_keys(request.out / "keys.yaml", {"base": request.base}, "keys"),)


def refuses_all(request):
    raise PlanError("this trainer takes nothing")


#: Providers, each with the one check that it fails.
BAD = [
    (metric("nan", coherence_unguarded, needs=("gradient_norms",)), "is-finite"),
    (metric("undeclared", undeclared), "declares-what-it-needs"),
    (metric("drawn", drawn, needs=("sample_norms",)), "is-deterministic"),
    (active("counted", counted), "is-deterministic"),
    (active("all-but-one", all_but_one), "covers-the-inventory"),
    (active("as-tensors", as_tensors), "gives-plain-numbers"),
    (active("leaves-frozen", leaves_frozen), "restores-the-model"),
    (active("leaves-a-hook", leaves_a_hook), "restores-the-model"),
    (active("draws-without-end", draws_without_end), "restores-the-model"),
    (aggregator("sorted", sorted_away), "keeps-the-order-of-units"),
    (aggregator("one-short", one_short), "covers-the-inventory"),
    (aggregator("consuming", consuming), "leaves-its-columns-alone"),
    (
        AggregatorProvider(name="two-lines", summary="one\nand two", load=lambda: first),
        "says-in-one-line-what-it-is-for",
    ),
    (strategy("spends-memory", spends_memory), "respects-every-budget"),
    (strategy("ignores-depth", ignores_depth), "respects-every-budget"),
    (strategy("forgets-one", forgets_one), "covers-the-inventory"),
    (strategy("undersells", undersells), "counts-what-it-makes"),
    (strategy("draws", draws), "is-deterministic"),
    (strategy("careless-option", careless_option, options=("rank",)), "refuses-options-that-it-cannot-read"),
    (strategy("any-option", any_option, options=("rank",)), "refuses-options-that-it-cannot-read"),
    (strategy("undeclared-option", undeclared_option), "reads-the-options-it-declares-alone"),
    (strategy("never-trains", never_trains), "trains-where-everything-fits"),
    (strategy("loses-one", loses_one_asked_for), "decides-alike-when-asked-about-one-unit"),
    (strategy("largest-lora", largest_lora), "leaves-alone-what-has-no-other-candidate"),
    (method("miscounted", side_module("only the count is wrong"), _Miscounted()), "counts-what-it-makes"),
    (method("starts-anywhere", side_module("starts anywhere")), "is-the-identity-at-the-start"),
    (method("starts-anew", side_module("starts anew")), "is-deterministic"),
    (method("never-moves", side_module("never moves")), "learns"),
    (method("always-on", side_module("always on")), "restores-the-model"),
    (method("stays", side_module("stays")), "restores-the-model"),
    (method("bound", side_module("bound to one")), "works-in-a-copy"),
    (method("unsaved", side_module("unsaved")), "survives-save-and-load"),
    (method("anywhere", side_module("nothing but its places"), _Anywhere()), "finds-no-place-in-an-empty-layer"),
    (exporter("broken-yaml", broken_yaml), "writes-files-that-parse"),
    (exporter("writes-first", writes_first), "refuses-before-it-writes"),
    (exporter("returns-a-list", returns_a_list), "returns-what-it-writes"),
    (exporter("keeps-quiet", keeps_quiet), "returns-what-it-writes"),
    (exporter("dated", dated), "is-deterministic"),
    (exporter("asserts", asserts), "refuses-before-it-writes"),
    (exporter("refuses-all", refuses_all), "exports-a-plan-of-lora"),
]
