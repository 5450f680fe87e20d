"""What a model is made of, as far as PEFT methods care: layers, their linear modules, attention, shapes."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Literal

from attrs import frozen

ModuleKind = Literal["linear", "conv1d", "packed"]

_HEADS = ("query_heads", "key_value_heads", "key_dim", "value_dim")


@frozen(kw_only=True)
class LinearModule:
    """One linear map W of the model, in → out.

    name: qualified name in the model.
    layer: the layer it lies in, or None outside the repeated layers.
    kind: ``linear`` (weight [out, in]), ``conv1d`` (GPT-2's, weight [in, out]), or ``packed`` (a quantised map of a
        class of its own).
    in_features: width of its input.
    out_features: width of its output.
    writes_residual: whether its output is added to the residual stream.
    """

    name: str
    layer: str | None
    kind: ModuleKind
    in_features: int
    out_features: int
    writes_residual: bool = False


@frozen(kw_only=True)
class AttentionModule:
    """One attention block.

    name: qualified name in the model.
    layer: the layer it lies in.
    query_heads: H_q.
    key_value_heads: H_kv.
    key_dim: width d_k of a key.
    value_dim: width d_v of a value.
    interface: whether it calls transformers' attention interface, through which prefixes are added.
    """

    name: str
    layer: str
    query_heads: int
    key_value_heads: int
    key_dim: int
    value_dim: int
    interface: bool = True


@frozen(kw_only=True)
class ResidualWriter:
    """A module whose output is added to the residual stream.

    name: qualified name in the model.
    features: how many it writes.
    """

    name: str
    features: int


@frozen(kw_only=True)
class ExpertWeight:
    """The weights of one linear map of all experts, stacked in one parameter.

    name: of the parameter.
    experts: how many.
    in_features: width of the map's input.
    out_features: width of its output.
    """

    name: str
    experts: int
    in_features: int
    out_features: int


@frozen(kw_only=True)
class Layer:
    """One repeated block of the model, the unit for which a method is chosen.

    name: qualified name in the model.
    modules: its linear modules.
    attentions: its attention blocks.
    blocks: modules that write to the residual stream as a whole, where no linear module can be corrected for them:
        mixtures of experts, and Mamba's mixers, whose kernels read the weight of the last projection.
    experts: their stacked weights.
    """

    name: str
    modules: tuple[LinearModule, ...]
    attentions: tuple[AttentionModule, ...] = ()
    blocks: tuple[ResidualWriter, ...] = ()
    experts: tuple[ExpertWeight, ...] = ()

    @property
    def residual_writers(self) -> tuple[LinearModule, ...]:
        """The linear modules whose outputs are added to the residual stream."""
        return tuple(module for module in self.modules if module.writes_residual)

    @property
    def writers(self) -> tuple[ResidualWriter, ...]:
        """All that writes to the residual stream: linear modules, and mixtures of experts as a whole."""
        linear = (
            ResidualWriter(name=module.name, features=module.out_features)
            for module in self.residual_writers
            if not any(module.name.startswith(f"{block.name}.") for block in self.blocks)
        )
        return (*linear, *self.blocks)


@frozen(kw_only=True)
class Head:
    """A task head that is trained in full beside the plan, and counted apart from it.

    name: qualified, of the module.
    parameters: that train in it.
    """

    name: str
    parameters: int


@frozen(kw_only=True)
class Skipped:
    """A linear map that is no target, and why.

    name: qualified.
    reason: in words.
    """

    name: str
    reason: str


@frozen(kw_only=True)
class Experts:
    """A mixture of experts whose weights are stacked in one module: no target, but part of what a token costs.

    name: qualified name of the module.
    layer: the layer it lies in, or None outside the repeated layers.
    count: experts in all.
    active: experts that a token goes through.
    parameters: of all of them.
    """

    name: str
    layer: str | None
    count: int
    active: int
    parameters: int


@frozen(kw_only=True)
class Inventory:
    """Layers in the order of the forward pass, and the linear maps outside them.

    architecture: name of the model's class.
    model_type: transformers' name of the family.
    parameters: all parameters of the model, shared ones once; packed (quantised) weights count as what they stand for.
    layers: the repeated blocks.
    outside: linear maps that lie in no repeated layer (a pooler, an embedding projection). PEFT's ``all-linear`` counts
        them, so ``r=8`` budgets do too; plans leave them frozen.
    heads: task heads that train in full.
    skipped: linear maps that are no target, with the reason.
    output: the language-model head, where there is one.
    experts: stacked experts.
    parallel: whether attention and feed-forward of a layer read the same input.
    packed: how many of the parameters lie packed.
    packed_bytes: memory of these, with their scales and tables; it does not depend on the dtype of training.
    state_bytes: of that, what lies beside the model's parameters and buffers.
    """

    architecture: str
    model_type: str
    parameters: int
    layers: tuple[Layer, ...]
    outside: tuple[LinearModule, ...] = ()
    heads: tuple[Head, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    output: LinearModule | None = None
    experts: tuple[Experts, ...] = ()
    parallel: bool = False
    packed: int = 0
    packed_bytes: int = 0
    state_bytes: int = 0

    @property
    def modules(self) -> tuple[LinearModule, ...]:
        """The linear modules of all layers, in order."""
        return tuple(module for layer in self.layers for module in layer.modules)

    @cached_property
    def experts_of(self) -> Mapping[str, tuple[Experts, ...]]:
        """The stacked experts of each layer that has some."""
        found: dict[str, tuple[Experts, ...]] = {}
        for experts in self.experts:
            if experts.layer is not None:
                found[experts.layer] = (*found.get(experts.layer, ()), experts)
        return found

    def linears(self) -> Iterator[LinearModule]:
        """Every linear module that uniform LoRA over all linear layers would adapt."""
        yield from self.modules
        yield from self.outside

    def lora_parameters(self, rank: int) -> int:
        """Trainable parameters of uniform LoRA of this rank on all linear layers, as PEFT counts them."""
        return rank * sum(module.in_features + module.out_features for module in self.linears())

    @cached_property
    def shapes(self) -> Mapping[str, Mapping[str, int]]:
        """The shape of every place where a method could attach, by its full name."""
        shapes: dict[str, Mapping[str, int]] = {}
        for module in self.linears():
            shapes[module.name] = {"in_features": module.in_features, "out_features": module.out_features}
        for layer in self.layers:
            for attention in layer.attentions:
                shapes[attention.name] = {name: getattr(attention, name) for name in _HEADS}
            for block in layer.blocks:
                # JetMoE's attention is a mixture of experts itself, a place of both kinds.
                shapes[block.name] = {**shapes.get(block.name, {}), "features": block.features}
            for weight in layer.experts:
                shapes[weight.name] = {
                    "experts": weight.experts,
                    "in_features": weight.in_features,
                    "out_features": weight.out_features,
                }
        return shapes

    @property
    def fingerprint(self) -> str:
        """A digest of the kind of model, and of the name and shape of every place where a method could attach."""
        text = json.dumps([self.model_type, list(self.shapes.items())], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
