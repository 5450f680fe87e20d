"""One model class at a tiny size."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
import transformers
from attrs import frozen
from torch import Tensor

from families.batches import text

VOCABULARY = 97
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
#: Two key-value heads for four query heads.
GROUPED = {**SIZES, **TOKENS, "num_key_value_heads": 2}
#: Latent attention: keys of 12 = 8 + 4 and values of 6, through low-rank projections.
LATENT = {
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 6,
    "num_key_value_heads": 4,
}


@frozen(kw_only=True)
class Specimen:
    """A model class, its configuration, and what it reads.

    batch: its inputs, for two samples. unused: the ends of names of linear modules that these inputs do not reach.
    """

    name: str
    kind: str
    architecture: str
    config: Mapping[str, Any]
    batch: Callable[[], dict[str, Tensor]] = text
    unused: tuple[str, ...] = ()

    def build(self) -> transformers.PreTrainedModel:
        """A seeded model in which every weight, gate and scale matters.

        It is frozen, as PEFT leaves it: torch.matmul chooses its kernel by whether a weight requires a gradient, and
        the last bit depends on that.
        """
        torch.manual_seed(0)
        architecture = getattr(transformers, self.architecture)
        model = architecture(architecture.config_class(**deepcopy(dict(self.config)))).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0.0, 0.1)
                else:
                    parameter.add_(0.05 * torch.randn_like(parameter))
        return model.requires_grad_(False)


def kind(name: str) -> Callable[..., Specimen]:
    """A constructor of specimens of one kind."""

    def specimen(family: str, architecture: str, config: Mapping[str, Any], **options: Any) -> Specimen:
        return Specimen(name=family, kind=name, architecture=architecture, config=config, **options)

    return specimen
