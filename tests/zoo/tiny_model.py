"""One model class at a tiny size, and the sizes that most of them share."""

import inspect as signatures
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
import transformers
from attrs import evolve, frozen
from torch import Tensor

from zoo.batches import text
from zoo.inventories import Expected

if TYPE_CHECKING:
    from layerlens_core.values.profile import Task

VOCABULARY = 97
PAD = 1
LABELS = 3
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": 3}
#: Two key-value heads for four query heads.
GROUPED = {**SIZES, **TOKENS, "num_key_value_heads": 2}
#: With three layers there is one in the middle, which many tests treat otherwise than its neighbours.
THREE = {"num_hidden_layers": 3}
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
class TinyModel:
    """A model class, its configuration, what it reads, and what it must be found to be made of.

    kind: as docs/families.md has it. row: its name there; None where it has no row, as its family has one already.
    batch: its inputs, for two samples. unused: the ends of names of linear modules that these inputs do not reach.
    expected: what inspecting it must find, where that is written down.
    """

    name: str
    kind: str
    row: str | None
    architecture: str
    config: Mapping[str, Any]
    batch: Callable[[], dict[str, Tensor]] = text
    unused: tuple[str, ...] = ()
    expected: Expected | None = None

    def with_config(self, **changes: Any) -> "TinyModel":
        """The same model class at other sizes; of the inventory that was expected nothing is known then."""
        return evolve(self, config={**self.config, **changes}, expected=None)

    def build(
        self, *, spread: float | None = 0.1, shifts: float = 0.0, dtype: torch.dtype | None = None
    ) -> transformers.PreTrainedModel:
        """A seeded model.

        spread: the standard deviation of weights, large enough that no layer is close to a constant and no gradient
        drowns in rounding; None leaves them as transformers initialises them. shifts: that of what is added to vectors,
        so that biases, gates and scales matter too.
        """
        torch.manual_seed(0)
        architecture = getattr(transformers, self.architecture)
        model = architecture(architecture.config_class(**deepcopy(dict(self.config)))).eval()
        model = model if dtype is None else model.to(dtype)
        if spread is None:
            return model
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0.0, spread)
                elif shifts:
                    parameter.add_(shifts * torch.randn_like(parameter))
        return model

    def inputs(self, *, labels: bool = False) -> dict[str, Tensor]:
        """One batch of two samples of seven tokens, or of images."""
        generator = torch.Generator().manual_seed(1)
        tokens = torch.randint(4, VOCABULARY, (2, 7), generator=generator)
        batch: dict[str, Tensor] = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        if "Image" in self.architecture:
            batch = {"pixel_values": torch.randn(2, 3, 16, 16, generator=generator)}
        if "Classification" in self.architecture:
            return {**batch, "labels": torch.tensor([0, 2])} if labels else batch
        if labels:
            return {**batch, "labels": tokens}
        if "decoder_input_ids" in signatures.signature(getattr(transformers, self.architecture).forward).parameters:
            batch["decoder_input_ids"] = tokens[:, :5].flip(0)
        return batch

    @property
    def task(self) -> "Task":
        """What a model of text is trained for."""
        if "SequenceClassification" in self.architecture:
            return "sequence-classification"
        if "ConditionalGeneration" in self.architecture:
            return "seq2seq-lm"
        return "masked-lm" if "MaskedLM" in self.architecture else "causal-lm"


def kind(name: str) -> Callable[..., TinyModel]:
    """A constructor of models of one kind, each with a row of its own name unless another is given."""

    def tiny_model(model: str, architecture: str, config: Mapping[str, Any], **options: Any) -> TinyModel:
        return TinyModel(name=model, kind=name, architecture=architecture, config=config, **{"row": model, **options})

    return tiny_model
