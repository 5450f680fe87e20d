"""The one tuner, on PEFT's base classes: LoRA delegated to PEFT by exact names, side modules for everything else.

Importing this module makes the type ``LAYERLENS`` known to PEFT, so that ``PeftModel.from_pretrained`` loads such
adapters, and trainers that take a ``peft_config`` take ours.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from copy import copy
from typing import Any

from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.lora import LoraLayer, LoraModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from layerlens_core.adaptation.attached import adapted, bare_name, ends_like
from layerlens_core.adaptation.config import PEFT_TYPE, VERSION, Entry, LayerLensConfig
from layerlens_core.adaptation.one_rank import pad, trim
from layerlens_core.adaptation.provided import ProvidedSide, provided_form, provided_side
from layerlens_core.adaptation.side_module import SideModule
from layerlens_core.adaptation.snapshot import restored_on_error
from layerlens_core.errors import FileError, ModelError, PlanError
from layerlens_core.inspection.packed import packed_tensors
from layerlens_core.values.plan import CORE, LORA_METHODS


class LayerLensModel(LoraModel):  # type: ignore[misc]
    """Attaches what a `LayerLensConfig` names, to exactly the modules that it names.

    It checks every entry before it changes anything: a module that is missing, of another shape, or of a kind that its
    method cannot attach to raises `ModelError`; a method that nothing provides raises `PluginError`; entries of another
    version raise `FileError`.
    """

    # To PEFT side modules are layers too: it trains, switches and saves them like its own.
    tuner_layer_cls = BaseTunerLayer

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Attach an adapter; also one that is added beside others, for which PEFT calls no hooks."""
        config = self.peft_config[adapter_name]
        try:
            self._sides = check_fits(model, config)
            config.listed = not _end_alike(model, config.entries)
            with restored_on_error(model):
                super().inject_adapter(model, adapter_name, *args, **kwargs)
                made = set(self._made(adapter_name))
                if made != config.entries.keys():
                    differing = min(made ^ config.entries.keys())
                    raise PlanError(f"the plan was not built as it stands: {differing} is a module that differs")
        except BaseException:
            del self.peft_config[adapter_name]
            raise

    @staticmethod
    def _check_target_module_exists(config: LayerLensConfig, key: str) -> bool:
        entry = config.entries.get(key)
        return entry is not None and "experts" not in entry["shape"]

    def _create_and_replace(
        self,
        config: LayerLensConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        *,
        parameter_name: str | None = None,
    ) -> None:
        entry = config.entry_at(current_key)
        if entry is None:
            # PEFT finds parameters by the ends of their names.
            return
        if entry.method not in LORA_METHODS:
            self._sides[entry.method].attach(_bare(target), current_key, adapter_name, entry)
            return
        single = copy(config)
        single.r, single.lora_alpha = entry.size, config.scale * entry.size
        # PEFT decides anew for each Conv1D that it holds its weight transposed, and says so each time.
        single.fan_in_fan_out = isinstance(_bare(target), Conv1D)
        try:
            super()._create_and_replace(
                single, adapter_name, target, target_name, parent, current_key, parameter_name=parameter_name
            )
        except (ValueError, TypeError, ImportError) as error:
            if not packed_tensors(_bare(target)):
                raise
            # PEFT knows the class by its library, which may be missing here, or not this format of it.
            raise ModelError(
                f"PEFT does not adapt the packed weight of {current_key} ({type(_bare(target)).__name__}) here: "
                f"{str(error).partition('. ')[0]}"
            ) from error
        if entry.method == CORE:
            layer = getattr(parent, target_name)
            layer.lora_A[adapter_name], layer.lora_B[adapter_name] = provided_form(CORE).factors(
                entry, like=layer.lora_A[adapter_name].weight.detach()
            )

    def _mark_only_adapters_as_trainable(self, model: nn.Module) -> None:
        # What PEFT's own method does for models without trained biases, in one pass without comparing names.
        trained: set[int] = set()
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                for name in module.adapter_layer_names:
                    trained.update(id(parameter) for parameter in getattr(module, name).parameters())
            elif isinstance(module, AuxiliaryTrainingWrapper):
                trained.update(id(parameter) for parameter in module.parameters())
        for parameter in model.parameters():
            if id(parameter) not in trained:
                parameter.requires_grad = False

    def _made(self, adapter: str) -> Iterator[str]:
        """The entries that this adapter has in the model, by name."""
        for name, layer in adapted(self.model):
            if layer.has(adapter) if isinstance(layer, SideModule) else adapter in layer.r:
                yield name

    @classmethod
    def _get_adapter_state_dict(
        cls, model: nn.Module, config: LayerLensConfig, *args: Any, **kwargs: Any
    ) -> dict[str, Tensor]:
        # What PEFT saves, checkpoints of trainers included.
        tensors: dict[str, Tensor] = super()._get_adapter_state_dict(model, config, *args, **kwargs)
        return tensors if config.padded_rank is None else pad(tensors, config.padded_rank)

    @classmethod
    def _remap_adapter_state_dict_for_load(cls, model: nn.Module, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        # What PEFT loads, also where a trainer goes on from a checkpoint.
        tensors: dict[str, Tensor] = super()._remap_adapter_state_dict_for_load(model, *args, **kwargs)
        own = (*model.named_parameters(), *model.named_buffers())  # a core's V is a buffer
        return trim(tensors, {name: tensor.shape for name, tensor in own})

    def merge_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Merge LoRA into the weights, in place and reversibly. Raises `PlanError` for a mixed plan."""
        self._check_all_lora("merge_adapter")
        super().merge_adapter(*args, **kwargs)

    def merge_lora(self, safe_merge: bool = False) -> None:
        """Merge the LoRA part of a mixed plan into the weights for good; the rest stays and trains on.

        Afterwards ``save_pretrained`` writes the adapters and prefixes alone, for the base model as it is then, which a
        copy's ``unload()`` returns; no name of a base model is saved with them.

        safe_merge: raise ``ValueError``, with nothing merged, where a weight would not be finite.

        Raises `PlanError` for a plan of LoRA alone, and where several adapters hold LoRA: one set of weights can take
        in one only.
        """
        holding = [name for name, c in self.peft_config.items() if _methods(c) & LORA_METHODS]
        if len(holding) != 1 or holding != self.active_adapters:
            raise PlanError(
                f"merge_lora merges the LoRA of one adapter, the active one, but there is LoRA in: "
                f"{', '.join(holding) or 'none'}; delete the others, or merge a copy"
            )
        (config,) = (self.peft_config[name] for name in holding)
        if _methods(config) <= LORA_METHODS:
            raise PlanError("the plan is of LoRA alone, of which nothing would remain; use merge_and_unload()")
        # From the inside out: stacked experts are wrapped once for each of their parameters.
        wrapped = sorted(
            ((name, module) for name, module in self.model.named_modules() if isinstance(module, LoraLayer)),
            key=lambda item: -item[0].count("."),
        )
        try:
            for _, module in wrapped:
                module.merge(safe_merge=safe_merge)
        except BaseException:
            for _, module in reversed(wrapped):
                if module.merged:
                    module.unmerge()
            raise
        for name, module in wrapped:
            parent, _, child = name.rpartition(".")
            setattr(self.model.get_submodule(parent), child, module.base_layer)
        config.entries = {n: entry for n, entry in config.entries.items() if entry["method"] not in LORA_METHODS}
        config.target_parameters = None
        config.plain = "no"
        config.base_model_name_or_path = None

    def add_weighted_adapter(self, *_args: Any, **_kwargs: Any) -> None:
        """Refused: it would give every module the same rank. Raises `PlanError`."""
        raise PlanError(
            "add_weighted_adapter is for adapters of one rank; load plans of LoRA alone with PEFT's from_pretrained, "
            "and add those"
        )

    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> AbstractContextManager[None]:
        if kwargs.get("adapter_names") is not None:
            self._check_all_lora("adapter_names")
        hooks: AbstractContextManager[None] = super()._enable_peft_forward_hooks(*args, **kwargs)
        return hooks

    def _unload_and_optionally_merge(self, merge: bool = True, **kwargs: Any) -> nn.Module:
        if merge:
            self._check_all_lora("merge_and_unload")
        if not merge:
            # PEFT would put the trained copy of a head in the place of the model's own.
            for name, module in list(self.model.named_modules()):
                if isinstance(module, ModulesToSaveWrapper):
                    parent, _, child = name.rpartition(".")
                    setattr(self.model.get_submodule(parent), child, module.original_module)
        model: nn.Module = super()._unload_and_optionally_merge(merge=merge, **kwargs)
        for side in [module for module in model.modules() if isinstance(module, SideModule)]:
            side.detach()
        return model

    def _check_all_lora(self, asked: str) -> None:
        others = sorted(set().union(*map(_methods, self.peft_config.values())) - LORA_METHODS)
        if others:
            raise PlanError(
                f"{asked} is for plans of LoRA alone, but this one has {', '.join(others)}, which no weight can take "
                "in; merge_lora() merges the LoRA part and keeps the rest"
            )


PEFT_TYPE_TO_TUNER_MAPPING[PEFT_TYPE] = LayerLensModel
PEFT_TYPE_TO_PREFIX_MAPPING[PEFT_TYPE] = LoraModel.prefix


def check_fits(model: nn.Module, config: LayerLensConfig) -> Mapping[str, ProvidedSide]:
    """The side modules that a configuration needs, by method, after comparing all of it with the model.

    Raises what `LayerLensModel` raises.
    """
    if config.version != VERSION:
        raise FileError(f"the adapter is of version {config.version}; this LayerLens reads version {VERSION}")
    if config.use_rslora or config.use_dora or config.bias != "none":
        raise PlanError("plans hold LoRA at one scale α/r; use_rslora, use_dora and trained biases do not go with them")
    sides = side_modules_of(config)
    modules = {bare_name(name): module for name, module in model.named_modules(remove_duplicate=False)}
    for name, entry in config.each().items():
        if "experts" in entry.shape:
            _check_experts(modules, name, entry)
        elif name not in modules:
            raise ModelError(f"the plan puts {entry.method} on {name}, which this {type(model).__name__} lacks")
        elif entry.method in LORA_METHODS:
            _check_linear(_bare(modules[name]), name, entry)
        else:
            sides[entry.method].check(_bare(modules[name]), name, entry)
    return sides


def _end_alike(model: nn.Module, names: Collection[str]) -> bool:
    """Whether the name of another module ends with one of these names, by whole parts."""
    others = (name for name, _ in model.named_modules(remove_duplicate=False) if name not in names)
    return any(ends_like(bare_name(name).partition(".")[2], names) for name in others)


def _methods(config: LayerLensConfig) -> set[str]:
    return {entry["method"] for entry in config.entries.values()}


def side_modules_of(config: LayerLensConfig) -> Mapping[str, ProvidedSide]:
    """The side module of every method of a configuration but LoRA. Raises `PluginError` where nothing provides it."""
    methods = sorted(_methods(config) - LORA_METHODS)
    return {method: provided_side(method) for method in methods}


def _bare(module: nn.Module) -> nn.Module:
    return module.get_base_layer() if isinstance(module, LoraLayer) else module


def _check_linear(module: nn.Module, name: str, entry: Entry) -> None:
    bare = _bare(module)
    n_in, n_out = (
        getattr(bare, "in_features", getattr(bare, "nx", None)),
        getattr(bare, "out_features", getattr(bare, "nf", None)),
    )
    planned = (entry.shape.get("in_features"), entry.shape.get("out_features"))
    if (n_in, n_out) != planned:
        raise ModelError(f"the plan was made for {name} of {planned[0]}→{planned[1]}, but here it is {n_in}→{n_out}")


def _check_experts(modules: Mapping[str, nn.Module], name: str, entry: Entry) -> None:
    holder, _, key = name.rpartition(".")
    holder_module = modules.get(holder)
    weight = getattr(_bare(holder_module), key, None) if holder_module is not None else None
    size = entry.shape["experts"] * entry.shape["in_features"] * entry.shape["out_features"]
    if weight is None or weight.numel() != size:
        raise ModelError(f"the plan puts LoRA on the experts {name}, which this model lacks or holds in another shape")
