"""Check, once, that everything that a plan trains takes part in the loss."""

from collections.abc import Mapping

import torch
from peft import PeftModel
from torch import Tensor

from layerlens_core.errors import ModelError


def check_gradients(model: PeftModel, batch: Mapping[str, Tensor], *, seed: int = 0) -> None:
    """Raise `ModelError` where a trainable parameter gets no gradient from a batch, and name the first.

    At the start many gradients are zero because B, an up-projection or a gate is. So gradients are taken once with all
    trained weights moved a little. Weights, gradients, modes and the random state are as before afterwards, also after
    an exception.

    model: with the plan applied.
    batch: what the model takes, labels included, so that it returns a loss.
    seed: draws by how much the weights are moved.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise ModelError("nothing in the model trains; load an adapter with trainable=True, and do not disable it")
    before = {name: (p.detach().clone(), p.grad) for name, p in trained.items()}
    devices = list({p.device for p in trained.values() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        try:
            with torch.no_grad():
                for parameter in trained.values():
                    parameter.add_(0.02 * torch.randn_like(parameter))
                    parameter.grad = None
            with torch.enable_grad():
                loss = model(**batch).loss
                if loss is None:
                    raise ModelError("the model returned no loss; give a batch with labels")
                torch.autograd.backward(loss)
            reached = {name for name, p in trained.items() if p.grad is not None and bool(p.grad.any())}
        finally:
            with torch.no_grad():
                for name, parameter in trained.items():
                    value, gradient = before[name]
                    parameter.copy_(value)
                    parameter.grad = gradient
    missing = [name for name in trained if name not in reached]
    if missing:
        raise ModelError(
            f"{len(missing)} of {len(trained)} trainable parameters get no gradient from this batch, {missing[0]} "
            "first: the model does not call that module, or its output does not reach the loss"
        )
