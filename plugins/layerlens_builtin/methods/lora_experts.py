"""LoRA on linear modules and on stacked experts, the latter through PEFT's ``target_parameters``.

Every expert gets an A and a B of its own. In every forward pass PEFT adds the product of all of them to the stacked
weights, whatever the number of tokens, so that its FLOPs and the memory of the sum are those of all experts.
"""

from layerlens_builtin.methods import lora
from layerlens_core.plugin import Layer, Target


class _LoRAExperts(type(lora.METHOD)):  # type: ignore[misc]
    def targets(self, layer: Layer) -> tuple[Target, ...]:
        """As LoRA, and the stacked experts: r·E·(in + out) parameters and 4·E·r·in·out FLOPs a forward pass."""
        if not layer.experts:
            return ()
        experts = tuple(
            Target(
                name=weight.name,
                fixed=0,
                per_size=weight.experts * (weight.in_features + weight.out_features),
                flops_pass=4 * weight.experts * weight.in_features * weight.out_features,
                values_pass=weight.experts * weight.in_features * weight.out_features,
            )
            for weight in layer.experts
        )
        return (*super().targets(layer), *experts)


METHOD = _LoRAExperts()
