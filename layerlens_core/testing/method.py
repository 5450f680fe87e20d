"""What a method owes (`layerlens_core.plugin.protocols.Method` and `SideModule`), as checks on tiny models."""

import copy
import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlens_core.errors import PlanError
from layerlens_core.plugin.providers import MethodProvider
from layerlens_core.testing.chance import seeded
from layerlens_core.testing.check import Check, Failed, common_checks, named, require
from layerlens_core.testing.instances import random_profile
from layerlens_core.testing.models import (
    MODELS,
    random_model,
    tiny_batch,
    tiny_inventory,
    tiny_model,
    tiny_profile,
    tiny_run,
)
from layerlens_core.testing.plans import plan_of
from layerlens_core.testing.registries import isolated_registry
from layerlens_core.values.costs import RESOURCES, Training
from layerlens_core.values.inventory import Layer
from layerlens_core.values.plan import CORE

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

    from layerlens_core.plugin.protocols import Method
    from layerlens_core.plugin.registry import Registry
    from layerlens_core.values.plan import Plan

#: A learning rate, and steps, after which no method that trains computes what it did.
RATE, STEPS = 0.02, 3
#: Models of random sizes whose parameters are counted.
RANDOM_MODELS = 2


def check_method(
    provider: MethodProvider, *, module: str | None = None, models: Sequence[str] = tuple(MODELS)
) -> list[Check]:
    """The clauses of a method's contract, for ``pytest.mark.parametrize("check", …, ids=str)``.

    provider: the record.
    module: where its hooks are; None takes the module of its ``load``.
    models: names of tiny models, of `MODELS`; in at least one of them the method must find a place.
    """
    method = _Method(provider, models)
    attached = [
        Check("finds-places-in-a-model", method.finds_places),
        Check("counts-what-it-makes", method.counts),
        Check("is-the-identity-at-the-start", method.is_identity),
        Check("learns", method.learns),
        Check("is-deterministic", method.is_deterministic),
        Check("restores-the-model", method.restores),
        Check("works-in-a-copy", method.copies),
        Check("survives-save-and-load", method.survives),
    ]
    return [
        *common_checks(provider, module),
        Check("is-finite", method.is_finite),
        Check("finds-no-place-in-an-empty-layer", method.finds_no_place),
        *(attached if provider.applicable and provider.name != "none" else []),
    ]


