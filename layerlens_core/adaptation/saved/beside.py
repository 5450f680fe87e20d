"""What an adapter holds beside LoRA and side modules: heads, resized embeddings, tokens that were trained alone."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from layerlens_core.adaptation.saved.config import Said
from layerlens_core.adaptation.saved.files import AdapterFiles
from layerlens_core.errors import FileError, ModelError

#: How PEFT ends the name of the rows of an embedding that were trained alone.
_TOKENS = ".token_adapter.trainable_tokens_delta"


def check_beside(
    files: AdapterFiles, said: Said, others: Mapping[str, Tensor], heads: Collection[str], model: PreTrainedModel
) -> None:
    """Raises `ModelError` where heads, embeddings and trained tokens are not those of the model."""
    own = {name: tensor.shape for name, tensor in model.state_dict(keep_vars=True).items()}
    embeddings = set(embedding_names(model))
    modules = [name for name, _ in model.named_modules(remove_duplicate=False)]
    trained = [name for name in modules if any(name.endswith(head) for head in heads)]
    for head in heads:
        if not any(name.endswith(head) for name in trained):
            raise ModelError(f"{files.directory} trains {head} in full, which this {type(model).__name__} lacks")
    in_heads = {key for key in own for name in trained if key.startswith(f"{name}.")}
    for name, tensor in others.items():
        if name.endswith(_TOKENS):
            _check_tokens(files, said, name, tensor, own)
        elif name not in in_heads and name.rpartition(".")[0] not in embeddings:
            raise ModelError(f"{files.directory} holds {name}, for which this model has no place")
        elif tensor.shape != own.get(name):
            _refuse_shape(files, name, tensor.shape, own.get(name))
    if lacking := sorted(_needed(in_heads, trained, model) - others.keys()):
        raise ModelError(f"{files.directory} lacks {lacking[0]}, which this model needs ({len(lacking)} are missing)")


def _needed(in_heads: Collection[str], trained: Collection[str], model: nn.Module) -> set[str]:
    """The tensors of heads, without those of a head that shares them with another."""
    tied = {name for name in trained if name in embedding_names(model)[1:]}
    return {key for key in in_heads if key.rpartition(".")[0] not in tied}


def embedding_names(model: nn.Module) -> list[str]:
    """The names of the token embeddings and of the language-model head, which PEFT saves where they were resized."""
    names = {id(module): name for name, module in model.named_modules()}
    layers = []
    for getter in ("get_input_embeddings", "get_output_embeddings"):
        try:
            layers.append(getattr(model, getter)())
        except (AttributeError, NotImplementedError):  # a model without tokens
            continue
    return [names[id(layer)] for layer in layers if id(layer) in names]


def _refuse_shape(files: AdapterFiles, name: str, saved: torch.Size, own: torch.Size | None) -> None:
    if own is None:
        raise ModelError(f"{files.directory} holds {name}, for which this model has no place")
    if saved[1:] == own[1:]:
        raise ModelError(
            f"{files.directory} was saved with {saved[0]:,} rows in {name}, but this model has {own[0]:,}; "
            f"call model.resize_token_embeddings({saved[0]}) first, as before the training"
        )
    raise ModelError(f"{files.directory} holds {name} of {list(saved)}, but in this model it is {list(own)}")


def _check_tokens(files: AdapterFiles, said: Said, name: str, tensor: Tensor, own: Mapping[str, torch.Size]) -> None:
    """Raises where rows of an embedding that were trained by themselves are not rows of the model's."""
    asked = said.kept.get("trainable_token_indices")
    host = name.removesuffix(_TOKENS)
    weight = own.get(f"{host}.weight")
    if asked is None or weight is None:
        raise ModelError(f"{files.directory} holds {name}, for which this model has no place")
    tokens = asked if isinstance(asked, list) else next((t for end, t in asked.items() if host.endswith(end)), [])
    if list(tensor.shape) != [len(tokens), weight[-1]]:
        raise FileError(f"{files.directory} is damaged: {name} is {list(tensor.shape)} for {len(tokens)} tokens")
    if tokens and max(tokens) >= weight[0]:
        raise ModelError(
            f"{files.directory} trains token {max(tokens)} of {host}, but this model has {weight[0]:,}; "
            f"call model.resize_token_embeddings(…) first, as before the training"
        )
