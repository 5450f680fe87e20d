"""Use a model as it is, without leaving a trace on it (`layerlens_core.adaptation.snapshot` is for changing it)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from layerlens_core.inspection.accessors import input_embeddings
from layerlens_core.inspection.packed import packed_tensors
from layerlens_core.profiling.model.batch_norm import right_batch_norms


@contextmanager
def untouched(model: PreTrainedModel) -> Iterator[None]:
    """Frozen weights and evaluation mode inside; afterwards, also after an exception, all is as before.

    Restored are ``requires_grad`` and ``.grad`` of every parameter, the train or eval mode of every module, and the
    random state of PyTorch on every device.

    model: of torch.
    """
    gradients = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        try:
            model.requires_grad_(False)
            model.eval()
            for module in model.modules():
                if packed_tensors(module):
                    # Run in evaluation mode, bitsandbytes (on a CPU) and GPTQModel pack their weights anew, for
                    # good, and let no gradient through any more. Quantised modules drop nothing out.
                    module.training = True
            with right_batch_norms(model):
                yield
        finally:
            for module, training in modes:
                module.training = training
            for parameter, required, gradient in gradients:
                parameter.requires_grad_(required)
                parameter.grad = gradient


@contextmanager
def checkpointing_kept(model: PreTrainedModel) -> Iterator[None]:
    """Keep gradient checkpointing on in evaluation mode, without dropout.

    transformers checkpoints a layer only while ``layer.training`` is set, which would also switch dropout on
    inside the layer. So the flag is set on the layer alone, and taken away while its forward runs.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing
    ]
    originals = [layer._gradient_checkpointing_func for layer in layers]
    handles = [_reentrant_entry(embeddings)] if layers and (embeddings := input_embeddings(model)) is not None else []
    try:
        for layer, original in zip(layers, originals, strict=True):
            layer.training = True
            layer._gradient_checkpointing_func = partial(_checkpoint_in_eval, layer, original)
        yield
    finally:
        for layer, original in zip(layers, originals, strict=True):
            layer.training = False
            layer._gradient_checkpointing_func = original
        for handle in handles:
            handle.remove()


def _checkpoint_in_eval(
    layer: nn.Module, checkpoint: Callable[..., Any], forward: Callable[..., Any], *args: Any
) -> Any:
    def forward_in_eval(*inputs: Any) -> Any:
        layer.training = False
        try:
            return forward(*inputs)
        finally:
            layer.training = True

    return checkpoint(forward_in_eval, *args)


def _reentrant_entry(embeddings: nn.Module) -> torch.utils.hooks.RemovableHandle:
    """Make embeddings require a gradient: reentrant checkpointing keeps a graph only where an input requires one."""

    def require(_module: nn.Module, _args: Any, output: Tensor) -> Tensor | None:
        if torch.is_grad_enabled() and isinstance(output, Tensor) and output.is_leaf:
            return output.requires_grad_(True).clone()  # a leaf must not be written to in place, which some models do
        return None

    return embeddings.register_forward_hook(require)
