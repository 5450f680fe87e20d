"""What a plan costs: parameters, training FLOPs, training memory and inference latency, each counted from shapes.

Two parts. A *candidate* costs what its own weights need. The *depth* of a plan costs the rest: below the lowest
trained layer nothing is kept and nothing is back-propagated, so the frozen model above it is dearer the deeper
training reaches. The total of a plan is the depth's cost plus its candidates'.
"""

import re
from collections.abc import Iterable, Mapping

from attrs import frozen

from layerlens_core.errors import BudgetError, nearest
from layerlens_core.values.inventory import Inventory, Layer, LinearModule

#: Bytes of optimizer state for a trainable fp32 weight.
OPTIMIZER_BYTES = {"adamw": 8, "adamw_8bit": 2, "momentum": 4, "sgd": 0, "lion": 4}
#: A trainable weight and its gradient, in fp32.
WEIGHT_AND_GRADIENT_BYTES = 8
DTYPE_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
#: Names of linear maps between the embeddings and the first layer: OPT's, ALBERT's, ELECTRA's.
_BEFORE_LAYERS = re.compile(r"(_in|embeddings?_project(ion)?|embed_proj)$")
_KEY_OR_VALUE = re.compile(r"(^|\.)(k_proj|key|k_lin|k|v_proj|value|v_lin|v)$")


@frozen(kw_only=True)
class Cost:
    """One amount of each resource.

    params: trainable parameters. flops: of training, forward and backward, a token (a multiplication and an
    addition are two). memory: bytes while training. latency: seconds a forward pass beyond the base model's.
    """

    params: int = 0
    flops: float = 0.0
    memory: float = 0.0
    latency: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in RESOURCES})

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(**{name: getattr(self, name) - getattr(other, name) for name in RESOURCES})

    def times(self, factor: int) -> "Cost":
        """So many times each amount."""
        return Cost(**{name: getattr(self, name) * factor for name in RESOURCES})

    def within(self, limits: "Limits") -> bool:
        """Whether no bound is exceeded."""
        return not self.exceeded(limits)

    def exceeded(self, limits: "Limits") -> list[str]:
        """The resources of which there is more than allowed."""
        # Parameters are counted; the others are sums of floats, whose rounding is no excess.
        slack = {"params": 1.0}
        return [
            name for name, bound in limits.bounds.items() if getattr(self, name) > bound * slack.get(name, 1 + 1e-9)
        ]


RESOURCES = ("params", "flops", "memory", "latency")


@frozen(kw_only=True)
class Limits:
    """Hard bounds on a plan's cost, in the units of `Cost`; None where there is none."""

    params: int | None = None
    flops: float | None = None
    memory: float | None = None
    latency: float | None = None

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that there are."""
        return {name: bound for name in RESOURCES if (bound := getattr(self, name)) is not None}


@frozen(kw_only=True)
class Training:
    """How the plan will be trained, as far as its cost depends on it.

    batch, length: samples and tokens in one step. optimizer: a key of `OPTIMIZER_BYTES`.
    dtype: of the frozen weights and of activations; None takes the profiled model's.
    merged: LoRA is merged into the weights for inference, and then costs no latency.
    """

    batch: int = 8
    length: int = 512
    optimizer: str = "adamw"
    dtype: str | None = None
    merged: bool = True

    @property
    def tokens(self) -> int:
        """Tokens in one step."""
        return self.batch * self.length

    @property
    def activation_bytes(self) -> int:
        """Bytes of a kept activation."""
        return DTYPE_BYTES[self.dtype or "float32"]

    def __attrs_post_init__(self) -> None:
        if self.optimizer not in OPTIMIZER_BYTES:
            raise BudgetError(
                f"no optimizer is named {self.optimizer!r}; there are: {', '.join(OPTIMIZER_BYTES)}."
                + nearest(self.optimizer, OPTIMIZER_BYTES)
            )

    @property
    def bytes_per_parameter(self) -> int:
        """Memory of a trainable parameter: weight, gradient and optimizer states."""
        return WEIGHT_AND_GRADIENT_BYTES + OPTIMIZER_BYTES[self.optimizer]


def forward_flops(inventory: Inventory, length: int) -> float:
    """Of the frozen model, a token: every matrix product, attention over ``length`` tokens, the output head.

    Not counted: what runs once a sample (poolers, heads of classifiers), routers of experts, and what is no matrix
    product. Of an encoder and a decoder, both are taken to run over ``length`` tokens.
    """
    layers = sum(_products(layer, inventory) + _attention(layer, length) for layer in inventory.layers)
    return layers + _outside(inventory, before=True) + _outside(inventory, before=False)


def depth_flops(inventory: Inventory, length: int) -> tuple[float, ...]:
    """FLOPs a token of the frozen model by lowest trained layer: forward, and backward down to that layer.

    Entry i is for layer i; the last entry, for a plan that trains no layer, is the forward pass alone. The
    backward pass computes activation gradients only: as many as forward for a linear module, twice as
    many for attention. The lowest layer's modules that read its input need none. Held to PyTorch's own count of a
    training step, LoRA added, within 1 % in tests/models/test_costs.py.
    """
    forward = forward_flops(inventory, length)
    first_decoder = next((layer for layer in inventory.layers if len(layer.attentions) > 1), None)
    result, above, to_encoder = [forward], _outside(inventory, before=False), 0.0
    for layer in reversed(inventory.layers):
        backward = _products(layer, inventory) + 2 * _attention(layer, length)
        if decodes := len(layer.attentions) > 1:
            to_encoder += _reads_encoder(layer)
        # While only the decoder is trained, what it reads of the encoder needs no gradient.
        result.append(forward + above + backward - _reads_input(layer, inventory) - (to_encoder if decodes else 0.0))
        above += backward
        if layer is first_decoder:
            above -= _reads_input(layer, inventory)  # the embeddings of the decoder's own tokens are not trained
    return tuple(reversed(result))


def full_training_flops(inventory: Inventory, length: int) -> float:
    """FLOPs a token of full fine-tuning: forward, activation gradients and weight gradients."""
    weights = sum(_products(layer, inventory) for layer in inventory.layers)
    outside = _outside(inventory, before=True) + _outside(inventory, before=False)
    return depth_flops(inventory, length)[0] + weights + outside


def _linear(modules: Iterable[LinearModule]) -> float:
    return float(sum(2 * module.in_features * module.out_features for module in modules))


def _experts(layer: Layer, inventory: Inventory) -> float:
    return float(sum(2 * e.parameters * e.active / e.count for e in inventory.experts if e.layer == layer.name))


def _products(layer: Layer, inventory: Inventory) -> float:
    """Products with weights, in the forward pass."""
    return _linear(layer.modules) + _experts(layer, inventory)


def _attention(layer: Layer, length: int) -> float:
    """Products of queries with keys and of weights with values, over all pairs: what is masked is computed too."""
    return float(sum(2 * length * a.query_heads * (a.key_dim + a.value_dim) for a in layer.attentions))


def _outside(inventory: Inventory, *, before: bool) -> float:
    """Linear maps outside the layers that run once a token, before the layers or after, the output head included."""
    modules = [module for module in inventory.outside if "pooler" not in module.name]
    if inventory.output is not None:
        modules.append(inventory.output)
    return _linear(module for module in modules if (_BEFORE_LAYERS.search(module.name) is not None) == before)


def _reads_input(layer: Layer, inventory: Inventory) -> float:
    """FLOPs of the modules whose inputs in the lowest layer depend on nothing trained.

    They are the projections into the layer's first attention, and the feed-forward's where it stands beside it. A
    projection from another width than that of the residual stream follows another one (latent attention).
    """
    first = layer.attentions[:1]
    widths = {module.out_features for module in layer.residual_writers}
    return _linear(
        module
        for module in layer.modules
        if not module.writes_residual
        and module.in_features in widths
        and (inventory.parallel or any(module.name.startswith(f"{a.name}.") for a in first))
    )


def _reads_encoder(layer: Layer) -> float:
    """FLOPs of the keys and values of cross-attention, of all attentions after a layer's first."""
    return _linear(
        module
        for module in layer.modules
        if _KEY_OR_VALUE.search(module.name) and any(module.name.startswith(f"{a.name}.") for a in layer.attentions[1:])
    )


