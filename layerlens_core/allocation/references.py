"""What budgets that are shares of the model, or ranks, amount to."""

from collections.abc import Mapping

from attrs import frozen

from layerlens_core.allocation.flops import full_training_flops
from layerlens_core.values.costs import Cost, Training
from layerlens_core.values.inventory import Inventory


@frozen(kw_only=True)
class References:
    """What budgets that are shares of the model, or ranks, amount to.

    inventory: of the model.
    training: the step that FLOPs and memory are counted for.
    depths: the frozen model's cost by lowest trained layer.
    adapted: by layer, bytes a token that LoRA's inputs take.
    """

    inventory: Inventory
    training: Training
    depths: tuple[Cost, ...]
    adapted: Mapping[str, float]

    @property
    def whole(self) -> Cost:
        """All parameters, and the FLOPs and memory of full fine-tuning with optimizer states in fp32."""
        params = self.inventory.parameters
        kept = sum(self.adapted.values()) * self.training.tokens
        return Cost(
            params=params,
            flops=full_training_flops(self.inventory, self.training.length),
            memory=self.depths[0].memory + kept + params * self.training.bytes_per_parameter,
        )

    def uniform_lora(self, rank: int) -> Cost:
        """LoRA of one rank on every linear module; the frozen model is in all amounts but ``params``."""
        params = self.inventory.lora_parameters(rank)
        kept = sum(self.adapted.values()) * self.training.tokens
        own = Cost(params=params, flops=6.0 * params, memory=params * self.training.bytes_per_parameter + kept)
        return self.depths[0] + own
