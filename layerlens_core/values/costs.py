"""Amounts of what a plan costs, their limits, and the training step that they are counted for.

A plan's total has two parts: what its candidates' own weights need, and the frozen model's part, which grows with the
depth that training reaches (`layerlens_core.allocation.flops`).
"""

from collections.abc import Mapping

from attrs import frozen

from layerlens_core.errors import BudgetError, nearest

#: Bytes of optimizer state for a trainable fp32 weight.
OPTIMIZER_BYTES = {"adamw": 8, "adamw_8bit": 2, "momentum": 4, "sgd": 0, "lion": 4}
#: A trainable weight and its gradient, in fp32.
WEIGHT_AND_GRADIENT_BYTES = 8
DTYPE_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


@frozen(kw_only=True)
class Cost:
    """One amount of each resource.

    params: trainable parameters.
    flops: FLOPs a token of training, forward and backward; a multiplication and an addition are two.
    memory: bytes while training.
    latency: seconds that a forward pass takes beyond the base model's.
    """

    params: int = 0
    flops: float = 0.0
    memory: float = 0.0
    latency: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            params=self.params + other.params,
            flops=self.flops + other.flops,
            memory=self.memory + other.memory,
            latency=self.latency + other.latency,
        )

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(
            params=self.params - other.params,
            flops=self.flops - other.flops,
            memory=self.memory - other.memory,
            latency=self.latency - other.latency,
        )

    def times(self, factor: int) -> "Cost":
        """Each amount, this many times."""
        return Cost(**{name: getattr(self, name) * factor for name in RESOURCES})

    def within(self, limits: "Limits") -> bool:
        """Whether no bound is exceeded."""
        return not self.exceeded(limits)

    def exceeded(self, limits: "Limits") -> list[str]:
        """The resources of which there is more than allowed."""
        return [name for name in limits.bounds if getattr(self, name) > limits.most(name)]


RESOURCES = ("params", "flops", "memory", "latency")


@frozen(kw_only=True)
class Limits:
    """Hard bounds on a plan's cost, each measured as in `Cost`; None where a resource is unbounded.

    params: on trainable parameters.
    flops: on FLOPs a token.
    memory: on bytes while training.
    latency: on seconds a forward pass.
    """

    params: int | None = None
    flops: float | None = None
    memory: float | None = None
    latency: float | None = None

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds by resource, without those that are None."""
        return {name: bound for name in RESOURCES if (bound := getattr(self, name)) is not None}

    def most(self, name: str) -> float:
        """What a sum may come to: parameters are counted, the others are floats, whose rounding is no excess."""
        bound: float = getattr(self, name)
        return bound if name == "params" else bound * (1 + 1e-9)


@frozen(kw_only=True)
class Training:
    """How the plan will be trained, as far as its cost depends on it.

    batch: samples in one step.
    length: tokens of a sample.
    optimizer: a key of `OPTIMIZER_BYTES`.
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
        if self.batch < 1 or self.length < 1:
            raise BudgetError(f"a step of {self.batch} samples of {self.length} tokens trains nothing; give at least 1")
        if self.dtype is not None and self.dtype not in DTYPE_BYTES:
            raise BudgetError(
                f"no dtype of activations is named {self.dtype!r}; there are: {', '.join(DTYPE_BYTES)}."
                + nearest(self.dtype, DTYPE_BYTES)
            )
        if self.optimizer not in OPTIMIZER_BYTES:
            raise BudgetError(
                f"no optimizer is named {self.optimizer!r}; there are: {', '.join(OPTIMIZER_BYTES)}."
                + nearest(self.optimizer, OPTIMIZER_BYTES)
            )

    @property
    def bytes_per_parameter(self) -> int:
        """Memory of a trainable parameter: weight, gradient and optimizer states."""
        return WEIGHT_AND_GRADIENT_BYTES + OPTIMIZER_BYTES[self.optimizer]


@frozen(kw_only=True)
class Activations:
    """What the forward pass keeps for the backward pass, measured, in bytes a token and the profiled model's dtype.

    through: by layer, what is kept where gradients only pass through it.
    adapted: what more is kept where all its linear modules are trained by LoRA (their inputs).
    head: what is kept after the last layer, logits included, with the peak of memory as the backward pass begins
        (`layerlens_core.profiling.costs.activations`).
    """

    through: Mapping[str, float]
    adapted: Mapping[str, float]
    head: float
