"""Cores: W + s·U·R·V, R of n × n trained between frozen orthonormal factors, as LoRA-XS has it (arXiv 2405.17604).

U and V come from a profile or a warm-up (`layerlens_core.files.directions`). n² parameters, where LoRA
takes n·(in + out): it serves budgets below the first rank of LoRA.
"""

from layerlens_builtin.methods.curves import CORE
from layerlens_core.plugin import Layer, LinearModule, Target

LARGEST_RANK = 128
#: Weights of a lower full rank take no core: one of their size would hold all others of their layer small.
LEAST_FULL_RANK = 8
#: Bytes of an entry of U and V, which are held in float32 as PEFT holds LoRA.
ENTRY_BYTES = 4


class _Core:
    notch, penalty = 1, 1.0
    ceiling, half, _ = CORE
    updates_weights = True

    def targets(self, layer: Layer) -> tuple[Target, ...]:
        """Every linear module with a full rank of `LEAST_FULL_RANK`; n² parameters at size n.

        Forward FLOPs a token are 2n·(in + out) through V and U, which no gradient is computed for, and 2n² through R.
        Of the tokens only x·Vᵀ is kept, as the gradient of R needs no more.
        """
        return tuple(
            Target(
                name=module.name,
                fixed=0,
                per_size=0,
                per_square=1,
                held_bytes=ENTRY_BYTES * (module.in_features + module.out_features),
                flops_frozen=2 * (module.in_features + module.out_features),
                flops_square=2,
                keeps_input=False,
                kept=1,
            )
            for module in _places(layer)
        )

    def largest(self, layer: Layer) -> int:
        """At most `LARGEST_RANK`, and what is possible."""
        return min(LARGEST_RANK, self.possible(layer))

    def possible(self, layer: Layer) -> int:
        """The full rank of every module that takes a core."""
        return min((min(m.in_features, m.out_features) for m in _places(layer)), default=LARGEST_RANK)


def _places(layer: Layer) -> list[LinearModule]:
    return [m for m in layer.modules if min(m.in_features, m.out_features) >= LEAST_FULL_RANK]


METHOD = _Core()
