"""What tests of applied models ask of all of them."""

import torch


def logits(model, family):
    """What a model computes of its family's inputs."""
    with torch.no_grad():
        return model(**family.inputs()).logits


def perturb(model, seed=5):
    """Move everything that trains, so that B is not zero any more."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