@frozen(kw_only=True)
class Activations:
    """What the forward pass keeps for the backward pass, measured, in bytes a token and the profiled model's dtype.

    through: by layer, where gradients only pass through it. adapted: what more is kept where all its linear modules
    are trained by LoRA (their inputs). head: after the last layer, logits included, with the peak of memory as the
    backward pass begins (`layerlens_core.profiling.costs.activations`).
    """

    through: Mapping[str, float]
    adapted: Mapping[str, float]
    head: float


def depth_costs(inventory: Inventory, training: Training, activations: Activations | None) -> tuple[Cost, ...]:
    """The frozen model's cost by lowest trained layer; the last entry is for a plan that trains none.

    Memory is that of the weights in the training's dtype, of task heads beside them, which train in full, of what
    is kept from the lowest trained layer up, and of the head's peak. Without measured activations it is the weights'
    and heads' alone. CUDA's context and the allocator's fragmentation come on top.
    """
    flops = depth_flops(inventory, training.length)
    heads = sum(head.parameters for head in inventory.heads)
    weights = float(inventory.parameters * training.activation_bytes + heads * training.bytes_per_parameter)
    kept = [0.0]
    for layer in reversed(inventory.layers):
        kept.append(kept[-1] + (activations.through.get(layer.name, 0.0) if activations else 0.0))
    head = activations.head if activations else 0.0
    memory = [weights + (amount + head) * training.tokens for amount in reversed(kept)]
    memory[-1] = weights
    return tuple(Cost(flops=f, memory=m) for f, m in zip(flops, memory, strict=True))


@frozen(kw_only=True)
class References:
    """What budgets in shares and in ranks refer to.

    whole: all parameters of the model, and the FLOPs and memory of full fine-tuning.
    """

    inventory: Inventory
    training: Training
    depths: tuple[Cost, ...]
    adapted: Mapping[str, float]

    @property
    def whole(self) -> Cost:
        """All parameters, and FLOPs and memory of full fine-tuning in fp32 optimizer states."""
        params = self.inventory.parameters
        kept = sum(self.adapted.values()) * self.training.tokens
        return Cost(
            params=params,
            flops=full_training_flops(self.inventory, self.training.length),
            memory=self.depths[0].memory + kept + params * self.training.bytes_per_parameter,
        )

    def uniform_lora(self, rank: int) -> Cost:
        """LoRA of one rank on every linear module, the frozen model included but for ``params``."""
        params = self.inventory.lora_parameters(rank)
        kept = sum(self.adapted.values()) * self.training.tokens
        own = Cost(params=params, flops=6.0 * params, memory=params * self.training.bytes_per_parameter + kept)
        return self.depths[0] + own