class _Method:
    """One method, and what it does to the tiny models."""

    def __init__(self, provider: MethodProvider, models: Sequence[str]) -> None:
        self._provider, self._models = provider, models

    def is_finite(self) -> None:
        """Its numbers are finite, and a larger size never costs less."""
        with self._loaded() as (_, method):
            for name in self._models:
                for layer in tiny_inventory(name).layers:
                    for target in method.targets(layer):
                        sizes = range(method.notch, max(method.largest(layer), method.notch) + 1, method.notch)
                        costs = [target.cost(size, Training()) for size in sizes]
                        for resource in RESOURCES:
                            amounts = [getattr(cost, resource) for cost in costs]
                            where = f"the {resource} of {named(self._provider)} on {target.name} of {name}"
                            require(all(map(math.isfinite, amounts)), f"{where} are not finite")
                            require(amounts == sorted(amounts), f"{where} get less with size: {amounts}")

    def finds_no_place(self) -> None:
        """Where a layer has nothing in it, it has no place either."""
        with self._loaded() as (_, method):
            empty = Layer(name="empty", modules=())
            found = method.targets(empty)
            require(not found, f"{named(self._provider)} finds {found} in a layer that is empty")
            method.largest(empty)

    def finds_places(self) -> None:
        """In some tiny model it has places, and a size for them."""
        with self._loaded() as (_, method):
            require(list(self._fitting(method)), f"{named(self._provider)} has no place in any of {', '.join(MODELS)}")
            for name in self._fitting(method):
                for layer in tiny_inventory(name).layers:
                    if method.targets(layer):
                        largest = method.largest(layer)
                        require(
                            largest >= method.notch,
                            f"{named(self._provider)} has places in {layer.name} of {name}, but its largest size there "
                            f"is {largest}, below its notch of {method.notch}",
                        )

    def counts(self) -> None:
        """What trains is what was counted, in every module and in all, in models of random sizes too."""
        from layerlens_core.inspection.inspect import inspect

        for name, plan in self._plans():
            self._count(name, tiny_model(name), plan, tiny_run(name))
        with self._loaded() as (registry, method):
            for seed in range(RANDOM_MODELS):
                model = random_model(seed)
                profile = random_profile(seed, inventory=inspect(model))
                if self._provider.name != CORE and any(map(method.targets, profile.inventory.layers)):
                    plan = plan_of(profile, self._provider.name, registry)
                    self._count(f"random_model({seed})", model, plan, None)

    def _count(self, name: str, model: "PreTrainedModel", plan: "Plan", run: Path | None) -> None:
        from layerlens_core.adaptation.apply import apply

        try:
            applied = apply(model, plan, directions=run)
        except PlanError as error:
            raise Failed(f"{named(self._provider)} on {name}: {error}") from error
        made = sum(parameter.numel() for parameter in applied.parameters() if parameter.requires_grad)
        planned = plan.parameters + plan.head_parameters
        require(made == planned, f"{named(self._provider)} trains {made} parameters of {name}, planned {planned}")

    def is_identity(self) -> None:
        """At first the model computes what it did, to the last bit."""
        for name, plan in self._plans():
            require(
                _same(_logits(tiny_model(name), name), _logits(_attached(name, plan), name)),
                f"{named(self._provider)} changes what {name} computes before anything was trained",
            )

    def learns(self) -> None:
        """Training changes what the model computes, by finite gradients."""
        import torch

        for name, plan in self._plans():
            model = _attached(name, plan)
            before = _logits(model, name)
            _train(model, name)
            after = _logits(model, name)
            require(torch.isfinite(after).all(), f"training {named(self._provider)} on {name} gives what is no number")
            require(not _same(before, after), f"training {named(self._provider)} on {name} changes nothing")

    def is_deterministic(self) -> None:
        """After the same seed it makes the same weights."""
        for name, plan in self._plans():
            one, other = (
                {key: value.detach().clone() for key, value in _attached(name, plan).named_parameters()} for _ in "ab"
            )
            different = [key for key, value in one.items() if key not in other or not _same(value, other[key])]
            require(not different, f"{named(self._provider)} draws {different[:1]} anew after the same seed, on {name}")

    def restores(self) -> None:
        """Switched off, and taken away, it leaves the model as it was."""
        for name, plan in self._plans():
            base = tiny_model(name)
            expected, keys = _logits(base, name), list(base.state_dict())
            model = _attached(name, plan)
            _train(model, name)
            with model.disable_adapter():
                require(
                    _same(expected, _logits(model, name)),
                    f"{named(self._provider)} changes what {name} computes though it is switched off",
                )
            bare = model.unload()
            if not plan.heads:  # PEFT leaves the trained head in its place
                require(
                    list(bare.state_dict()) == keys and _same(expected, _logits(bare, name)),
                    f"{named(self._provider)} leaves something in {name} when it is taken away",
                )

    def copies(self) -> None:
        """A copy of the model computes the same; trained, it computes otherwise, and the original does not."""
        for name, plan in self._plans():
            model = _attached(name, plan)
            before = _logits(model, name)
            copied = copy.deepcopy(model)
            where = f"{named(self._provider)} on {name}"
            require(_same(before, _logits(copied, name)), f"{where} computes otherwise in a copy of the model")
            _train(copied, name)
            require(_same(before, _logits(model, name)), f"{where} changes the model as a copy of it is trained")
            require(not _same(before, _logits(copied, name)), f"{where} trains nothing in a copy of the model")

    def survives(self) -> None:
        """A trained adapter that is saved and loaded computes the same."""
        from layerlens_core.adaptation.cores.compact import save_compact
        from layerlens_core.adaptation.load import load

        for name, plan in self._plans():
            model = _attached(name, plan)
            _train(model, name)
            with tempfile.TemporaryDirectory() as directory:
                model.save_pretrained(directory)
                if plan.subspace is not None:  # else it would be saved as the LoRA that it is
                    save_compact(model, directory, subspace=tiny_run(name))
                try:
                    loaded = load(tiny_model(name), directory)
                except Exception as error:
                    raise Failed(f"{named(self._provider)} on {name} cannot be loaded again: {error}") from error
                require(
                    _same(_logits(model, name), _logits(loaded.eval(), name)),
                    f"{named(self._provider)} on {name} computes otherwise once it is saved and loaded",
                )

    @contextmanager
    def _loaded(self) -> "Iterator[tuple[Registry, Method]]":
        with isolated_registry(self._provider) as registry, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PEFT, which a plugin can do nothing about
            yield registry, registry.load("method", self._provider.name)

    def _fitting(self, method: "Method") -> Iterator[str]:
        """The models in which it has a place."""
        for name in self._models:
            if any(method.targets(layer) for layer in tiny_inventory(name).layers):
                yield name

    def _plans(self) -> "Iterator[tuple[str, Plan]]":
        """A plan for each model in which it has a place."""
        with self._loaded() as (registry, method):
            for name in self._fitting(method):
                yield name, plan_of(tiny_profile(name), self._provider.name, registry)


def _attached(name: str, plan: "Plan") -> "PeftModel":
    """A new model with what the plan says, whether or not it counts right."""
    from layerlens_core.adaptation.apply import apply
    from layerlens_core.adaptation.attach import attach
    from layerlens_core.adaptation.config import peft_config

    with seeded(0):
        try:
            return apply(tiny_model(name), plan, directions=tiny_run(name)).eval()
        except PlanError:
            config = peft_config(plan, tiny_inventory(name))
            config.plain = "no"
            return attach(tiny_model(name), config).eval()


def _train(model: "PeftModel", name: str) -> None:
    """A few steps of the method alone, without heads."""
    import torch

    parameters = [
        parameter
        for key, parameter in model.named_parameters()
        if parameter.requires_grad and "modules_to_save" not in key
    ]
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(**tiny_batch(name)).logits.square().mean().backward()
        optimizer.step()


def _logits(model: Any, name: str) -> "Tensor":
    import torch

    with torch.no_grad():
        logits: Tensor = model(**tiny_batch(name)).logits
    return logits


def _same(one: "Tensor", other: "Tensor") -> bool:
    import torch

    return torch.equal(one, other)
