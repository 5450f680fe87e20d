"""What budgets in shares of the model, and in ranks, refer to."""

from collections.abc import Mapping

from attrs import frozen

from layerlens_core.allocation.flops import full_training_flops
from layerlens_core.values.costs import Cost, Training
from layerlens_core.values.inventory import Inventory


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
