"""Gated prefixes (Li & Liang 2021, arXiv 2101.00190; gates as in arXiv 2303.16199) in every attention."""

from layerlens_builtin.methods.curves import PREFIX
from layerlens_core.plugin import Layer, Target

LONGEST = 128


class _Prefix:
    # A length of 8 costs about what a LoRA rank does where keys and values are not grouped.
    notch, penalty = 8, 1.1
    ceiling, half, _ = PREFIX
    updates_weights = False

    def targets(self, layer: Layer) -> tuple[Target, ...]:
        """Attentions on transformers' interface: n·H_kv·(d_k + d_v) for n positions, and a gate a query head."""
        return tuple(
            Target(
                name=attention.name,
                fixed=attention.query_heads,
                per_size=attention.key_value_heads * (attention.key_dim + attention.value_dim),
                flops=2 * attention.query_heads * (attention.key_dim + attention.value_dim),
                kept_fixed=attention.query_heads * attention.value_dim,
                kept=attention.query_heads,
            )
            for attention in layer.attentions
            if attention.interface
        )

    def largest(self, layer: Layer) -> int:
        """At most `LONGEST` positions."""
        return LONGEST if any(attention.interface for attention in layer.attentions) else 0


METHOD = _Prefix()
