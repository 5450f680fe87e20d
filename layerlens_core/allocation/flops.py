"""What the frozen model costs, by the lowest layer that a plan trains: FLOPs and memory, counted from shapes.

Below the lowest trained layer nothing is kept and nothing is back-propagated, so the deeper training reaches, the more
the frozen model costs. The total of a plan is this cost plus its candidates'.
"""

import re
from collections.abc import Iterable

from layerlens_core.values.costs import Activations, Cost, Training
from layerlens_core.values.inventory import Inventory, Layer, LinearModule

#: Names of linear maps between the embeddings and the first layer: OPT's, ALBERT's, ELECTRA's.
_BEFORE_LAYERS = re.compile(r"(_in|embeddings?_project(ion)?|embed_proj)$")
_KEY_OR_VALUE = re.compile(r"(^|\.)(k_proj|key|k_lin|k|v_proj|value|v_lin|v)$")


def forward_flops(inventory: Inventory, length: int) -> float:
    """FLOPs a token of the frozen model's forward pass: every matrix product, attention, the output head.

    Not counted: what runs once a sample (poolers, heads of classifiers), routers of experts, and what is no matrix
    product. Where there are an encoder and a decoder, both are taken to run over the same number of tokens.

    inventory: of the model.
    length: tokens that attention runs over.
    """
    layers = sum(_products(layer, inventory) + _attention(layer, length) for layer in inventory.layers)
    return layers + _outside(inventory, before=True) + _outside(inventory, before=False)


def depth_flops(inventory: Inventory, length: int) -> tuple[float, ...]:
    """FLOPs a token of the frozen model by lowest trained layer: forward, and backward down to that layer.

    Entry i is for layer i; the last entry, for a plan that trains no layer, is the forward pass alone. The backward
    pass computes activation gradients only: as many FLOPs as forward for a linear module, twice as many for attention.
    In the lowest layer the modules that read its input need none. Compared with PyTorch's own count of a training step,
    LoRA added, in tests/models/test_costs.py: within 1 %.

    inventory: of the model.
    length: tokens that attention runs over.
    """
    forward = forward_flops(inventory, length)
    first_decoder = next((layer for layer in inventory.layers if len(layer.attentions) > 1), None)
    result, above, to_encoder = [forward], _outside(inventory, before=False), 0.0
    for layer in reversed(inventory.layers):
        backward = _products(layer, inventory) + 2 * _attention(layer, length)
        if decodes := len(layer.attentions) > 1:
            to_encoder += _reads_encoder(layer)
        # While only the decoder is trained, the encoder's output, which it reads, needs no gradient.
        result.append(forward + above + backward - _reads_input(layer, inventory) - (to_encoder if decodes else 0.0))
        above += backward
        if layer is first_decoder:
            above -= _reads_input(layer, inventory)  # the embeddings of the decoder's own tokens are not trained
    return tuple(reversed(result))


def full_training_flops(inventory: Inventory, length: int) -> float:
    """FLOPs a token of full fine-tuning: forward, activation gradients and weight gradients."""
    weights = sum(_products(layer, inventory) for layer in inventory.layers)
    outside = _outside(inventory, before=True) + _outside(inventory, before=False)
    return depth_flops(inventory, length)[0] + weights + outside


def _linear(modules: Iterable[LinearModule]) -> float:
    return float(sum(2 * module.in_features * module.out_features for module in modules))


def _experts(layer: Layer, inventory: Inventory) -> float:
    return float(sum(2 * e.parameters * e.active / e.count for e in inventory.experts_of.get(layer.name, ())))


def _products(layer: Layer, inventory: Inventory) -> float:
    """FLOPs of the products with weights, in the forward pass."""
    return _linear(layer.modules) + _experts(layer, inventory)


def _attention(layer: Layer, length: int) -> float:
    """FLOPs of queries times keys and of weights times values, over all pairs: masked ones are computed too."""
    return float(sum(2 * length * a.query_heads * (a.key_dim + a.value_dim) for a in layer.attentions))


def _outside(inventory: Inventory, *, before: bool) -> float:
    """Linear maps outside the layers that run once a token, before the layers or after, the output head included."""
    modules = [module for module in inventory.outside if "pooler" not in module.name]
    if inventory.output is not None:
        modules.append(inventory.output)
    return _linear(module for module in modules if (_BEFORE_LAYERS.search(module.name) is not None) == before)


def _reads_input(layer: Layer, inventory: Inventory) -> float:
    """FLOPs of the modules whose inputs in the lowest layer depend on nothing trained.

    They are the projections into the layer's first attention, and the feed-forward's where it stands beside that
    attention. A projection whose input is not as wide as the residual stream follows another projection (latent
    attention).
    """
    first = layer.attentions[:1]
    widths = {module.out_features for module in layer.residual_writers}
    return _linear(
        module
        for module in layer.modules
        if not module.writes_residual
        and module.in_features in widths
        and (inventory.parallel or any(module.name.startswith(f"{a.name}.") for a in first))
    )


def _reads_encoder(layer: Layer) -> float:
    """FLOPs of the keys and values of cross-attention, of all attentions after a layer's first."""
    return _linear(
        module
        for module in layer.modules
        if _KEY_OR_VALUE.search(module.name) and any(module.name.startswith(f"{a.name}.") for a in layer.attentions[1:])
    )


def depth_costs(inventory: Inventory, training: Training, activations: Activations | None) -> tuple[Cost, ...]:
    """The frozen model's cost by lowest trained layer; the last entry is for a plan that trains none.

    inventory: of the model.
    training: the step that FLOPs and memory are counted for.
    activations: what the forward pass keeps, where that was measured.
    """
    flops = depth_flops(inventory, training.length)
    memory = depth_memory(inventory, training, activations)
    return tuple(Cost(flops=f, memory=m) for f, m in zip(flops, memory, strict=True))


def depth_memory(inventory: Inventory, training: Training, activations: Activations | None) -> tuple[float, ...]:
    """Bytes of the frozen model by lowest trained layer; the last entry is for a plan that trains none.

    They are the weights in the training's dtype, packed ones as they lie, task heads beside them, which train in full,
    what is kept from the lowest trained layer up, and the head's peak. Without measured activations it is the weights
    and heads alone, as transformers' ``get_memory_footprint`` counts them: without what bitsandbytes keeps beside its
    parameters. CUDA's context and the allocator's fragmentation come on top.

    inventory: of the model.
    training: the step that memory is counted for.
    activations: what the forward pass keeps, where that was measured.
    """
    heads = sum(head.parameters for head in inventory.heads)
    plain = (inventory.parameters - inventory.packed) * training.activation_bytes
    packed = inventory.packed_bytes - (0 if activations else inventory.state_bytes)
    weights = float(plain + packed + heads * training.bytes_per_parameter)
    kept = [0.0]
    for layer in reversed(inventory.layers):
        kept.append(kept[-1] + (activations.through.get(layer.name, 0.0) if activations else 0.0))
    head = activations.head if activations else 0.0
    memory = [weights + (amount + head) * training.tokens for amount in reversed(kept)]
    memory[-1] = weights
    return tuple(memory)
