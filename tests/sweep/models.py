"""A model of any class, small, in float64, with weights drawn anew."""

from typing import Any

import torch
import transformers

from sweep.small import configuration

#: Parameters above which a model is not small, and would cost minutes.
LARGEST = 5_000_000
#: The standard deviation of weights: large enough that gradients do not drown in rounding.
SPREAD = 0.1


def build(name: str, task: str, dtype: torch.dtype = torch.float64) -> Any:
    """A seeded model in evaluation mode.

    name: of the class.
    task: that it is built for; models of encoders that predict the next token are made decoders.
    dtype: of all parameters.

    Raises ValueError where it is not small, and whatever its class raises.
    """
    architecture = getattr(transformers, name)
    config = configuration(architecture.config_class, name)
    if task == "causal-lm" and getattr(config, "is_decoder", None) is False:
        config.is_decoder = True
    if config.is_encoder_decoder and getattr(getattr(config, "decoder", None), "is_decoder", None) is False:
        config.decoder.is_decoder = config.decoder.add_cross_attention = True
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in architecture(config).parameters())
    if size > LARGEST:
        raise ValueError(f"not small: {size:,} parameters")
    torch.manual_seed(0)
    model = architecture(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, SPREAD)
            else:
                parameter.add_(SPREAD * torch.randn_like(parameter))
    return model
