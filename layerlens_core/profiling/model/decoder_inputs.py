"""What a sequence-to-sequence model's decoder reads: the labels, shifted as the model itself does it."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from layerlens_core.errors import ModelError, first_line
from layerlens_core.profiling.samples.sample import Sample


class _Seen(Exception):
    """The decoder's inputs were seen, so that the model need not go on."""


def decoder_inputs(model: PreTrainedModel, inputs: Sample, labels: Tensor) -> Tensor:
    """The decoder's inputs [samples, positions].

    Some classes have a method for it. Others shift labels only within their forward pass: it is begun with labels, and
    left when the model inside is called with the decoder's inputs.

    model: of the class.
    inputs: what the encoder reads.
    labels: [samples, positions].

    Raises `ModelError` where the class does neither, or is of another kind.
    """
    if not getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(f"{type(model).__name__} has no encoder and decoder; its task is causal-lm")
    method = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if method is not None:
        result: Tensor = method(labels=labels)
        return result
    seen: list[Tensor] = []

    def looking(key: str) -> Any:
        def look(_module: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if isinstance(found := kwargs.get(key), Tensor):
                seen.append(found)
                raise _Seen

        return look

    handles = [
        child.register_forward_pre_hook(
            looking("input_ids" if "decoder" in name else "decoder_input_ids"), with_kwargs=True
        )
        for name, child in model.named_children()
    ]
    why = "it makes none of labels"
    try:
        with torch.no_grad():
            model(**inputs, labels=labels)
    except _Seen:
        return seen[0]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # models raise whatever they like
        why = f"{type(error).__name__}: {first_line(error)}"
    finally:
        for handle in handles:
            handle.remove()
    raise ModelError(
        f"{type(model).__name__} tells no inputs for its decoder ({why}); add decoder_input_ids to the batches"
    )
