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
#: Parts that PEFT puts into names of embeddings that it saves because they were resized, where it also trains them.
_WRAPPERS = (".modules_to_save", ".original_module", ".token_adapter.base_layer")


def check_beside(
    files: AdapterFiles, said: Said, others: Mapping[str, Tensor], heads: Collection[str], model: PreTrainedModel
) -> None:
    """Raises `ModelError` where heads, embeddings and trained tokens are not those of the model."""
    own = {name: tensor.shape for name, tensor in model.state_dict(keep_vars=True).items()}
    embeddings = set(embedding_names(model))
    modules = [name for name, _ in model.named_modules(remove_duplicate=False)]
    trained = [name for name in modules if any(name.endswith(head) for head in heads)]
    if said.kept.get("trainable_token_indices") and not any(name.endswith(_TOKENS) for name in others):
        raise FileError(f"{files.directory} lacks the tokens of trainable_token_indices in {files.config_path.name}")
    for head in heads:
        if not any(name.endswith(head) for name in trained):
            raise ModelError(f"{files.directory} trains {head} in full, which this {type(model).__name__} lacks")
    in_heads = {key for key in own for name in trained if key.startswith(f"{name}.")}
    for saved, tensor in sorted(others.items()):
        name = _unwrapped(saved)
        if saved.endswith(_TOKENS):
            _check_tokens(files, said, saved, tensor, own)
        elif name not in own or (name not in in_heads and _module(name) not in embeddings):
            raise ModelError(f"{files.directory} holds {saved}, for which this model has no place")
        elif tensor.shape == own[name]:
            continue
        elif _module(name) not in embeddings or tensor.dim() == 0 or tensor.shape[1:] != own[name][1:]:
            raise ModelError(
                f"{files.directory} holds {name} of {list(tensor.shape)}, but in this model it is {list(own[name])}"
            )
        else:
            raise ModelError(
                f"{files.directory} was saved with {len(tensor):,} rows in {name}, but this model has "
                f"{own[name][0]:,}; call model.resize_token_embeddings({len(tensor)}) first, as before the training"
            )
    if lacking := sorted(_needed(in_heads, trained, model) - others.keys()):
        raise ModelError(f"{files.directory} lacks {lacking[0]}, which this model needs ({len(lacking)} are missing)")


def replaced_embeddings(files: AdapterFiles, model: nn.Module) -> list[nn.Parameter]:
    """The parameters of token embeddings and of the language-model head that an adapter replaces."""
    held = {_module(_unwrapped(name)) for name in files.tensors}
    return [p for name in embedding_names(model) if name in held for p in model.get_submodule(name).parameters()]


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(f"{wrapper}.", ".")
    return name


def _needed(in_heads: Collection[str], trained: Collection[str], model: nn.Module) -> set[str]:
    """The tensors of heads, without those that a language-model head shares with the embeddings."""
    names = embedding_names(model)
    weights = [getattr(model.get_submodule(name), "weight", None) for name in names]
    tied = names[1:] if len(set(map(id, weights))) < len(weights) and set(names) <= set(trained) else []
    return {key for key in in_heads if _module(key) not in tied}


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


def _check_tokens(files: AdapterFiles, said: Said, name: str, tensor: Tensor, own: Mapping[str, torch.Size]) -> None:
    """Raises where rows of an embedding that were trained by themselves are not rows of the model's."""
    asked = said.kept.get("trainable_token_indices")
    host = name.removesuffix(_TOKENS)
    weight = own.get(f"{host}.weight")
    if asked is None or weight is None:
        raise ModelError(f"{files.directory} holds {name}, for which this model has no place")
    by_end = asked if isinstance(asked, dict) else {"": asked}
    # A head that shares its weight with the embeddings trains their tokens, by no name of its own.
    lists = [tokens for end, tokens in by_end.items() if host.endswith(end)] or list(by_end.values())
    tokens = next((tokens for tokens in lists if list(tensor.shape) == [len(tokens), weight[-1]]), None)
    if tokens is None:
        raise FileError(f"{files.directory} is damaged: {name} is {list(tensor.shape)} for {len(lists[0])} tokens")
    if max(tokens) >= weight[0]:
        raise ModelError(
            f"{files.directory} trains token {max(tokens)} of {host}, but this model has {weight[0]:,}; "
            f"call model.resize_token_embeddings(…) first, as before the training"
        )
